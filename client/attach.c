/* zpipe_attach, zpipe_logs: what a submitted job printed, from where it was taken last, its output files, its status.
 *
 * Each byte is given out once.  After each piece that we write we tell the keeper how much was written, and the keeper
 * counts.  If we are killed between writing a piece and telling the keeper, we leave bytes of which the keeper does not
 * know.  So before we write anything the keeper gets a *receipt*: where our stdout is, if that is a file (host, device,
 * inode, path, and the offset at which we begin).  The next attach looks there.  If the file holds more bytes than the
 * keeper knows of, and they are the same as the bytes that come now, they are not written again.  (In a pipe nobody can see
 * them: then what the keeper had sent ahead of our word, DOUBT_BYTES_MAX at most, may come twice after a kill -9.)
 *
 * Files come last and are put in place together, and the keeper is told after that.  An attach that is killed before has to
 * do it again. */
#include "client/visit.h"

#include "base/fds.h"
#include "base/spool.h"
#include "proto/made.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#define DOUBT_BYTES_MAX MSG_CREDIT_BYTES /* bytes that are written but not known to the keeper: it sends no further ahead */
#define COPY_BYTES      ((size_t)1 << 18)

struct attach {
    struct visit visit;
    int to;          /* borrowed: where what was printed goes */
    bool (*stop)(void *owner);
    void *stop_owner;
    struct stream_receiver *out, *files; /* logs use only `out` */
    uint64_t taken_bytes; /* of what the job printed */
    char *doubt;          /* owned: bytes that an earlier attach may have written already */
    size_t doubt_bytes, doubt_at;
    bool logs;
    bool begun;           /* the keeper has our receipt; */
    struct buf waiting;   /* holds what comes until then */
    bool out_ended, files_ended, told;
    int spool;            /* the files as they were received */
    int status;
    struct err job_why;
    char directory[4097];
    bool finished;        /* the keeper knows that we have everything */
};

/* ---- receipts */

static void write_receipt(int fd, char out[MSG_RECEIPT_MAX + 1])
{
    struct stat s;
    char self[64], host[256] = "", path[4096];
    *out = '\0';
    int flags = fcntl(fd, F_GETFL);
    if (fd < 0 || flags < 0 || fstat(fd, &s) < 0 || !S_ISREG(s.st_mode) || gethostname(host, sizeof host - 1) < 0)
        return;
    off_t at = flags & O_APPEND ? s.st_size : lseek(fd, 0, SEEK_CUR);
    snprintf(self, sizeof self, "/proc/self/fd/%d", fd);
    ssize_t n = readlink(self, path, sizeof path - 1);
    if (at < 0 || n < 0)
        return;
    path[n] = '\0';
    snprintf(out, MSG_RECEIPT_MAX + 1, "%s %ju %ju %jd %s", host, (uintmax_t)s.st_dev, (uintmax_t)s.st_ino, (intmax_t)at, path);
}

/* Opens the file of a receipt if it is on this host and still the same file; *at: the offset at which its writer began. */
static int open_receipt(const char *receipt, off_t *at)
{
    char host[256], here[256] = "";
    uintmax_t device, inode;
    intmax_t begin;
    int size = 0;
    struct stat s;
    if (sscanf(receipt, "%255s %ju %ju %jd %n", host, &device, &inode, &begin, &size) < 4 || !size ||
        gethostname(here, sizeof here - 1) < 0 || strcmp(host, here))
        return -1;
    int fd = open(receipt + size, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
    if (fd >= 0 && (fstat(fd, &s) < 0 || !S_ISREG(s.st_mode) || s.st_dev != device || s.st_ino != inode))
        fd_close(&fd);
    *at = (off_t)begin;
    return fd;
}

/* Reads what is in that file after the bytes that the keeper knows of. */
static int read_doubt(struct attach *a, struct err *e)
{
    const struct client_place *p = &a->visit.place;
    struct stat s;
    off_t begin;
    int fd = p->taken_bytes >= p->receipt_from ? open_receipt(p->receipt, &begin) : -1;
    off_t known = fd < 0 ? 0 : begin + (off_t)(p->taken_bytes - p->receipt_from);
    int r = 0;
    if (fd >= 0 && fstat(fd, &s) == 0 && s.st_size > known && (uint64_t)(s.st_size - known) <= DOUBT_BYTES_MAX) {
        size_t size = (size_t)(s.st_size - known);
        a->doubt = malloc(size);
        if (!a->doubt)
            r = err_nomem(e);
        else if (lseek(fd, known, SEEK_SET) >= 0 && fd_read_all(fd, a->doubt, size) == (ssize_t)size)
            a->doubt_bytes = size;
    }
    fd_close(&fd);
    return r;
}

/* ---- what was printed */

/* Waits for a slow reader as a program would, but gives up if `stop` says so. */
static int write_out(struct attach *a, const char *data, size_t size, struct err *e)
{
    while (size) {
        ssize_t n = write(a->to, data, size);
        if (n < 0 && errno == EAGAIN) {
            struct pollfd p = {a->to, POLLOUT, 0};
            poll(&p, 1, -1);
        } else if (n < 0 && errno != EINTR) {
            return err_sys(e, "cannot write the output");
        }
        if (n < 0 && a->stop && a->stop(a->stop_owner))
            return err_set(e, ERR_CANCELLED, "interrupted");
        data += n > 0 ? n : 0;
        size -= n > 0 ? (size_t)n : 0;
        a->taken_bytes += n > 0 ? (size_t)n : 0;
    }
    return 0;
}

static int give(struct attach *a, const char *data, size_t size, struct err *e)
{
    int r = write_out(a, data, size, e);
    struct msg_kept m = {.taken_bytes = a->taken_bytes};
    int told = a->logs ? 0 : visit_say(&a->visit, &m, r == 0 ? e : NULL);
    return r == 0 && told == 0 ? stream_consumed(a->out, size, e) : -1;
}

/* Sends the receipt: where our first byte will be.  Nothing is written before the keeper has it. */
static int begin(struct attach *a, struct err *e)
{
    char receipt[MSG_RECEIPT_MAX + 1];
    write_receipt(a->to, receipt);
    struct msg_kept m = {.begins = true, .taken_bytes = a->taken_bytes, .receipt = receipt};
    return visit_say(&a->visit, &m, e);
}

/* Compares what comes with what may have been written before, and as long as it is the same does not write it again.  After
 * one byte that differs, or an end that comes too early, none of it counts as written before. */
static int settle_doubt(struct attach *a, struct slice *bytes, bool end, struct err *e)
{
    size_t left = a->doubt_bytes - a->doubt_at, size = bytes->size < left ? bytes->size : left;
    bool same = !end && !memcmp(a->doubt + a->doubt_at, bytes->data, size);
    if (same) {
        a->doubt_at += size;
        *bytes = (struct slice){(const char *)bytes->data + size, bytes->size - size};
        if (a->doubt_at < a->doubt_bytes)
            return 0;
        a->taken_bytes += a->doubt_bytes;
        if (stream_consumed(a->out, a->doubt_bytes, e) < 0)
            return -1;
    } else {
        buf_add(&a->waiting, a->doubt, a->doubt_at);
    }
    a->doubt_bytes = 0;
    return begin(a, e);
}

static int take_out(struct attach *a, struct slice bytes, struct err *e)
{
    if (a->doubt_bytes && settle_doubt(a, &bytes, false, e) < 0)
        return -1;
    if (!bytes.size)
        return 0;
    if (a->begun)
        return give(a, bytes.data, bytes.size, e);
    buf_add(&a->waiting, bytes.data, bytes.size);
    return a->waiting.failed ? err_nomem(e) : 0;
}

static int go_on(struct attach *a, struct err *e)
{
    a->begun = true;
    int r = a->waiting.size ? give(a, a->waiting.data, a->waiting.size, e) : 0;
    buf_clear(&a->waiting);
    return r;
}

/* ---- files */

static int copy_file(int from, int to, uint64_t size, struct err *e)
{
    static char bytes[COPY_BYTES];
    while (size) {
        size_t part = size < sizeof bytes ? (size_t)size : sizeof bytes;
        if (fd_read_all(from, bytes, part) != (ssize_t)part || fd_write_all(to, bytes, part) < 0)
            return err_sys(e, "cannot copy an output file");
        size -= part;
    }
    return 0;
}

/* Puts the files in place as any job's: all or none. */
static int place_files(struct attach *a, struct err *e)
{
    struct arena arena = ARENA_INIT(4 * MADE_INDEX_MAX);
    const struct made_file *file = NULL;
    uint32_t count = 0;
    struct zpipe_job j = {.z = a->visit.z, .directory = a->directory, .whole = graph_new(e)};
    int r = !j.whole ? -1
            : lseek(a->spool, 0, SEEK_SET) < 0 ? err_sys(e, "cannot read the output files")
                                               : made_read(a->spool, &arena, &file, &count, e);
    for (uint32_t i = 0; r == 0 && i < count; i++) {
        struct output *o = output_add(&j, GRAPH_NONE, file[i].name, e);
        if (!o) {
            r = err_wrap(e, "in '%s', where the job was submitted", a->directory);
            break;
        }
        o->made = true;
        o->chosen = file[i].mode;
        r = copy_file(a->spool, o->fd, file[i].size_bytes, e);
    }
    if (r == 0)
        r = outputs_commit(&j, e);
    outputs_close(&j);
    graph_free(j.whole);
    arena_clear(&arena);
    return r;
}

/* ---- streams and messages */

static void finish(struct attach *a)
{
    struct err e;
    if (!a->out_ended || !a->files_ended || !a->told || !a->begun || a->visit.over)
        return;
    struct msg_kept all = {.taken_bytes = a->taken_bytes, .all = true};
    if (place_files(a, &e) < 0 || visit_say(&a->visit, &all, &e) < 0)
        visit_end(&a->visit, &e);
    else
        a->finished = true;
}

static void out_data(void *owner, struct slice bytes)
{
    struct attach *a = owner;
    struct err e;
    if (!a->visit.over && take_out(a, bytes, &e) < 0)
        visit_end(&a->visit, &e);
}

static void out_end(void *owner, bool failed)
{
    struct attach *a = owner;
    struct slice none = {"", 0};
    struct err e;
    a->out_ended = true;
    if (failed) {
        err_set(&e, ERR_GONE, "the keeper stopped sending the output: somebody else attached, or its disk failed; attach again");
        visit_end(&a->visit, &e);
    } else if (a->doubt_bytes && settle_doubt(a, &none, true, &e) < 0) {
        visit_end(&a->visit, &e);
    }
    if (a->logs)
        visit_end(&a->visit, NULL);
    else
        finish(a);
}

static void files_data(void *owner, struct slice bytes)
{
    struct attach *a = owner;
    visit_keep(&a->visit, a->files, a->spool, bytes);
}

static void files_end(void *owner, bool failed)
{
    struct attach *a = owner;
    struct err e;
    a->files_ended = true;
    if (failed) {
        err_set(&e, ERR_GONE, "the keeper stopped sending the output files; attach again");
        visit_end(&a->visit, &e);
    }
    finish(a);
}

static void on_stream(struct visit *v, const struct msg *m, struct slice bulk)
{
    struct attach *a = v->owner;
    struct stream_name name;
    struct err e;
    carry_message_name(m, &name);
    struct stream_receiver *r = name.what == MSG_KEPT_FILES ? a->files : a->out;
    if (r && stream_receiver_message(r, m, bulk, &e) < 0)
        visit_end(v, &e);
}

static void on_kept(struct visit *v, const struct msg_kept *m)
{
    struct attach *a = v->owner;
    struct err e;
    if (m->begins) {
        if (!a->begun && go_on(a, &e) < 0)
            visit_end(v, &e);
    } else if (m->all && a->finished) {
        visit_end(v, NULL);
    } else if (!m->all) {
        a->told = true;
        a->status = (int)(m->status & 255);
        if (m->code)
            err_set(&a->job_why, (int)m->code, "%s", m->text);
        snprintf(a->directory, sizeof a->directory, "%s", m->directory);
    }
    finish(a);
}

/* ---- life */

static int start(struct attach *a, uint32_t what, const struct stream_receiver_events *ev, struct stream_receiver **out,
                 struct err *e)
{
    struct stream_name name = visit_stream(&a->visit, what);
    *out = stream_receiver_new(a->visit.peer, 0, &name, ev, a, e);
    return *out ? stream_receiver_start(*out, e) : -1;
}

static int attach(struct attach *a, struct zpipe *z, uint64_t job, struct err *e)
{
    static const struct visit_events events = {on_kept, on_stream};
    static const struct stream_receiver_events out = {out_data, out_end}, files = {files_data, files_end};
    a->visit.ev = &events;
    a->visit.owner = a;
    a->visit.remedy = a->logs ? ": ask again when it is back" : " and has all that was not taken: attach again when it is back";
    if (visit_open(&a->visit, z, a->logs ? MSG_ASK_LOGS : MSG_ASK_TAKE, job, e) < 0)
        return -1;
    a->taken_bytes = a->visit.place.taken_bytes;
    if (!a->logs && ((a->spool = spool_open(e)) < 0 || read_doubt(a, e) < 0))
        return -1;
    if (visit_attach(&a->visit, a->logs ? MSG_KEPT_LOG : MSG_KEPT_OUT, e) < 0 ||
        start(a, a->logs ? MSG_KEPT_LOG : MSG_KEPT_OUT, &out, &a->out, e) < 0)
        return -1;
    if (!a->logs && (start(a, MSG_KEPT_FILES, &files, &a->files, e) < 0 || (!a->doubt_bytes && begin(a, e) < 0)))
        return -1;
    return visit_run(&a->visit, a->stop, a->stop_owner, e);
}

static void attach_close(struct attach *a)
{
    visit_close(&a->visit);
    stream_receiver_free(a->out);
    stream_receiver_free(a->files);
    buf_clear(&a->waiting);
    free(a->doubt);
    fd_close(&a->spool);
}

int zpipe_attach(struct zpipe *z, uint64_t job, int stdout_fd, bool (*stop)(void *owner), void *owner,
                 struct zpipe_error *error)
{
    struct err e = {0};
    struct attach a = {.to = stdout_fd, .stop = stop, .stop_owner = owner, .spool = -1,
                       .waiting = BUF_INIT(2 * MSG_CREDIT_BYTES)};
    int r = attach(&a, z, job, &e), status = r < 0 ? -1 : a.status;
    if (error)
        *error = (struct zpipe_error){0};
    if (r < 0)
        client_error(error, &e);
    else if (a.job_why.code)
        client_error(error, &a.job_why);
    attach_close(&a);
    return status;
}

int zpipe_logs(struct zpipe *z, uint64_t job, int fd, struct zpipe_error *error)
{
    struct err e = {0};
    struct attach a = {.to = fd, .logs = true, .begun = true, .spool = -1, .waiting = BUF_INIT(MSG_DATA_BYTES)};
    int r = attach(&a, z, job, &e);
    attach_close(&a);
    return r < 0 ? client_error(error, &e) : 0;
}
