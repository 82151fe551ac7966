/* See keeper.h.  A submitted job's life. */
#include "client/keeper.h"

#include "base/fds.h"
#include "base/log.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

/* ---- coming and going */

static struct slice copy_bytes(struct slice s)
{
    char *data = malloc(s.size + 1);
    if (data)
        memcpy(data, s.data, s.size);
    return (struct slice){data, s.size};
}

void keeper_job_free(struct keeper_job *j)
{
    zpipe_job_free(j->job);
    if (j->owner)
        j->owner->held_bytes -= j->held_bytes;
    keeper_list_remove(j);
    j->k->held_bytes -= j->held_bytes;
    fd_close(&j->in);
    fd_close(&j->out);
    fd_close(&j->was);
    fd_close(&j->err);
    free((void *)(uintptr_t)j->row.owner.data);
    free((void *)(uintptr_t)j->row.record.data);
    free((void *)(uintptr_t)j->row.why);
    free((void *)(uintptr_t)j->row.receipt);
    free(j->text);
    free(j->directory);
    free(j->path);
    free(j);
}

struct keeper_job *keeper_job_new(struct keeper *k, const struct journal_job *row, struct err *e)
{
    struct arena arena = ARENA_INIT(2 * (size_t)KEPT_BYTES_MAX);
    struct kept_job kept;
    if (kept_decode(row->record, &arena, &kept, e) < 0) {
        arena_clear(&arena);
        err_wrap(e, "job %" PRIu64, row->number);
        return NULL;
    }
    struct keeper_job *j = calloc(1, sizeof *j);
    if (!j) {
        arena_clear(&arena);
        err_nomem(e);
        return NULL;
    }
    *j = (struct keeper_job){.k = k, .row = *row, .in = -1, .out = -1, .was = -1, .err = -1};
    j->row.owner = copy_bytes(row->owner);
    j->row.record = copy_bytes(row->record);
    j->row.why = strdup(row->why ? row->why : "");
    j->row.receipt = strdup(row->receipt ? row->receipt : "");
    j->text = strdup(kept.text);
    j->directory = strdup(kept.directory);
    j->path = keeper_path(k, row->number, NULL, NULL);
    arena_clear(&arena);
    if (keeper_list_add(j, row->owner, e) < 0) {
        keeper_job_free(j);
        return NULL;
    }
    if (!j->row.owner.data || !j->row.record.data || !j->row.why || !j->row.receipt || !j->text || !j->directory || !j->path) {
        keeper_job_free(j);
        err_nomem(e);
        return NULL;
    }
    struct stat s;
    char *out = keeper_path(k, row->number, "out", NULL);
    j->out_bytes = out && j->row.over && stat(out, &s) == 0 ? (uint64_t)s.st_size : 0;
    free(out);
    keeper_job_weigh(j);
    return j;
}

/* ---- what others are told */

static void state_of(const struct keeper_job *j, char *out, size_t room)
{
    if (j->unwritten)
        snprintf(out, room, "waits for room on the keeper's disk, to end with status %u", j->row.status);
    else if (!j->row.over)
        snprintf(out, room, "%s", j->job ? "starts" : "waits");
    else if (j->row.everything)
        snprintf(out, room, "ended with status %u, and was taken", j->row.status);
    else
        snprintf(out, room, "ended with status %u", j->row.status);
}

static void tell(const struct keeper_job *j, bool gone)
{
    char state[128];
    uint64_t now = keeper_now_ms(j->k);
    state_of(j, state, sizeof state);
    struct msg m = {.type = MSG_HELD,
                    .held = {.job = j->row.number,
                             .key = j->row.owner,
                             .state = state,
                             .text = j->text,
                             .age_ms = now > j->row.came_ms ? now - j->row.came_ms : 0,
                             .gone = gone}};
    struct err e = {0};
    keeper_sent(j->k, client_send(j->k->z, &m, (struct slice){0}, &e), &e);
}

void keeper_job_tell(struct keeper_job *j)
{
    tell(j, false);
}

/* ---- forgetting */

static void over(struct keeper_job *j, uint32_t status, const struct err *why, bool committed);

/* Forgets the job and removes all its files. */
static int forget(struct keeper_job *j, struct err *e)
{
    struct keeper *k = j->k;
    if (journal_remove(k->journal, j->row.number, e) < 0)
        return -1;
    log_info("job_forgotten", "job=%" PRIu64, j->row.number);
    keeper_visits_leave(j);
    tell(j, true);
    if (keeper_remove_tree(j->path) < 0)
        log_warn("not_removed", "path=%s", j->path);
    keeper_job_free(j);
    return 0;
}

int keeper_job_cancel(struct keeper_job *j, struct err *e)
{
    if (j->row.over)
        return forget(j, e);
    if (j->job) {
        zpipe_cancel(j->job);
    } else if (!j->unwritten) { /* it has not begun */
        struct err why;
        err_set(&why, ERR_CANCELLED, "cancelled");
        over(j, ZPIPE_STATUS_FAILED, &why, false);
    }
    return j->unwritten
               ? err_set(e, ERR_AGAIN, "there is no room on the keeper's disk '%s' to write down how the job has ended; it tries again", j->k->directory)
               : 0;
}

int keeper_job_taken(struct keeper_job *j, struct err *e)
{
    if (journal_take(j->k->journal, &j->row, e) < 0)
        return -1;
    if (!j->row.everything)
        return 0;
    log_info("job_taken", "job=%" PRIu64, j->row.number);
    fd_close(&j->out);
    static const char *const parts[] = {"out", "was", "files", "in", "stdin"};
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++)
        keeper_job_remove(j, parts[i]);
    keeper_job_weigh(j);
    keeper_job_tell(j);
    return 0;
}

/* ---- running */

uint64_t keeper_job_printed(const struct keeper_job *j)
{
    return j->row.everything ? j->row.taken_bytes : j->out_bytes;
}

static int compare(struct keeper_job *j, const char *data, size_t size, struct err *e)
{
    static char bytes[1 << 16];
    for (uint64_t at = j->out_bytes; size && at < j->was_bytes;) {
        size_t part = size < sizeof bytes ? size : sizeof bytes;
        part = j->was_bytes - at < part ? (size_t)(j->was_bytes - at) : part;
        if (pread(j->was, bytes, part, (off_t)at) != (ssize_t)part)
            return err_sys(e, "cannot read what job %" PRIu64 " had printed before", j->row.number);
        if (memcmp(bytes, data, part))
            return err_set(e, ERR_PROTO,
                           "it is not deterministic: what the job printed the second time is not what it had printed before, and some "
                           "of that was given away");
        at += part;
        data += part;
        size -= part;
    }
    return 0;
}

static int write_at(int fd, const char *data, size_t size, uint64_t at)
{
    while (size) {
        ssize_t n = pwrite(fd, data, size, (off_t)at);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return -1;
        data += n;
        size -= (size_t)n;
        at += (uint64_t)n;
    }
    return 0;
}

static void add_held(struct keeper_job *j, size_t size)
{
    j->held_bytes += size;
    j->owner->held_bytes += size;
    j->k->held_bytes += size;
}

static void on_stdout(void *owner, const void *data, size_t size)
{
    struct keeper_job *j = owner;
    struct err e;
    if (j->ended)
        return;
    if (compare(j, data, size, &e) == 0 && keeper_room(j->k, j->owner->held_bytes, size, &e) == 0) {
        if (write_at(j->out, data, size, j->out_bytes) == 0) {
            j->out_bytes += size;
            add_held(j, size);
            keeper_visits_more(j);
            return;
        }
        keeper_write_failed(j->k, "more of the job's output", &e);
    }
    client_job_fail(j->job, &e);
}

static void on_stderr(void *owner, const void *data, size_t size)
{
    struct keeper_job *j = owner;
    if (keeper_room(j->k, j->owner->held_bytes, size, NULL) == 0 && fd_write_all(j->err, data, size) == 0)
        add_held(j, size);
    else
        log_warn("log_lost", "job=%" PRIu64 " bytes=%zu", j->row.number, size);
}

static void on_event(void *owner, const struct zpipe_event *event)
{
    struct keeper_job *j = owner;
    if (event->kind != ZPIPE_OVER || j->ended)
        return;
    j->ended = true;
    j->k->ended_count++;
}

/* ---- beginning */

/* What the job printed in an earlier life of the keeper is kept for comparison if somebody fetched a part of it. */
static int open_outputs(struct keeper_job *j, struct err *e)
{
    bool given = j->row.taken_bytes || j->row.receipt[0];
    struct stat s;
    char *out = keeper_path(j->k, j->row.number, "out", e), *was = keeper_path(j->k, j->row.number, "was", e);
    if (given && out && was && !keeper_job_has(j, "was") && rename(out, was) < 0 && errno != ENOENT)
        err_sys(e, "cannot keep '%s'", out);
    bool renamed = out && was;
    free(out);
    free(was);
    if (!renamed)
        return -1;
    if (!given)
        keeper_job_remove(j, "was");
    keeper_job_remove(j, "files");
    char *files = keeper_path(j->k, j->row.number, "files", e);
    int r = files && mkdir(files, 0700) == 0 ? 0 : err_sys(e, "cannot make the directory '%s'", files ? files : "files");
    free(files);
    fd_close(&j->out);
    fd_close(&j->was);
    fd_close(&j->err);
    j->out_bytes = j->was_bytes = 0;
    if (r < 0 || (j->out = keeper_job_open(j, "out", O_RDWR | O_CREAT | O_TRUNC, e)) < 0 ||
        (j->err = keeper_job_open(j, "err", O_WRONLY | O_CREAT | O_TRUNC, e)) < 0)
        return -1;
    if (keeper_job_has(j, "was") && ((j->was = keeper_job_open(j, "was", O_RDONLY, e)) < 0 || fstat(j->was, &s) < 0))
        return -1;
    j->was_bytes = j->was >= 0 ? (uint64_t)s.st_size : 0;
    keeper_job_weigh(j);
    return 0;
}

static struct zpipe_job *submit(struct keeper_job *j, const struct kept_job *kept, struct graph *g, struct err *e)
{
    char *directory = keeper_path(j->k, j->row.number, "files", e);
    char *records = keeper_path(j->k, j->row.number, "records", NULL);
    struct zpipe_submission s = {.text = kept->text,
                                 .records = records,
                                 .width = g->width,
                                 .split_bytes = g->split_bytes,
                                 .spread = kept->spread,
                                 .io = {.stdin_fd = -1,
                                        .stdout_fd = -1,
                                        .stderr_fd = -1,
                                        .on_stdout = on_stdout,
                                        .on_stderr = on_stderr,
                                        .on_event = on_event,
                                        .owner = j}};
    if (!directory || keeper_job_place(j, g, kept, e) < 0 || open_outputs(j, e) < 0 ||
        (kept->has_stdin && (j->in = keeper_job_open(j, "stdin", O_RDONLY, e)) < 0)) {
        graph_free(g);
        free(directory);
        free(records);
        return NULL;
    }
    s.io.stdin_fd = j->in;
    g->tell_blocks = false;
    struct zpipe_job *job = client_job_keep(j->k->z, g, directory, &s, j->again ? MSG_SUBMIT_AGAIN : 0, j->row.number, e);
    free(records);
    return job;
}

/* There were no descriptors for this job beside those that run: it waits until one of them has ended.  Not if somebody
 * follows what it prints. */
static bool waits_for_others(struct keeper_job *j, const struct err *why)
{
    struct keeper *k = j->k;
    if ((why->sys != EMFILE && why->sys != ENFILE) || !k->running || j->taker)
        return false;
    k->running_max = k->running;
    j->again = true;
    fd_close(&j->in);
    fd_close(&j->out);
    fd_close(&j->was);
    fd_close(&j->err);
    log_warn("few_descriptors", "job=%" PRIu64 " running=%u why=\"%s\"", j->row.number, k->running, why->text);
    keeper_job_tell(j);
    return true;
}

static void start(struct keeper_job *j)
{
    struct arena arena = ARENA_INIT(2 * (size_t)KEPT_BYTES_MAX);
    struct kept_job kept;
    struct err e = {0};
    struct graph *g = NULL;
    if (kept_decode(j->row.record, &arena, &kept, &e) == 0 && (g = graph_decode(kept.graph.data, kept.graph.size, &e)))
        j->job = submit(j, &kept, g, &e);
    arena_clear(&arena);
    if (j->job) {
        j->k->running++;
        j->owner->running++;
        log_info("job_begun", "job=%" PRIu64, j->row.number);
        keeper_job_tell(j);
    } else if (!waits_for_others(j, &e)) {
        over(j, ZPIPE_STATUS_FAILED, &e, false);
    }
}

void keeper_jobs_start(struct keeper *k)
{
    struct keeper_job *j;
    while (k->running < k->running_max && !k->closing && (j = keeper_list_next(k)))
        start(j);
}

/* ---- the end */

static int sync_parts(struct keeper_job *j, struct err *e)
{
    int directory = open(j->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    int r = directory < 0 || (j->out >= 0 && fsync(j->out) < 0) || (j->err >= 0 && fsync(j->err) < 0) || fsync(directory) < 0
                ? err_sys(e, "the output of job %" PRIu64 " cannot be written to the disk", j->row.number)
                : 0;
    fd_close(&directory);
    return r;
}

/* Writes to the journal how the job has ended.  Without room for that it waits, as long as it takes: each tick tries again. */
static int write_end(struct keeper_job *j)
{
    struct err e = {0};
    bool before = j->unwritten;
    j->row.over = true;
    j->unwritten = false;
    if (journal_end(j->k->journal, &j->row, &e) < 0) {
        j->row.over = false;
        j->unwritten = true;
        if (!before) {
            log_warn("end_waits", "job=%" PRIu64 " why=\"%s\"", j->row.number, e.text);
            keeper_job_tell(j);
        }
        keeper_unwritten(j->k, &e);
        return -1;
    }
    keeper_job_remove(j, "was");
    keeper_job_remove(j, "in");
    keeper_job_remove(j, "stdin");
    keeper_job_weigh(j);
    log_info("job_over", "job=%" PRIu64 " status=%u why=\"%s\"", j->row.number, j->row.status, j->row.why);
    keeper_job_tell(j);
    keeper_visits_more(j);
    return 0;
}

/* Also for a job that has not begun. */
static void over(struct keeper_job *j, uint32_t status, const struct err *why, bool committed)
{
    struct err e, said = why ? *why : (struct err){0};
    if (!said.code && j->out_bytes < j->was_bytes)
        err_set(&said, ERR_PROTO, "it is not deterministic: the job printed %" PRIu64 " bytes, and had printed %" PRIu64 " before",
                j->out_bytes, j->was_bytes);
    keeper_job_weigh(j);
    if (committed && keeper_room(j->k, j->owner->held_bytes, 0, &e) < 0)
        said = e;
    else if (committed && (sync_parts(j, &e) < 0 || keeper_job_left(j, &j->row.left_bytes, &e) < 0))
        said = e;
    char *text = strdup(said.text);
    if (!text) {
        err_nomem(&e);
        keeper_fail(j->k, &e);
        return;
    }
    free((void *)(uintptr_t)j->row.why);
    j->row.why = text;
    j->row.over_ms = keeper_now_ms(j->k);
    j->row.code = (uint32_t)said.code;
    j->row.status = said.code && !status ? ZPIPE_STATUS_FAILED : status;
    j->row.committed = committed && !said.code;
    fd_close(&j->was);
    fd_close(&j->err);
    write_end(j);
}

/* Frees the ended job.  If the keeper is stopping, or the scheduler has dropped it, the job is not over but goes on in the
 * keeper's next life. */
static void end(struct keeper_job *j)
{
    struct keeper *k = j->k;
    struct zpipe_job *job = j->job;
    uint32_t status = (uint32_t)job->status & 255;
    struct err why = job->why;
    bool committed = job->commit && !why.code;
    j->job = NULL;
    j->ended = false;
    zpipe_job_free(job);
    k->running--;
    j->owner->running--;
    fd_close(&j->in);
    k->running_max += k->running_max < KEEPER_RUNNING_MAX && !why.code;
    if (!k->closing && !k->z->lost && !waits_for_others(j, &why))
        over(j, status, &why, committed);
}

bool keeper_job_reapable(const struct keeper *k)
{
    return k->ended_count > 0;
}

void keeper_job_reap(struct keeper *k)
{
    if (!k->ended_count)
        return;
    k->ended_count = 0;
    for (uint32_t i = 0; i < k->job_count; i++)
        if (k->job[i]->ended)
            end(k->job[i]);
}

/* ---- time */

/* Output files grow as workers write to them, without passing through the keeper's own counts: look at their sizes. */
static void check_growth(struct keeper_job *j)
{
    struct err e;
    uint64_t bytes = 0;
    struct stat s;
    for (uint32_t i = 0; i < j->job->output_count; i++)
        bytes += j->job->output[i].fd >= 0 && fstat(j->job->output[i].fd, &s) == 0 ? (uint64_t)s.st_size : 0;
    if (keeper_room(j->k, j->owner->held_bytes, bytes, &e) < 0)
        client_job_fail(j->job, &e);
}

void keeper_jobs_tick(struct keeper *k)
{
    struct err e;
    bool room = true;
    for (uint32_t i = 0; i < k->job_count; i++)
        if (k->job[i]->job && !k->job[i]->ended)
            check_growth(k->job[i]);
        else if (k->job[i]->unwritten && room)
            room = write_end(k->job[i]) == 0;
    for (int i = 0; i < KEEPER_FORGET_MAX; i++) {
        struct keeper_job *spare = keeper_list_spare(k, keeper_now_ms(k));
        if (!spare)
            return;
        if (forget(spare, &e) < 0) {
            keeper_unwritten(k, &e);
            return;
        }
    }
}
