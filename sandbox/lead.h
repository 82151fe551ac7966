/* Continues system calls that a ptrace stop has cut short (lead.c). */
#pragma once
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>
#include <sys/user.h>

struct task;

struct lead {
    bool on;
    uint64_t done;                /* bytes that are done */
    uint64_t asked;               /* bytes that are asked for now */
    struct user_regs_struct call; /* the registers at the stop */
};

/* The thread has stopped where it was told to.  If the stop ended a wait that the kernel would not begin again, begins it
 * again. */
void lead_again(pid_t tid);
/* The same.  And if the thread was in a read or write of a channel of the task, begins the rest of that call (`on` is set). */
void lead_begin(struct lead *l, const struct task *t, pid_t tid);
/* The thread is stopped after a call.  `on` is cleared if that was the last part, and all parts together have done what the
 * first call was to do. */
void lead_end(struct lead *l, pid_t tid);
/* The thread is stopped before a signal, which ends its call as a signal ends any call. */
void lead_break(struct lead *l, pid_t tid);

/* Finds, in `count` pieces (struct iovec) in the process's memory, the first byte after `skip`, and returns how many follow
 * in its piece; 0: there are none, or no such memory. */
uint64_t lead_piece(pid_t pid, uint64_t address, uint64_t count, uint64_t skip, uint64_t *at);
