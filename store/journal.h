/* What a keeper must not forget: which jobs were submitted, how they ended, how much of their output was taken.
 * One SQLite database, `journal` in the keeper's directory, in WAL mode; the schema is in journal.c.  Bytes of
 * inputs and outputs are files beside it, not in it.
 *
 * A job that was taken in, its end, and that it is gone are on disk when the function returns.  How much was taken
 * survives the death of the process at once, and that of the machine soon after.
 *
 * Every row carries the digest of what it says, and what is read is compared: a damaged journal is an error that
 * names it, never another job or another count. */
#pragma once
#include "base/buf.h"
#include "base/err.h"

#include <stdbool.h>
#include <stdint.h>

struct journal;

struct journal_job {
    uint64_t number;
    uint64_t came_ms;   /* since 1970 */
    struct slice owner; /* a public key, or nothing */
    struct slice record;

    bool over; /* with what follows */
    uint64_t over_ms;
    uint32_t status, code;
    bool committed; /* its output files are complete */
    const char *why;

    uint64_t taken_bytes;  /* of what it printed */
    uint64_t receipt_from; /* of them, when the last taker came */
    const char *receipt;   /* that one's words; "" */
    bool everything;       /* its files too */
};

/* Makes it if there is none.  ERR_AGAIN: another process has it.  Gives; journal_close. */
struct journal *journal_open(const char *directory, struct err *e);
/* All jobs, by number.  `each` borrows; -1 from it ends the reading and is returned. */
int journal_read(struct journal *j, int (*each)(void *owner, const struct journal_job *job, struct err *e), void *owner,
                 struct err *e);
int journal_add(struct journal *j, const struct journal_job *job, struct err *e); /* number to record */
int journal_end(struct journal *j, const struct journal_job *job, struct err *e); /* over_ms to why */
int journal_take(struct journal *j, const struct journal_job *job, struct err *e); /* taken_bytes to everything */
int journal_remove(struct journal *j, uint64_t number, struct err *e);
void journal_close(struct journal *j);
