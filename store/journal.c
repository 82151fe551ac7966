/* See journal.h.  The schema, version 1 (PRAGMA user_version):
 *
 *   job     number, came_ms, owner, record, digest                       one row per submitted job
 *   ended   number, over_ms, status, code, committed, why, digest        once it is over
 *   taken   number, bytes, receipt_from, receipt, everything, digest     once somebody fetched its output
 *   commits changes, sure, sum                           how many changes there were, and how many waited for the disk
 *
 * digest: SHA-256 of the row's other columns, as `text_of` writes them; sum: exclusive or of all digests, so that no row
 * appears or disappears unnoticed.
 *
 * SQLite reads a write-ahead log up to the first wrong checksum.  It takes damage there for a torn write, and ignores what
 * follows.  So both counts are also kept in a file beside it, `journal-commits`, written after each commit: a database with
 * smaller counts has lost changes.  After the machine has restarted, only the changes that waited for the disk count.
 *
 * On a full disk a job must still be able to end, to be taken and to be discarded, which makes room.  So space is allocated
 * beyond the end of the log, where only the journal can use it: space that is first freed, another writer may take.  After
 * each change it is filled up as far as possible, and no new job is accepted before all of it is there. */
#include "store/journal.h"

#include "base/digest.h"
#include "base/fds.h"
#include "base/log.h"

#include <errno.h>
#include <fcntl.h>
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define SCHEMA_VERSION 1
#define RECORD_MAX     (64u << 20)
#define RESERVE_BYTES  (1u << 20)
#define COMMITS_FORM   "%020llu %020llu %.36s\n"

static const char schema[] =
    "CREATE TABLE job(number INTEGER PRIMARY KEY, came_ms INTEGER NOT NULL, owner BLOB NOT NULL, record BLOB NOT NULL,"
    " digest BLOB NOT NULL);"
    "CREATE TABLE ended(number INTEGER PRIMARY KEY REFERENCES job(number) ON DELETE CASCADE, over_ms INTEGER NOT NULL,"
    " status INTEGER NOT NULL, code INTEGER NOT NULL, committed INTEGER NOT NULL, why TEXT NOT NULL, digest BLOB NOT NULL);"
    "CREATE TABLE taken(number INTEGER PRIMARY KEY REFERENCES job(number) ON DELETE CASCADE, bytes INTEGER NOT NULL,"
    " receipt_from INTEGER NOT NULL, receipt TEXT NOT NULL, everything INTEGER NOT NULL, digest BLOB NOT NULL);"
    "CREATE TABLE commits(changes INTEGER NOT NULL, sure INTEGER NOT NULL, sum BLOB NOT NULL);"
    "INSERT INTO commits VALUES(0, 0, zeroblob(32));"
    "PRAGMA user_version = 1;";

enum statement { ADD, END, TAKE, REMOVE, DIGESTS, COUNT, BEGIN, COMMIT, STATEMENTS };
static const char read_digests[] = "SELECT 0, digest FROM job WHERE number = ?1 UNION ALL SELECT 1, digest FROM ended WHERE number = ?1"
                                   " UNION ALL SELECT 2, digest FROM taken WHERE number = ?1";
static const char *const texts[STATEMENTS] = {
    [ADD] = "INSERT INTO job VALUES(?1, ?2, ?3, ?4, ?5)",
    [END] = "INSERT OR REPLACE INTO ended VALUES(?1, ?2, ?3, ?4, ?5, ?6, ?7)",
    [TAKE] = "INSERT OR REPLACE INTO taken VALUES(?1, ?2, ?3, ?4, ?5, ?6)",
    [REMOVE] = "DELETE FROM job WHERE number = ?1",
    [DIGESTS] = read_digests,
    [COUNT] = "UPDATE commits SET changes = ?1, sure = ?2, sum = ?3",
    [BEGIN] = "BEGIN IMMEDIATE",
    [COMMIT] = "COMMIT",
};

static const char read_all[] = "SELECT job.number, came_ms, owner, record, job.digest, over_ms, status, code, committed, why,"
                               " ended.digest, bytes, receipt_from, receipt, everything, taken.digest FROM job"
                               " LEFT JOIN ended USING(number) LEFT JOIN taken USING(number) ORDER BY job.number";

struct journal {
    sqlite3 *db;
    sqlite3_stmt *statement[STATEMENTS];
    bool sure; /* commits wait until the disk has them */
    char *path;
    int count_file, log_file;
    uint64_t changes, sure_changes;
    struct digest sum; /* of the rows in the database */
    char boot[64];     /* which start of the machine this is */
};

/* ---- errors */

static int damaged(const struct journal *j, const char *how, struct err *e)
{
    return err_set(e, ERR_IO,
                   "the journal '%s' is damaged (%.200s): put a copy of it and of '%s-commits' in place, or move the keeper's directory "
                   "away to begin anew without the jobs in it",
                   j->path, how, j->path);
}

static int fail(const struct journal *j, int code, struct err *e)
{
    int primary = code & 0xff, sys = errno; /* SQLite knows ENOSPC only */
    if (primary == SQLITE_BUSY || primary == SQLITE_LOCKED)
        return err_set(e, ERR_AGAIN, "another keeper uses the journal '%s'", j->path);
    if (primary == SQLITE_CORRUPT || primary == SQLITE_NOTADB || primary == SQLITE_SCHEMA || primary == SQLITE_ERROR)
        return damaged(j, j->db ? sqlite3_errmsg(j->db) : sqlite3_errstr(code), e);
    if (primary == SQLITE_NOMEM)
        return err_nomem(e);
    if (primary == SQLITE_FULL || (primary == SQLITE_IOERR && (sys == EDQUOT || sys == EFBIG))) {
        errno = ENOSPC;
        return err_sys(e, "there is no room on the disk for the journal '%s'; attaching to jobs that have ended, or cancelling them, makes some", j->path);
    }
    return err_set(e, ERR_IO, "cannot use the journal '%s': %s", j->path,
                   j->db ? sqlite3_errmsg(j->db) : sqlite3_errstr(code));
}

/* ---- digests */

static void add_number(struct buf *b, uint64_t n)
{
    buf_add(b, &n, sizeof n);
}

static void add_bytes(struct buf *b, const void *data, size_t size)
{
    add_number(b, size);
    buf_add(b, data, size);
}

/* The column `committed`: 0, or 1 more than the bytes that the job left. */
static uint64_t committed_number(const struct journal_job *job)
{
    return job->committed ? 1 + job->left_bytes : 0;
}

/* Writes the columns of a row as bytes: numbers as 64 bits, anything else after its size. */
static void text_of(enum statement table, const struct journal_job *job, struct buf *b)
{
    add_number(b, job->number);
    if (table == ADD) {
        add_number(b, job->came_ms);
        add_bytes(b, job->owner.data, job->owner.size);
        add_bytes(b, job->record.data, job->record.size);
    } else if (table == END) {
        add_number(b, job->over_ms);
        add_number(b, job->status);
        add_number(b, job->code);
        add_number(b, committed_number(job));
        add_bytes(b, job->why, strlen(job->why));
    } else {
        add_number(b, job->taken_bytes);
        add_number(b, job->receipt_from);
        add_bytes(b, job->receipt, strlen(job->receipt));
        add_number(b, job->everything);
    }
}

static int digest_row(enum statement table, const struct journal_job *job, struct digest *out, struct err *e)
{
    struct buf b = BUF_INIT(RECORD_MAX + 4096);
    text_of(table, job, &b);
    if (!b.failed)
        digest_of(b.data, b.size, out);
    int r = b.failed ? err_nomem(e) : 0;
    buf_clear(&b);
    return r;
}

/* ---- writing */

/* Sets whether commits wait until the disk has them. */
static int be_sure(struct journal *j, bool sure, struct err *e)
{
    if (j->sure == sure)
        return 0;
    int code = sqlite3_exec(j->db, sure ? "PRAGMA synchronous = FULL" : "PRAGMA synchronous = NORMAL", NULL, NULL, NULL);
    if (code != SQLITE_OK)
        return fail(j, code, e);
    j->sure = sure;
    return 0;
}

static int step(struct journal *j, enum statement which, struct err *e)
{
    errno = 0;
    int code = sqlite3_step(j->statement[which]), r = code == SQLITE_DONE ? 0 : fail(j, code, e);
    sqlite3_reset(j->statement[which]);
    return r;
}

/* Adds to the sum the digests of this job's rows in one table or (ADD) in all tables. */
static int add_digests(struct journal *j, enum statement table, uint64_t number, struct digest *sum, struct err *e)
{
    sqlite3_stmt *s = j->statement[DIGESTS];
    int code;
    sqlite3_bind_int64(s, 1, (sqlite3_int64)number);
    while ((code = sqlite3_step(s)) == SQLITE_ROW) {
        const uint8_t *digest = sqlite3_column_blob(s, 1);
        if (table != ADD && sqlite3_column_int(s, 0) != (int)table)
            continue;
        for (int i = 0; digest && i < sqlite3_column_bytes(s, 1) && i < (int)sizeof sum->byte; i++)
            sum->byte[i] ^= digest[i];
    }
    sqlite3_reset(s);
    return code == SQLITE_DONE ? 0 : fail(j, code, e);
}

/* Adds or replaces a row of that table, or (REMOVE) removes all rows of that job. */
static int change(struct journal *j, enum statement which, uint64_t number, bool sure, struct digest *sum, struct err *e)
{
    sqlite3_stmt *count = j->statement[COUNT];
    enum statement table = which == REMOVE ? ADD : which;
    if (add_digests(j, table, number, sum, e) < 0 || step(j, which, e) < 0 || add_digests(j, table, number, sum, e) < 0)
        return -1;
    sqlite3_bind_int64(count, 1, (sqlite3_int64)j->changes + 1);
    sqlite3_bind_int64(count, 2, (sqlite3_int64)j->sure_changes + sure);
    sqlite3_bind_blob(count, 3, sum->byte, sizeof sum->byte, SQLITE_STATIC);
    return step(j, COUNT, e) < 0 ? -1 : step(j, COMMIT, e);
}

static int try(struct journal *j, enum statement which, uint64_t number, bool sure, struct digest *sum, struct err *e)
{
    *sum = j->sum;
    int r = be_sure(j, sure, e) < 0 || step(j, BEGIN, e) < 0 ? -1 : change(j, which, number, sure, sum, e);
    if (r < 0 && !sqlite3_get_autocommit(j->db))
        sqlite3_exec(j->db, "ROLLBACK", NULL, NULL, NULL);
    return r;
}

/* Allocates space beyond the log's end.  Where a file system cannot do that, a full disk makes jobs wait for their end. */
static bool reserve(struct journal *j)
{
    struct stat s;
    if (fstat(j->log_file, &s) == 0 && fallocate(j->log_file, FALLOC_FL_KEEP_SIZE, s.st_size, RESERVE_BYTES) == 0)
        return true;
    return errno == EOPNOTSUPP || errno == ENOSYS;
}

static int run(struct journal *j, enum statement which, uint64_t number, bool sure, struct err *e)
{
    struct digest sum;
    char text[128];
    int r = try(j, which, number, sure, &sum, e);
    sqlite3_clear_bindings(j->statement[which]);
    if (r < 0)
        return -1;
    reserve(j);
    j->sum = sum;
    j->changes++;
    j->sure_changes += sure;
    int size = snprintf(text, sizeof text, COMMITS_FORM, (unsigned long long)j->changes, (unsigned long long)j->sure_changes, j->boot);
    if (pwrite(j->count_file, text, (size_t)size, 0) != size) /* if this fails, the older count that stays is too small, but not wrong */
        log_warn("commits_uncounted", "path=%s", j->path);
    return 0;
}

static void bind_number(sqlite3_stmt *s, int at, uint64_t n)
{
    sqlite3_bind_int64(s, at, (sqlite3_int64)n);
}

/* The bytes are borrowed until the statement has run.  An empty value is not NULL. */
static void bind_bytes(sqlite3_stmt *s, int at, const void *data, size_t size)
{
    sqlite3_bind_blob64(s, at, size ? data : "", size, SQLITE_STATIC);
}

int journal_add(struct journal *j, const struct journal_job *job, struct err *e)
{
    sqlite3_stmt *s = j->statement[ADD];
    struct digest d;
    if (job->record.size > RECORD_MAX)
        return err_set(e, ERR_LIMIT, "a job of more than %u bytes (RECORD_MAX)", RECORD_MAX);
    if (!reserve(j))
        return fail(j, SQLITE_FULL, e);
    if (digest_row(ADD, job, &d, e) < 0)
        return -1;
    bind_number(s, 1, job->number);
    bind_number(s, 2, job->came_ms);
    bind_bytes(s, 3, job->owner.data, job->owner.size);
    bind_bytes(s, 4, job->record.data, job->record.size);
    bind_bytes(s, 5, d.byte, sizeof d.byte);
    return run(j, ADD, job->number, true, e);
}

int journal_end(struct journal *j, const struct journal_job *job, struct err *e)
{
    sqlite3_stmt *s = j->statement[END];
    struct digest d;
    if (digest_row(END, job, &d, e) < 0)
        return -1;
    bind_number(s, 1, job->number);
    bind_number(s, 2, job->over_ms);
    bind_number(s, 3, job->status);
    bind_number(s, 4, job->code);
    bind_number(s, 5, committed_number(job));
    sqlite3_bind_text(s, 6, job->why, -1, SQLITE_STATIC);
    bind_bytes(s, 7, d.byte, sizeof d.byte);
    return run(j, END, job->number, true, e);
}

int journal_take(struct journal *j, const struct journal_job *job, struct err *e)
{
    sqlite3_stmt *s = j->statement[TAKE];
    struct digest d;
    if (digest_row(TAKE, job, &d, e) < 0)
        return -1;
    bind_number(s, 1, job->number);
    bind_number(s, 2, job->taken_bytes);
    bind_number(s, 3, job->receipt_from);
    sqlite3_bind_text(s, 4, job->receipt, -1, SQLITE_STATIC);
    bind_number(s, 5, job->everything);
    bind_bytes(s, 6, d.byte, sizeof d.byte);
    return run(j, TAKE, job->number, job->everything, e);
}

int journal_remove(struct journal *j, uint64_t number, struct err *e)
{
    bind_number(j->statement[REMOVE], 1, number);
    return run(j, REMOVE, number, true, e);
}

/* ---- reading */

static uint64_t number_at(sqlite3_stmt *s, int at)
{
    return (uint64_t)sqlite3_column_int64(s, at);
}

static struct slice bytes_at(sqlite3_stmt *s, int at)
{
    const void *data = sqlite3_column_blob(s, at);
    return (struct slice){data ? data : "", (size_t)sqlite3_column_bytes(s, at)};
}

static const char *text_at(sqlite3_stmt *s, int at)
{
    const char *text = (const char *)sqlite3_column_text(s, at);
    return text ? text : "";
}

static int check(const struct journal *j, enum statement table, const char *name, const struct journal_job *job,
                 struct slice have, struct digest *sum, struct err *e)
{
    struct digest d;
    if (digest_row(table, job, &d, e) < 0)
        return -1;
    for (size_t i = 0; i < sizeof d.byte; i++)
        sum->byte[i] ^= d.byte[i];
    return have.size == sizeof d.byte && !memcmp(have.data, d.byte, sizeof d.byte) ? 0 : damaged(j, name, e);
}

/* Reads a row; a missing row has no digest. */
static int take_row(const struct journal *j, sqlite3_stmt *s, struct journal_job *job, struct digest *sum, struct err *e)
{
    *job = (struct journal_job){.number = number_at(s, 0),
                                .came_ms = number_at(s, 1),
                                .owner = bytes_at(s, 2),
                                .record = bytes_at(s, 3),
                                .over = sqlite3_column_type(s, 10) != SQLITE_NULL,
                                .over_ms = number_at(s, 5),
                                .status = (uint32_t)number_at(s, 6),
                                .code = (uint32_t)number_at(s, 7),
                                .committed = number_at(s, 8) > 0,
                                .left_bytes = number_at(s, 8) > 0 ? number_at(s, 8) - 1 : 0,
                                .why = text_at(s, 9),
                                .taken_bytes = number_at(s, 11),
                                .receipt_from = number_at(s, 12),
                                .receipt = text_at(s, 13),
                                .everything = number_at(s, 14)};
    if (check(j, ADD, "a row of `job` is not what was written", job, bytes_at(s, 4), sum, e) < 0 ||
        (job->over && check(j, END, "a row of `ended` is not what was written", job, bytes_at(s, 10), sum, e) < 0))
        return -1;
    return sqlite3_column_type(s, 15) == SQLITE_NULL ? 0 : check(j, TAKE, "a row of `taken` is not what was written", job, bytes_at(s, 15), sum, e);
}

int journal_read(struct journal *j, int (*each)(void *owner, const struct journal_job *job, struct err *e), void *owner,
                 struct err *e)
{
    sqlite3_stmt *s = NULL;
    struct digest sum = {0};
    int code = sqlite3_prepare_v2(j->db, read_all, -1, &s, NULL), r = code == SQLITE_OK ? 0 : fail(j, code, e);
    while (r == 0 && (code = sqlite3_step(s)) == SQLITE_ROW) {
        struct journal_job job;
        r = take_row(j, s, &job, &sum, e) < 0 ? -1 : each(owner, &job, e);
    }
    if (r == 0 && code != SQLITE_DONE)
        r = fail(j, code, e);
    if (r == 0 && memcmp(&sum, &j->sum, sizeof sum))
        r = damaged(j, "rows are missing, or were added", e);
    sqlite3_finalize(s);
    return r;
}

/* ---- life */

static int ask_number(const struct journal *j, const char *text, int *out, struct err *e)
{
    sqlite3_stmt *s = NULL;
    int code = sqlite3_prepare_v2(j->db, text, -1, &s, NULL);
    if (code == SQLITE_OK && (code = sqlite3_step(s)) == SQLITE_ROW)
        *out = sqlite3_column_int(s, 0);
    sqlite3_finalize(s);
    return code == SQLITE_ROW ? 0 : fail(j, code, e);
}

/* Checks that the database has at least the changes that were counted when they were committed. */
static int compare_counts(const struct journal *j, const char *text, struct err *e)
{
    unsigned long long changes = 0, sure = 0;
    char boot[40] = "";
    int size = 0;
    if (sscanf(text, "%20llu %20llu %36s%n", &changes, &sure, boot, &size) < 3 || size != 78 || text[size] != '\n')
        return damaged(j, "the file of its commits is not one", e);
    if (sure > j->sure_changes || (changes > j->changes && !strcmp(boot, j->boot)))
        return damaged(j, "changes that were committed are missing", e);
    return 0;
}

static int read_commits(struct journal *j, struct err *e)
{
    sqlite3_stmt *s = NULL;
    int code = sqlite3_prepare_v2(j->db, "SELECT changes, sure, sum FROM commits", -1, &s, NULL);
    int r = code == SQLITE_OK && (code = sqlite3_step(s)) == SQLITE_ROW ? 0 : fail(j, code, e);
    if (r == 0) {
        struct slice sum = bytes_at(s, 2);
        j->changes = number_at(s, 0);
        j->sure_changes = number_at(s, 1);
        if (sum.size != sizeof j->sum.byte)
            r = damaged(j, "it has no sum", e);
        else
            memcpy(j->sum.byte, sum.data, sum.size);
    }
    sqlite3_finalize(s);
    return r;
}

static int open_commits(struct journal *j, struct err *e)
{
    char *path = NULL, text[128] = "";
    if (asprintf(&path, "%s-commits", j->path) < 0)
        return err_nomem(e);
    if (fd_read_text(AT_FDCWD, "/proc/sys/kernel/random/boot_id", j->boot, 36 + 1) != 36)
        snprintf(j->boot, sizeof j->boot, "%036d", 0); /* unknown: then all lives of the keeper count as one start of the machine */
    j->count_file = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    ssize_t n = j->count_file < 0 ? -1 : pread(j->count_file, text, sizeof text - 1, 0);
    int r = n < 0 ? err_sys(e, "cannot use '%s'", path) : n > 0 ? compare_counts(j, text, e) : 0;
    free(path);
    return r;
}

/* SQLite has made the log, or will use the empty one that is made here. */
static int open_log(struct journal *j, struct err *e)
{
    char *path = NULL;
    if (asprintf(&path, "%s-wal", j->path) < 0)
        return err_nomem(e);
    fd_close(&j->log_file);
    j->log_file = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    int r = j->log_file < 0 ? err_sys(e, "cannot use '%s'", path) : 0;
    free(path);
    if (r == 0 && !reserve(j))
        log_warn("no_journal_reserve", "path=%s", j->path);
    return r;
}

static int check_whole(const struct journal *j, struct err *e)
{
    sqlite3_stmt *s = NULL;
    int r = 0, code = sqlite3_prepare_v2(j->db, "PRAGMA integrity_check(1)", -1, &s, NULL);
    if (code == SQLITE_OK)
        code = sqlite3_step(s);
    if (code != SQLITE_ROW)
        r = fail(j, code, e);
    else if (strcmp(text_at(s, 0), "ok"))
        r = damaged(j, text_at(s, 0), e);
    sqlite3_finalize(s);
    return r;
}

static int prepare(struct journal *j, struct err *e)
{
    int version = 0, code = sqlite3_exec(j->db,
                                         "PRAGMA locking_mode = EXCLUSIVE; PRAGMA journal_mode = WAL; PRAGMA foreign_keys = ON;"
                                         "PRAGMA synchronous = FULL; PRAGMA cell_size_check = ON; BEGIN EXCLUSIVE; COMMIT",
                                         NULL, NULL, NULL);
    if (code != SQLITE_OK)
        return fail(j, code, e);
    j->sure = true;
    if (check_whole(j, e) < 0 || ask_number(j, "PRAGMA user_version", &version, e) < 0)
        return -1;
    if (version != 0 && version != SCHEMA_VERSION)
        return err_set(e, ERR_UNSUPPORTED, "the journal '%s' is of version %d, and this keeper knows %d", j->path, version,
                       SCHEMA_VERSION);
    if (version == 0 && (code = sqlite3_exec(j->db, "BEGIN", NULL, NULL, NULL)) == SQLITE_OK) {
        code = sqlite3_exec(j->db, schema, NULL, NULL, NULL);
        if (code == SQLITE_OK)
            code = sqlite3_exec(j->db, "COMMIT", NULL, NULL, NULL);
    }
    for (int i = 0; i < STATEMENTS && code == SQLITE_OK; i++)
        code = sqlite3_prepare_v3(j->db, texts[i], -1, SQLITE_PREPARE_PERSISTENT, &j->statement[i], NULL);
    if (code != SQLITE_OK)
        return fail(j, code, e);
    return read_commits(j, e) < 0 || open_commits(j, e) < 0 ? -1 : open_log(j, e);
}

struct journal *journal_open(const char *directory, struct err *e)
{
    struct journal *j = calloc(1, sizeof *j);
    if (!j || asprintf(&j->path, "%s/journal", directory) < 0) {
        free(j);
        err_nomem(e);
        return NULL;
    }
    j->count_file = j->log_file = -1;
    if (access(directory, W_OK) < 0) { /* SQLite would not say why */
        err_sys(e, "cannot write in the keeper's directory '%s'", directory);
        journal_close(j);
        return NULL;
    }
    int code = sqlite3_open_v2(j->path, &j->db, SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE | SQLITE_OPEN_NOMUTEX, NULL);
    if (code != SQLITE_OK)
        fail(j, code, e);
    if (code == SQLITE_OK && prepare(j, e) == 0)
        return j;
    journal_close(j);
    return NULL;
}

void journal_close(struct journal *j)
{
    if (!j)
        return;
    for (int i = 0; i < STATEMENTS; i++)
        sqlite3_finalize(j->statement[i]);
    sqlite3_close(j->db);
    if (j->log_file >= 0)
        open_log(j, NULL); /* SQLite has removed the log with its space, for which the next life may find no room */
    fd_close(&j->count_file);
    fd_close(&j->log_file);
    free(j->path);
    free(j);
}
