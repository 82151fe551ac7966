/* Shared by lend.c and lend_files.c; not for other files. */
#pragma once
#include "worker/blocks_inside.h"
#include "worker/lend.h"

enum work_state {
    COMING,  /* its input is on the way */
    READY,   /* it waits for a slot, and for the files that its programs open */
    RUNNING, /* in a sandbox */
    SENDING, /* its output is on the way back */
    OVER,    /* to be freed */
};

struct work { /* one run of the owner's */
    struct work *next;
    struct loan *loan;
    enum work_state state;
    struct run *run; /* owned */
    bool in_place;   /* its input is here, and not sent */
    uint32_t id;
    struct carry *in, *out; /* owned */
    struct carry *sent;     /* the one before `out`: owned */
    uint32_t piece;         /* of its output: the next to be sent */
    const char *broken;     /* why it failed though its programs did not; NULL */
    bool unwanted;          /* its end is not told */
};

struct loan {
    struct loan *next;
    struct lender *lender;
    struct agent *agent;
    struct attempt *t; /* owned; its routes are the files of its stages */
    uint32_t number, slots;
    struct peer *owner;
    struct work *work; /* oldest first */
    uint32_t count, running; /* of those that are wanted; in sandboxes */
    bool *has_files; /* per stage, in t's arena: they are here */
    bool worked, failed, leaving, ended, reapable; /* leaving: it takes no more; ended: and tells no more */
};

/* lend.c */
void loan_fail(struct loan *l, const struct err *why); /* it ends */

/* lend_files.c */
int loan_files_find(struct loan *l, struct err *e); /* which there are, of any stage that may be lent */
/* Are all files of this stage here?  Those that are not are on their way from now on.  1, 0, or -1. */
int loan_files_here(struct loan *l, uint32_t stage, struct err *e);
/* A data message about one of them; false: it is about no file. */
bool loan_files_message(struct loan *l, const struct stream_name *name, const struct msg *m, struct slice bulk);
void loan_files_reap(struct loan *l);
