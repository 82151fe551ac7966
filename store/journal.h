/* What a keeper must not forget: which jobs were submitted, how they ended, how much of their output was taken.  One SQLite
 * database, `journal` in the keeper's directory, in WAL mode; the schema is in journal.c.  The bytes of inputs and outputs
 * are in files beside it.
 *
 * That a job was accepted, that it has ended, and that it was discarded are on disk when the function returns.  How much
 * was taken survives the death of the process at once, and that of the machine soon after.
 *
 * Every row has a digest of its contents, which is checked when it is read: a damaged journal is reported as an error, and
 * is never taken for another job or another count. */
#pragma once
#include "base/buf.h"
#include "base/err.h"

#include <stdbool.h>
#include <stdint.h>

struct journal;

struct journal_job {
    uint64_t number;
    uint64_t came_ms;   /* since 1970 */
    struct slice owner; /* a public key, or empty */
    struct slice record;

    bool over; /* the job is over; the fields below are set */
    uint64_t over_ms;
    uint32_t status, code;
    bool committed; /* its output files are complete */
    uint64_t left_bytes; /* if committed: what it printed and its output files, together; 0 as well if that is not known */
    const char *why;

    uint64_t taken_bytes;  /* of what the job printed */
    uint64_t receipt_from; /* taken_bytes when the last visitor began to take */
    const char *receipt;   /* the receipt of that visitor, or "" */
    bool everything;       /* all output and files were taken */
};

/* Opens the journal, and makes it if there is none.  ERR_AGAIN: another process has it.  Close it with journal_close. */
struct journal *journal_open(const char *directory, struct err *e);
/* Reads all jobs by number.  `each` borrows the row; -1 from it ends the reading and is returned. */
int journal_read(struct journal *j, int (*each)(void *owner, const struct journal_job *job, struct err *e), void *owner,
                 struct err *e);
int journal_add(struct journal *j, const struct journal_job *job, struct err *e); /* uses the fields from number to record */
int journal_end(struct journal *j, const struct journal_job *job, struct err *e); /* uses the fields from over_ms to why */
int journal_take(struct journal *j, const struct journal_job *job, struct err *e); /* uses the fields from taken_bytes to everything */
int journal_remove(struct journal *j, uint64_t number, struct err *e);
void journal_close(struct journal *j);
