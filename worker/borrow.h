/* The owner's side of a loan: slots of other workers for runs of blocks of an attempt here.  A lent run is sent with its
 * input, and comes back with its output and with how its programs ended.  For the stage, only the start of the run differs.
 *
 * A lender is not trusted: only answers about runs that it has are accepted, sizes are bounded, and streams carry their
 * digest.  If a lender breaks the protocol or is lost, its runs are given to others (blocks_lent.c).
 *
 * Before: attempt.c (LENT).  The other side: lend.c. */
#pragma once
#include "base/err.h"
#include "proto/msg.h"
#include "proto/stream.h"

#define LENT_AHEAD       2                     /* runs per slot: one at work, one on its way */
#define LENT_SLOTS_MAX   4096                  /* of one loan */
#define LENT_INPUT_MAX   ((uint64_t)1 << 30)   /* input of one run; a larger run is not lent */
#define LENT_OUTPUT_MAX  ((uint64_t)16 << 30)  /* output of one run; a lender sends no more */
#define BORROWS_MAX      256                   /* of one attempt */

struct attempt;
struct blocks;
struct borrow; /* a loan, on its owner's side */
struct run;
struct outcome;
struct run_lent; /* a run that a lender has */

/* LENT: a lender will attach for this loan. */
void borrow_begin(struct attempt *t, const struct msg_lent *m);
/* RECALL: the loan is over, whatever runs the lender still has. */
void borrow_recalled(struct attempt *t, const struct msg_recall *m);
/* The lender attaches.  false: it has not the right token or key. */
bool borrow_attach(struct attempt *t, uint64_t link, const struct msg_attach *m);
/* A data message about a loan, from a link of the data port. */
void borrow_message(struct attempt *t, uint64_t link, const struct msg *m, struct slice bulk);
void borrows_link_lost(struct attempt *t, uint64_t link, const struct err *why);

uint32_t borrowed_slots(const struct attempt *t); /* where runs can be done */
uint32_t borrow_stuck_slots(const struct attempt *t); /* of lenders that are given none */
bool borrow_has_room(const struct attempt *t);
bool borrow_is_idle(const struct attempt *t); /* would a lender begin a run at once? */
/* Give the run to the lender with the least to do.  -1 with e: it failed, through no fault of the run. */
int borrow_run(struct attempt *t, struct run *r, struct err *e);
/* A copy of the run has ended first: the lender's result is only compared with it. */
void borrow_compare(struct run *r, const struct outcome *with);
/* The run takes its lender too long: it is not lent any more, and the lender gets no run of ours before it has ended one. */
void borrow_give_up(struct run *r);
/* Drop all lent runs of the stage, even those that are only compared. */
void borrows_drop(struct blocks *b);
/* Let lenders go that have no run of ours: there will be no more for them. */
void borrows_dismiss(struct attempt *t);
/* End all loans: runs that lenders have are done here, or by others. */
void borrows_end(struct attempt *t);

void borrows_reap(struct attempt *t);
void borrows_free(struct attempt *t);
