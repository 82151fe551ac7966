/* Answers to the system calls that the filter hands over: clocks, random bytes, the machine's
 * particulars, /dev/stdin.  One `struct notify` belongs to one task (its process tree): it owns the
 * listener and the task's logical state.  Nothing here blocks. */
#pragma once
#include "base/err.h"
#include "sandbox/forker.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#define NOTIFY_SERVE_MAX     256   /* answers in one notify_serve */
#define NOTIFY_PROCS_MAX     16384 /* processes of a task without a limit: for root the kernel has none */
#define NOTIFY_TOLD          (16ull << 30) /* bytes of memory that a program is told of */
#define NOTIFY_LARGE         (1u << 30) /* bytes of memory in one piece that are looked at */
#define NOTIFY_NAMES_MAX     256   /* named channels of one task */
#define NOTIFY_RANDOM_MAX    64    /* /dev/urandom's open at once in one task; more: EMFILE */
#define NOTIFY_UNKNOWN_MAX   8     /* numbers of calls that are not known; more are not noted */
#define NOTIFY_TIMERS_MAX    64    /* processes of one task with a timer */

/* SO_PRIORITY of a socket that a task takes for something else; it cannot set it itself. */
#define NOTIFY_MARK_CHANNEL 3 /* a pipe */
#define NOTIFY_MARK_RANDOM  4 /* /dev/urandom */

struct notify;

/* `listener` from filter_install: taken, also on failure.  The random stream is a function of seed
 * and stream: of the stream's lower half (the stage's) until the task has used a channel, then of all of it
 * (the block's too); the clock starts at epoch_s.  The caller must be allowed to read the task's memory
 * (same user and an ancestor of it, or the owner of its user namespace). */
struct notify *notify_new(int listener, uint64_t seed, uint64_t stream, int64_t epoch_s,
                          struct err *e);
void notify_free(struct notify *n); /* NULL is allowed */

/* Has the task used a channel?  Asked when that matters; without it, it is taken to have. */
void notify_uses(struct notify *n, bool (*uses)(void *owner), void *owner);

/* The caller's files among the task's descriptors: it may not change their mode or times.  Borrowed for
 * the call. */
int notify_give(struct notify *n, const int *fds, uint32_t count, struct err *e);

/* Wait on it for reading, then call notify_serve.  The same all its life. */
int notify_fd(const struct notify *n);

/* -1, or, after a task opened /dev/urandom, a second descriptor to wait on for reading (an epoll):
 * look after each notify_serve and, once it is there, wait on it too; it stays the same from then
 * on. */
int notify_random_fd(const struct notify *n);

/* Answer what is pending, at most NOTIFY_SERVE_MAX.  0: go on waiting; -1 with ERR_GONE: nobody is
 * left under the filter; -1 with another code: the listener failed. */
int notify_serve(struct notify *n, struct err *e);
/* The same for one call, when poll or epoll has just said of notify_fd what is ready: no call is spent on asking again. */
int notify_answer(struct notify *n, short ready, struct err *e);

/* `fd`, borrowed until the task's end, is what opening /dev/`name` (borrowed too) gives. */
int notify_name(struct notify *n, const char *name, int fd, bool write, uint64_t quota, struct err *e);

/* Its input is passed on as it arrives: a wait for it waits. */
void notify_live(struct notify *n);

/* What the task is held to.  `init`: the process that its own are below. */
struct box_limits;
void notify_limit(struct notify *n, const struct box_limits *l, pid_t init);

/* The kernel gives a user who has many pipes smaller ones; when that is, is chance.  False: fd is one, and what the task
 * finds out by it is not certified. */
bool notify_usual_room(struct notify *n, int fd);

/* Each call that was notified, once answered.  With FILTER_TRACE also each that was refused. */
struct notify_call {
    const char *name; /* NULL: `nr` has none in the table */
    int nr;
    bool ran;      /* the kernel ran it; else: */
    int error;     /* an errno, or 0 */
    int64_t value; /* the result when there was no error */
    uint64_t clock_ns; /* the logical time after it */
};
typedef void notify_tracer(void *owner, const struct notify_call *c);
void notify_trace(struct notify *n, notify_tracer *trace, void *owner);

/* What bears on whose turn it is among the task's threads: told when it has been answered but for the last
 * word, which whoever listens may change.  True: it is kept, and given with notify_send. */
enum notify_turn { NOTIFY_FORKS, NOTIFY_WAITS, NOTIFY_SIGNALS, NOTIFY_SLEEPS, NOTIFY_POLLS, NOTIFY_FUTEX, NOTIFY_YIELDS, NOTIFY_EXECS,
                   NOTIFY_NUMBERS, /* asks of a process by its number */
                   NOTIFY_PARENT   /* wants to hear of its parent's end */ };
struct notify_reply {
    uint64_t id;
    int error; /* an errno, 0: value is the result */
    int64_t value;
    bool go_on;      /* the kernel shall run the call itself */
    bool timed;      /* it is given when the logical clock is there: */
    uint64_t due_ns;
};
struct seccomp_notif;
typedef bool notify_turner(void *owner, enum notify_turn what, const struct seccomp_notif *q,
                           struct notify_reply *reply);
void notify_turns(struct notify *n, notify_turner *turn, void *owner);
void notify_send(struct notify *n, const struct notify_reply *r); /* to one that has died: nothing */
/* The logical clock goes on to that time, and q's process is told of it. */
void notify_pass_to(struct notify *n, const struct seccomp_notif *q, uint64_t due_ns);
uint64_t notify_now(const struct notify *n); /* the logical clock, as far as it is known */
bool notify_sends(const struct notify *n, int signal); /* it was sent, or may be, for what one of the processes has asked */
bool notify_breaks(const struct notify *n); /* one of its handlers lets a child's end break a call */
void notify_uncertified(struct notify *n, const char *why); /* static text; the first one stays */

struct notify_report {
    uint64_t calls;              /* answered */
    uint64_t slept_ns;           /* logical time slept */
    uint64_t clock_ns;           /* logical time passed since epoch_s, sleep included */
    const char *limit_hit;       /* "", or the limit that a call ran into first */
    const char *uncertified_why; /* "", or the first thing the program did that may vary */
    const char *unknown;         /* numbers of calls that the table does not know, each once: "451, 999"; while n is there */
};
void notify_report(const struct notify *n, struct notify_report *r);

/* Has a program of that name, a file of the image, been seen to start by the loader shim?  Then its exec need not be asked. */
bool notify_knows_program(const char *path);
/* The task's first exec was not. */
void notify_began(struct notify *n);
/* The exec of a program that has not the loader shim (a static one) is traced: every wait status of a
 * stopped process must come here.  True when it was such a program's start; what the kernel tells it is
 * then corrected, and it goes on when the caller detaches. */
bool notify_stopped(pid_t pid, int status);

/* --- for a template (template.h) --- */
/* Its program is traced from its start on; the wait statuses of that process are the caller's. */
void notify_trace_start(struct notify *n);
pid_t notify_traced(const struct notify *n); /* 0: not begun */
/* Can all there is be had twice?  Timers and random files cannot. */
bool notify_copies(struct notify *n);
/* From now on that process is a forker: it alone may give up rights for all below it, and once enter a user
 * namespace; it then has these descriptors, borrowed for so long, under these numbers. */
void notify_forker(struct notify *n, pid_t pid, const int fd[FORKER_OWN], const int number[FORKER_OWN]);
/* The same state again, for a clone; and the stream that this one has, the lower half being the same. */
struct notify *notify_copy(const struct notify *n, struct err *e);
void notify_become(struct notify *n, uint64_t stream);
/* A file that was looked at as one, and is another for this copy. */
void notify_exchange(struct notify *n, dev_t device, ino_t inode, dev_t by_device, ino_t by_inode);

/* How often the call of that number was notified; 0 for numbers that never are. */
uint64_t notify_calls(const struct notify *n, int nr);
