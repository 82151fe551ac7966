/* The lender's side of a loan: slots of this worker, lent to an attempt on another worker, the owner.  Runs of blocks come
 * with their input, are run, and go back with their output.  Nothing else of the attempt is here, except the files that its
 * programs open (lend_files.c).
 *
 *   LEND from the scheduler    connect to the owner's data port and ATTACH
 *   WORK from the owner        fetch the run's input, run it when a slot is free, send DONE and its output
 *   RECALL or LEAVE, or the owner is gone: end what runs, or let it end; then send RETURNED
 *
 * The owner is not trusted, either: it may have LENT_AHEAD runs per slot here, of bounded size.
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
    uint32_t last; /* the number of the newest loan: a repeated LEND changes nothing */
};

void lender_lend(struct lender *s, const struct msg_lend *m, struct slice graph);
/* false: we have no such loan. */
bool lender_recall(struct lender *s, const struct msg_recall *m);
/* true: the message was about one of our loans, and was handled. */
bool lender_message(struct lender *s, const struct peer *p, const struct msg *m, struct slice bulk);
/* The scheduler is gone: end all loans, as the next scheduler numbers its loans from the start. */
void lender_end_all(struct lender *s);
/* Call when the box is lost, before its regions are told to have ended: an output may be incomplete even if its programs
 * seem to have ended well. */
void lender_box_lost(struct lender *s);
void lender_link_lost(struct lender *s, const struct peer *p);
void lender_step(struct lender *s); /* start runs that have their input */
bool lender_reapable(const struct lender *s);
void lender_reap(struct lender *s); /* free what has ended */
void lender_clear(struct lender *s);
