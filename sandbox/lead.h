/* Calls that a stop by ptrace made shorter go on with the rest (lead.c). */
#pragma once
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>
#include <sys/user.h>

struct task;

struct lead {
    bool on;
    uint64_t done;                /* so many bytes, */
    uint64_t asked;               /* and now these */
    struct user_regs_struct call; /* where it was stopped */
};

/* It stands where it was told to stop.  A wait that is over by that, which the kernel would not begin again by itself, begins again. */
void lead_again(pid_t tid);
/* Likewise.  On: it goes on with a read or write of a channel of the
 * task's. */
void lead_begin(struct lead *l, const struct task *t, pid_t tid);
/* It stands behind a call.  No longer on: that was the last, and all of them together are what the
 * first did. */
void lead_end(struct lead *l, pid_t tid);
/* It stands before a signal, which ends what it did as it ends any call. */
void lead_break(struct lead *l, pid_t tid);

/* Of so many pieces (struct iovec) in its memory, where the first byte behind `skip` is, and how
 * many follow it in its piece; 0: there are none, or no such memory. */
uint64_t lead_piece(pid_t pid, uint64_t address, uint64_t count, uint64_t skip, uint64_t *at);
