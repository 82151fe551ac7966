/* See peer.h.  ZMQ_FD is edge-triggered and shared with the library's internals, so reading "until empty"
 * on a wake-up loses messages as soon as another callback sends on the same socket.  A loop_hook asks
 * ZMQ_EVENTS before every sleep and after every wake instead.
 *
 * Who is on a link: over TCP the CURVE key, which the ZAP handler below looks up in the allow-list; over
 * inproc, which only this process can reach, what HELLO says. */
#include "proto/peer.h"

#include "base/log.h"
#include "proto/keys.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <zmq.h>

#define LINGER_MS    100
#define ZAP_URL      "inproc://zeromq.zap.01"
#define TABLE_SIZE   65536 /* slots for links: a power of two, more than twice PEER_LINKS_MAX */
#define ARENA_MAX    (256u << 20)
#define ROUTING_SIZE 5 /* a routing id that libzmq made: 0 and four bytes */

struct net {
    void *context;
    struct loop *loop;
    bool secure;
    struct key_pair own;
    uint8_t scheduler_key[MSG_KEY_BYTES];
    struct allowed_key *allowed; /* owned; of NET_KEYS_MAX */
    size_t allowed_count;
    void *zap; /* the handler's socket, when secure */
    struct loop_hook zap_hook;
    uint64_t monitors;
};

struct link {
    uint64_t id; /* 0: empty slot; else 1 + routing number */
    enum msg_role role;
    bool welcomed, dead;
    uint8_t key[MSG_KEY_BYTES];
    bool has_key;
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
    struct loop_timer connect;
    void *monitor;
    bool through, lost;
    bool running, closed; /* closed from inside its own callback: freed when that returns */
    struct link *links;   /* server: TABLE_SIZE slots; client: 1 */
    uint32_t link_count;
    struct peer_stats stats;
};

/* ---- net and its ZAP handler */

static const struct allowed_key *find_allowed(const struct net *n, const uint8_t *key)
{
    for (size_t i = 0; i < n->allowed_count; i++)
        if (!memcmp(n->allowed[i].key, key, MSG_KEY_BYTES))
            return &n->allowed[i];
    return NULL;
}

static bool readable(void *socket)
{
    int events = 0;
    size_t size = sizeof events;
    /* A failure is for the receive that follows to report. */
    return zmq_getsockopt(socket, ZMQ_EVENTS, &events, &size) < 0 || (events & ZMQ_POLLIN);
}

static bool zap_pending(struct loop_hook *w)
{
    struct net *n = w->owner;
    return readable(n->zap);
}

/* Frames of a request: version, id, domain, address, routing id, mechanism, key.  Of the reply: version, id,
 * status, text, user id, metadata.  The user id is the key in hexadecimal, behind the role's number. */
static void zap_run(struct loop_hook *w)
{
    struct net *n = w->owner;
    char frame[8][256];
    int size[8], count = 0, more = 1;
    size_t more_size = sizeof more;
    while (more) {
        int got = zmq_recv(n->zap, frame[count < 7 ? count : 7], sizeof frame[0], ZMQ_DONTWAIT);
        if (got < 0)
            return;
        size[count < 7 ? count : 7] = got;
        count++;
        zmq_getsockopt(n->zap, ZMQ_RCVMORE, &more, &more_size);
    }
    const struct allowed_key *k = NULL;
    char user[2 * MSG_KEY_BYTES + 3] = "";
    if (count == 7 && size[1] <= 255 && size[5] == 5 && !memcmp(frame[5], "CURVE", 5) && size[6] == MSG_KEY_BYTES)
        k = find_allowed(n, (const uint8_t *)frame[6]);
    if (k) {
        int used = snprintf(user, sizeof user, "%u:", k->role);
        for (int i = 0; i < MSG_KEY_BYTES; i++)
            used += snprintf(user + used, sizeof user - (size_t)used, "%02x", (uint8_t)frame[6][i]);
    } else {
        log_warn("key_refused", "address=%.*s", count > 3 ? size[3] : 0, frame[3]);
    }
    zmq_send(n->zap, "1.0", 3, ZMQ_SNDMORE);
    zmq_send(n->zap, frame[1], count > 1 ? (size_t)size[1] : 0, ZMQ_SNDMORE);
    zmq_send(n->zap, k ? "200" : "400", 3, ZMQ_SNDMORE);
    zmq_send(n->zap, k ? "OK" : "this key is not allowed", k ? 2 : 23, ZMQ_SNDMORE);
    zmq_send(n->zap, user, strlen(user), ZMQ_SNDMORE);
    zmq_send(n->zap, "", 0, 0);
}

static int socket_fd(void *socket)
{
    int fd = -1;
    size_t size = sizeof fd;
    zmq_getsockopt(socket, ZMQ_FD, &fd, &size);
    return fd;
}

static int secure(struct net *n, const struct net_options *o, struct err *e)
{
    if (keys_load(o->keys, o->role, &n->own, n->scheduler_key, e) < 0)
        return -1;
    n->secure = true;
    if (o->role == MSG_SCHEDULER)
        n->allowed = keys_load_allowed(o->keys, &n->allowed_count, e);
    else if (!(n->allowed = calloc(NET_KEYS_MAX, sizeof *n->allowed)))
        err_nomem(e);
    if (!n->allowed)
        return -1;
    n->zap = zmq_socket(n->context, ZMQ_REP);
    if (!n->zap || zmq_bind(n->zap, ZAP_URL) < 0)
        return err_set(e, ERR_IO, "cannot listen for key checks: %s", zmq_strerror(errno));
    n->zap_hook = (struct loop_hook){.pending = zap_pending, .run = zap_run, .owner = n};
    loop_hook_start(n->loop, &n->zap_hook, socket_fd(n->zap));
    return 0;
}

struct net *net_new(struct loop *l, const struct net_options *o, struct err *e)
{
    struct net *n = calloc(1, sizeof *n);
    if (!n || !(n->context = zmq_ctx_new())) {
        free(n);
        err_nomem(e);
        return NULL;
    }
    n->loop = l;
    if (!o->keys)
        zmq_ctx_set(n->context, ZMQ_IO_THREADS, 0); /* inproc alone needs none */
    zmq_ctx_set(n->context, ZMQ_MAX_SOCKETS, 8192);
    if (o->keys && secure(n, o, e) < 0) {
        net_free(n);
        return NULL;
    }
    return n;
}

void net_free(struct net *n)
{
    if (!n)
        return;
    loop_hook_stop(&n->zap_hook);
    if (n->zap)
        zmq_close(n->zap);
    while (zmq_ctx_term(n->context) < 0 && errno == EINTR)
        ;
    free(n->allowed);
    explicit_bzero(&n->own, sizeof n->own);
    free(n);
}

int net_admit(struct net *n, enum msg_role role, struct slice key, struct err *e)
{
    if (!n->secure)
        return 0;
    if (key.size != MSG_KEY_BYTES)
        return err_set(e, ERR_PROTO, "a key of %zu bytes", key.size);
    const struct allowed_key *have = find_allowed(n, key.data);
    if (have)
        return 0;
    if (n->allowed_count == NET_KEYS_MAX)
        return err_set(e, ERR_LIMIT, "more than %d keys (NET_KEYS_MAX)", NET_KEYS_MAX);
    struct allowed_key *k = &n->allowed[n->allowed_count++];
    k->role = role;
    memcpy(k->key, key.data, MSG_KEY_BYTES);
    return 0;
}

void net_forget(struct net *n, enum msg_role role, struct slice key)
{
    for (size_t i = 0; i < n->allowed_count; i++)
        if (n->allowed[i].role == role && key.size == MSG_KEY_BYTES && !memcmp(n->allowed[i].key, key.data, key.size))
            n->allowed[i--] = n->allowed[--n->allowed_count];
}

struct slice net_public_key(const struct net *n)
{
    return n->secure ? (struct slice){n->own.public_key, MSG_KEY_BYTES} : (struct slice){"", 0};
}

/* ---- links */

static struct link *slot_of(struct peer *p, uint64_t link)
{
    if (!p->server)
        return &p->links[0];
    size_t at = (size_t)(link * 0x9e3779b97f4a7c15ull >> 40) & (TABLE_SIZE - 1);
    while (p->links[at].id && p->links[at].id != link + 1)
        at = (at + 1) & (TABLE_SIZE - 1);
    return &p->links[at];
}

static int hex(char c)
{
    return c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : 0;
}

static struct link *new_link(struct peer *p, struct link *l, uint64_t link, zmq_msg_t *first)
{
    if (p->link_count == PEER_LINKS_MAX)
        return NULL;
    p->link_count++;
    *l = (struct link){.id = link + 1};
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
    const struct link *l = slot_of((struct peer *)p, link);
    return l->has_key ? (struct slice){l->key, MSG_KEY_BYTES} : (struct slice){"", 0};
}

void peer_drop(struct peer *p, uint64_t link)
{
    struct link *l = slot_of(p, link);
    if (l->id)
        l->dead = true;
}

/* ---- receiving */

static void refuse(struct peer *p, uint64_t link, const struct err *why)
{
    p->stats.refused++;
    log_warn("message_refused", "url=%s link=%llu why=\"%s\"", p->url, (unsigned long long)link, why->text);
    peer_drop(p, link);
    p->ev->on_lost(p->owner, p, link, why);
}

/* A role on inproc is what the HELLO says; WELCOME makes a client's link full. */
static void learn(struct link *l, const struct msg *m)
{
    if (!l->role && m->type == MSG_HELLO && (m->hello.role == MSG_CLIENT || m->hello.role == MSG_WORKER))
        l->role = m->hello.role;
    if (m->type == MSG_HELLO || m->type == MSG_WELCOME)
        l->welcomed = true;
}

static void deliver(struct peer *p, uint64_t link, struct link *l, zmq_msg_t *first, zmq_msg_t *second, bool bulk,
                    bool surplus)
{
    struct arena arena = ARENA_INIT(ARENA_MAX);
    struct msg m;
    struct err e;
    if (surplus)
        err_set(&e, ERR_PROTO, "a message of more than two frames");
    else if (msg_decode(zmq_msg_data(first), zmq_msg_size(first), &arena, &m, &e) == 0) {
        learn(l, &m);
        bool known_hello = m.type != MSG_HELLO || m.hello.role == l->role;
        bool allowed = known_hello && msg_allowed(m.type, l->role, p->as, l->welcomed) && (!bulk || msg_has_bulk(m.type));
        if (allowed) {
            p->stats.received++;
            if (log_get_level() >= LOG_DEBUG) {
                struct buf text = BUF_INIT(2000);
                msg_print(&m, &text);
                log_debug("in", "%s link=%llu %s", p->url, (unsigned long long)link, text.data ? text.data : "");
                buf_clear(&text);
            }
            p->ev->on_message(p->owner, p, link, l->role, &m,
                              bulk ? (struct slice){zmq_msg_data(second), zmq_msg_size(second)}
                                   : (struct slice){"", 0});
            arena_clear(&arena);
            return;
        }
        err_set(&e, ERR_PROTO, "%s is not for this sender or this moment", msg_name(m.type));
    }
    arena_clear(&arena);
    refuse(p, link, &e);
}

/* One message, of two frames at most (and the routing id).  false: none is there. */
static bool receive(struct peer *p)
{
    zmq_msg_t frame[3];
    int count = 0;
    bool more = true, surplus = false;
    while (more) {
        zmq_msg_t one;
        zmq_msg_init(&one);
        if (zmq_msg_recv(&one, p->socket, ZMQ_DONTWAIT) < 0) {
            zmq_msg_close(&one);
            break;
        }
        more = zmq_msg_more(&one);
        if (count < 3) {
            frame[count++] = one;
        } else {
            surplus = true;
            zmq_msg_close(&one);
        }
    }
    int first = p->server ? 1 : 0;
    surplus |= count - first > 2;
    if (count > first) {
        uint64_t link = 0;
        struct link *l = NULL;
        const uint8_t *id = zmq_msg_data(&frame[0]);
        if (!p->server) {
            l = &p->links[0];
        } else if (zmq_msg_size(&frame[0]) == ROUTING_SIZE && id[0] == 0) {
            link = (uint64_t)id[1] << 24 | (uint64_t)id[2] << 16 | (uint64_t)id[3] << 8 | id[4];
            l = slot_of(p, link);
            l = l->id ? l : new_link(p, l, link, &frame[first]);
        }
        if (l && !l->dead)
            deliver(p, link, l, &frame[first], &frame[count - 1], count - first == 2, surplus);
    }
    for (int i = 0; i < count; i++)
        zmq_msg_close(&frame[i]);
    return count > 0;
}

static bool peer_pending(struct loop_hook *w)
{
    struct peer *p = w->owner;
    return readable(p->socket);
}

static void peer_free(struct peer *p)
{
    if (p->socket)
        zmq_close(p->socket);
    free(p->links);
    free(p);
}

static void leave(struct peer *p, bool was_running)
{
    p->running = was_running;
    if (p->closed && !was_running)
        peer_free(p);
}

static void peer_run(struct loop_hook *w)
{
    struct peer *p = w->owner;
    bool was = p->running;
    p->running = true;
    for (int i = 0; i < PEER_TURN_MAX && !p->closed && receive(p); i++)
        ;
    leave(p, was);
}

/* ---- a client socket's connection, watched */

static void lose(struct peer *p, int code, const char *why)
{
    struct err e;
    if (p->lost || p->closed)
        return;
    bool was = p->running;
    p->running = true;
    while (!p->closed && receive(p)) /* what arrived before the end is heard first */
        ;
    if (!p->closed && !p->lost) {
        p->lost = true;
        loop_timer_stop(p->net->loop, &p->connect);
        err_set(&e, code, "%s: %s", p->url, why);
        p->ev->on_lost(p->owner, p, 0, &e);
    }
    leave(p, was);
}

static void connect_late(struct loop_timer *w)
{
    lose(w->owner, ERR_GONE,
         "nobody answers there, or with another key: is it running, is the address right, are the keys its own?");
}

static bool monitor_pending(struct loop_hook *w)
{
    struct peer *p = w->owner;
    return readable(p->monitor);
}

static void monitor_run(struct loop_hook *w)
{
    struct peer *p = w->owner;
    uint8_t event[6];
    char address[256];
    if (zmq_recv(p->monitor, event, sizeof event, ZMQ_DONTWAIT) != (int)sizeof event)
        return;
    zmq_recv(p->monitor, address, sizeof address, ZMQ_DONTWAIT);
    uint16_t number;
    memcpy(&number, event, sizeof number);
    if (number == ZMQ_EVENT_HANDSHAKE_SUCCEEDED) {
        p->through = true;
        loop_timer_stop(p->net->loop, &p->connect);
    } else if (number == ZMQ_EVENT_HANDSHAKE_FAILED_AUTH) {
        lose(p, ERR_DENIED, "our key is not allowed there");
    } else if (number == ZMQ_EVENT_HANDSHAKE_FAILED_PROTOCOL) {
        lose(p, ERR_DENIED, "the other side does not speak CURVE with these keys");
    } else if (number == ZMQ_EVENT_DISCONNECTED && p->through) {
        lose(p, ERR_GONE, "the connection was closed by the other side");
    }
}

static int watch_connection(struct peer *p, struct err *e)
{
    char url[64];
    snprintf(url, sizeof url, "inproc://zpipe-monitor-%llu", (unsigned long long)++p->net->monitors);
    p->monitor = zmq_socket(p->net->context, ZMQ_PAIR);
    int events = ZMQ_EVENT_HANDSHAKE_SUCCEEDED | ZMQ_EVENT_HANDSHAKE_FAILED_AUTH | ZMQ_EVENT_HANDSHAKE_FAILED_PROTOCOL |
                 ZMQ_EVENT_DISCONNECTED;
    if (!p->monitor || zmq_socket_monitor(p->socket, url, events) < 0 || zmq_connect(p->monitor, url) < 0)
        return err_set(e, ERR_IO, "cannot watch a connection: %s", zmq_strerror(errno));
    p->monitor_hook = (struct loop_hook){.pending = monitor_pending, .run = monitor_run, .owner = p};
    loop_hook_start(p->net->loop, &p->monitor_hook, socket_fd(p->monitor));
    p->connect = (struct loop_timer){.run = connect_late, .owner = p};
    loop_timer_start(p->net->loop, &p->connect, (uint64_t)PEER_CONNECT_MS * 1000000u, 0);
    return 0;
}

/* ---- making, sending, closing */

static void set_number(void *socket, int option, int value)
{
    zmq_setsockopt(socket, option, &value, sizeof value);
}

static struct peer *peer_new(struct net *n, int type, const char *url, const struct peer_events *ev, void *owner,
                             struct err *e)
{
    struct peer *p = calloc(1, sizeof *p);
    bool server = type == ZMQ_ROUTER;
    if (p)
        p->links = calloc(server ? TABLE_SIZE : 1, sizeof *p->links);
    if (!p || !p->links) {
        free(p);
        err_nomem(e);
        return NULL;
    }
    p->net = n;
    p->server = server;
    p->ev = ev;
    p->owner = owner;
    snprintf(p->url, sizeof p->url, "%s", url);
    bool inproc = !strncmp(url, "inproc://", 9);
    if (!inproc && !n->secure) {
        err_set(e, ERR_INPUT, "'%s' needs keys: make them with `zpipe keygen --dir DIRECTORY` and give --keys", url);
        goto refuse;
    }
    p->socket = zmq_socket(n->context, type);
    if (!p->socket) {
        err_set(e, ERR_IO, "cannot make a socket: %s", zmq_strerror(errno));
        goto refuse;
    }
    set_number(p->socket, ZMQ_LINGER, LINGER_MS);
    set_number(p->socket, ZMQ_SNDHWM, PEER_QUEUE_MAX);
    set_number(p->socket, ZMQ_RCVHWM, PEER_QUEUE_MAX);
    int64_t largest = MSG_BULK_MAX;
    zmq_setsockopt(p->socket, ZMQ_MAXMSGSIZE, &largest, sizeof largest);
    if (server)
        set_number(p->socket, ZMQ_ROUTER_MANDATORY, 1);
    if (!inproc) {
        set_number(p->socket, ZMQ_HEARTBEAT_IVL, MSG_HEARTBEAT_MS);
        set_number(p->socket, ZMQ_HEARTBEAT_TIMEOUT, MSG_LEASE_MS);
        set_number(p->socket, ZMQ_IPV6, 1);
        zmq_setsockopt(p->socket, ZMQ_CURVE_PUBLICKEY, n->own.public_key, MSG_KEY_BYTES);
        zmq_setsockopt(p->socket, ZMQ_CURVE_SECRETKEY, n->own.secret_key, MSG_KEY_BYTES);
    }
    return p;
refuse:
    peer_free(p);
    return NULL;
}

static struct peer *start(struct peer *p)
{
    p->hook = (struct loop_hook){.pending = peer_pending, .run = peer_run, .owner = p};
    loop_hook_start(p->net->loop, &p->hook, socket_fd(p->socket));
    return p;
}

struct peer *peer_listen(struct net *n, const char *url, enum msg_role as, const struct peer_events *ev, void *owner,
                         struct err *e)
{
    struct peer *p = peer_new(n, ZMQ_ROUTER, url, ev, owner, e);
    if (!p)
        return NULL;
    p->as = as;
    if (strncmp(url, "inproc://", 9)) {
        set_number(p->socket, ZMQ_CURVE_SERVER, 1);
        zmq_setsockopt(p->socket, ZMQ_ZAP_DOMAIN, "zpipe", 5);
    }
    if (zmq_bind(p->socket, url) < 0) {
        err_set(e, errno == EADDRINUSE ? ERR_AGAIN : ERR_IO, "cannot listen at '%s': %s", url, zmq_strerror(errno));
        peer_free(p);
        return NULL;
    }
    size_t size = sizeof p->url;
    zmq_getsockopt(p->socket, ZMQ_LAST_ENDPOINT, p->url, &size);
    return start(p);
}

struct peer *peer_connect(struct net *n, const char *url, struct slice server_key, enum msg_role as, enum msg_role to,
                          const struct peer_events *ev, void *owner, struct err *e)
{
    struct peer *p = peer_new(n, ZMQ_DEALER, url, ev, owner, e);
    if (!p)
        return NULL;
    bool inproc = !strncmp(url, "inproc://", 9);
    p->as = as;
    p->to = to;
    p->links[0] = (struct link){.id = 1, .role = to};
    if (!inproc) {
        const void *key = server_key.size == MSG_KEY_BYTES ? server_key.data : n->scheduler_key;
        zmq_setsockopt(p->socket, ZMQ_CURVE_SERVERKEY, key, MSG_KEY_BYTES);
    }
    if ((!inproc && watch_connection(p, e) < 0) || zmq_connect(p->socket, url) < 0) {
        err_set(e, ERR_INPUT, "cannot connect to '%s': %s", url, zmq_strerror(errno));
        peer_close(p);
        return NULL;
    }
    return start(p);
}

const char *peer_url(const struct peer *p)
{
    return p->url;
}

struct peer_stats peer_stats(const struct peer *p)
{
    return p->stats;
}

void peer_close(struct peer *p)
{
    if (!p || p->closed)
        return;
    p->closed = true;
    loop_hook_stop(&p->hook);
    loop_hook_stop(&p->monitor_hook);
    loop_timer_stop(p->net->loop, &p->connect);
    if (p->monitor) {
        zmq_socket_monitor(p->socket, NULL, 0);
        zmq_close(p->monitor);
        p->monitor = NULL;
    }
    if (!p->running)
        peer_free(p);
}

static int send_frame(struct peer *p, const void *data, size_t size, int flags)
{
    zmq_msg_t m;
    if (zmq_msg_init_size(&m, size) < 0)
        return -1;
    if (size)
        memcpy(zmq_msg_data(&m), data, size);
    if (zmq_msg_send(&m, p->socket, ZMQ_DONTWAIT | flags) >= 0)
        return 0;
    int saved = errno;
    zmq_msg_close(&m);
    errno = saved;
    return -1;
}

int peer_send(struct peer *p, uint64_t link, const struct msg *m, struct slice bulk, struct err *e)
{
    struct buf first = BUF_INIT(MSG_BYTES_MAX);
    struct link *l = slot_of(p, link);
    if (p->closed || p->lost || !l->id || l->dead)
        return err_set(e, ERR_GONE, "%s: the link is gone", p->url);
    if (bulk.size > MSG_BULK_MAX)
        return err_set(e, ERR_LIMIT, "a message of %zu bytes is larger than MSG_BULK_MAX", bulk.size);
    if (msg_encode(m, &first, e) < 0) {
        buf_clear(&first);
        return -1;
    }
    if (log_get_level() >= LOG_DEBUG) {
        struct buf text = BUF_INIT(2000);
        msg_print(m, &text);
        log_debug("out", "%s link=%llu %s", p->url, (unsigned long long)link, text.data ? text.data : "");
        buf_clear(&text);
    }
    uint8_t id[ROUTING_SIZE] = {0, (uint8_t)(link >> 24), (uint8_t)(link >> 16), (uint8_t)(link >> 8), (uint8_t)link};
    /* Once the first frame is taken the others are too: a message is sent whole or not at all. */
    int r = p->server ? send_frame(p, id, sizeof id, ZMQ_SNDMORE) : 0;
    if (r == 0)
        r = send_frame(p, first.data, first.size, bulk.size ? ZMQ_SNDMORE : 0);
    if (r == 0 && bulk.size)
        r = send_frame(p, bulk.data, bulk.size, 0);
    buf_clear(&first);
    if (r == 0) {
        p->stats.sent++;
        if (m->type == MSG_WELCOME)
            l->welcomed = true;
        return 0;
    }
    return err_set(e, errno == EAGAIN ? ERR_AGAIN : ERR_GONE, "%s: cannot send: %s", p->url, zmq_strerror(errno));
}
