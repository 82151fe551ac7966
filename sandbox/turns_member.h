/* What turns*.c share: who takes turns, and what each of them is found at. */
#pragma once
#include "sandbox/server.h"

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#define CHILD_UNSURE (-2)

enum state {
    STATE_RUNS,   /* it has had its turn: at work, or it waits */
    STATE_SHARES, /* has its parent's memory, and its parent waits until it has its program */
    STATE_HELD,
};

enum waits { WAITS_NOT, WAITS_CHILD, WAITS_SIGNAL, WAITS_MEMORY, WAITS_PIPE, WAITS_SLEEP };

struct member {
    struct turns *turns;
    pid_t pid, parent;
    pid_t inner; /* its number in the task; 0: nobody has asked yet */
    enum state state;
    bool stopped;     /* traced, and its stop has been seen */
    bool interrupted; /* told to stop, as it reads from an empty pipe */
    enum waits waits; /* not WAITS_NOT: it has passed the turn on */
    pid_t child;      /* with WAITS_CHILD: that it waits for, by inner number; -1: any; CHILD_UNSURE */
    struct notify_reply reply; /* with WAITS_SLEEP */
    struct watch watch;        /* pidfd: its end */
    struct member *from;       /* who passed the turn to it */
    struct member *next;       /* in the order in which they began */
};

struct turns {
    struct task *task;
    struct member *member;
    struct member *at_work;
    pid_t forking; /* it is traced, to catch its next child */
    bool shares;   /* that child will share its memory */
    bool many;     /* there has been more than one */
    bool lost;     /* they run side by side */
    struct watch look_watch;
    uint64_t look_ns, turn_ns;
    struct turns *next;
};

/* Its state as ps shows it, and its parent's number if that is asked for; 'X': it is gone. */
char turns_state(pid_t pid, pid_t *parent);
/* Its number in the task; 0: it is gone. */
pid_t turns_inner_number(pid_t pid);
pid_t turns_inner(struct member *m);
bool turns_takes_child_signal(pid_t pid);
/* Has it a child, of that number unless -1, that has ended and was not waited for? */
bool turns_has_ended_child(pid_t pid, pid_t child);
/* Is the descriptor a pipe of the task's own, and not one of the caller's? */
bool turns_own_pipe(const struct turns *ts, pid_t pid, int number);
/* Does a call wait for pipes of the task's own alone?  arg: as the call has them. */
bool turns_polls_own(const struct member *m, const unsigned long *arg);
bool turns_selects_own(const struct member *m, const unsigned long *arg);
bool turns_read_proc(pid_t pid, const char *what, char *text, size_t room);
