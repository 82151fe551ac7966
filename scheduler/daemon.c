/* See daemon.h. */
#include "scheduler/daemon.h"

#include "base/fds.h"
#include "base/log.h"
#include "scheduler/core.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/file.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

struct daemon {
    struct loop *loop;
    struct peer *peer;
    struct core *core;
    struct loop_timer timer;
    int lock; /* of the state directory */
};

/* Actions may make links fail, which are events: so until nothing is left to do. */
static void carry_out(struct daemon *d)
{
    struct core_action a;
    while (core_next_action(d->core, &a)) {
        struct err e;
        uint64_t link = a.link;
        if (a.kind == CORE_DROP) {
            peer_drop(d->peer, link);
            core_lost(d->core, loop_clock_ns(), link);
        } else if (peer_send(d->peer, link, &a.msg, a.bulk, &e) < 0) {
            log_info("link_lost", "link=%llu why=\"%s\"", (unsigned long long)link, e.text);
            core_lost(d->core, loop_clock_ns(), link);
        }
    }
    uint64_t next = core_next_tick(d->core), now = loop_clock_ns();
    if (next == UINT64_MAX)
        loop_timer_stop(d->loop, &d->timer);
    else
        loop_timer_start(d->loop, &d->timer, next > now ? next - now : 0, 0);
}

static void on_message(void *owner, struct peer *p, uint64_t link, enum msg_role role, const struct msg *m,
                       struct slice bulk)
{
    struct daemon *d = owner;
    if (m->type == MSG_HELLO || m->type == MSG_SUBMIT || m->type == MSG_BYE)
        log_info("event", "link=%llu role=%u message=%s", (unsigned long long)link, role, msg_name(m->type));
    core_message(d->core, loop_clock_ns(), link, role, peer_link_key(p, link), m, bulk);
    carry_out(d);
}

static void on_lost(void *owner, struct peer *p, uint64_t link, const struct err *why)
{
    (void)p;
    struct daemon *d = owner;
    log_info("link_lost", "link=%llu why=\"%s\"", (unsigned long long)link, why->text);
    core_lost(d->core, loop_clock_ns(), link);
    carry_out(d);
}

static void on_timer(struct loop_timer *w)
{
    struct daemon *d = w->owner;
    core_tick(d->core, loop_clock_ns());
    carry_out(d);
}

static int hold(struct daemon *d, const char *path, struct err *e)
{
    if (mkdir(path, 0700) < 0 && errno != EEXIST)
        return err_sys(e, "cannot make the state directory '%s'", path);
    d->lock = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (d->lock < 0)
        return err_sys(e, "cannot open the state directory '%s'", path);
    if (flock(d->lock, LOCK_EX | LOCK_NB) < 0)
        return err_set(e, ERR_AGAIN, "another scheduler uses the state directory '%s'", path);
    return 0;
}

struct daemon *daemon_new(struct loop *l, struct net *n, const struct daemon_options *o, struct err *e)
{
    static const struct peer_events events = {on_message, on_lost};
    struct core_options core = {0};
    struct daemon *d = calloc(1, sizeof *d);
    if (!d) {
        err_nomem(e);
        return NULL;
    }
    d->loop = l;
    d->lock = -1;
    d->timer = (struct loop_timer){.run = on_timer, .owner = d};
    if (getrandom(&core.seed, sizeof core.seed, 0) != (ssize_t)sizeof core.seed)
        err_sys(e, "cannot draw a seed");
    else if ((!o->state || hold(d, o->state, e) == 0) && (d->core = core_new(&core, e)))
        d->peer = peer_listen(n, o->url, MSG_SCHEDULER, &events, d, e);
    if (!d->peer) {
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
    fd_close(&d->lock);
    free(d);
}
