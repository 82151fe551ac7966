/* Lets calls that were cut short by a stop of ptrace go on with the rest (lead.c). */
#pragma once
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>
#include <sys/user.h>

struct task;

struct lead {
    bool on;
    uint64_t done;                /* so many bytes are done, */
    uint64_t asked;               /* and so many are asked for now */
    struct user_regs_struct call; /* the registers where it was stopped */
};

/* The thread is where it was told to stop.  If that ended a wait that the kernel would not begin again, begin it again. */
void lead_again(pid_t tid);
/* The same; and if it was in a read or write of a channel of the task, begin the rest of that (`on` is set). */
void lead_begin(struct lead *l, const struct task *t, pid_t tid);
/* The thread is stopped after a call.  `on` is cleared when that was the last one, and all of them together have done what
 * the first was to do. */
void lead_end(struct lead *l, pid_t tid);
/* The thread is stopped before a signal, which ends its call as it ends any. */
void lead_break(struct lead *l, pid_t tid);

/* Among `count` pieces (struct iovec) in its memory, find the first byte after `skip`, and how many follow in its piece; 0:
 * there are none, or no such memory. */
uint64_t lead_piece(pid_t pid, uint64_t address, uint64_t count, uint64_t skip, uint64_t *at);
