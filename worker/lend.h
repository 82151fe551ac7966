/* Slots of this worker, lent to an attempt on another one, its owner: runs of blocks come with their input,
 * are run, and go back with their output.  Nothing else of the attempt is here but the files that its programs
 * open (lend_files.c).
 *
 *   LEND from the scheduler    connect to the owner's data port and ATTACH
 *   WORK from the owner        fetch the run's input, run it when a slot is free, say DONE, send its output
 *   RECALL, or the owner is gone, or says LEAVE: end what runs, or let it end; then RETURNED
 *
 * What the owner says is hostile too: it may have LENT_AHEAD runs per slot with us, of bounded size.
 *
 * Before: agent.c.  The other side: borrow.c. */
#pragma once
#include "base/err.h"
#include "proto/msg.h"
#include "proto/peer.h"

#define LOANS_MAX 256 /* at once */

struct agent;

struct lender {
    struct agent *agent;
    struct loan *loans; /* owned */
    uint32_t count;
    uint32_t last; /* the number of the newest: a repeated LEND changes nothing */
};

void lender_lend(struct lender *s, const struct msg_lend *m, struct slice graph);
/* false: there is no such loan here. */
bool lender_recall(struct lender *s, const struct msg_recall *m);
/* Is it of a loan of ours?  Then it was dealt with. */
bool lender_message(struct lender *s, const struct peer *p, const struct msg *m, struct slice bulk);
/* The scheduler is gone: all end.  The next one counts its loans from the start. */
void lender_end_all(struct lender *s);
/* Before what ran there is told to have ended: what it wrote may be a part of it, even when its programs have ended as they should. */
void lender_box_lost(struct lender *s);
void lender_link_lost(struct lender *s, const struct peer *p);
void lender_step(struct lender *s); /* runs that have their input may be started */
bool lender_reapable(const struct lender *s);
void lender_reap(struct lender *s); /* what has ended is freed */
void lender_clear(struct lender *s);
