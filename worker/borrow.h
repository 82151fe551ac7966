/* Slots of other workers for the runs of blocks of an attempt here: the owner's side of a loan.  A run
 * that is lent out is sent with its input, and comes back with its output and with how its programs
 * ended; that some slots are elsewhere changes nothing but how a run is started.
 *
 * What comes from a lender is hostile: nothing of it is taken but what answers a run that it has, sizes
 * are bounded, and streams carry their digest.  A lender that breaks the protocol, or is lost, is a
 * lender less: its runs are given to others (blocks_lent.c).
 *
 * Before: attempt.c (LENT).  The other side: lend.c. */
#pragma once
#include "base/err.h"
#include "proto/msg.h"
#include "proto/stream.h"

#define LENT_AHEAD       2                     /* runs per slot: one at work, one on its way */
#define LENT_SLOTS_MAX   4096                  /* of one loan */
#define LENT_INPUT_MAX   ((uint64_t)1 << 30)   /* of a run: a larger one is not lent */
#define LENT_OUTPUT_MAX  ((uint64_t)16 << 30)  /* likewise: a lender does not send more */
#define BORROWS_MAX      256                   /* of one attempt */

struct attempt;
struct blocks;
struct borrow; /* a loan, as its owner sees it */
struct run;
struct outcome;
struct run_lent; /* a run that somebody else has */

/* LENT: somebody will attach for it. */
void borrow_begin(struct attempt *t, const struct msg_lent *m);
/* RECALL: it is over, whatever the lender has of ours. */
void borrow_recalled(struct attempt *t, const struct msg_recall *m);
/* The lender is there.  false: it is not who it says. */
bool borrow_attach(struct attempt *t, uint64_t link, const struct msg_attach *m);
/* A data message about a loan, from a link of the data port. */
void borrow_message(struct attempt *t, uint64_t link, const struct msg *m, struct slice bulk);
void borrows_link_lost(struct attempt *t, uint64_t link, const struct err *why);

uint32_t borrowed_slots(const struct attempt *t);
bool borrow_has_room(const struct attempt *t);
/* To the lender that has least to do.  -1 with e is nothing of the run's fault. */
int borrow_run(struct attempt *t, struct run *r, struct err *e);
/* A copy of it has ended first; what comes of it is only compared. */
void borrow_compare(struct run *r, const struct outcome *with);
/* Nor any of the stage, even those that are only compared. */
void borrows_drop(struct blocks *b);
/* Those that have nothing of ours may go: there is no more for them. */
void borrows_dismiss(struct attempt *t);
/* All loans are over: what lenders have of ours is done here, or by others. */
void borrows_end(struct attempt *t);

void borrows_reap(struct attempt *t);
void borrows_free(struct attempt *t);
