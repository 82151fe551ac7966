/* A peer's links: a table of them by number, links that outlive their connection, and the end of each link.
 *
 * A ROUTER socket does not tell when a peer left.  Its monitor does, by the descriptor of the connection, which comes with
 * every message, too.  What must stay true: the monitor's events are read before a link is made, so a descriptor that is
 * used again is never taken for its former owner; and a link's end is reported only when nothing is left to read, so
 * nothing that arrived is lost.
 *
 * A link that outlives its connection (session.h) keeps the number of its first connection; the number of a later one
 * leads to it (`of`), and messages over an earlier one are ignored.  A stopped process does not answer ZeroMQ's PING, but
 * it is not gone, and its host's kernel still answers TCP's probes.  So a server does not use PING to see whether a client
 * is there; it looks whether those probes are answered.  A client does use PING to see whether its server is there. */
#include "proto/peer_inside.h"

#include "base/grow.h"
#include "base/log.h"

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <string.h>

#define LOOK_NS        ((uint64_t)1000000000) /* how often a server looks at its links without a connection */

static size_t home_of(uint64_t id)
{
    return (size_t)((id - 1) * 0x9e3779b97f4a7c15ull >> 40) & (TABLE_SIZE - 1);
}

struct link *peer_slot(const struct peer *p, uint64_t link)
{
    if (!p->server)
        return &p->links[0];
    size_t at = home_of(link + 1);
    while (p->links[at].id && p->links[at].id != link + 1)
        at = (at + 1) & (TABLE_SIZE - 1);
    return &p->links[at];
}

/* Empty a slot, and move back entries that had to be put after it. */
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
    if (fd < 0 || (uint32_t)fd >= PEER_FDS_MAX)
        return;
    if ((uint32_t)fd >= p->fd_room) {
        uint32_t room = p->fd_room ? p->fd_room : 64;
        while (room <= (uint32_t)fd)
            room *= 2;
        uint64_t *bigger = realloc(p->by_fd, room * sizeof *bigger);
        if (!bigger)
            return; /* its end will not be seen; that costs only a slot */
        memset(bigger + p->fd_room, 0, (room - p->fd_room) * sizeof *bigger);
        p->by_fd = bigger;
        p->fd_room = room;
    }
    p->by_fd[fd] = id;
}

struct link *peer_new_link(struct peer *p, uint64_t link, zmq_msg_t *first)
{
    if (p->monitor)
        peer_read_monitor(p); /* the link that had this descriptor before is gone */
    if (p->link_count == PEER_LINKS_MAX) {
        if (!p->full)
            log_warn("links_full", "url=%s links=%d", p->url, PEER_LINKS_MAX);
        p->full = true;
        p->stats.refused++;
        struct msg m = {.type = MSG_REFUSE, .refuse = {ERR_LIMIT, "it has as many connections as it can (PEER_LINKS_MAX)"}};
        if (p->as == MSG_SCHEDULER)
            peer_send_now(p, link, &m);
        return NULL;
    }
    p->full = false;
    p->link_count++;
    struct link *l = peer_slot(p, link);
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
    const struct link *l = peer_slot(p, link);
    return l->id && l->has_key ? (struct slice){l->key, MSG_KEY_BYTES} : (struct slice){"", 0};
}

void peer_drop(struct peer *p, uint64_t link)
{
    struct link *l = peer_slot(p, link);
    if (l->id)
        l->dead = true;
}

void peer_say_got(struct peer *p, const struct link *l)
{
    struct msg m = {.type = MSG_GOT, .got = {session_got(l->session)}};
    peer_send_now(p, l->route - 1, &m);
}

static void look(struct loop_timer *w);

static int begin_session(struct peer *p, uint64_t link, struct link *l, struct slice token, struct err *e)
{
    if (!grow(&p->lasting, &p->lasting_room, p->lasting_count, TABLE_SIZE, sizeof *p->lasting))
        return err_nomem(e);
    if (!(l->session = session_new(e)))
        return -1;
    memcpy(l->token, token.data, sizeof l->token);
    p->lasting[p->lasting_count++] = l->route = l->id;
    if (p->lasting_count == 1) {
        p->look = (struct loop_timer){.run = look, .owner = p};
        loop_timer_start(p->net->loop, &p->look, LOOK_NS, LOOK_NS);
    }
    struct msg m = {.type = MSG_SESSION, .session = {.token = {"", 0}, .link = link, .known = true}};
    peer_send_now(p, link, &m);
    return 0;
}

static bool same_client(const struct link *a, const struct link *b)
{
    return a->has_key == b->has_key && (!a->has_key || !memcmp(a->key, b->key, sizeof a->key));
}

/* A client comes back to its link, over the new connection `l`. */
static int resume_session(struct peer *p, uint64_t link, struct link *l, const struct msg_session *s, struct err *e)
{
    struct link *was = peer_slot(p, s->link);
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
    peer_send_now(p, link, &m);
    if (known)
        peer_send_kept(p, was);
    return 0;
}

int peer_serve_session(struct peer *p, uint64_t link, struct link *l, const struct msg *m, struct err *e)
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

int peer_client_session(struct peer *p, struct link *l, const struct msg *m, struct err *e)
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
        peer_lose(p, ERR_GONE, LOST_TEXT ", which knows nothing of it any more");
        return 0;
    }
    if (session_forget(l->session, m->session.got, e) < 0)
        return -1;
    l->away_ns = 0;
    loop_timer_stop(p->net->loop, &p->connect);
    peer_send_kept(p, l); /* before the owner sends more */
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

static void bury(struct peer *p, uint64_t link, const char *why)
{
    struct link *l = peer_slot(p, link);
    bool known = l->dead;
    l->dead = true;
    if (known)
        return;
    struct err e;
    err_set(&e, ERR_GONE, "%s: %s", p->url, why);
    p->ev->on_lost(p->owner, p, link, &e);
}

void peer_mourn(struct peer *p)
{
    while (p->gone_count && !p->closed) {
        uint64_t link = p->gone[--p->gone_count] - 1, route = link + 1;
        struct link *l = peer_slot(p, link);
        if (l->id && l->of) {
            link = l->of - 1;
            remove_link(p, l);
            l = peer_slot(p, link);
        }
        if (!l->id || (l->session && l->route != route)) /* it was an earlier one of the link's connections */
            continue;
        if (l->session && !l->dead && !l->ends) {
            l->route = 0;
            link_away(p, l);
            continue;
        }
        bury(p, link, LOST_TEXT);
        remove_link(p, peer_slot(p, link));
    }
}

/* Does the other side's host still answer?  Its kernel answers even if the process is stopped or takes nothing more.  If it
 * has not answered twice, and for so long, the host is gone.  When a stopped process has no more room, the kernel probes
 * ever less often, up to two minutes apart. */
static bool host_answers(int fd)
{
    struct tcp_info i;
    socklen_t size = sizeof i;
    memset(&i, 0, sizeof i);
    return getsockopt(fd, IPPROTO_TCP, TCP_INFO, &i, &size) < 0 || i.tcpi_last_ack_recv < PEER_SILENT_MS ||
           i.tcpi_probes + i.tcpi_retransmits < 2;
}

/* Look at a server's links that have no connection, or one on which nobody answers. */
static void look(struct loop_timer *w)
{
    struct peer *p = w->owner;
    bool was = p->running;
    p->running = true;
    peer_read_monitor(p);
    for (uint32_t i = 0; i < p->lasting_count && !p->closed; i++) {
        uint64_t link = p->lasting[i] - 1;
        struct link *l = peer_slot(p, link);
        if (l->route && !p->gone_count) { /* its descriptor cannot have been used again */
            if (host_answers(peer_slot(p, l->route - 1)->fd))
                l->away_ns = 0;
            else
                link_away(p, l);
        }
        if (l->away_ns && loop_clock_ns() - l->away_ns >= p->patience_ns)
            bury(p, link, "its connection was gone for too long");
        l = peer_slot(p, link);
        if (!p->closed && l->dead && !l->route) {
            remove_link(p, l);
            i--;
        }
    }
    if (!p->lasting_count)
        loop_timer_stop(p->net->loop, &p->look);
    peer_leave(p, was);
}
