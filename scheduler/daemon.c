/* See daemon.h.  Before: proto/peer.c.  Next: core.c. */
#include "scheduler/daemon.h"

#include "base/fds.h"
#include "base/log.h"
#include "proto/keys.h"
#include "scheduler/core.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#define LIFE_JOBS ((uint64_t)1000000000) /* how many job numbers there are for one life of a scheduler */
#define LIVES_MAX ((uint64_t)1000000000)

struct daemon {
    struct loop *loop;
    struct net *net;
    struct peer *peer; /* owned */
    struct core *core; /* owned */
    struct loop_timer timer;
    uint64_t due_ns;  /* when the timer fires; UINT64_MAX: it is not running */
    uint64_t refused; /* messages the core has refused so far */
    int lock;         /* of the state directory, or -1 */
    bool noted;       /* the directory says that a scheduler runs */
    bool gone;        /* `lost` was called */
    void (*lost)(void *owner, const struct err *why);
    void *owner;
};

/* ---- logs */

static void log_message(const char *way, uint64_t link, const struct msg *m)
{
    struct buf text = BUF_INIT(4096);
    if (log_get_level() < LOG_DEBUG)
        return;
    msg_print(m, &text);
    log_debug(way, "link=%llu %s", (unsigned long long)link,
              text.data ? text.data : msg_name(m->type));
    buf_clear(&text);
}

/* events: how many events the core has had, for all jobs and heartbeats together; the difference between two lines is what
 * a job cost. */
static void log_action(const struct core *c, uint64_t link, const struct msg *m)
{
    unsigned long long to = link;
    switch (m->type) {
    case MSG_WELCOME:
        log_info("peer_joined", "link=%llu", to);
        break;
    case MSG_REFUSE:
        log_info("peer_refused", "link=%llu why=\"%s\"", to, m->refuse.text);
        break;
    case MSG_ACCEPT:
        log_info("job_accepted", "job=%llu client=%llu", (unsigned long long)m->accept.job, to);
        break;
    case MSG_RUN:
        log_info("job_sent", "job=%llu attempt=%u worker=%llu nodes=%u", (unsigned long long)m->run.job,
                 m->run.attempt, to, m->run.node_count);
        break;
    case MSG_GO_ON:
        log_info("job_goes_on", "job=%llu attempt=%u worker=%llu", (unsigned long long)m->go_on.job, m->go_on.attempt, to);
        break;
    case MSG_RESULT:
        log_info("job_over", "job=%llu client=%llu status=%u why=\"%s\" events=%llu",
                 (unsigned long long)m->result.job, to, m->result.status, m->result.text, (unsigned long long)core_stats(c).events);
        break;
    default:
        break;
    }
}

/* ---- actions */

/* Without memory for an answer some peer would wait for ever; so the scheduler ends, and all peers see that. */
static void fail(struct daemon *d, const struct err *why)
{
    if (d->gone)
        return;
    d->gone = true;
    d->lost(d->owner, why);
}

static void lose(struct daemon *d, uint64_t link, const char *why)
{
    log_info("link_lost", "link=%llu why=\"%s\"", (unsigned long long)link, why);
    core_lost(d->core, loop_clock_ns(), link);
}

/* Moves the timer only if the core wants to be woken earlier; waking it too early does no harm. */
static void set_timer(struct daemon *d)
{
    uint64_t next = core_next_tick(d->core), now = loop_clock_ns();
    if (next >= d->due_ns)
        return;
    d->due_ns = next;
    loop_timer_start(d->loop, &d->timer, next > now ? next - now : 0, 0);
}

/* An action may make a link fail, which is an event; so go on until there is nothing left to do. */
static void carry_out(struct daemon *d)
{
    struct core_action a;
    struct err e;
    while (core_next_action(d->core, &a)) {
        if (a.kind == CORE_DROP) {
            peer_drop(d->peer, a.link);
            continue;
        }
        log_action(d->core, a.link, &a.msg);
        if (peer_send(d->peer, a.link, &a.msg, a.bulk, &e) == 0)
            continue;
        if (e.code == ERR_NOMEM)
            fail(d, &e);
        uint64_t link = a.link; /* `a` belongs to the core and lives until the next call into it */
        peer_drop(d->peer, link);
        lose(d, link, e.text);
    }
    if (core_broken(d->core)) {
        err_nomem(&e);
        fail(d, &e);
    }
    set_timer(d);
}

static bool allowed(void *owner, enum msg_role role, struct slice key)
{
    return net_allows(owner, role, key);
}

/* ---- events */

static void on_message(void *owner, struct peer *p, uint64_t link, enum msg_role role,
                       const struct msg *m, struct slice bulk)
{
    struct daemon *d = owner;
    struct slice key = peer_link_key(p, link);
    char text[PEER_KEY_TEXT];
    if (m->type == MSG_HELLO) /* so that the log says who the links are */
        log_info("peer_came", "link=%llu role=%s name=\"%s\" key=%s", (unsigned long long)link, keys_role_name(role), m->hello.name, peer_key_text(key, text));
    core_message(d->core, loop_clock_ns(), link, role, key, m, bulk);
    if (m->type == MSG_HELLO && !net_allows(d->net, role, key)) /* the key may have been taken off the list since the connection was made */
        core_check_keys(d->core, loop_clock_ns(), allowed, d->net);
    if (core_stats(d->core).refused != d->refused) {
        d->refused = core_stats(d->core).refused;
        log_info("message_ignored", "link=%llu message=%s ignored=%llu", (unsigned long long)link,
                 msg_name(m->type), (unsigned long long)d->refused);
        log_message("ignored", link, m);
    }
    carry_out(d);
}

static void on_lost(void *owner, struct peer *p, uint64_t link, const struct err *why)
{
    (void)p;
    struct daemon *d = owner;
    if (why->code == ERR_NOMEM)
        fail(d, why);
    lose(d, link, why->text);
    carry_out(d);
}

static void on_timer(struct loop_timer *w)
{
    struct daemon *d = w->owner;
    d->due_ns = UINT64_MAX;
    if (net_refresh(d->net))
        core_check_keys(d->core, loop_clock_ns(), allowed, d->net);
    core_tick(d->core, loop_clock_ns());
    carry_out(d);
}

/* ---- life */

static int hold(struct daemon *d, const char *path, struct err *e)
{
    if (mkdir(path, 0700) < 0 && errno != EEXIST)
        return err_sys(e, "cannot make the state directory '%s'", path);
    d->lock = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (d->lock < 0)
        return err_sys(e, "cannot open the state directory '%s'", path);
    if (flock(d->lock, LOCK_EX | LOCK_NB) == 0)
        return 0;
    if (errno == EWOULDBLOCK)
        return err_set(e, ERR_AGAIN, "another scheduler uses the state directory '%s'", path);
    return err_sys(e, "cannot lock the state directory '%s'", path);
}

/* A scheduler that is killed cannot say so: the next one does, by a file that it leaves. */
static void note_life(struct daemon *d)
{
    int fd = openat(d->lock, "runs", O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    if (fd < 0 && errno == EEXIST)
        log_warn("was_killed", "why=\"the scheduler before this one did not end by itself: it was killed, or its host was\"");
    d->noted = fd >= 0 || errno == EEXIST;
    fd_close(&fd);
}

static int read_lives(int directory, const char *path, uint64_t *lives, struct err *e)
{
    char text[32] = "";
    if (fd_read_text(directory, "lives", text, sizeof text) < 0)
        return errno == ENOENT ? 0 : err_sys(e, "cannot read '%s/lives'", path);
    size_t digits = strspn(text, "0123456789");
    *lives = strtoull(text, NULL, 10);
    if (!digits || text[digits] != '\n' || text[digits + 1] || *lives > LIVES_MAX)
        return err_set(e, ERR_INPUT,
                       "'%s/lives' is damaged: it is to hold the number of times that a scheduler was started there; "
                       "write a greater one into it",
                       path);
    return 0;
}

/* The count is on disk before it is used, so that a number that was given out is never given out again. */
static int write_lives(int directory, const char *path, uint64_t lives, struct err *e)
{
    char text[32];
    int size = snprintf(text, sizeof text, "%llu\n", (unsigned long long)lives);
    int fd = openat(directory, "lives.new", O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    bool good = fd >= 0 && fd_write_all(fd, text, (size_t)size) == 0 && fsync(fd) == 0 &&
                renameat(directory, "lives.new", directory, "lives") == 0 && fsync(directory) == 0;
    if (!good) {
        err_sys(e, "cannot write '%s/lives' (it needs some bytes of room)", path);
        unlinkat(directory, "lives.new", 0);
    }
    fd_close(&fd);
    return good ? 0 : -1;
}

/* Workers, keepers and clients outlive a scheduler, and know jobs by their numbers; so each life of a scheduler has numbers of
 * its own.  Without a state directory chance provides them: a clock may show the same second twice. */
static int begin_life(struct daemon *d, const char *path, uint64_t chance, uint64_t *jobs, struct err *e)
{
    uint64_t lives = 0;
    if (!path) {
        *jobs = chance % LIVES_MAX * LIFE_JOBS;
        return 0;
    }
    if (read_lives(d->lock, path, &lives, e) < 0 || write_lives(d->lock, path, lives + 1, e) < 0)
        return -1;
    *jobs = lives % LIVES_MAX * LIFE_JOBS;
    return 0;
}

static int start(struct daemon *d, struct net *n, const struct daemon_options *o, struct err *e)
{
    static const struct peer_events events = {on_message, on_lost};
    struct core_options core = {.worker_wait_s = o->worker_wait_s};
    if (getrandom(&core.seed, sizeof core.seed, 0) != (ssize_t)sizeof core.seed)
        return err_sys(e, "cannot draw a seed");
    if (o->state && hold(d, o->state, e) < 0)
        return -1;
    if (strncmp(o->url, "inproc:", 7) && begin_life(d, o->state, core.seed, &core.jobs, e) < 0)
        return -1;
    d->peer = peer_listen(n, o->url, MSG_SCHEDULER, &events, d, e);
    if (!d->peer)
        return -1;
    if (o->client_wait_s)
        peer_patience(d->peer, o->client_wait_s * (uint64_t)1000000000);
    core.url = peer_url(d->peer); /* with the real port */
    core.owner = net_public_key(n);
    d->core = core_new(&core, e);
    if (d->core && o->state)
        note_life(d);
    return d->core ? 0 : -1;
}

int daemon_check(const struct net *n, const struct daemon_options *o, struct err *e)
{
    uint64_t lives;
    if (peer_check_url(n, o->url, true, e) < 0)
        return -1;
    if (!o->state)
        return 0;
    if (fd_check_directory(o->state, "the state directory", e) < 0)
        return -1;
    int directory = open(o->state, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    int r = directory < 0 ? 0 : read_lives(directory, o->state, &lives, e);
    fd_close(&directory);
    return r;
}

struct daemon *daemon_new(struct loop *l, struct net *n, const struct daemon_options *o,
                          struct err *e)
{
    struct daemon *d = calloc(1, sizeof *d);
    if (!d) {
        err_nomem(e);
        return NULL;
    }
    d->loop = l;
    d->net = n;
    d->lock = -1;
    d->lost = o->lost;
    d->owner = o->owner;
    d->due_ns = UINT64_MAX;
    d->timer = (struct loop_timer){.run = on_timer, .owner = d};
    if (start(d, n, o, e) < 0) {
        daemon_free(d);
        return NULL;
    }
    return d;
}

const char *daemon_url(const struct daemon *d)
{
    return peer_url(d->peer);
}

void daemon_free(struct daemon *d)
{
    if (!d)
        return;
    loop_timer_stop(d->loop, &d->timer);
    peer_close(d->peer);
    core_free(d->core);
    if (d->noted)
        unlinkat(d->lock, "runs", 0);
    fd_close(&d->lock);
    free(d);
}
