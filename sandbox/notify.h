/* Answers the system calls of which the filter notifies us: clocks, random bytes, facts about the machine, /dev/stdin and
 * others.  A `struct notify` belongs to one task (its process tree): it owns the filter's listener and the task's logical
 * state.  Nothing here blocks. */
#pragma once
#include "base/err.h"
#include "sandbox/forker.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#define NOTIFY_SERVE_MAX     256   /* answers in one notify_serve */
#define NOTIFY_PROCS_MAX     16384 /* processes of a task without a limit, as the kernel has no limit for root */
#define NOTIFY_TOLD          (16ull << 30) /* bytes of memory that programs are told the machine has */
#define NOTIFY_LARGE         (1u << 30) /* requests for memory of this size and more are looked at */
#define NOTIFY_NAMES_MAX     256   /* named channels of one task */
#define NOTIFY_RANDOM_MAX    64    /* /dev/urandom's open at once in one task; more: EMFILE */
#define NOTIFY_UNKNOWN_MAX   8     /* how many unknown calls are noted by number */
#define NOTIFY_TIMERS_MAX    64    /* timers of one task; a template has none */
#define NOTIFY_UNCHANGED_NS  987654321 /* ns after 1970: the time of /job and /tmp until somebody changes them; it is told as the epoch */
/* The last process number that every host gives.  An init's own thread has it (init_program.c); tasks are told that nobody has. */
#define NOTIFY_NOBODY        32767

/* SO_PRIORITY marks sockets that a task is to take for something else; the task cannot set it itself. */
#define NOTIFY_MARK_CHANNEL 3 /* a pipe */
#define NOTIFY_MARK_RANDOM  4 /* /dev/urandom */
#define NOTIFY_MARK_NULL    5 /* /dev/null, with its bytes counted */

/* One of these; 0: a socket without one; -1: no socket. */
int notify_mark_of(int fd);

struct notify;

/* `listener` comes from filter_install; taken, also on failure.  The random bytes are a function of seed and stream: until
 * the task has used a channel, of the stream's lower half (the stage's); after that, of all of it (the block's, too).  The
 * clock starts at epoch_s.  The caller must be allowed to read the task's memory (same user and an ancestor of it, or the
 * owner of its user namespace). */
struct notify *notify_new(int listener, uint64_t seed, uint64_t stream, int64_t epoch_s,
                          struct err *e);
void notify_free(struct notify *n); /* NULL is allowed */

/* A function that tells whether the task has used a channel, called when that matters.  Without one, the task counts as
 * having used one. */
void notify_uses(struct notify *n, bool (*uses)(void *owner), void *owner);

/* Tell which of the task's descriptors are the caller's files: the task may not change their mode or times.  Borrowed for
 * the call. */
int notify_give(struct notify *n, const int *fds, uint32_t count, struct err *e);

/* The descriptor to wait on for reading; then call notify_serve.  It never changes. */
int notify_fd(const struct notify *n);

/* -1; or, once a task has opened /dev/urandom, a second descriptor (an epoll) to wait on for reading.  Look after each
 * notify_serve; once it exists it stays the same. */
int notify_random_fd(const struct notify *n);

/* Answer pending calls, at most NOTIFY_SERVE_MAX.  0: go on waiting; -1 with ERR_GONE: no process is left under the filter;
 * -1 with another code: the listener failed. */
int notify_serve(struct notify *n, struct err *e);
/* The same for one call, when poll or epoll has just told what is ready on notify_fd; this saves asking again. */
int notify_answer(struct notify *n, short ready, struct err *e);

/* Opening /dev/`name` gives the task `fd`; both are borrowed until the task's end. */
int notify_name(struct notify *n, const char *name, int fd, bool write, uint64_t quota, struct err *e);

/* The task's input is passed on as it arrives, so a wait for input really waits. */
void notify_live(struct notify *n);

/* Set the task's limits.  `init`: the process below which its own are. */
struct box_limits;
void notify_limit(struct notify *n, const struct box_limits *l, pid_t init);

/* The kernel gives smaller pipes to a user who has many, which depends on chance.  False: fd is such a pipe, and what the
 * task learns from it is not certified. */
bool notify_usual_room(struct notify *n, int fd);
#define NOTIFY_WIDE_BYTES (256u << 10) /* the room in a pipe through which much streams: see turns_stream.c */

/* A call that was notified, after its answer; for tracing.  With FILTER_TRACE also each call that was refused. */
struct notify_call {
    const char *name; /* NULL: the table has no name for `nr` */
    int nr;
    bool ran;      /* the kernel ran it; otherwise it was answered: */
    int error;     /* an errno, or 0 */
    int64_t value; /* the result when there was no error */
    uint64_t clock_ns; /* the logical time after it */
};
typedef void notify_tracer(void *owner, const struct notify_call *c);
void notify_trace(struct notify *n, notify_tracer *trace, void *owner);

/* Calls that matter for turns among the task's threads.  The listener (turns.c) is told of each one before its answer is
 * sent, and may change the answer.  True: the listener keeps the answer, and sends it later with notify_send. */
enum notify_turn { NOTIFY_FORKS, NOTIFY_WAITS, NOTIFY_SIGNALS, NOTIFY_SLEEPS, NOTIFY_POLLS, NOTIFY_FUTEX, NOTIFY_YIELDS, NOTIFY_EXECS,
                   NOTIFY_NUMBERS, /* it names a process by its number */
                   NOTIFY_PARENT   /* it wants a signal at its parent's end */ };
struct notify_reply {
    uint64_t id;
    int error; /* an errno, 0: value is the result */
    int64_t value;
    bool go_on;      /* the kernel is to run the call itself */
    bool timed;      /* it is sent when the logical clock has reached: */
    uint64_t due_ns;
};
struct seccomp_notif;
typedef bool notify_turner(void *owner, enum notify_turn what, const struct seccomp_notif *q,
                           struct notify_reply *reply);
void notify_turns(struct notify *n, notify_turner *turn, void *owner);
void notify_send(struct notify *n, const struct notify_reply *r); /* does nothing if the thread has died */
/* Move the logical clock on to that time, and tell q's process. */
void notify_pass_to(struct notify *n, const struct seccomp_notif *q, uint64_t due_ns);
uint64_t notify_now(const struct notify *n); /* the logical clock, as far as it is known here */
bool notify_sends(const struct notify *n, int signal); /* may this signal be sent because of something that the task's processes asked for? */
bool notify_breaks(const struct notify *n); /* has a process a handler by which a child's end breaks calls? */
void notify_uncertified(struct notify *n, const char *why); /* static text; the first reason stays */

struct notify_report {
    uint64_t calls;              /* answered */
    uint64_t slept_ns;           /* logical time slept */
    uint64_t clock_ns;           /* logical time passed since epoch_s, sleep included */
    const char *limit_hit;       /* the first limit that a call ran into; or "" */
    const char *uncertified_why; /* the first thing the program did whose result may vary; or "" */
    const char *unknown;         /* numbers of calls that the table does not know, each once: "451, 999"; lives as long as n */
};
void notify_report(const struct notify *n, struct notify_report *r);

/* The task's filter does not watch files: if a program starts that would have to be watched, the result is not certified. */
void notify_unwatched(struct notify *n);

/* Is this file of the image known to start by the loader shim?  Then its exec need not be notified. */
bool notify_knows_program(const char *path);
/* The task's first exec was not notified. */
void notify_began(struct notify *n);
/* A program without the loader shim (a static one) is traced at its exec: every wait status of a stopped process must come
 * here.  True: it was the start of such a program; what the kernel told it is then corrected, and it goes on when the
 * caller detaches. */
bool notify_stopped(pid_t pid, int status);

/* --- for a template (template.h) --- */
/* Trace the program from its start on; wait statuses of that process are the caller's. */
void notify_trace_start(struct notify *n);
pid_t notify_traced(const struct notify *n); /* 0: it has not begun */
/* Can all of the state be copied?  Timers and random files cannot. */
bool notify_copies(struct notify *n);
/* From now on that process is a forker.  It alone may drop rights for all below it, and once enter a user namespace, for
 * which it gets these descriptors, borrowed until then, under these numbers. */
void notify_forker(struct notify *n, pid_t pid, const int fd[FORKER_OWN], const int number[FORKER_OWN]);
/* notify_copy: a copy of the state, for a clone.  notify_become: set the stream of the copy, whose lower half is the same. */
struct notify *notify_copy(const struct notify *n, struct err *e);
void notify_become(struct notify *n, uint64_t stream);
/* A file that the template looked at is another one in this copy. */
void notify_exchange(struct notify *n, dev_t device, ino_t inode, dev_t by_device, ino_t by_inode);

/* Alarms: timers that ring once.  The time that a program computes is no logical time; but an alarm does not wait for ever for
 * one that only computes.  It rings when the task has used as much CPU time as the alarm had left of the logical.
 * notify_alarm_new: was one set that notify_alarm has not met?  notify_alarm: how much CPU time the first one has left, if the
 * task has used so much; UINT64_MAX: there is none.  notify_alarm_ring: that one rings. */
bool notify_alarm_new(const struct notify *n);
uint64_t notify_alarm(struct notify *n, uint64_t used_ns);
void notify_alarm_ring(struct notify *n, uint64_t used_ns);

/* How often the call of that number was notified; 0 for numbers that never are. */
uint64_t notify_calls(const struct notify *n, int nr);
