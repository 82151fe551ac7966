/* Shared by turns*.c: which threads take turns, what they wait for, and how the turn is passed on. */
#pragma once
#include "sandbox/proc.h"
#include "sandbox/server.h"

#include <linux/seccomp.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#define CHILD_UNSURE      (-2)
#define TURNS_MEMBERS_MAX 256 /* threads of one task that take turns; if there are more, all run side by side */

enum state {
    STATE_RUNS,   /* it has had a turn: it is at work, or waits */
    STATE_SHARES, /* it shares its parent's memory (vfork), and its parent waits until it has its program */
    STATE_HELD,
};

enum waits {
    WAITS_NOT,
    WAITS_CHILD,
    WAITS_SIGNAL,
    WAITS_MEMORY, /* until its child has a program of its own (vfork) */
    WAITS_PIPE,   /* it is stopped in a call that something on a descriptor will end */
    WAITS_SLEEP,  /* its answer is kept until a time of the logical clock; the same for: */
    WAITS_POLL,   /* or until something is on a descriptor */
    WAITS_FUTEX,  /* or until another thread wakes it */
    WAITS_TURN,   /* only for its turn */
    WAITS_END,    /* until its process has ended: it has ended itself */
};

/* A futex: the place in memory at which threads wait for each other. */
struct futex_key {
    uint64_t space[2]; /* the process, or the file that is shared */
    uint64_t at;
};

struct call {
    unsigned long nr, arg[4];
};

/* A thread that takes turns.  A process is known by the number of its first thread. */
struct member {
    struct turns *turns;
    pid_t pid, process;
    pid_t parent, maker; /* parent: of its process; maker: the thread that started it */
    pid_t inner;         /* its number inside the task; 0: not looked up yet */
    enum state state;
    bool stopped;     /* it is traced, and its stop was seen */
    bool interrupted; /* it was told to stop, as it waits for a descriptor */
    enum waits waits; /* not WAITS_NOT: it has passed the turn on, and waits for this */
    pid_t child;      /* with WAITS_CHILD: the child, by its inner number; -1: any; CHILD_UNSURE */
    struct call call; /* with WAITS_CHILD, WAITS_SIGNAL, WAITS_PIPE, WAITS_POLL */
    bool idles;                 /* with WAITS_TURN: it looked for something in vain, or yielded */
    bool killed;                /* for a process's first thread: killed by the one at work, which goes on when the process has ended */
    uint64_t written;           /* with WAITS_PIPE: bytes written so far by a call that will write more */
    uint32_t fills;             /* how often a pipe or socket was full that it writes to, since it was looked whether that can be wider */
    bool kept;                  /* its call waits for this answer: */
    struct notify_reply reply;
    struct seccomp_notif asked; /* the call */
    struct futex_key key;       /* with WAITS_FUTEX, like the next two */
    uint32_t bits;
    uint64_t place;     /* the order of those that wait for the same futex: the lowest is first */
    uint64_t clear_tid; /* where the kernel writes 0 at its end; 0: nowhere */
    struct watch watch; /* its pidfd, which tells of its end */
    int place_fd;       /* its directory in /proc, for a thread that can have no pidfd; else -1 */
    struct member *from; /* the thread that passed the turn to it */
    struct member *next; /* in the order in which the threads began */
};

struct turns {
    struct task *task;
    struct member *member;
    struct member *at_work;
    pid_t forking;      /* this process is traced, to catch its next child, */
    bool shares;        /* which will share its memory */
    bool thread;        /* which will be a thread */
    uint64_t clear_tid; /* of that thread */
    bool many;          /* there was more than one thread */
    bool lost;          /* they take no turns any more, but run side by side */
    bool signals;       /* a thread that waits may have got a signal */
    bool ended;         /* a process has ended, of which the task's init may not have been told yet */
    uint32_t kills;     /* how many processes that the one at work has killed must end before it goes on */
    uint64_t places;    /* the next value for member.place */
    struct watch look_watch;
    bool looking;       /* its timer is set */
    uint64_t look_ns;
    uint64_t blocked_ns, cpu_ns; /* about this turn: how long it was blocked; its CPU time at the first look, 0: not looked at yet */
    pid_t beside[TURNS_MEMBERS_MAX]; /* when `lost`: processes traced for beside.c; 0: none */
    struct seen *seen;               /* when `lost`: processes that outside.c follows, */
    uint32_t seen_count;             /* at most TURNS_MEMBERS_MAX */
    struct turns *next;
};

/* --- turns.c --- */
struct member *turns_find(const struct turns *ts, pid_t pid);
void turns_ended(struct member *m);
/* Catch up with events that have happened but were not told to us, except by `asks` (0: nobody). */
void turns_catch_up(struct turns *ts, pid_t asks);
/* Give up turns: from now on the task's threads run side by side. */
void turns_lose(struct turns *ts, const char *why); /* static text */
void turns_let_go(struct member *m);

/* --- turns_pass.c: passing the turn --- */
int turns_look_open(struct turns *ts);
void turns_look_close(struct turns *ts);
/* Start looking at the one at work: a turn has begun, or somebody now waits for the next one. */
void turns_look_begin(struct turns *ts);
/* The thread whose turn comes if m (at work until now, or NULL) does not go on; NULL: there is none. */
struct member *turns_next(struct turns *ts, const struct member *m);
/* Give m the turn. */
void turns_give(struct member *m, struct member *from);
/* m waits and passes the turn on, if another can take it.  False: nobody can, and m goes on. */
bool turns_hand_over(struct member *m, enum waits waits);
/* Likewise; the answer to m's call is given when it is m's turn again. */
bool turns_keep(struct member *m, const struct seccomp_notif *q, const struct notify_reply *r, enum waits waits);
/* m has looked for something in vain, or yields; reply is its answer.  True: the answer is kept; false: m goes on with it,
 * and the logical time moves on. */
bool turns_idle(struct member *m, const struct seccomp_notif *q, struct notify_reply *reply);
/* What m waited for is there: m goes on when it is its turn. */
void turns_ready(struct member *m, int error);

/* --- outside.c: was a process of a task ended from outside? --- */
void outside_look(struct member *m);
/* From now on the process takes no turns, but its end counts.  Takes ownership of fd, its pidfd; -1: it is gone. */
void outside_follow(struct turns *ts, pid_t pid, int fd);
/* A thread of a task that takes no turns makes a call that concerns processes: follow its own, and its children. */
void outside_asks(struct turns *ts, pid_t thread);
void outside_free(struct turns *ts);

/* --- beside.c: processes that do not take turns any more --- */
/* The process has children, or will have some.  If their ends could break its calls, trace it, so that no call fails that
 * would not fail outside. */
void beside_watch(struct turns *ts, pid_t pid);

/* --- turns_futex.c --- */
/* True: the answer is kept.  m NULL: the task has only one thread. */
bool turns_futex(struct member *m, const struct seccomp_notif *q, struct notify_reply *r);
/* m ends.  If it was woken and has not run since, wake another in its place. */
void turns_futex_unused(const struct member *m);
/* Wake those that wait for a thread's end, as the kernel does. */
void turns_futex_ended(struct turns *ts, pid_t process, uint64_t clear_tid);

/* --- turns_signal.c --- */
/* q sends a signal.  True: the answer is kept. */
bool turns_signal(struct member *m, const struct seccomp_notif *q, struct notify_reply *r);
/* A process that the one at work has killed is gone. */
void turns_signal_done(struct turns *ts);
/* Wait until the task's init has reaped processes that have ended and that no other process waits for, so that their
 * numbers are gone. */
void turns_reaped(struct turns *ts);

/* --- turns_stream.c --- */
bool turns_writes(unsigned long nr);
/* m is stopped in m->call. */
void turns_write_stopped(struct member *m);
/* m waits for room.  True: there is some, as its pipe was made wide now, and m can go on. */
bool turns_widen(struct member *m);
/* Write as much as there is room for.  True: m can go on, with the result of its call; false: there is more to write. */
bool turns_write_on(struct member *m);
/* Let m go on with what has been written. */
void turns_write_end(struct member *m);

/* --- turns_poll.c --- */
/* True: the answer is kept.  m may be in no list, if it is the only thread. */
bool turns_poll(struct member *m, const struct seccomp_notif *q, struct notify_reply *r);

/* --- turns_look.c --- */
/* The number inside the task; 0: it is gone. */
pid_t turns_inner_number(pid_t pid);
pid_t turns_inner(struct member *m);
pid_t turns_group(pid_t pid); /* the inner number of its process group; 0: it is gone */
/* Has this thread ended, even if its number is in use again? */
bool turns_has_ended(const struct member *m);
/* The status of the process of this pidfd, as from wait, if it has ended or a signal is ending it; -1: it has not, or that is not known (before
 * Linux 6.15, if it was waited for). */
int turns_status(pid_t pid, int fd);
pid_t turns_process(pid_t pid); /* the process that the thread belongs to; 0: it is gone */
uint64_t turns_cpu_ns(pid_t pid);
bool turns_call(pid_t pid, struct call *c); /* the call that it waits in; false: it is in none */
struct call turns_call_of(const struct seccomp_notif *q);
/* Is it about to end, because a fatal signal has reached it? */
bool turns_dying(const struct member *m);
bool turns_takes_child_signal(pid_t pid);
/* Will this signal end the process: is it neither caught, ignored nor blocked, and does nothing come before it, no other
 * signal and no tracer? */
bool turns_takes_end(pid_t pid, int signal);
bool turns_blocks(pid_t pid, int signal); /* also true if it is gone */
/* Has a signal come for the thread (process: or for its process) that is neither blocked nor ignored? */
bool turns_has_signal(pid_t pid, bool process);
/* Has it a child (of that number; -1: any) that has ended and was not waited for? */
bool turns_has_ended_child(pid_t process, pid_t pid, pid_t child);
bool turns_any_has_ended_child(pid_t process); /* has any of its threads such a child? */
/* Does the call wait only for things that the task has made itself? */
bool turns_own_wait(const struct member *m, const struct call *c);
/* Does it read from a signalfd? */
bool turns_reads_signals(const struct member *m, const struct call *c);
/* Would m->call find something? */
bool turns_wait_over(const struct member *m);
/* Write into its memory that its call found nothing; -1: the memory is not there. */
int turns_found_nothing(const struct member *m);
/* It is stopped in a call that the kernel would not begin again: let the kernel do so. */
void turns_again(const struct member *m);
int turns_borrow(const struct member *m, int number); /* a duplicate of its descriptor of that number; -1 */
bool turns_read_memory(pid_t pid, uint64_t address, void *data, size_t size);
bool turns_write_memory(pid_t pid, uint64_t address, const void *data, size_t size);
