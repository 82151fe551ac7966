/* See peer.h.  ZMQ_FD is edge-triggered and shared with the library's internals, so reading "until empty" after a wake-up
 * loses messages as soon as another callback sends on the same socket.  Instead, a loop_hook asks for ZMQ_EVENTS before
 * every sleep and after every wake-up.
 *
 * Who is at the other end of a link is known over TCP by its CURVE key, which net.c looks up in the allow-list; without
 * keys it is what HELLO says. */
#include "proto/peer_inside.h"

#include "base/log.h"
#include "proto/keys.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#define LINGER_MS      100
#define BACKLOG        1024
#define ARENA_MAX      (256u << 20)
#define FRAME_OVERHEAD 1024 /* of CURVE: the library counts it in a frame's size */
#define PROBE_IDLE_S   5 /* after so many seconds of silence the kernel probes the other side, */
#define PROBE_EVERY_S  5 /* at this interval, */
#define PROBES_MAX     12 /* and closes the connection after so many probes without an answer */

static bool is_inproc(const char *url)
{
    return !strncmp(url, "inproc://", 9);
}

/* ---- receiving */

void peer_print(const char *way, const struct peer *p, uint64_t link, const struct msg *m)
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
    if (p->as == MSG_SCHEDULER) /* a user who has mixed up keys is to see why */
        peer_send(p, link, &m, (struct slice){"", 0}, NULL);
    peer_drop(p, link);
    if (!p->server)
        p->lost = true;
    p->ev->on_lost(p->owner, p, link, why);
}

/* Without a key the other side is what its HELLO says; on a port for streams it is both client and worker.  After WELCOME a
 * client's link is complete, as a server's is after sending it. */
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

static bool is_port(const char *text, bool any)
{
    size_t digits = strspn(text, "0123456789");
    if (!strcmp(text, "*"))
        return any;
    return digits && digits <= 5 && !text[digits] && strtoul(text, NULL, 10) <= 65535 && (any || strtoul(text, NULL, 10));
}

/* Is it a good tcp:// URL?  The library would take a port modulo 65536, and ignore what follows its digits.  `any`: it is a
 * server's, whose port may be *. */
static bool is_tcp(const char *url, bool any)
{
    const char *port = strncmp(url, "tcp://", 6) ? NULL : strrchr(url + 6, ':');
    if (!port || port == url + 6 || !is_port(port + 1, any))
        return false;
    return !memchr(url + 6, ':', (size_t)(port - url - 6)) || (url[6] == '[' && port[-1] == ']');
}

/* Check a URL that a peer says others are to connect to; the peer may lie, or may not have thought of it. */
int peer_check_data_url(const char *url, struct err *e)
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
        return err_set(e, ERR_DENIED, "this key is not allowed as a %s here", keys_role_name(m->hello.role));
    if (!msg_allowed(m->type, l->role, p->as, l->welcomed))
        return err_set(e, ERR_PROTO, "%s is not for this sender or this moment", msg_name(m->type));
    if (m->type == MSG_HELLO && p->monitor && peer_check_data_url(m->hello.data_url, e) < 0)
        return -1;
    if (bulk && (!msg_has_bulk(m->type) || bulk->size > p->bulk_max))
        return err_set(e, ERR_PROTO, "%s has bulk bytes that it may not have", msg_name(m->type));
    return 0;
}

/* Decode and deliver a message; the frames are without the routing id. */
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
        r = p->server ? peer_serve_session(p, link, l, &m, &e) : peer_client_session(p, l, &m, &e);
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
            peer_say_got(p, l);
        learn(p, l, &m);
        r = check(p, l, &m, count == 2 ? &bulk : NULL, &e);
    }
    if (r == 0) {
        peer_print("in", p, link, &m);
        p->ev->on_message(p->owner, p, link, l->role, &m, bulk);
    }
    /* No memory is our trouble; a message that is too large for its arena is the sender's. */
    if (r < 0 && e.code == ERR_NOMEM && !arena.no_memory)
        err_set(&e, ERR_PROTO, "a message that needs more than %u bytes", ARENA_MAX);
    arena_clear(&arena);
    if (r < 0)
        refuse(p, link, &e);
}

/* The link by which a message came to a server; NULL: it is to be ignored. */
static struct link *sender_of(struct peer *p, zmq_msg_t *routing, zmq_msg_t *first, uint64_t *link)
{
    const uint8_t *id = zmq_msg_data(routing);
    if (zmq_msg_size(routing) != ROUTING_SIZE || id[0] != 0) {
        p->stats.refused++; /* the sender chose an id of its own, which our clients never do */
        return NULL;
    }
    *link = (uint64_t)id[1] << 24 | (uint64_t)id[2] << 16 | (uint64_t)id[3] << 8 | id[4];
    struct link *l = peer_slot(p, *link);
    if (!l->id)
        return peer_new_link(p, *link, first);
    if (l->fd != zmq_msg_get(first, ZMQ_SRCFD)) {
        p->stats.refused++; /* it is another connection with this id */
        return NULL;
    }
    uint64_t route = l->id;
    if (l->of) {
        *link = l->of - 1;
        l = peer_slot(p, *link);
    }
    return l->id && (!l->session || l->route == route) ? l : NULL; /* ignore what comes over an earlier connection: it is sent again */
}

bool peer_receive(struct peer *p)
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
        session_free(peer_slot(p, p->lasting[i] - 1)->session);
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

void peer_leave(struct peer *p, bool was_running)
{
    p->running = was_running;
    if (p->closed && !was_running)
        peer_free(p);
}

static void peer_run(struct loop_hook *w)
{
    struct peer *p = w->owner;
    bool was = p->running, more = true;
    uint64_t until = loop_clock_ns() + PEER_TURN_NS; /* after that new connections and timers get their turn */
    p->running = true;
    for (int i = 0; i < PEER_TURN_MAX && more && !p->closed && loop_clock_ns() < until; i++)
        more = peer_receive(p);
    if (!more)
        peer_mourn(p);
    peer_leave(p, was);
}

/* ---- making and closing */

int peer_check_url(const struct net *n, const char *url, bool server, struct err *e)
{
    if (strlen(url) >= sizeof((struct peer *)0)->url)
        return err_set(e, ERR_INPUT, "the address '%.60s...' is too long", url);
    if (is_inproc(url))
        return 0;
    if (!is_tcp(url, server))
        return err_set(e, ERR_INPUT, "'%s' is no address: want tcp://HOST:PORT%s%s", url, server ? ", with * for any port" : "",
                       strstr(url, "::") ? "; an IPv6 address stands in brackets, as in tcp://[::1]:7117" : "");
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

/* Change those defaults of the library that do not fit: it would wait for ever to send before it ends (LINGER), drop
 * messages without a receiver (ROUTER_MANDATORY) or room (a mark of 1000), never notice a dead host (HEARTBEAT, which a
 * stopped process does not answer; KEEPALIVE, which its host does), and take frames of any size.  IMMEDIATE stays 0: HELLO
 * is sent before the connection exists, which PEER_CONNECT_MS bounds. */
static void set_options(struct peer *p, bool inproc)
{
    const struct net *n = p->net;
    int in = inproc ? PEER_QUEUE_MAX : (p->server ? p->as : p->to) == MSG_WORKER ? PEER_DATA_IN_MAX : p->server ? PEER_IN_MAX : PEER_QUEUE_MAX;
    peer_set_number(p->socket, ZMQ_LINGER, LINGER_MS);
    peer_set_number(p->socket, ZMQ_SNDHWM, PEER_QUEUE_MAX);
    peer_set_number(p->socket, ZMQ_RCVHWM, in);
    if (p->server)
        peer_set_number(p->socket, ZMQ_ROUTER_MANDATORY, 1);
    if (inproc)
        return;
    int64_t largest = (int64_t)p->bulk_max + FRAME_OVERHEAD;
    zmq_setsockopt(p->socket, ZMQ_MAXMSGSIZE, &largest, sizeof largest);
    if (p->server) {
        peer_set_number(p->socket, ZMQ_TCP_KEEPALIVE, 1);
        peer_set_number(p->socket, ZMQ_TCP_KEEPALIVE_IDLE, PROBE_IDLE_S);
        peer_set_number(p->socket, ZMQ_TCP_KEEPALIVE_INTVL, PROBE_EVERY_S);
        peer_set_number(p->socket, ZMQ_TCP_KEEPALIVE_CNT, PROBES_MAX);
    } else {
        peer_set_number(p->socket, ZMQ_HEARTBEAT_IVL, MSG_HEARTBEAT_MS);
        peer_set_number(p->socket, ZMQ_HEARTBEAT_TIMEOUT, PEER_SILENT_MS);
    }
    if (p->lasting_link) /* messages that it holds must not go out before SESSION: see connect_again */
        peer_set_number(p->socket, ZMQ_RECONNECT_IVL, -1);
    peer_set_number(p->socket, ZMQ_HANDSHAKE_IVL, PEER_CONNECT_MS);
    peer_set_number(p->socket, ZMQ_CONNECT_TIMEOUT, PEER_CONNECT_MS);
    peer_set_number(p->socket, ZMQ_BACKLOG, BACKLOG);
    size_t digits =
        strspn(p->url + 6, "0123456789."); /* only for IPv6: it would show an IPv4 address as ::ffff:1.2.3.4 */
    peer_set_number(p->socket, ZMQ_IPV6, p->url[6 + digits] != ':');
    if (!n->secure)
        return;
    zmq_setsockopt(p->socket, ZMQ_CURVE_PUBLICKEY, n->own.public_key, MSG_KEY_BYTES);
    zmq_setsockopt(p->socket, ZMQ_CURVE_SECRETKEY, n->own.secret_key, MSG_KEY_BYTES);
    if (p->server) {
        peer_set_number(p->socket, ZMQ_CURVE_SERVER, 1);
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
    if (peer_check_url(n, url, server, e) < 0)
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
    /* Over a worker's data port only streams move, in frames of this size. */
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
    if (!is_inproc(url) && ((n->secure && net_guard(n, e) < 0) || peer_watch(p, e) < 0)) {
        peer_close(p);
        return NULL;
    }
    if (net_bind(p->socket, url) < 0) {
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
    if (!inproc && peer_watch(p, e) < 0)
        return -1;
    if (net_connect(p->socket, p->url) < 0)
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
    p->connect = (struct loop_timer){.run = peer_connect_late, .owner = p};
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
    peer_send_now(p, 0, &m);
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

/* Each connection has a socket of its own. */
static void connect_again(struct loop_timer *w)
{
    struct peer *p = w->owner;
    struct err e;
    close_socket(p);
    if (p->socket)
        zmq_close(p->socket);
    p->socket = NULL;
    p->reached = p->through = false;
    if (make_socket(p, &e) < 0 || reach(p, &e) < 0) { /* no descriptor or memory is free: try again later */
        loop_timer_start(p->net->loop, &p->look, AGAIN_NS, 0);
        return;
    }
    start(p);
    say_session(p, false);
    if (!p->known)
        peer_send_kept(p, &p->links[0]);
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
