/* See peer.h: the process's ZeroMQ context, its keys, and who is let in.  A CURVE server asks a handler at
 * ZAP_URL about every key; ours runs on the same loop and looks into the allow-list.  Its answer, the user
 * id, comes with every message of that connection and tells role and key. */
#include "proto/net.h"

#include "base/log.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <zmq.h>

#define ZAP_URL     "inproc://zeromq.zap.01"
#define SOCKETS_MAX 8192
#define KEPT        UINT32_MAX /* uses of a key that the file allows */

bool net_readable(void *socket)
{
    int events = 0;
    size_t size = sizeof events;
    /* A failure is for the receive that follows to report. */
    return zmq_getsockopt(socket, ZMQ_EVENTS, &events, &size) < 0 || (events & ZMQ_POLLIN);
}

int net_fd(void *socket)
{
    int fd = -1;
    size_t size = sizeof fd;
    zmq_getsockopt(socket, ZMQ_FD, &fd, &size);
    return fd;
}

/* ---- the allow-list */

static struct allowed_key *find_allowed(const struct net *n, unsigned roles, const void *key)
{
    for (size_t i = 0; i < n->allowed_count; i++)
        if ((n->allowed[i].role & roles) && !memcmp(n->allowed[i].key, key, MSG_KEY_BYTES))
            return &n->allowed[i];
    return NULL;
}

int net_admit(struct net *n, enum msg_role role, struct slice key, struct err *e)
{
    if (!n->secure)
        return 0;
    if (key.size != MSG_KEY_BYTES)
        return err_set(e, ERR_PROTO, "a key of %zu bytes", key.size);
    struct allowed_key *k = find_allowed(n, role, key.data);
    if (!k) {
        if (n->allowed_count == NET_KEYS_MAX)
            return err_set(e, ERR_LIMIT, "more than %d keys (NET_KEYS_MAX)", NET_KEYS_MAX);
        k = &n->allowed[n->allowed_count++];
        *k = (struct allowed_key){.role = role};
        memcpy(k->key, key.data, MSG_KEY_BYTES);
    }
    k->uses += k->uses < KEPT - 1;
    return 0;
}

void net_forget(struct net *n, enum msg_role role, struct slice key)
{
    struct allowed_key *k = n->secure && key.size == MSG_KEY_BYTES ? find_allowed(n, role, key.data) : NULL;
    if (k && k->uses != KEPT && --k->uses == 0)
        *k = n->allowed[--n->allowed_count];
}

struct slice net_public_key(const struct net *n)
{
    return n->secure ? (struct slice){n->own.public_key, MSG_KEY_BYTES} : (struct slice){"", 0};
}

/* ---- the handler */

enum { ZAP_VERSION, ZAP_ID, ZAP_DOMAIN, ZAP_ADDRESS, ZAP_ROUTING, ZAP_MECHANISM, ZAP_KEY, ZAP_FRAMES };
#define ZAP_FRAME_MAX 255

struct request {
    uint8_t frame[ZAP_FRAMES + 1][ZAP_FRAME_MAX + 1]; /* the last swallows what should not be there */
    int size[ZAP_FRAMES + 1];
    int count;
    bool odd; /* something was too long */
};

/* false: none is there. */
static bool zap_receive(void *socket, struct request *q)
{
    int more = 1;
    size_t more_size = sizeof more;
    for (q->count = 0; more; q->count++) {
        int at = q->count < ZAP_FRAMES ? q->count : ZAP_FRAMES;
        int size = zmq_recv(socket, q->frame[at], ZAP_FRAME_MAX, ZMQ_DONTWAIT);
        if (size < 0)
            return false;
        q->odd |= size > ZAP_FRAME_MAX;
        q->size[at] = size < ZAP_FRAME_MAX ? size : ZAP_FRAME_MAX;
        q->frame[at][q->size[at]] = '\0';
        zmq_getsockopt(socket, ZMQ_RCVMORE, &more, &more_size);
    }
    return true;
}

/* The user id: the role's number, a colon, the key in hexadecimal. */
static void zap_answer(struct net *n, const struct request *q)
{
    const struct allowed_key *k = NULL;
    char user[2 * MSG_KEY_BYTES + 3] = "", z85[41] = "";
    const uint8_t *key = q->frame[ZAP_KEY];
    bool whole = !q->odd && q->count == ZAP_FRAMES && q->size[ZAP_KEY] == MSG_KEY_BYTES &&
                 !strcmp((const char *)q->frame[ZAP_MECHANISM], "CURVE");
    if (whole)
        k = find_allowed(n, ~0u, key);
    if (k) {
        int used = snprintf(user, sizeof user, "%u:", k->role);
        for (int i = 0; i < MSG_KEY_BYTES; i++)
            used += snprintf(user + used, sizeof user - (size_t)used, "%02x", key[i]);
    } else {
        log_warn("key_refused", "address=%s key=%s", q->count > ZAP_ADDRESS ? (const char *)q->frame[ZAP_ADDRESS] : "",
                 whole && zmq_z85_encode(z85, key, MSG_KEY_BYTES) ? z85 : "");
    }
    zmq_send(n->zap, "1.0", 3, ZMQ_SNDMORE);
    zmq_send(n->zap, q->frame[ZAP_ID], q->count > ZAP_ID ? (size_t)q->size[ZAP_ID] : 0, ZMQ_SNDMORE);
    zmq_send(n->zap, k ? "200" : "400", 3, ZMQ_SNDMORE);
    zmq_send(n->zap, k ? "OK" : "not allowed", k ? 2 : 11, ZMQ_SNDMORE);
    zmq_send(n->zap, user, strlen(user), ZMQ_SNDMORE);
    zmq_send(n->zap, "", 0, 0);
}

static bool zap_pending(struct loop_hook *w)
{
    struct net *n = w->owner;
    return net_readable(n->zap);
}

static void zap_run(struct loop_hook *w)
{
    struct net *n = w->owner;
    struct request q = {0};
    if (zap_receive(n->zap, &q))
        zap_answer(n, &q);
}

int net_guard(struct net *n, struct err *e)
{
    if (n->zap)
        return 0;
    n->zap = zmq_socket(n->context, ZMQ_REP);
    if (!n->zap || zmq_bind(n->zap, ZAP_URL) < 0)
        return err_set(e, ERR_IO, "cannot listen for key checks: %s", zmq_strerror(errno));
    n->zap_hook = (struct loop_hook){.pending = zap_pending, .run = zap_run, .owner = n};
    loop_hook_start(n->loop, &n->zap_hook, net_fd(n->zap));
    return 0;
}

/* ---- life */

static int load_keys(struct net *n, const struct net_options *o, struct err *e)
{
    if (keys_load(o->keys, o->role, &n->own, n->scheduler_key, e) < 0)
        return -1;
    n->secure = true;
    n->allowed = calloc(NET_KEYS_MAX, sizeof *n->allowed);
    if (!n->allowed)
        return err_nomem(e);
    if (o->role == MSG_SCHEDULER && keys_load_allowed(o->keys, n->allowed, &n->allowed_count, e) < 0)
        return -1;
    for (size_t i = 0; i < n->allowed_count; i++)
        n->allowed[i].uses = KEPT;
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
    n->loopback = !o->keys && o->insecure_loopback;
    if (!o->keys && !n->loopback)
        zmq_ctx_set(n->context, ZMQ_IO_THREADS, 0); /* inproc alone needs none */
    zmq_ctx_set(n->context, ZMQ_MAX_SOCKETS, SOCKETS_MAX);
    if (o->keys && load_keys(n, o, e) < 0) {
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
