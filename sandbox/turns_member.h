/* What turns*.c share: who takes turns, what they wait for, and how the turn is passed on. */
#pragma once
#include "sandbox/proc.h"
#include "sandbox/server.h"

#include <linux/seccomp.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#define CHILD_UNSURE      (-2)
#define TURNS_MEMBERS_MAX 256 /* threads of one task that take turns; more run side by side */

enum state {
    STATE_RUNS,   /* it has had its turn: at work, or it waits */
    STATE_SHARES, /* has its parent's memory, and its parent waits until it has its program */
    STATE_HELD,
};

enum waits {
    WAITS_NOT,
    WAITS_CHILD,
    WAITS_SIGNAL,
    WAITS_MEMORY, /* until a child of its has a program of its own */
    WAITS_PIPE,   /* it is stopped in a call that something on a descriptor will end */
    WAITS_SLEEP,  /* its answer is kept until the clock is there; so with */
    WAITS_POLL,   /* or until something is on a descriptor */
    WAITS_FUTEX,  /* or until another wakes it */
    WAITS_TURN,   /* for nothing else */
    WAITS_END,    /* of its process: it has ended itself */
};

/* The place where threads wait for each other. */
struct futex_key {
    uint64_t space[2]; /* a process, or the file that is shared */
    uint64_t at;
};

struct call {
    unsigned long nr, arg[4];
};

/* A thread.  A process goes by the number of its first one. */
struct member {
    struct turns *turns;
    pid_t pid, process;
    pid_t parent, maker; /* the process that its own is a child of; the thread that started it */
    pid_t inner;         /* its number in the task; 0: nobody has asked yet */
    enum state state;
    bool stopped;     /* traced, and its stop has been seen */
    bool interrupted; /* told to stop, as it waits for a descriptor */
    enum waits waits; /* not WAITS_NOT: it has passed the turn on */
    pid_t child;      /* with WAITS_CHILD: that it waits for, by inner number; -1: any; CHILD_UNSURE */
    struct call call; /* with WAITS_CHILD, WAITS_SIGNAL, WAITS_PIPE, WAITS_POLL */
    bool idles;                 /* with WAITS_TURN: nothing has come for it */
    bool killed;                /* of a process's first: by the one at work, which goes on when it has ended */
    uint64_t written;           /* with WAITS_PIPE: of a call that will write more */
    bool kept;                  /* its call waits for: */
    struct notify_reply reply;
    struct seccomp_notif asked; /* the call */
    struct futex_key key;       /* with WAITS_FUTEX, as all below */
    uint32_t bits;
    uint64_t place;     /* of those that wait for the same, the lowest is the first */
    uint64_t clear_tid; /* where the kernel writes 0 at its end; 0: nowhere */
    struct watch watch; /* pidfd: its end */
    int place_fd;       /* its directory in /proc, of a thread that can have no pidfd; else -1 */
    struct member *from; /* who passed the turn to it */
    struct member *next; /* in the order in which they began */
};

struct turns {
    struct task *task;
    struct member *member;
    struct member *at_work;
    pid_t forking;      /* it is traced, to catch its next child: */
    bool shares;        /* which will share its memory */
    bool thread;        /* which will be a thread */
    uint64_t clear_tid; /* likewise */
    bool many;          /* there has been more than one */
    bool lost;          /* they run side by side */
    bool signals;       /* somebody who waits may have got one */
    bool ended;         /* a process has, of which the task's init may have to hear yet */
    uint32_t kills;     /* the one at work goes on when so many that it has killed have ended */
    uint64_t places;    /* given out */
    struct watch look_watch;
    bool looking;       /* its timer is set */
    uint64_t look_ns;
    uint64_t blocked_ns, cpu_ns; /* of this turn, and CPU time when it was first looked at; 0: it was not */
    pid_t beside[TURNS_MEMBERS_MAX]; /* when it is lost: that are traced for beside.c; 0: none */
    struct turns *next;
};

/* --- turns.c --- */
struct member *turns_find(const struct turns *ts, pid_t pid);
void turns_ended(struct member *m);
/* What we have not heard of yet, though `asks` has (0: nobody). */
void turns_catch_up(struct turns *ts, pid_t asks);
/* From now on they run side by side. */
void turns_lose(struct turns *ts, const char *why); /* static text */
void turns_let_go(struct member *m);

/* --- turns_pass.c: passing the turn --- */
int turns_look_open(struct turns *ts);
void turns_look_close(struct turns *ts);
/* Since a turn has begun, or somebody waits for the next one now. */
void turns_look_begin(struct turns *ts);
/* Whose turn it would be if m, at work until now or NULL, does not go on; NULL: nobody's. */
struct member *turns_next(struct turns *ts, const struct member *m);
/* It is at work from now on. */
void turns_give(struct member *m, struct member *from);
/* m waits, and passes the turn on, if there is somebody to take it.  False: it goes on as if it had not been said. */
bool turns_hand_over(struct member *m, enum waits waits);
/* Likewise; the answer to its call is given when it is its turn again. */
bool turns_keep(struct member *m, const struct seccomp_notif *q, const struct notify_reply *r, enum waits waits);
/* m has looked for something in vain, or yields; reply is what it is told.  True: it is kept; false: it goes on with it, and
 * time with it. */
bool turns_idle(struct member *m, const struct seccomp_notif *q, struct notify_reply *reply);
/* What it waited for is there: it goes on when it is its turn. */
void turns_ready(struct member *m, int error);

/* --- outside.c: a process of a task has ended --- */
void outside_look(struct member *m);

/* --- beside.c: those that do not take turns any more --- */
/* It has children, or will: if their ends could break its calls it is traced, and is not broken where it would not be outside. */
void beside_watch(struct turns *ts, pid_t pid);

/* --- turns_futex.c --- */
/* True: its answer is kept.  NULL for m: the task has one thread only. */
bool turns_futex(struct member *m, const struct seccomp_notif *q, struct notify_reply *r);
/* m ends; if it was woken, and has not gone on since, another is. */
void turns_futex_unused(const struct member *m);
/* What the kernel does for those that wait for a thread that ends. */
void turns_futex_ended(struct turns *ts, pid_t process, uint64_t clear_tid);

/* --- turns_signal.c --- */
/* q sends one.  True: its answer is kept. */
bool turns_signal(struct member *m, const struct seccomp_notif *q, struct notify_reply *r);
/* One that the one at work has killed is gone. */
void turns_signal_done(struct turns *ts);
/* Whoever nobody waited for is gone by now, and so is its number. */
void turns_reaped(struct turns *ts);

/* --- turns_stream.c --- */
bool turns_writes(unsigned long nr);
/* It is stopped in m->call. */
void turns_write_stopped(struct member *m);
/* Write what there is room for.  True: it can go on, with what its call returns; false: there is more to write. */
bool turns_write_on(struct member *m);
/* It goes on with what has been written. */
void turns_write_end(struct member *m);

/* --- turns_poll.c --- */
/* True: its answer is kept.  One that has no others beside it is no member of a list. */
bool turns_poll(struct member *m, const struct seccomp_notif *q, struct notify_reply *r);

/* --- turns_look.c --- */
/* Its number in the task; 0: it is gone. */
pid_t turns_inner_number(pid_t pid);
pid_t turns_inner(struct member *m);
pid_t turns_group(pid_t pid); /* its process group's, likewise */
/* It has ended, whoever has its number now. */
bool turns_has_ended(const struct member *m);
int turns_status(const struct member *m); /* of a process that has ended, as wait tells it; -1: not known (before Linux 6.15, when it was waited for) */
pid_t turns_process(pid_t pid); /* that the thread belongs to; 0: it is gone */
uint64_t turns_cpu_ns(pid_t pid);
bool turns_call(pid_t pid, struct call *c); /* that it waits in; false: it is in none */
struct call turns_call_of(const struct seccomp_notif *q);
/* It will end, and knows it. */
bool turns_dying(const struct member *m);
bool turns_takes_child_signal(pid_t pid);
/* Neither caught, nor ignored, nor blocked, and nothing comes before it: no other signal, no tracer. */
bool turns_takes_end(pid_t pid, int signal);
bool turns_blocks(pid_t pid, int signal); /* or it is gone */
/* A signal has come for the thread (process: or for its process), and is neither blocked nor ignored. */
bool turns_has_signal(pid_t pid, bool process);
/* Has it a child, of that number unless -1, that has ended and was not waited for? */
bool turns_has_ended_child(pid_t process, pid_t pid, pid_t child);
bool turns_any_has_ended_child(pid_t process); /* any of its threads has any */
/* Does the call wait for what the task has made itself, and nothing else? */
bool turns_own_wait(const struct member *m, const struct call *c);
/* Does it read from a signalfd? */
bool turns_reads_signals(const struct member *m, const struct call *c);
/* Would m->call find something? */
bool turns_wait_over(const struct member *m);
/* Write down for it that it has found nothing; -1: its memory is not there. */
int turns_found_nothing(const struct member *m);
/* It is stopped in a call that the kernel would not begin again by itself: let it. */
void turns_again(const struct member *m);
int turns_borrow(const struct member *m, int number); /* a second descriptor of what it has under that number; -1 */
bool turns_read_memory(pid_t pid, uint64_t address, void *data, size_t size);
bool turns_write_memory(pid_t pid, uint64_t address, const void *data, size_t size);
