/* libev behind watchers for descriptors, timers, signals and hooks.  One loop per
 * process, made with ev_loop_new: the default loop reaps every child, even those not watched.
 *
 * Watchers are embedded in their owner's struct, zeroed before the first start; stopping one that is
 * not started is harmless.  Callbacks run on the loop's thread and must not block. */
#pragma once
#include "base/err.h"

#include <ev.h>
#include <stdbool.h>
#include <stdint.h>

struct loop;

enum { LOOP_READ = EV_READ, LOOP_WRITE = EV_WRITE };

struct loop_fd {
    ev_io ev;
    void (*run)(struct loop_fd *w, int events); /* LOOP_READ | LOOP_WRITE */
    void *owner;
};

struct loop_timer {
    ev_timer ev;
    void (*run)(struct loop_timer *w);
    void *owner;
};

struct loop_signal {
    ev_signal ev;
    int from; /* when it runs: the process that sent the signal, as far as the kernel says; 0 */
    void (*run)(struct loop_signal *w);
    void *owner;
};

/* A source of work that has no level-triggered descriptor (a zmq socket): pending() is asked before the
 * loop sleeps and after it wakes; while any hook is pending the loop does not sleep, and run() is called
 * once per turn.  run() should do a bounded amount, so that timers and others get their turn.  fd, if
 * not -1, wakes the loop. */
struct loop_hook {
    ev_io io;
    bool (*pending)(struct loop_hook *w);
    void (*run)(struct loop_hook *w);
    void *owner;
    struct loop_hook *next, **link; /* the loop's list */
    struct loop *loop;
};

struct loop *loop_new(struct err *e);
void loop_free(struct loop *l);

/* Run until loop_stop.  loop_turn runs one turn: it waits for something if `wait`. */
void loop_run(struct loop *l);
void loop_turn(struct loop *l, bool wait);
void loop_stop(struct loop *l);

/* Monotonic nanoseconds. */
uint64_t loop_clock_ns(void);

void loop_fd_start(struct loop *l, struct loop_fd *w, int fd, int events);
void loop_fd_stop(struct loop *l, struct loop_fd *w);
/* Runs once after delay_ns, then every repeat_ns if that is not 0. */
void loop_timer_start(struct loop *l, struct loop_timer *w, uint64_t delay_ns, uint64_t repeat_ns);
void loop_timer_stop(struct loop *l, struct loop_timer *w);
void loop_signal_start(struct loop *l, struct loop_signal *w, int signo);
void loop_signal_stop(struct loop *l, struct loop_signal *w);
void loop_hook_start(struct loop *l, struct loop_hook *w, int fd);
void loop_hook_stop(struct loop_hook *w);
