/* See keeper.h.  The daemon: a client that listens.  It does for a submitted job what any client does for its own job
 * (job.c), so a killed scheduler costs such a job no more than others.  What the keeper adds: everything is on disk, and
 * the job goes on after the keeper was killed.  It is then taken from the journal with its inputs and run from its first
 * byte, and its output is compared with what was given away before.
 *
 * The keeper may wait for its disk: clients have no leases, so nobody's lease runs out meanwhile. */
#include "client/keeper.h"

#include "base/ending.h"
#include "base/fds.h"
#include "base/log.h"
#include "proto/kept.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/file.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define TICK_NS ((uint64_t)1000000000)

static uint64_t clock_ms(clockid_t clock)
{
    struct timespec t;
    clock_gettime(clock, &t);
    return (uint64_t)t.tv_sec * 1000 + (uint64_t)t.tv_nsec / 1000000;
}

/* The keeper's own clock.  During one life it follows the time since the machine's start.  Between two lives only the host's clock
 * can tell how much time has passed, and somebody may have set it meanwhile.  So a life continues from the newest time in the
 * journal: never earlier, and at most KEEPER_AWAY_MS later. */
void keeper_clock_start(struct keeper *k)
{
    uint64_t now = clock_ms(CLOCK_REALTIME), newest = 0;
    for (uint32_t i = 0; i < k->job_count; i++) {
        const struct journal_job *row = &k->job[i]->row;
        uint64_t last = row->over && row->over_ms > row->came_ms ? row->over_ms : row->came_ms;
        newest = last > newest ? last : newest;
    }
    if (newest && now > newest + KEEPER_AWAY_MS)
        now = newest + KEEPER_AWAY_MS;
    k->booted_ms = (now > newest ? now : newest) - clock_ms(CLOCK_BOOTTIME);
}

uint64_t keeper_now_ms(const struct keeper *k)
{
    return k->booted_ms + clock_ms(CLOCK_BOOTTIME);
}

void keeper_fail(struct keeper *k, const struct err *why)
{
    if (!k->failed)
        k->why = *why;
    k->failed = k->closing = true;
    loop_stop(k->z->loop);
}

void keeper_unwritten(struct keeper *k, const struct err *why)
{
    if (why->sys != ENOSPC)
        keeper_fail(k, why);
}

void keeper_sent(struct keeper *k, int sent, const struct err *e)
{
    if (sent < 0 && e->code == ERR_NOMEM)
        keeper_fail(k, e);
}

static bool fits(uint64_t held, uint64_t more, uint64_t room)
{
    return more <= room && held <= room - more;
}

/* A quarter is always there for others than the key that holds most. */
int keeper_room(const struct keeper *k, uint64_t held_bytes, uint64_t more, struct err *e)
{
    uint64_t share = k->room_bytes - k->room_bytes / 4;
    if (!fits(held_bytes, more, share))
        return err_set(
            e, ERR_LIMIT,
            "the keeper holds %llu bytes of this key's jobs, of the %llu that one key may have (three quarters of --store-max), and %llu more do not fit: "
            "attach to jobs that have ended",
            (unsigned long long)held_bytes, (unsigned long long)share, (unsigned long long)more);
    if (fits(k->held_bytes, more, k->room_bytes))
        return 0;
    return err_set(e, ERR_LIMIT, "the keeper holds %llu of the %llu bytes that it may hold (--store-max), and %llu more do not fit",
                   (unsigned long long)k->held_bytes, (unsigned long long)k->room_bytes, (unsigned long long)more);
}

int keeper_write_failed(const struct keeper *k, const char *what, struct err *e)
{
    return err_sys(e, "the keeper cannot hold %s in '%s' (make room there, or attach to jobs that have ended)", what, k->directory);
}

static int ready(void *owner, struct zpipe *z, struct err *e)
{
    struct keeper *k = owner;
    k->z = z;
    k->data = peer_listen(z->net, k->listen, MSG_WORKER, &keeper_data_events, k, e);
    if (!k->data)
        return err_wrap(e, "the data port");
    k->as.data_url = k->advertise ? k->advertise : peer_url(k->data);
    return 0;
}

static void on_close(void *owner)
{
    struct keeper *k = owner;
    peer_close(k->data);
    k->data = NULL;
    k->z = NULL;
}

static void on_welcome(void *owner)
{
    struct keeper *k = owner;
    for (uint32_t i = 0; i < k->job_count; i++)
        keeper_job_tell(k->job[i]);
    if (k->ready)
        k->ready(peer_url(k->data));
    k->ready = NULL;
}

static void on_visit(void *owner, const struct msg_visit *m)
{
    keeper_visit(owner, m);
}

static void on_tick(struct loop_timer *w)
{
    struct keeper *k = w->owner;
    keeper_jobs_tick(k);
    keeper_visits_tick(k);
}

static bool reap_pending(struct loop_hook *w)
{
    const struct keeper *k = w->owner;
    return keeper_job_reapable(k) || keeper_visits_reapable(k) || k->start_wanted;
}

static void reap(struct loop_hook *w)
{
    struct keeper *k = w->owner;
    keeper_visits_reap(k);
    keeper_job_reap(k);
    k->start_wanted = false;
    if (!k->closing && !k->z->lost)
        keeper_jobs_start(k);
}

/* ---- life */

static int hold(struct keeper *k, struct err *e)
{
    char *jobs = NULL;
    if (mkdir(k->directory, 0700) < 0 && errno != EEXIST)
        return err_sys(e, "cannot make the keeper's directory '%s'", k->directory);
    if (asprintf(&jobs, "%s/jobs", k->directory) < 0)
        return err_nomem(e);
    int r = mkdir(jobs, 0700) < 0 && errno != EEXIST ? err_sys(e, "cannot make the directory '%s'", jobs) : 0;
    free(jobs);
    k->lock = open(k->directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (r == 0 && (k->lock < 0 || flock(k->lock, LOCK_EX | LOCK_NB) < 0))
        r = errno == EWOULDBLOCK ? err_set(e, ERR_AGAIN, "another keeper uses the directory '%s'", k->directory)
                                 : err_sys(e, "cannot hold the keeper's directory '%s'", k->directory);
    return r;
}

static int take_row(void *owner, const struct journal_job *row, struct err *e)
{
    struct keeper_job *j = keeper_job_new(owner, row, e);
    if (j)
        j->again = true;
    return j ? 0 : -1;
}

static int copy_options(struct keeper *k, const struct zpipe_keeper_options *o, struct err *e)
{
    k->directory = realpath(o->directory, NULL);
    if (!k->directory)
        k->directory = strdup(o->directory);
    k->listen = strdup(o->data_listen ? o->data_listen : "tcp://127.0.0.1:*");
    k->advertise = o->advertise ? strdup(o->advertise) : NULL;
    k->shared = strdup(o->shared ? o->shared : "");
    if (!k->directory || !k->listen || !k->shared || (o->advertise && !k->advertise))
        return err_nomem(e);
    if (kept_shared_check(k->shared, e) < 0)
        return -1;
    k->room_bytes = o->store_max_bytes ? o->store_max_bytes : ZPIPE_KEEPER_STORE_BYTES;
    k->as = (struct client_keeper){ready, on_close, on_welcome, on_visit, k, "", k->shared};
    return 0;
}

static int check_files(struct err *e)
{
    struct rlimit files;
    if (getrlimit(RLIMIT_NOFILE, &files) < 0 || files.rlim_cur >= KEEPER_FILES_MIN)
        return 0;
    return err_set(e, ERR_LIMIT, "a keeper wants %d open files at least, and may have %llu: raise `ulimit -n` (LimitNOFILE= in its unit)", KEEPER_FILES_MIN,
                   (unsigned long long)files.rlim_cur);
}

static int keeper_open(struct keeper *k, const struct zpipe_keeper_options *o, struct err *e)
{
    k->lock = -1;
    k->running_max = KEEPER_RUNNING_MAX;
    list_init(&k->visitors);
    for (int i = 0; i < KEEPER_OWNERS; i++)
        list_init(&k->owners[i]);
    k->job = calloc(KEEPER_JOBS_MAX, sizeof(struct keeper_job *));
    if (!k->job)
        return err_nomem(e);
    if (check_files(e) < 0 || copy_options(k, o, e) < 0 || hold(k, e) < 0)
        return -1;
    free(k->directory); /* k->directory now holds the path */
    k->directory = realpath(o->directory, NULL);
    if (!k->directory)
        return err_sys(e, "cannot use the keeper's directory '%s'", o->directory);
    k->journal = journal_open(k->directory, e);
    if (!k->journal || journal_read(k->journal, take_row, k, e) < 0 || keeper_jobs_clean(k, e) < 0)
        return -1;
    keeper_clock_start(k);
    struct zpipe_options z = {.cluster = o->scheduler, .keys = o->keys};
    if (!client_open(&z, &k->as, e))
        return -1;
    k->tick = (struct loop_timer){.run = on_tick, .owner = k};
    loop_timer_start(k->z->loop, &k->tick, TICK_NS, TICK_NS);
    k->reaper = (struct loop_hook){.pending = reap_pending, .run = reap, .owner = k};
    loop_hook_start(k->z->loop, &k->reaper, -1);
    k->start_wanted = true;
    return 0;
}

static void keeper_close(struct keeper *k)
{
    k->closing = true;
    if (k->z) {
        loop_timer_stop(k->z->loop, &k->tick);
        if (k->reaper.run)
            loop_hook_stop(&k->reaper); /* this loop frees the jobs itself */
    }
    keeper_visits_close(k);
    while (k->job_count)
        keeper_job_free(k->job[k->job_count - 1]);
    zpipe_close(k->z);
    journal_close(k->journal);
    fd_close(&k->lock);
    free(k->job);
    free(k->directory);
    free(k->listen);
    free(k->advertise);
    free(k->shared);
}

static void on_ending(void *owner)
{
    struct keeper *k = owner;
    k->closing = true;
    loop_stop(k->z->loop);
}

int zpipe_check_keeper(const struct zpipe_keeper_options *o, struct zpipe_error *error)
{
    struct err e = {0};
    struct net *n = NULL;
    struct net_options no = {.keys = o->keys, .role = MSG_KEEPER};
    struct loop *l = check_files(&e) < 0 ? NULL : loop_new(&e);
    int r = l ? 0 : -1;
    if (r == 0 && ((o->shared && kept_shared_check(o->shared, &e) < 0) || fd_check_directory(o->directory, "the keeper's directory", &e) < 0 ||
                   !(n = net_new(l, &no, &e)) || peer_check_url(n, o->scheduler, false, &e) < 0 ||
                   (o->data_listen && peer_check_url(n, o->data_listen, true, &e) < 0) || peer_check_data_url(o->advertise ? o->advertise : "", &e) < 0 ||
                   (!o->advertise && o->data_listen && !strchr(o->data_listen, '*') && peer_check_data_url(o->data_listen, &e) < 0)))
        r = -1;
    net_free(n);
    if (l)
        loop_free(l);
    return r < 0 ? client_error(error, &e) : 0;
}

int zpipe_run_keeper(const struct zpipe_keeper_options *o, void (*tell_ready)(const char *url), struct zpipe_error *error)
{
    struct keeper k = {.ready = tell_ready};
    struct err e = {0};
    int r = keeper_open(&k, o, &e);
    if (r == 0) {
        struct ending ending;
        ending_start(k.z->loop, &ending, on_ending, &k);
        signal(SIGPIPE, SIG_IGN);
        signal(SIGXFSZ, SIG_IGN);
        while (!k.closing && !k.z->lost)
            loop_turn(k.z->loop, true);
        if (k.failed || (k.z->lost && !k.closing)) {
            e = k.failed ? k.why : k.z->why;
            r = -1;
        }
        ending_stop(k.z->loop, &ending);
    }
    keeper_close(&k);
    return r < 0 ? client_error(error, &e) : 0;
}
