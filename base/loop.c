/* See loop.h.  Hooks follow the recipe that survives a zmq socket being written by another callback:
 * prepare asks every hook before the loop sleeps and starts an idle watcher if one is pending (so the
 * loop does not sleep); check asks again after waking and runs the pending ones. */
#include "base/loop.h"

#include <errno.h>
#include <signal.h>
#include <stddef.h>
#include <stdlib.h>
#include <time.h>

struct loop {
    struct ev_loop *ev;
    ev_prepare prepare;
    ev_check check;
    ev_idle idle;
    struct loop_hook *hooks;
    struct loop_hook *next_hook; /* what the walk visits next; kept right when a hook is stopped */
};

static bool any_pending(struct loop *l)
{
    for (struct loop_hook *h = l->hooks; h; h = h->next)
        if (h->pending(h))
            return true;
    return false;
}

static void on_idle(struct ev_loop *ev, ev_idle *w, int events)
{
    (void)ev, (void)w, (void)events; /* it only has to be active, which keeps the loop awake */
}

static void on_prepare(struct ev_loop *ev, ev_prepare *w, int events)
{
    (void)events;
    struct loop *l = w->data;
    if (any_pending(l))
        ev_idle_start(ev, &l->idle);
}

static void on_check(struct ev_loop *ev, ev_check *w, int events)
{
    (void)events;
    struct loop *l = w->data;
    ev_idle_stop(ev, &l->idle);
    for (struct loop_hook *h = l->hooks; h; h = l->next_hook) {
        l->next_hook = h->next;
        if (h->pending(h))
            h->run(h);
    }
    l->next_hook = NULL;
}

struct loop *loop_new(struct err *e)
{
    struct loop *l = calloc(1, sizeof *l);
    if (!l) {
        err_nomem(e);
        return NULL;
    }
    l->ev = ev_loop_new(EVFLAG_AUTO | EVFLAG_NOENV);
    if (!l->ev) {
        free(l);
        err_set(e, ERR_IO, "cannot make an event loop");
        return NULL;
    }
    ev_prepare_init(&l->prepare, on_prepare);
    ev_check_init(&l->check, on_check);
    ev_idle_init(&l->idle, on_idle);
    ev_set_priority(&l->check, EV_MAXPRI);
    l->prepare.data = l->check.data = l;
    return l;
}

void loop_free(struct loop *l)
{
    if (!l)
        return;
    ev_loop_destroy(l->ev);
    free(l);
}

void loop_run(struct loop *l)
{
    ev_run(l->ev, 0);
}

void loop_turn(struct loop *l, bool wait)
{
    ev_run(l->ev, EVRUN_ONCE | (wait ? 0 : EVRUN_NOWAIT));
}

void loop_stop(struct loop *l)
{
    ev_break(l->ev, EVBREAK_ALL);
}

uint64_t loop_clock_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static void on_fd(struct ev_loop *ev, ev_io *io, int events)
{
    (void)ev;
    struct loop_fd *w = (struct loop_fd *)((char *)io - offsetof(struct loop_fd, ev));
    w->run(w, events & (EV_READ | EV_WRITE));
}

void loop_fd_start(struct loop *l, struct loop_fd *w, int fd, int events)
{
    if (ev_is_active(&w->ev))
        ev_io_stop(l->ev, &w->ev);
    ev_io_init(&w->ev, on_fd, fd, events);
    ev_io_start(l->ev, &w->ev);
}

void loop_fd_stop(struct loop *l, struct loop_fd *w)
{
    ev_io_stop(l->ev, &w->ev);
}

static void on_timer(struct ev_loop *ev, ev_timer *t, int events)
{
    (void)ev, (void)events;
    struct loop_timer *w = (struct loop_timer *)((char *)t - offsetof(struct loop_timer, ev));
    w->run(w);
}

void loop_timer_start(struct loop *l, struct loop_timer *w, uint64_t delay_ns, uint64_t repeat_ns)
{
    ev_timer_stop(l->ev, &w->ev);
    ev_now_update(l->ev);
    ev_timer_init(&w->ev, on_timer, (double)delay_ns / 1e9, (double)repeat_ns / 1e9);
    ev_timer_start(l->ev, &w->ev);
}

void loop_timer_stop(struct loop *l, struct loop_timer *w)
{
    ev_timer_stop(l->ev, &w->ev);
}

/* libev does not pass on who sent a signal, so the handler is ours. */
static volatile sig_atomic_t senders[NSIG];

static void on_sent(int signo, siginfo_t *info, void *context)
{
    (void)context;
    senders[signo] = info->si_code == SI_USER || info->si_code == SI_TKILL || info->si_code == SI_QUEUE ? info->si_pid : 0;
    ev_feed_signal(signo);
}

static void on_signal(struct ev_loop *ev, ev_signal *s, int events)
{
    (void)ev, (void)events;
    struct loop_signal *w = (struct loop_signal *)((char *)s - offsetof(struct loop_signal, ev));
    w->from = senders[s->signum];
    w->run(w);
}

void loop_signal_start(struct loop *l, struct loop_signal *w, int signo)
{
    ev_signal_init(&w->ev, on_signal, signo);
    ev_signal_start(l->ev, &w->ev);
    struct sigaction ours = {.sa_sigaction = on_sent, .sa_flags = SA_SIGINFO | SA_RESTART};
    sigfillset(&ours.sa_mask);
    sigaction(signo, &ours, NULL);
}

void loop_signal_stop(struct loop *l, struct loop_signal *w)
{
    ev_signal_stop(l->ev, &w->ev);
}

static void on_hook_fd(struct ev_loop *ev, ev_io *io, int events)
{
    (void)ev, (void)io, (void)events; /* it only wakes the loop; check does the work */
}

void loop_hook_start(struct loop *l, struct loop_hook *w, int fd)
{
    w->loop = l;
    w->next = l->hooks;
    w->link = &l->hooks;
    if (l->hooks)
        l->hooks->link = &w->next;
    else {
        ev_prepare_start(l->ev, &l->prepare);
        ev_check_start(l->ev, &l->check);
    }
    l->hooks = w;
    ev_io_init(&w->io, on_hook_fd, fd, EV_READ);
    if (fd >= 0)
        ev_io_start(l->ev, &w->io);
}

void loop_hook_stop(struct loop_hook *w)
{
    struct loop *l = w->loop;
    if (!l)
        return;
    ev_io_stop(l->ev, &w->io);
    if (l->next_hook == w)
        l->next_hook = w->next;
    *w->link = w->next;
    if (w->next)
        w->next->link = w->link;
    w->loop = NULL;
    if (!l->hooks) {
        ev_prepare_stop(l->ev, &l->prepare);
        ev_check_stop(l->ev, &l->check);
        ev_idle_stop(l->ev, &l->idle);
    }
}
