/* See peer.h: the process's ZeroMQ context, its keys, and which keys are let in.  A CURVE server asks a handler at ZAP_URL
 * about every key; ours runs on the same loop and looks into the allow-list.  Its answer, the user id, comes with every
 * message of that connection and tells role and key.
 *
 * A worker learns of a key by RUN (a keeper by VISIT), which may arrive after the key's owner has connected.  So its handler
 * holds a question about an unknown key for NET_HOLD_MS before it says no: a connection that waits loses nothing, while
 * one that was refused would have to be made again. */
#include "proto/net.h"

#include "base/log.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>
#include <zmq.h>

#define ZAP_URL       "inproc://zeromq.zap.01"
#define SOCKETS_MAX   8192
#define THREADS_MAX   2 /* threads of ZeroMQ: one that closes, and one for I/O */
#define HELD_MAX      1024 /* questions held at once: when one more comes, the oldest is answered */
#define ROUTING_MAX   16
#define ZAP_FRAME_MAX 255
#define KEPT          UINT32_MAX /* the use count of a key that the file allows */

bool net_readable(void *socket)
{
    int events = 0;
    size_t size = sizeof events;
    /* A failure will be reported by the receive that follows. */
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

static void answer_held(struct net *n, const struct allowed_key *k);

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
    answer_held(n, k);
    return 0;
}

void net_forget(struct net *n, enum msg_role role, struct slice key)
{
    struct allowed_key *k =
        n->secure && key.size == MSG_KEY_BYTES ? find_allowed(n, role, key.data) : NULL;
    if (k && k->uses != KEPT && --k->uses == 0)
        *k = n->allowed[--n->allowed_count];
}

/* ---- the list, again */

static void stat_list(struct net *n, struct stat *out)
{
    char path[sizeof n->keys + 8];
    snprintf(path, sizeof path, "%s/allow", n->keys);
    if (stat(path, out) < 0)
        *out = n->list; /* the file always exists, even while it is replaced; if it cannot be read the old list stands */
}

/* The scheduler's own key may connect, too: as a client. */
static void allow_owner(const struct net *n, struct allowed_key *list, size_t *count)
{
    if (*count == NET_KEYS_MAX)
        return;
    list[*count] = (struct allowed_key){.role = MSG_CLIENT};
    memcpy(list[(*count)++].key, n->own.public_key, MSG_KEY_BYTES);
}

static void read_again(struct net *n)
{
    struct stat now;
    struct err e;
    size_t count;
    if (!n->keys[0])
        return;
    stat_list(n, &now);
    if (now.st_ino == n->list.st_ino && now.st_size == n->list.st_size && now.st_mtim.tv_sec == n->list.st_mtim.tv_sec &&
        now.st_mtim.tv_nsec == n->list.st_mtim.tv_nsec)
        return;
    n->list = now;
    struct allowed_key *list = calloc(NET_KEYS_MAX, sizeof *list);
    if (!list || keys_load_allowed(n->keys, list, &count, &e) < 0) {
        log_warn("keys_unread", "why=\"%s\" remedy=\"the old list stands until it is right\"", list ? e.text : "no memory");
        free(list);
        return;
    }
    allow_owner(n, list, &count);
    for (size_t i = 0; i < count; i++)
        list[i].uses = KEPT;
    free(n->allowed);
    n->allowed = list;
    n->allowed_count = count;
    n->changed = true;
    log_info("keys_read", "count=%zu", count);
}

bool net_refresh(struct net *n)
{
    read_again(n);
    bool changed = n->changed;
    n->changed = false;
    return changed;
}

bool net_allows(const struct net *n, enum msg_role role, struct slice key)
{
    return key.size != MSG_KEY_BYTES || find_allowed(n, role, key.data);
}

struct slice net_public_key(const struct net *n)
{
    return n->secure ? (struct slice){n->own.public_key, MSG_KEY_BYTES} : (struct slice){"", 0};
}

/* ---- the handler */

/* The frames of a question; the answer needs only where it came from, which it is, and the key. */
enum zap_frame {
    ZAP_FROM, /* routing id of this socket */
    ZAP_EMPTY,
    ZAP_VERSION,
    ZAP_ID,
    ZAP_DOMAIN,
    ZAP_ADDRESS,
    ZAP_ROUTING,
    ZAP_MECHANISM,
    ZAP_KEY,
    ZAP_FRAMES
};

struct held {
    uint64_t until_ns;
    size_t from_size, id_size;
    uint8_t from[ROUTING_MAX], id[ZAP_FRAME_MAX], key[MSG_KEY_BYTES];
};

struct question {
    uint8_t frame[ZAP_FRAMES + 1][ZAP_FRAME_MAX + 1]; /* the last: a frame that should not be there */
    int size[ZAP_FRAMES + 1];
    int count;
    bool odd; /* some frame was too long */
};

/* Receive a question.  false: there is none. */
static bool receive(void *socket, struct question *q)
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

/* Answer a question; k NULL: no.  The user id is the role's number, a colon, and the key in hexadecimal. */
static void answer(struct net *n, const struct held *h, const struct allowed_key *k)
{
    char user[2 * MSG_KEY_BYTES + 3] = "", z85[41] = "";
    int used = k ? snprintf(user, sizeof user, "%u:", k->role) : 0;
    for (int i = 0; k && i < MSG_KEY_BYTES; i++)
        used += snprintf(user + used, sizeof user - (size_t)used, "%02x", k->key[i]);
    if (!k)
        log_warn("key_refused", "key=%s", zmq_z85_encode(z85, h->key, MSG_KEY_BYTES) ? z85 : "");
    const struct {
        const void *data;
        size_t size;
    } frame[] = {{h->from, h->from_size},
                 {"", 0},
                 {"1.0", 3},
                 {h->id, h->id_size},
                 {k ? "200" : "400", 3},
                 {k ? "OK" : "not allowed", k ? 2 : 11},
                 {user, strlen(user)},
                 {"", 0}};
    int count = sizeof frame / sizeof *frame;
    for (int i = 0; i < count; i++) /* a connection that is gone meanwhile gets nothing, which is no error */
        zmq_send(n->zap, frame[i].data, frame[i].size, i + 1 < count ? ZMQ_SNDMORE : 0);
}

static void drop_held(struct net *n, size_t at)
{
    n->held_count--;
    memmove(n->held + at, n->held + at + 1, (n->held_count - at) * sizeof *n->held);
}

static void answer_held(struct net *n, const struct allowed_key *k)
{
    for (size_t i = 0; i < n->held_count; i++)
        if (!memcmp(n->held[i].key, k->key, MSG_KEY_BYTES)) {
            answer(n, &n->held[i], k);
            drop_held(n, i--);
        }
}

static void held_late(struct loop_timer *w)
{
    struct net *n = w->owner;
    uint64_t now = loop_clock_ns();
    while (n->held_count && n->held[0].until_ns <= now) {
        answer(n, &n->held[0], NULL);
        drop_held(n, 0);
    }
    if (n->held_count)
        loop_timer_start(n->loop, w, n->held[0].until_ns - now, 0);
}

static void hold(struct net *n, const struct held *h)
{
    if (!n->held && !(n->held = calloc(HELD_MAX, sizeof *n->held))) {
        answer(n, h, NULL);
        return;
    }
    if (n->held_count == HELD_MAX) {
        answer(n, &n->held[0], NULL);
        drop_held(n, 0);
    }
    n->held[n->held_count++] = *h;
    if (n->held_count == 1)
        loop_timer_start(n->loop, &n->held_timer, (uint64_t)NET_HOLD_MS * 1000000u, 0);
}

static void decide(struct net *n, const struct question *q)
{
    struct held h = {.until_ns = loop_clock_ns() + (uint64_t)NET_HOLD_MS * 1000000u};
    if (q->odd || q->count != ZAP_FRAMES || q->size[ZAP_FROM] > ROUTING_MAX ||
        q->size[ZAP_KEY] != MSG_KEY_BYTES ||
        strcmp((const char *)q->frame[ZAP_MECHANISM], "CURVE") != 0)
        return; /* the library asks no such question; without an answer the connection ends by itself */
    h.from_size = (size_t)q->size[ZAP_FROM];
    h.id_size = (size_t)q->size[ZAP_ID];
    memcpy(h.from, q->frame[ZAP_FROM], h.from_size);
    memcpy(h.id, q->frame[ZAP_ID], h.id_size);
    memcpy(h.key, q->frame[ZAP_KEY], MSG_KEY_BYTES);
    read_again(n);
    const struct allowed_key *k = find_allowed(n, ~0u, h.key);
    log_line(LOG_INFO, "key_asked", "address=%s known=%s", (const char *)q->frame[ZAP_ADDRESS],
             k ? "yes" : "no");
    if (!k && (n->role == MSG_WORKER || n->role == MSG_KEEPER))
        hold(n, &h);
    else
        answer(n, &h, k);
}

static bool zap_pending(struct loop_hook *w)
{
    struct net *n = w->owner;
    return net_readable(n->zap);
}

static void zap_run(struct loop_hook *w)
{
    struct net *n = w->owner;
    struct question q = {0};
    if (receive(n->zap, &q))
        decide(n, &q);
}

static bool interrupted(int result)
{
    return result < 0 && errno == EINTR;
}

int net_bind(void *socket, const char *url)
{
    int r;
    do
        r = zmq_bind(socket, url);
    while (interrupted(r));
    return r;
}

int net_connect(void *socket, const char *url)
{
    int r;
    do
        r = zmq_connect(socket, url);
    while (interrupted(r));
    return r;
}

int net_monitor(void *socket, const char *url, int events)
{
    int r;
    do
        r = zmq_socket_monitor(socket, url, events);
    while (interrupted(r));
    return r;
}

int net_guard(struct net *n, struct err *e)
{
    if (n->zap)
        return 0;
    n->zap = zmq_socket(n->context, ZMQ_ROUTER);
    if (!n->zap || net_bind(n->zap, ZAP_URL) < 0)
        return err_set(e, ERR_IO, "cannot listen for key checks: %s", zmq_strerror(errno));
    n->zap_hook = (struct loop_hook){.pending = zap_pending, .run = zap_run, .owner = n};
    n->held_timer = (struct loop_timer){.run = held_late, .owner = n};
    loop_hook_start(n->loop, &n->zap_hook, net_fd(n->zap));
    return 0;
}

/* ---- life */

static int load_keys(struct net *n, const struct net_options *o, struct err *e)
{
    if (keys_load(o->keys, o->owner ? MSG_SCHEDULER : o->role, &n->own, n->scheduler_key, e) < 0)
        return -1;
    n->secure = true;
    n->allowed = calloc(NET_KEYS_MAX, sizeof *n->allowed);
    if (!n->allowed)
        return err_nomem(e);
    if (o->role == MSG_SCHEDULER) {
        if (snprintf(n->keys, sizeof n->keys, "%s", o->keys) >= (int)sizeof n->keys)
            return err_set(e, ERR_INPUT, "the name of the keys' directory is too long");
        stat_list(n, &n->list); /* before it is read: a change in between will be seen later */
        if (keys_load_allowed(o->keys, n->allowed, &n->allowed_count, e) < 0)
            return -1;
        allow_owner(n, n->allowed, &n->allowed_count);
    }
    for (size_t i = 0; i < n->allowed_count; i++)
        n->allowed[i].uses = KEPT;
    return 0;
}

/* ZeroMQ ends the process if it gets no descriptor to wait with, or no thread (because of a limit of memory or processes,
 * or a stack's size).  So try to get as many as it will need, all at once; the memory of the threads' stacks stays for its
 * own threads. */
static int try_files(int threads, struct err *e)
{
    int fd[1 + 2 * THREADS_MAX], count = 1 + 2 * threads, made = 0;
    while (made < count && (fd[made] = eventfd(0, EFD_CLOEXEC)) >= 0)
        made++;
    int failed = made < count ? err_sys(e, "cannot open an event descriptor") : 0;
    while (made)
        close(fd[--made]);
    return failed;
}

static void *wait_for_end(void *mutex)
{
    pthread_mutex_lock(mutex);
    pthread_mutex_unlock(mutex);
    return NULL;
}

static int try_threads(int count, struct err *e)
{
    pthread_t thread[THREADS_MAX];
    pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
    sigset_t all, before;
    int made = 0, error = 0;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before); /* signals are for the thread that waits for them */
    pthread_mutex_lock(&mutex);
    while (made < count && (error = pthread_create(&thread[made], NULL, wait_for_end, &mutex)) == 0)
        made++;
    pthread_mutex_unlock(&mutex);
    for (int i = 0; i < made; i++)
        pthread_join(thread[i], NULL);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (!error)
        return 0;
    errno = error;
    return err_sys(e, "cannot start a thread; allow more memory (ulimit -v), smaller stacks (ulimit -s) or more processes (ulimit -u)");
}

struct net *net_new(struct loop *l, const struct net_options *o, struct err *e)
{
    int threads = o->keys || o->insecure_loopback ? THREADS_MAX : 1; /* inproc alone needs no thread for I/O */
    if (try_files(threads, e) < 0 || try_threads(threads, e) < 0)
        return NULL;
    struct net *n = calloc(1, sizeof *n);
    if (!n || !(n->context = zmq_ctx_new())) {
        free(n);
        err_nomem(e);
        return NULL;
    }
    n->loop = l;
    n->role = o->role;
    n->loopback = !o->keys && o->insecure_loopback;
    if (!o->keys && !n->loopback)
        zmq_ctx_set(n->context, ZMQ_IO_THREADS, 0);
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
    loop_timer_stop(n->loop, &n->held_timer);
    free(n->held);
    if (n->zap)
        zmq_close(n->zap);
    while (zmq_ctx_term(n->context) < 0 && errno == EINTR)
        ;
    free(n->allowed);
    explicit_bzero(&n->own, sizeof n->own);
    free(n);
}
