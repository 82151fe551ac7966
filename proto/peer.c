/* See peer.h.  ZMQ_FD is edge-triggered and shared with the library's internals, so reading "until
 * empty" on a wake-up loses messages as soon as another callback sends on the same socket.  A
 * loop_hook asks ZMQ_EVENTS before every sleep and after every wake instead.
 *
 * Who is on a link: over TCP the CURVE key, which net.c looks up in the allow-list; where there are
 * no keys, what HELLO says.
 *
 * A ROUTER does not tell that somebody left.  Its monitor does, by the descriptor of the
 * connection, which every message bears too.  What must stay true: events are read before a link is
 * made, so a descriptor that was used again is never taken for its former owner; and a link is
 * mourned only when nothing is left to read, so nothing that arrived is lost.
 *
 * A link that outlives its connection (session.h) keeps the number that its first one had; a later one's number
 * leads to it (`of`), and what comes over an earlier one is not heard.  That a stopped process does not answer
 * ZeroMQ's PING is no sign that it is gone: its host's kernel answers for it.  So a server does not ask by ZeroMQ
 * whether a client is there, but looks whether the kernel's own probes are answered; a client, which stands still
 * when it is stopped, does ask its server. */
#include "proto/peer.h"

#include "base/log.h"
#include "proto/net.h"
#include "proto/session.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <zmq.h>

#define LINGER_MS      100
#define BACKLOG        1024
#define TABLE_SIZE     65536 /* slots for links: a power of two, more than twice PEER_LINKS_MAX */
#define FDS_MAX        (1u << 20) /* descriptors that are told apart */
#define ARENA_MAX      (256u << 20)
#define FRAME_OVERHEAD 1024 /* of CURVE, which the library counts in a frame's size */
#define ROUTING_SIZE   5    /* a routing id that libzmq made: 0 and four bytes */
#define LOST_TEXT      "the connection was closed by the other side"
#define LOOK_NS        ((uint64_t)1000000000) /* how often a server looks at its links without a connection */
#define AGAIN_NS       ((uint64_t)100000000)  /* a client tries again after so long */
#define PROBE_IDLE_S   5 /* the kernel asks the other one after so many seconds of silence, */
#define PROBE_EVERY_S  5 /* each so many, */
#define PROBES_MAX     12 /* and takes the connection for closed after so many without an answer */

/* Bytes that were given to the library and are not sent yet.  Its thread says when they are, maybe after the link's end. */
struct unread {
    _Atomic size_t bytes;
    _Atomic size_t users; /* who has it: a link or a peer, and each of the frames */
    struct unread *all;   /* likewise, of all links; NULL: this is it */
};

struct link {
    uint64_t id; /* 0: empty slot; else 1 + routing number */
    enum msg_role role;
    int fd; /* of the connection; -1 on inproc */
    bool welcomed;
    bool dead; /* on_lost was called, or the owner dropped it: what comes is not heard */
    bool has_key;
    uint8_t key[MSG_KEY_BYTES];
    bool begun;  /* a message has come over it */
    uint64_t of; /* a later connection of the link with this id: nothing else counts but fd; 0: it is a link itself */
    /* of a link that outlives its connection */
    struct session *session; /* owned; NULL: it is none */
    uint64_t route;          /* server: the id of the connection's place; 0: there is none */
    uint64_t away_ns;        /* since when there is none, or none that answers; 0: there is */
    bool ends;               /* it will not come back */
    uint8_t token[MSG_TOKEN_BYTES];
    struct unread *unread; /* NULL: nothing was counted yet */
};

struct peer {
    struct net *net;
    void *socket;
    bool server;
    enum msg_role as, to;
    char url[256];
    const struct peer_events *ev;
    void *owner;
    struct loop_hook hook, monitor_hook;
    void *monitor; /* not on inproc */
    /* client */
    struct loop_timer connect;
    bool reached, through, lost; /* TCP was there; the handshake too; on_lost was called */
    uint32_t tries;              /* handshakes that were cut off */
    /* both */
    bool running, closed; /* closed from inside its own callback: freed when that returns */
    struct link *links;   /* server: TABLE_SIZE slots; client: 1 */
    uint32_t link_count;
    bool full;       /* said so once */
    uint64_t *by_fd; /* server: the id of the link on a descriptor; of fd_room */
    uint32_t fd_room;
    uint64_t *gone; /* server: links whose connection ended, not yet mourned; of gone_room */
    uint32_t gone_count, gone_room;
    uint64_t *lasting; /* server: the ids of links with a session; of lasting_room */
    uint32_t lasting_count, lasting_room;
    struct loop_timer look; /* server: while there are such; client: before it tries again */
    uint64_t patience_ns;
    bool lasting_link; /* client: it outlives its connection */
    bool known;     /* the server has said `number`, under which it knows the link */
    uint64_t number;
    void (*away)(void *owner, struct peer *p, bool away, const struct err *why);
    uint8_t server_key[MSG_KEY_BYTES]; /* client */
    size_t bulk_max;
    struct unread *unread; /* a scheduler's, of all links; else NULL: nothing is counted */
    struct peer_stats stats;
};

static bool is_inproc(const char *url)
{
    return !strncmp(url, "inproc://", 9);
}

/* ---- what waits to be sent */

#define UNREAD_FRAME_MIN 256 /* smaller frames are not counted: PEER_QUEUE_MAX bounds them */

struct crate { /* a frame's bytes */
    struct unread *of;
    size_t size;
    char data[];
};

static struct unread *unread_new(struct unread *all)
{
    struct unread *u = calloc(1, sizeof *u);
    if (u) {
        u->users = 1;
        u->all = all;
        if (all)
            all->users++;
    }
    return u;
}

static void unread_leave(struct unread *u)
{
    while (u && --u->users == 0) {
        struct unread *all = u->all;
        free(u);
        u = all;
    }
}

/* The library's thread has sent it, or has given it up. */
static void crate_sent(void *data, void *hint)
{
    (void)data;
    struct crate *c = hint;
    struct unread *of = c->of;
    of->bytes -= c->size;
    of->all->bytes -= c->size;
    free(c);
    unread_leave(of);
}

static struct crate *crate_new(struct unread *of, const void *data, size_t size)
{
    struct crate *c = malloc(sizeof *c + size);
    if (!c)
        return NULL;
    c->of = of;
    c->size = size;
    memcpy(c->data, data, size);
    of->users++;
    of->bytes += size;
    of->all->bytes += size;
    return c;
}

/* ---- links */

static size_t home_of(uint64_t id)
{
    return (size_t)((id - 1) * 0x9e3779b97f4a7c15ull >> 40) & (TABLE_SIZE - 1);
}

/* The link's slot, or the empty one where it would go. */
static struct link *slot_of(const struct peer *p, uint64_t link)
{
    if (!p->server)
        return &p->links[0];
    size_t at = home_of(link + 1);
    while (p->links[at].id && p->links[at].id != link + 1)
        at = (at + 1) & (TABLE_SIZE - 1);
    return &p->links[at];
}

/* Empty a slot, and move back what had to go past it. */
static void remove_link(struct peer *p, struct link *l)
{
    size_t hole = (size_t)(l - p->links);
    for (uint32_t i = 0; l->session && i < p->lasting_count; i++)
        if (p->lasting[i] == l->id)
            p->lasting[i--] = p->lasting[--p->lasting_count];
    session_free(l->session);
    unread_leave(l->unread);
    for (size_t at = (hole + 1) & (TABLE_SIZE - 1); p->links[at].id;
         at = (at + 1) & (TABLE_SIZE - 1)) {
        size_t home = home_of(p->links[at].id);
        if (((at - home) & (TABLE_SIZE - 1)) >= ((at - hole) & (TABLE_SIZE - 1))) {
            p->links[hole] = p->links[at];
            hole = at;
        }
    }
    p->links[hole] = (struct link){0};
    p->link_count--;
}

static int hex(char c)
{
    return c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : 0;
}

static void note_fd(struct peer *p, int fd, uint64_t id)
{
    if (fd < 0 || (uint32_t)fd >= FDS_MAX)
        return;
    if ((uint32_t)fd >= p->fd_room) {
        uint32_t room = p->fd_room ? p->fd_room : 64;
        while (room <= (uint32_t)fd)
            room *= 2;
        uint64_t *bigger = realloc(p->by_fd, room * sizeof *bigger);
        if (!bigger)
            return; /* its end will not be seen: it costs a slot */
        memset(bigger + p->fd_room, 0, (room - p->fd_room) * sizeof *bigger);
        p->by_fd = bigger;
        p->fd_room = room;
    }
    p->by_fd[fd] = id;
}

static void read_monitor(struct peer *p);
static void send_now(struct peer *p, uint64_t route, const struct msg *m);
static void send_kept(struct peer *p, struct link *l);
static void lose(struct peer *p, int code, const char *why);

static struct link *new_link(struct peer *p, uint64_t link, zmq_msg_t *first)
{
    if (p->monitor)
        read_monitor(p); /* who had this descriptor before is gone */
    if (p->link_count == PEER_LINKS_MAX) {
        if (!p->full)
            log_warn("links_full", "url=%s links=%d", p->url, PEER_LINKS_MAX);
        p->full = true;
        p->stats.refused++;
        struct msg m = {.type = MSG_REFUSE, .refuse = {ERR_LIMIT, "it has as many connections as it can (PEER_LINKS_MAX)"}};
        if (p->as == MSG_SCHEDULER)
            send_now(p, link, &m);
        return NULL;
    }
    p->full = false;
    p->link_count++;
    struct link *l = slot_of(p, link);
    *l = (struct link){.id = link + 1, .fd = zmq_msg_get(first, ZMQ_SRCFD)};
    note_fd(p, l->fd, l->id);
    const char *user = p->net->secure ? zmq_msg_gets(first, "User-Id") : NULL;
    if (user && strlen(user) == 2 * MSG_KEY_BYTES + 2) {
        l->role = (enum msg_role)(user[0] - '0');
        l->has_key = true;
        for (int i = 0; i < MSG_KEY_BYTES; i++)
            l->key[i] = (uint8_t)(hex(user[2 + 2 * i]) << 4 | hex(user[3 + 2 * i]));
    }
    return l;
}

struct slice peer_link_key(const struct peer *p, uint64_t link)
{
    const struct link *l = slot_of(p, link);
    return l->id && l->has_key ? (struct slice){l->key, MSG_KEY_BYTES} : (struct slice){"", 0};
}

void peer_drop(struct peer *p, uint64_t link)
{
    struct link *l = slot_of(p, link);
    if (l->id)
        l->dead = true;
}

/* ---- receiving */

static void print_message(const char *way, const struct peer *p, uint64_t link, const struct msg *m)
{
    if (log_get_level() < LOG_DEBUG)
        return;
    struct buf text = BUF_INIT(2000);
    msg_print(m, &text);
    log_debug(way, "%s link=%llu %s", p->url, (unsigned long long)link, text.data ? text.data : "");
    buf_clear(&text);
}

const char *peer_key_text(struct slice key, char text[PEER_KEY_TEXT])
{
    return key.size == MSG_KEY_BYTES && zmq_z85_encode(text, key.data, MSG_KEY_BYTES) ? text : "none";
}

static void refuse(struct peer *p, uint64_t link, const struct err *why)
{
    char key[PEER_KEY_TEXT];
    p->stats.refused++;
    log_warn("message_refused", "url=%s link=%llu key=%s why=\"%s\"", p->url, (unsigned long long)link, peer_key_text(peer_link_key(p, link), key),
             why->text);
    struct msg m = {.type = MSG_REFUSE, .refuse = {(uint32_t)why->code, why->text}};
    if (p->as == MSG_SCHEDULER) /* whoever has mistaken his key for another is to know */
        peer_send(p, link, &m, (struct slice){"", 0}, NULL);
    peer_drop(p, link);
    if (!p->server)
        p->lost = true;
    p->ev->on_lost(p->owner, p, link, why);
}

/* Who has no key is what the HELLO says, or anybody where streams are served; WELCOME makes a
 * client's link full, as sending it does a server's. */
static void learn(const struct peer *p, struct link *l, const struct msg *m)
{
    bool nobody = !l->role && !p->net->secure;
    if (nobody && m->type == MSG_HELLO &&
        (m->hello.role == MSG_CLIENT || m->hello.role == MSG_WORKER || m->hello.role == MSG_KEEPER))
        l->role = m->hello.role;
    if (nobody && m->type == MSG_ATTACH && p->as == MSG_WORKER)
        l->role = MSG_CLIENT | MSG_WORKER;
    if (m->type == MSG_WELCOME && !p->server)
        l->welcomed = true;
}

static const char *role_name(uint32_t role)
{
    return role == MSG_WORKER ? "worker" : role == MSG_CLIENT ? "client" : role == MSG_KEEPER ? "keeper" : "scheduler";
}

static bool is_port(const char *text, bool any)
{
    size_t digits = strspn(text, "0123456789");
    if (!strcmp(text, "*"))
        return any;
    return digits && digits <= 5 && !text[digits] && strtoul(text, NULL, 10) <= 65535 && (any || strtoul(text, NULL, 10));
}

/* The library takes a port modulo 65536, and what stands behind its digits for nothing.  `any`: of a server, whose port may be *. */
static bool is_tcp(const char *url, bool any)
{
    const char *port = strncmp(url, "tcp://", 6) ? NULL : strrchr(url + 6, ':');
    return port && port > url + 6 && is_port(port + 1, any);
}

/* Where others are to connect, as somebody says who may lie, or may not have thought of it. */
static int check_data_url(const char *url, struct err *e)
{
    bool everywhere = !strncmp(url, "tcp://0.0.0.0:", 14) || !strncmp(url, "tcp://*:", 8) || !strncmp(url, "tcp://[::]:", 11);
    if (*url && (everywhere || !is_tcp(url, false)))
        return err_set(e, ERR_INPUT, "nobody can connect to the data port '%.100s': give an address of this host, with --advertise tcp://HOST:PORT", url);
    return 0;
}

static int check(const struct peer *p, const struct link *l, const struct msg *m,
                 const struct slice *bulk, struct err *e)
{
    if (m->type == MSG_HELLO && m->hello.role != l->role)
        return err_set(e, ERR_DENIED, "this key is not allowed as a %s here", role_name(m->hello.role));
    if (!msg_allowed(m->type, l->role, p->as, l->welcomed))
        return err_set(e, ERR_PROTO, "%s is not for this sender or this moment", msg_name(m->type));
    if (m->type == MSG_HELLO && p->monitor && check_data_url(m->hello.data_url, e) < 0)
        return -1;
    if (bulk && (!msg_has_bulk(m->type) || bulk->size > p->bulk_max))
        return err_set(e, ERR_PROTO, "%s has bulk bytes that it may not have", msg_name(m->type));
    return 0;
}

/* ---- links that outlive their connection */

static void say_got(struct peer *p, const struct link *l)
{
    struct msg m = {.type = MSG_GOT, .got = {session_got(l->session)}};
    send_now(p, l->route - 1, &m);
}

static void look(struct loop_timer *w);

static int begin_session(struct peer *p, uint64_t link, struct link *l, struct slice token, struct err *e)
{
    if (p->lasting_count == p->lasting_room) {
        uint32_t room = p->lasting_room ? 2 * p->lasting_room : 16;
        uint64_t *bigger = realloc(p->lasting, room * sizeof *bigger);
        if (!bigger)
            return err_nomem(e);
        p->lasting = bigger;
        p->lasting_room = room;
    }
    if (!(l->session = session_new(e)))
        return -1;
    memcpy(l->token, token.data, sizeof l->token);
    p->lasting[p->lasting_count++] = l->route = l->id;
    if (p->lasting_count == 1) {
        p->look = (struct loop_timer){.run = look, .owner = p};
        loop_timer_start(p->net->loop, &p->look, LOOK_NS, LOOK_NS);
    }
    struct msg m = {.type = MSG_SESSION, .session = {.token = {"", 0}, .link = link, .known = true}};
    send_now(p, link, &m);
    return 0;
}

static bool same_client(const struct link *a, const struct link *b)
{
    return a->has_key == b->has_key && (!a->has_key || !memcmp(a->key, b->key, sizeof a->key));
}

/* Over the new connection `l` a client comes back to the link that it had. */
static int resume_session(struct peer *p, uint64_t link, struct link *l, const struct msg_session *s, struct err *e)
{
    struct link *was = slot_of(p, s->link);
    bool known = was->id && was != l && was->session && !was->dead && !memcmp(was->token, s->token.data, sizeof was->token) &&
                 same_client(was, l);
    if (known && session_forget(was->session, s->got, e) < 0)
        return -1;
    struct msg m = {.type = MSG_SESSION, .session = {.token = {"", 0}, .link = s->link, .known = known}};
    l->dead = !known;
    if (known) {
        m.session.got = session_got(was->session);
        l->of = was->id;
        was->route = l->id;
        was->away_ns = 0;
        log_info("link_back", "url=%s link=%llu", p->url, (unsigned long long)s->link);
    }
    send_now(p, link, &m);
    if (known)
        send_kept(p, was);
    return 0;
}

static int serve_session(struct peer *p, uint64_t link, struct link *l, const struct msg *m, struct err *e)
{
    const struct msg_session *s = &m->session;
    if (m->type == MSG_GOT && l->session)
        return session_forget(l->session, m->got.got, e);
    if (m->type == MSG_SESSION && l->session && s->ends) {
        l->ends = true;
        return 0;
    }
    if (m->type == MSG_GOT || l->begun || l->session || s->token.size != MSG_TOKEN_BYTES)
        return err_set(e, ERR_PROTO, "%s is not for this moment", msg_name(m->type));
    return s->known ? resume_session(p, link, l, s, e) : begin_session(p, link, l, s->token, e);
}

static int client_session(struct peer *p, struct link *l, const struct msg *m, struct err *e)
{
    if (!l->session)
        return err_set(e, ERR_PROTO, "%s is not for this link", msg_name(m->type));
    if (m->type == MSG_GOT)
        return session_forget(l->session, m->got.got, e);
    if (!l->away_ns) {
        p->known = true;
        p->number = m->session.link;
        return 0;
    }
    if (!m->session.known) {
        lose(p, ERR_GONE, LOST_TEXT ", which knows nothing of it any more");
        return 0;
    }
    if (session_forget(l->session, m->session.got, e) < 0)
        return -1;
    l->away_ns = 0;
    loop_timer_stop(p->net->loop, &p->connect);
    send_kept(p, l); /* before the owner says more */
    if (p->away)
        p->away(p->owner, p, false, NULL);
    return 0;
}

static void link_away(struct peer *p, struct link *l)
{
    if (l->away_ns)
        return;
    l->away_ns = loop_clock_ns();
    log_info("link_away", "url=%s link=%llu", p->url, (unsigned long long)(l->id - 1));
}

/* ---- receiving, of those who are there */

/* Frames without the routing id. */
static void deliver(struct peer *p, uint64_t link, struct link *l, zmq_msg_t *frame, int count,
                    bool surplus)
{
    struct arena arena = ARENA_INIT(ARENA_MAX);
    struct slice bulk = {"", 0};
    struct msg m;
    struct err e;
    int r = surplus ? err_set(&e, ERR_PROTO, "a message of more than two frames")
                    : msg_decode(zmq_msg_data(&frame[0]), zmq_msg_size(&frame[0]), &arena, &m, &e);
    if (r == 0 && (m.type == MSG_SESSION || m.type == MSG_GOT)) {
        r = p->server ? serve_session(p, link, l, &m, &e) : client_session(p, l, &m, &e);
        arena_clear(&arena);
        if (r < 0)
            refuse(p, link, &e);
        return;
    }
    if (r == 0) {
        if (count == 2)
            bulk = (struct slice){zmq_msg_data(&frame[1]), zmq_msg_size(&frame[1])};
        l->begun = true;
        if (l->session && session_came(l->session, bulk.size))
            say_got(p, l);
        learn(p, l, &m);
        r = check(p, l, &m, count == 2 ? &bulk : NULL, &e);
    }
    if (r == 0) {
        p->stats.received++;
        print_message("in", p, link, &m);
        p->ev->on_message(p->owner, p, link, l->role, &m, bulk);
    }
    /* Memory that there is none of is our trouble, what is too large for its arena the sender's. */
    if (r < 0 && e.code == ERR_NOMEM && !arena.no_memory)
        err_set(&e, ERR_PROTO, "a message that needs more than %u bytes", ARENA_MAX);
    arena_clear(&arena);
    if (r < 0)
        refuse(p, link, &e);
}

/* The link that a server's message came by, NULL if it is not to be heard. */
static struct link *sender_of(struct peer *p, zmq_msg_t *routing, zmq_msg_t *first, uint64_t *link)
{
    const uint8_t *id = zmq_msg_data(routing);
    if (zmq_msg_size(routing) != ROUTING_SIZE || id[0] != 0) {
        p->stats.refused++; /* somebody chose an id: nobody of ours does */
        return NULL;
    }
    *link = (uint64_t)id[1] << 24 | (uint64_t)id[2] << 16 | (uint64_t)id[3] << 8 | id[4];
    struct link *l = slot_of(p, *link);
    if (!l->id)
        return new_link(p, *link, first);
    if (l->fd != zmq_msg_get(first, ZMQ_SRCFD)) {
        p->stats.refused++; /* another connection under this id */
        return NULL;
    }
    uint64_t route = l->id;
    if (l->of) {
        *link = l->of - 1;
        l = slot_of(p, *link);
    }
    return l->id && (!l->session || l->route == route) ? l : NULL; /* what an earlier one brings comes again */
}

/* One message, of two frames at most (and the routing id).  false: none is there. */
static bool receive(struct peer *p)
{
    zmq_msg_t frame[3], extra;
    int count = 0, first = p->server ? 1 : 0;
    bool more = true, surplus = false;
    while (more) {
        zmq_msg_t *f = count < first + 2 ? &frame[count] : &extra;
        zmq_msg_init(f);
        if (zmq_msg_recv(f, p->socket, ZMQ_DONTWAIT) < 0) {
            zmq_msg_close(f);
            break;
        }
        more = zmq_msg_more(f);
        if (f != &extra)
            count++;
        else
            zmq_msg_close(f);
        surplus |= f == &extra;
    }
    if (count > first) {
        uint64_t link = 0;
        struct link *l = p->server ? sender_of(p, &frame[0], &frame[1], &link) : &p->links[0];
        if (l && !l->dead)
            deliver(p, link, l, &frame[first], count - first, surplus);
    }
    for (int i = 0; i < count; i++)
        zmq_msg_close(&frame[i]);
    return count > 0;
}

static void bury(struct peer *p, uint64_t link, const char *why)
{
    struct link *l = slot_of(p, link);
    bool known = l->dead;
    l->dead = true;
    if (known)
        return;
    struct err e;
    err_set(&e, ERR_GONE, "%s: %s", p->url, why);
    p->ev->on_lost(p->owner, p, link, &e);
}

/* Nothing is left to read: those who left have been heard. */
static void mourn(struct peer *p)
{
    while (p->gone_count && !p->closed) {
        uint64_t link = p->gone[--p->gone_count] - 1, route = link + 1;
        struct link *l = slot_of(p, link);
        if (l->id && l->of) {
            link = l->of - 1;
            remove_link(p, l);
            l = slot_of(p, link);
        }
        if (!l->id || (l->session && l->route != route)) /* an earlier one of its connections */
            continue;
        if (l->session && !l->dead && !l->ends) {
            l->route = 0;
            link_away(p, l);
            continue;
        }
        bury(p, link, LOST_TEXT);
        remove_link(p, slot_of(p, link));
    }
}

static bool peer_pending(struct loop_hook *w)
{
    struct peer *p = w->owner;
    return p->gone_count || net_readable(p->socket);
}

static void peer_free(struct peer *p)
{
    if (p->socket)
        zmq_close(p->socket);
    for (uint32_t i = 0; i < p->lasting_count; i++)
        session_free(slot_of(p, p->lasting[i] - 1)->session);
    if (!p->server && p->links)
        session_free(p->links[0].session);
    free(p->lasting);
    for (size_t i = 0; p->unread && i < TABLE_SIZE; i++)
        unread_leave(p->links[i].unread);
    unread_leave(p->unread);
    free(p->links);
    free(p->by_fd);
    free(p->gone);
    free(p);
}

static void leave(struct peer *p, bool was_running)
{
    p->running = was_running;
    if (p->closed && !was_running)
        peer_free(p);
}

/* The kernel of the other side's host answers even when the process stands still, or takes nothing more: what it does
 * not answer, twice and for so long, goes to a host that is not there.  Where a stopped process has no room for more
 * the kernel asks ever less often, up to two minutes apart. */
static bool host_answers(int fd)
{
    struct tcp_info i;
    socklen_t size = sizeof i;
    memset(&i, 0, sizeof i);
    return getsockopt(fd, IPPROTO_TCP, TCP_INFO, &i, &size) < 0 || i.tcpi_last_ack_recv < PEER_SILENT_MS ||
           i.tcpi_probes + i.tcpi_retransmits < 2;
}

/* A server's links without a connection, or with one that nobody answers on. */
static void look(struct loop_timer *w)
{
    struct peer *p = w->owner;
    bool was = p->running;
    p->running = true;
    read_monitor(p);
    for (uint32_t i = 0; i < p->lasting_count && !p->closed; i++) {
        uint64_t link = p->lasting[i] - 1;
        struct link *l = slot_of(p, link);
        if (l->route && !p->gone_count) { /* its descriptor is still its own */
            if (host_answers(slot_of(p, l->route - 1)->fd))
                l->away_ns = 0;
            else
                link_away(p, l);
        }
        if (l->away_ns && loop_clock_ns() - l->away_ns >= p->patience_ns)
            bury(p, link, "its connection was gone for too long");
        l = slot_of(p, link);
        if (!p->closed && l->dead && !l->route) {
            remove_link(p, l);
            i--;
        }
    }
    if (!p->lasting_count)
        loop_timer_stop(p->net->loop, &p->look);
    leave(p, was);
}

static void peer_run(struct loop_hook *w)
{
    struct peer *p = w->owner;
    bool was = p->running, more = true;
    uint64_t until = loop_clock_ns() + PEER_TURN_NS; /* then it is the turn of whoever wants to be let in, and of time */
    p->running = true;
    for (int i = 0; i < PEER_TURN_MAX && more && !p->closed && loop_clock_ns() < until; i++)
        more = receive(p);
    if (!more)
        mourn(p);
    leave(p, was);
}

/* ---- connections, watched */

static void lose(struct peer *p, int code, const char *why)
{
    if (p->lost || p->closed)
        return;
    bool was = p->running;
    p->running = true;
    while (!p->closed && receive(p)) /* what arrived before the end is heard first */
        ;
    if (!p->closed && !p->lost) {
        struct err e;
        p->lost = true;
        loop_timer_stop(p->net->loop, &p->connect);
        loop_timer_stop(p->net->loop, &p->look);
        zmq_disconnect(p->socket, p->url); /* and is not tried again */
        err_set(&e, code, "%s: %s", p->url, why);
        p->ev->on_lost(p->owner, p, 0, &e);
    }
    leave(p, was);
}

/* Elsewhere the library does. */
static void try_later(struct peer *p)
{
    if (p->lasting_link && !p->lost && !p->closed)
        loop_timer_start(p->net->loop, &p->look, AGAIN_NS, 0);
}

/* It tries again, and nobody needs to know but that it takes a while. */
static void client_away(struct peer *p)
{
    struct link *l = &p->links[0];
    while (!p->closed && receive(p)) /* what arrived before the end is heard first */
        ;
    if (p->closed || p->lost)
        return;
    bool first = !l->away_ns;
    try_later(p);
    if (!first)
        return;
    l->away_ns = loop_clock_ns();
    loop_timer_start(p->net->loop, &p->connect, p->patience_ns, 0);
    struct err e;
    err_set(&e, ERR_GONE, "%s: " LOST_TEXT, p->url);
    if (p->away)
        p->away(p->owner, p, true, &e);
}

static void connect_late(struct loop_timer *w)
{
    struct peer *p = w->owner;
    char why[200];
    if (p->links[0].away_ns)
        snprintf(why, sizeof why, LOST_TEXT ", and could not be made again for %llu s",
                 (unsigned long long)(p->patience_ns / 1000000000));
    else if (p->reached)
        snprintf(why, sizeof why, "what answers there does not end the key exchange (waited %d s)",
                 PEER_CONNECT_MS / 1000);
    else
        snprintf(why, sizeof why,
                 "nobody answers there (tried for %d s): is it running, is the address right?",
                 PEER_CONNECT_MS / 1000);
    lose(p, ERR_GONE, why);
}

static void client_event(struct peer *p, unsigned event)
{
    switch (event) {
    case ZMQ_EVENT_CONNECTED:
        p->reached = true;
        break;
    case ZMQ_EVENT_HANDSHAKE_SUCCEEDED:
        p->through = true;
        if (!p->links[0].away_ns)
            loop_timer_stop(p->net->loop, &p->connect);
        break;
    case ZMQ_EVENT_HANDSHAKE_FAILED_AUTH:
        lose(p, ERR_DENIED, "our key is not allowed there");
        break;
    case ZMQ_EVENT_HANDSHAKE_FAILED_PROTOCOL:
        lose(p, ERR_DENIED, "the other side does not speak CURVE with these keys");
        break;
    case ZMQ_EVENT_CLOSED:
        try_later(p);
        break;
    case ZMQ_EVENT_DISCONNECTED:
        if (p->through && p->known)
            client_away(p);
        else if (p->through)
            lose(p, ERR_GONE, LOST_TEXT);
        else if (!p->links[0].away_ns && ++p->tries == PEER_TRIES_MAX)
            lose(p, ERR_DENIED,
                 "it cuts off the key exchange: its key is another one than we have for it, or it "
                 "is no zpipe");
        else
            try_later(p);
        break;
    default:
        break;
    }
}

static void server_event(struct peer *p, unsigned event, uint32_t fd)
{
    if (event != ZMQ_EVENT_DISCONNECTED || fd >= p->fd_room || !p->by_fd[fd])
        return;
    if (p->gone_count == p->gone_room) {
        uint32_t room = p->gone_room ? 2 * p->gone_room : 16;
        uint64_t *bigger = realloc(p->gone, room * sizeof *bigger);
        if (!bigger)
            return; /* as in note_fd */
        p->gone = bigger;
        p->gone_room = room;
    }
    p->gone[p->gone_count++] = p->by_fd[fd];
    p->by_fd[fd] = 0;
}

/* An event is a frame with its number and value, and a frame with an address.  false: none is
 * there. */
static bool next_event(struct peer *p, unsigned *event, uint32_t *value)
{
    uint8_t head[6];
    char address[256];
    uint16_t number;
    if (zmq_recv(p->monitor, head, sizeof head, ZMQ_DONTWAIT) != (int)sizeof head)
        return false;
    zmq_recv(p->monitor, address, sizeof address, ZMQ_DONTWAIT);
    memcpy(&number, head, sizeof number);
    memcpy(value, head + sizeof number, sizeof *value);
    *event = number;
    return true;
}

static void read_monitor(struct peer *p)
{
    unsigned event;
    uint32_t value;
    while (!p->closed && next_event(p, &event, &value))
        if (p->server)
            server_event(p, event, value);
        else
            client_event(p, event);
}

static bool monitor_pending(struct loop_hook *w)
{
    struct peer *p = w->owner;
    return net_readable(p->monitor);
}

static void monitor_run(struct loop_hook *w)
{
    struct peer *p = w->owner;
    bool was = p->running;
    p->running = true;
    read_monitor(p);
    leave(p, was);
}

static void set_number(void *socket, int option, int value)
{
    zmq_setsockopt(socket, option, &value, sizeof value);
}

static int watch(struct peer *p, struct err *e)
{
    char url[64];
    int events = ZMQ_EVENT_DISCONNECTED;
    if (!p->server)
        events |= ZMQ_EVENT_CONNECTED | ZMQ_EVENT_CLOSED | ZMQ_EVENT_HANDSHAKE_SUCCEEDED |
                  ZMQ_EVENT_HANDSHAKE_FAILED_AUTH | ZMQ_EVENT_HANDSHAKE_FAILED_PROTOCOL;
    snprintf(url, sizeof url, "inproc://zpipe-monitor-%llu",
             (unsigned long long)++p->net->monitors);
    p->monitor = zmq_socket(p->net->context, ZMQ_PAIR);
    if (p->monitor) /* at the mark the library's own thread would wait, for us */
        set_number(p->monitor, ZMQ_RCVHWM, 0);
    if (!p->monitor || zmq_socket_monitor(p->socket, url, events) < 0 ||
        zmq_connect(p->monitor, url) < 0)
        return err_set(e, ERR_IO, "cannot watch connections: %s", zmq_strerror(errno));
    p->monitor_hook =
        (struct loop_hook){.pending = monitor_pending, .run = monitor_run, .owner = p};
    loop_hook_start(p->net->loop, &p->monitor_hook, net_fd(p->monitor));
    return 0;
}

/* ---- making and closing */

static int check_url(const struct net *n, const char *url, bool server, struct err *e)
{
    if (strlen(url) >= sizeof((struct peer *)0)->url)
        return err_set(e, ERR_INPUT, "the address '%.60s...' is too long", url);
    if (is_inproc(url))
        return 0;
    if (!is_tcp(url, server))
        return err_set(e, ERR_INPUT, "'%s' is no address: want tcp://HOST:PORT%s", url, server ? ", with * for any port" : "");
    bool local = !strncmp(url, "tcp://127.0.0.1:", 16) || !strncmp(url, "tcp://[::1]:", 12);
    if (n->loopback && !local)
        return err_set(e, ERR_INPUT,
                       "'%s' is not tcp://127.0.0.1:PORT or tcp://[::1]:PORT: beyond this host "
                       "there must be keys",
                       url);
    if (!n->secure && !n->loopback)
        return err_set(
            e, ERR_INPUT,
            "'%s' needs keys: make them with `zpipe keygen --dir DIRECTORY` and give --keys", url);
    return 0;
}

/* Defaults of the library that do not fit: it would wait for ever to send before it ends (LINGER),
 * drop what has no receiver (ROUTER_MANDATORY) or no room (a mark of 1000), never notice a dead
 * host (HEARTBEAT, which a stopped process does not answer; KEEPALIVE, which its host does) and take frames of any size.  IMMEDIATE stays 0: HELLO is sent before the
 * connection is there, which PEER_CONNECT_MS bounds. */
static void set_options(struct peer *p, bool inproc)
{
    const struct net *n = p->net;
    int in = inproc ? PEER_QUEUE_MAX : (p->server ? p->as : p->to) == MSG_WORKER ? PEER_DATA_IN_MAX : p->server ? PEER_IN_MAX : PEER_QUEUE_MAX;
    set_number(p->socket, ZMQ_LINGER, LINGER_MS);
    set_number(p->socket, ZMQ_SNDHWM, PEER_QUEUE_MAX);
    set_number(p->socket, ZMQ_RCVHWM, in);
    if (p->server)
        set_number(p->socket, ZMQ_ROUTER_MANDATORY, 1);
    if (inproc)
        return;
    int64_t largest = (int64_t)p->bulk_max + FRAME_OVERHEAD;
    zmq_setsockopt(p->socket, ZMQ_MAXMSGSIZE, &largest, sizeof largest);
    if (p->server) {
        set_number(p->socket, ZMQ_TCP_KEEPALIVE, 1);
        set_number(p->socket, ZMQ_TCP_KEEPALIVE_IDLE, PROBE_IDLE_S);
        set_number(p->socket, ZMQ_TCP_KEEPALIVE_INTVL, PROBE_EVERY_S);
        set_number(p->socket, ZMQ_TCP_KEEPALIVE_CNT, PROBES_MAX);
    } else {
        set_number(p->socket, ZMQ_HEARTBEAT_IVL, MSG_HEARTBEAT_MS);
        set_number(p->socket, ZMQ_HEARTBEAT_TIMEOUT, PEER_SILENT_MS);
    }
    if (p->lasting_link) /* what it holds must not go before we have said who we are: connect_again */
        set_number(p->socket, ZMQ_RECONNECT_IVL, -1);
    set_number(p->socket, ZMQ_HANDSHAKE_IVL, PEER_CONNECT_MS);
    set_number(p->socket, ZMQ_CONNECT_TIMEOUT, PEER_CONNECT_MS);
    set_number(p->socket, ZMQ_BACKLOG, BACKLOG);
    size_t digits =
        strspn(p->url + 6, "0123456789."); /* an IPv4 address would be shown as ::ffff:1.2.3.4 */
    set_number(p->socket, ZMQ_IPV6, p->url[6 + digits] != ':');
    if (!n->secure)
        return;
    zmq_setsockopt(p->socket, ZMQ_CURVE_PUBLICKEY, n->own.public_key, MSG_KEY_BYTES);
    zmq_setsockopt(p->socket, ZMQ_CURVE_SECRETKEY, n->own.secret_key, MSG_KEY_BYTES);
    if (p->server) {
        set_number(p->socket, ZMQ_CURVE_SERVER, 1);
        zmq_setsockopt(p->socket, ZMQ_ZAP_DOMAIN, "zpipe", 5);
    }
}

static int make_socket(struct peer *p, struct err *e)
{
    p->socket = zmq_socket(p->net->context, p->server ? ZMQ_ROUTER : ZMQ_DEALER);
    if (!p->socket)
        return errno == EMFILE ? err_sys(e, "cannot make a socket") : err_set(e, ERR_IO, "cannot make a socket: %s", zmq_strerror(errno));
    set_options(p, is_inproc(p->url));
    return 0;
}

static struct peer *peer_new(struct net *n, bool server, bool lasting, const char *url, enum msg_role as,
                             enum msg_role to, const struct peer_events *ev, void *owner,
                             struct err *e)
{
    if (check_url(n, url, server, e) < 0)
        return NULL;
    struct peer *p = calloc(1, sizeof *p);
    bool counts = server && as == MSG_SCHEDULER && !is_inproc(url);
    if (p)
        p->links = calloc(server ? TABLE_SIZE : 1, sizeof *p->links);
    if (!p || !p->links || (counts && !(p->unread = unread_new(NULL)))) {
        if (p)
            free(p->links);
        free(p);
        err_nomem(e);
        return NULL;
    }
    p->net = n;
    p->server = server;
    p->lasting_link = lasting && !is_inproc(url);
    p->as = as;
    p->to = to;
    p->ev = ev;
    p->owner = owner;
    /* Between a worker's data port and who connects there only streams move. */
    p->bulk_max = (server ? as : to) == MSG_WORKER ? MSG_DATA_BYTES : MSG_BULK_MAX;
    p->patience_ns = (uint64_t)PEER_AWAY_MS * 1000000;
    snprintf(p->url, sizeof p->url, "%s", url);
    if (make_socket(p, e) < 0) {
        peer_free(p);
        return NULL;
    }
    return p;
}

static struct peer *start(struct peer *p)
{
    p->hook = (struct loop_hook){.pending = peer_pending, .run = peer_run, .owner = p};
    loop_hook_start(p->net->loop, &p->hook, net_fd(p->socket));
    return p;
}

struct peer *peer_listen(struct net *n, const char *url, enum msg_role as,
                         const struct peer_events *ev, void *owner, struct err *e)
{
    struct peer *p = peer_new(n, true, false, url, as, 0, ev, owner, e);
    if (!p)
        return NULL;
    if (!is_inproc(url) && ((n->secure && net_guard(n, e) < 0) || watch(p, e) < 0)) {
        peer_close(p);
        return NULL;
    }
    if (zmq_bind(p->socket, url) < 0) {
        bool foreign = errno == ENODEV || errno == EADDRNOTAVAIL;
        err_set(e,
                errno == EADDRINUSE           ? ERR_AGAIN
                : errno == EINVAL || foreign ? ERR_INPUT
                                             : ERR_IO,
                "cannot listen at '%s': %s", url,
                foreign ? "it is no address of this host; tcp://0.0.0.0:PORT is all that it has" : zmq_strerror(errno));
        peer_close(p);
        return NULL;
    }
    size_t size = sizeof p->url;
    zmq_getsockopt(p->socket, ZMQ_LAST_ENDPOINT, p->url, &size);
    return start(p);
}

static int reach(struct peer *p, struct err *e)
{
    bool inproc = is_inproc(p->url);
    if (!inproc && p->net->secure)
        zmq_setsockopt(p->socket, ZMQ_CURVE_SERVERKEY, p->server_key, MSG_KEY_BYTES);
    if (!inproc && watch(p, e) < 0)
        return -1;
    if (zmq_connect(p->socket, p->url) < 0)
        return err_set(e, ERR_INPUT, "cannot connect to '%s': %s (want tcp://HOST:PORT)", p->url, zmq_strerror(errno));
    return 0;
}

static struct peer *connect_peer(struct net *n, bool lasting, const char *url, struct slice server_key, enum msg_role as,
                                 enum msg_role to, const struct peer_events *ev, void *owner, struct err *e)
{
    struct peer *p = peer_new(n, false, lasting, url, as, to, ev, owner, e);
    if (!p)
        return NULL;
    p->links[0] = (struct link){.id = 1, .role = to, .fd = -1, .route = 1};
    memcpy(p->server_key, server_key.size == MSG_KEY_BYTES ? server_key.data : n->scheduler_key, MSG_KEY_BYTES);
    p->connect = (struct loop_timer){.run = connect_late, .owner = p};
    if (reach(p, e) < 0) {
        peer_close(p);
        return NULL;
    }
    if (!is_inproc(url))
        loop_timer_start(n->loop, &p->connect, (uint64_t)PEER_CONNECT_MS * 1000000u, 0);
    return start(p);
}

static void say_session(struct peer *p, bool ends)
{
    const struct link *l = &p->links[0];
    struct msg m = {.type = MSG_SESSION,
                    .session = {{l->token, sizeof l->token}, p->number, session_got(l->session), p->known, ends}};
    send_now(p, 0, &m);
}

static void close_socket(struct peer *p)
{
    loop_hook_stop(&p->hook);
    loop_hook_stop(&p->monitor_hook);
    if (p->monitor) {
        zmq_socket_monitor(p->socket, NULL, 0);
        zmq_close(p->monitor);
        p->monitor = NULL;
    }
}

/* A socket of its own for each connection. */
static void connect_again(struct loop_timer *w)
{
    struct peer *p = w->owner;
    struct err e;
    close_socket(p);
    if (p->socket)
        zmq_close(p->socket);
    p->socket = NULL;
    p->reached = p->through = false;
    if (make_socket(p, &e) < 0 || reach(p, &e) < 0) { /* for want of descriptors, or of memory */
        loop_timer_start(p->net->loop, &p->look, AGAIN_NS, 0);
        return;
    }
    start(p);
    say_session(p, false);
    if (!p->known)
        send_kept(p, &p->links[0]);
}

static int begin_link(struct peer *p, struct err *e)
{
    struct link *l = &p->links[0];
    p->look = (struct loop_timer){.run = connect_again, .owner = p};
    if (getrandom(l->token, sizeof l->token, 0) != (ssize_t)sizeof l->token)
        return err_sys(e, "cannot draw a token");
    if (!(l->session = session_new(e)))
        return -1;
    say_session(p, false);
    return 0;
}

struct peer *peer_connect(struct net *n, const char *url, struct slice server_key, enum msg_role as,
                          enum msg_role to, const struct peer_events *ev, void *owner,
                          struct err *e)
{
    return connect_peer(n, false, url, server_key, as, to, ev, owner, e);
}

struct peer *peer_connect_lasting(struct net *n, const char *url, struct slice server_key, enum msg_role as, enum msg_role to,
                                  const struct peer_events *ev, void (*away)(void *owner, struct peer *p, bool away, const struct err *why),
                                  void *owner, struct err *e)
{
    struct peer *p = connect_peer(n, true, url, server_key, as, to, ev, owner, e);
    if (!p)
        return NULL;
    p->away = away;
    if (p->lasting_link && begin_link(p, e) < 0) {
        peer_close(p);
        return NULL;
    }
    return p;
}

void peer_patience(struct peer *p, uint64_t ns)
{
    p->patience_ns = ns;
}

const char *peer_url(const struct peer *p)
{
    return p->url;
}

struct peer_stats peer_stats(const struct peer *p)
{
    struct peer_stats s = p->stats;
    s.links = p->link_count;
    return s;
}

void peer_close(struct peer *p)
{
    if (!p || p->closed)
        return;
    if (!p->server && p->links[0].session && !p->links[0].away_ns && !p->lost)
        say_session(p, true);
    p->closed = true;
    loop_timer_stop(p->net->loop, &p->connect);
    loop_timer_stop(p->net->loop, &p->look);
    close_socket(p);
    if (!p->running)
        peer_free(p);
}

/* ---- sending */

/* Without the routing id. */
struct parcel {
    zmq_msg_t frame[2];
    int count;
};

/* `of` NULL: it is not counted. */
static int parcel_add(struct parcel *c, const void *data, size_t size, struct unread *of)
{
    struct crate *crate = of && size >= UNREAD_FRAME_MIN ? crate_new(of, data, size) : NULL;
    if (crate && zmq_msg_init_data(&c->frame[c->count], crate->data, size, crate_sent, crate) < 0) {
        crate_sent(crate->data, crate);
        return -1;
    }
    if (crate) {
        c->count++;
        return 0;
    }
    if (of && size >= UNREAD_FRAME_MIN)
        return -1;
    if (zmq_msg_init_size(&c->frame[c->count], size) < 0)
        return -1;
    if (size)
        memcpy(zmq_msg_data(&c->frame[c->count]), data, size);
    c->count++;
    return 0;
}

/* All frames are there before the first goes, so a message is sent whole or not at all: once the
 * library takes the first it takes the rest. */
static int parcel_send(struct parcel *c, const struct peer *p, uint64_t route)
{
    uint8_t id[ROUTING_SIZE] = {0, (uint8_t)(route >> 24), (uint8_t)(route >> 16), (uint8_t)(route >> 8), (uint8_t)route};
    if (p->server && zmq_send(p->socket, id, sizeof id, ZMQ_DONTWAIT | ZMQ_SNDMORE) < 0)
        return -1;
    int at = 0;
    while (at < c->count && zmq_msg_send(&c->frame[at], p->socket,
                                         ZMQ_DONTWAIT | (at + 1 < c->count ? ZMQ_SNDMORE : 0)) >= 0)
        at++;
    return at == c->count ? 0 : -1;
}

static void parcel_close(struct parcel *c)
{
    for (int i = 0; i < c->count; i++)
        zmq_msg_close(&c->frame[i]); /* those that were sent are empty now */
}

static void release(void *data, void *hint)
{
    (void)hint;
    free(data);
}

/* The library's thread frees it. */
static int parcel_give(struct parcel *c, void *data, size_t size)
{
    if (zmq_msg_init_data(&c->frame[c->count], data, size, release, NULL) < 0) {
        free(data);
        return -1;
    }
    c->count++;
    return 0;
}

static int parcel_fill(struct parcel *c, const struct msg *m, struct unread *of, struct err *e)
{
    struct buf first = BUF_INIT(MSG_BYTES_MAX);
    int r = msg_encode(m, &first, e);
    if (r == 0 && parcel_add(c, first.data, first.size, of) < 0)
        r = err_nomem(e);
    buf_clear(&first);
    return r;
}

/* Beside what links carry. */
static void send_now(struct peer *p, uint64_t route, const struct msg *m)
{
    struct parcel c = {.count = 0};
    if (parcel_fill(&c, m, NULL, NULL) == 0)
        parcel_send(&c, p, route);
    parcel_close(&c);
}

/* What the other side has not got, over a new connection. */
static void send_kept(struct peer *p, struct link *l)
{
    int count;
    zmq_msg_t *kept;
    for (uint32_t at = 0; (kept = session_kept(l->session, at, &count)); at++) {
        struct parcel c = {.count = count};
        for (int i = 0; i < count; i++) {
            zmq_msg_init(&c.frame[i]);
            zmq_msg_copy(&c.frame[i], &kept[i]);
        }
        int r = parcel_send(&c, p, l->route - 1);
        parcel_close(&c);
        if (r < 0)
            return; /* it has ended again: all this comes with the next */
    }
}

/* Why the library did not take a message that is kept, if that is no failure: there will be another connection. */
static bool comes_later(const struct peer *p, const struct link *l)
{
    return l->session && (errno == EHOSTUNREACH || !p->server);
}

/* The other side may have refused our key before the first message is given to the library, which has then nowhere to
 * put it: the message is as lost as those that it took, and on_lost says why, once the monitor is read. */
static bool refused_early(const struct peer *p)
{
    return p->monitor && !p->server && !p->through;
}

static int may_send(const struct peer *p, const struct link *l, size_t size, struct err *e)
{
    if (p->closed || p->lost || !l->id || l->dead)
        return err_set(e, ERR_GONE, "%s: the link is gone", p->url);
    if (size > p->bulk_max)
        return err_set(e, ERR_LIMIT, "%zu bulk bytes are more than a message may have (%zu)", size, p->bulk_max);
    size_t waits = l->unread ? l->unread->bytes : 0;
    if (waits > PEER_UNREAD_MAX || (waits > PEER_UNREAD_FEW && p->unread->bytes > PEER_UNREAD_ALL_MAX))
        return err_set(e, ERR_AGAIN, "%s: it does not read what it is sent: %zu bytes wait for it", p->url, waits);
    return 0;
}

/* Bulk bytes are a copy of `bulk`, or `given` itself, which is taken. */
static int post(struct peer *p, uint64_t link, const struct msg *m, struct slice bulk, void *given, struct err *e)
{
    struct link *l = slot_of(p, link);
    struct parcel c = {.count = 0};
    bool may = may_send(p, l, bulk.size, e) == 0;
    if (may && p->unread && !l->unread && !(l->unread = unread_new(p->unread)))
        may = err_nomem(e) == 0;
    if (!may || parcel_fill(&c, m, l->unread, e) < 0) {
        free(given);
        parcel_close(&c);
        return -1;
    }
    int r = 0;
    if (given ? parcel_give(&c, given, bulk.size) < 0 : bulk.size && parcel_add(&c, bulk.data, bulk.size, l->unread) < 0)
        r = err_nomem(e);
    if (r == 0 && l->session)
        r = session_keep(l->session, c.frame, c.count, e);
    print_message("out", p, link, m);
    bool connected = p->server ? !l->session || l->route : !l->away_ns;
    if (r == 0 && connected && parcel_send(&c, p, l->session ? l->route - 1 : link) < 0 && !(errno == EAGAIN && refused_early(p)) &&
        !comes_later(p, l))
        r = err_set(e, errno == EAGAIN ? ERR_AGAIN : ERR_GONE, "%s: cannot send: %s", p->url,
                    zmq_strerror(errno));
    parcel_close(&c);
    if (r < 0)
        return -1;
    p->stats.sent++;
    if (m->type == MSG_WELCOME)
        l->welcomed = true;
    return 0;
}

int peer_send(struct peer *p, uint64_t link, const struct msg *m, struct slice bulk, struct err *e)
{
    return post(p, link, m, bulk, NULL, e);
}

int peer_give(struct peer *p, uint64_t link, const struct msg *m, void *bulk, size_t size, struct err *e)
{
    return post(p, link, m, (struct slice){bulk, size}, bulk, e);
}
