/* See keeper.h.  A submitted job's life. */
#include "client/keeper.h"

#include "base/fds.h"
#include "base/log.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#define PHASES_MAX 4096
#define TREE_FDS   16

/* ---- paths */

char *keeper_path(const struct keeper *k, uint64_t number, const char *name, struct err *e)
{
    char *path;
    if (asprintf(&path, "%s/jobs/%" PRIu64 "%s%s", k->directory, number, name ? "/" : "", name ? name : "") >= 0)
        return path;
    err_nomem(e);
    return NULL;
}

static int remove_one(const char *path, const struct stat *s, int type, struct FTW *at)
{
    (void)s, (void)type, (void)at;
    return remove(path);
}

int keeper_remove_tree(const char *path)
{
    return access(path, F_OK) < 0 ? 0 : nftw(path, remove_one, TREE_FDS, FTW_DEPTH | FTW_PHYS);
}

static uint64_t counted; /* counted by nftw's callback, which gets no argument of ours; there is one thread */

static int count_one(const char *path, const struct stat *s, int type, struct FTW *at)
{
    (void)path, (void)at;
    counted += type == FTW_F ? (uint64_t)s->st_size : 0;
    return 0;
}

/* Counts again how many bytes the job's files hold. */
static void weigh(struct keeper_job *j)
{
    counted = 0;
    nftw(j->path, count_one, TREE_FDS, FTW_PHYS);
    j->k->held_bytes += counted - j->held_bytes;
    j->owner->held_bytes += counted - j->held_bytes;
    j->held_bytes = counted;
}

static void remove_part(struct keeper_job *j, const char *name)
{
    char *path = keeper_path(j->k, j->row.number, name, NULL);
    if (path && keeper_remove_tree(path) < 0)
        log_warn("not_removed", "path=%s", path);
    free(path);
}

static int open_part(struct keeper_job *j, const char *name, int flags, struct err *e)
{
    char *path = keeper_path(j->k, j->row.number, name, e);
    int fd = path ? open(path, flags | O_CLOEXEC, 0600) : -1;
    if (path && fd < 0)
        err_sys(e, "cannot open the keeper's file '%s'", path);
    free(path);
    return fd;
}

static bool part_is_there(const struct keeper_job *j, const char *name)
{
    char *path = keeper_path(j->k, j->row.number, name, NULL);
    bool there = path && access(path, F_OK) == 0;
    free(path);
    return there;
}

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
    weigh(j);
    return j;
}

int keeper_jobs_clean(struct keeper *k, struct err *e)
{
    char *path = NULL;
    int r = asprintf(&path, "%s/jobs", k->directory) < 0 ? err_nomem(e) : 0;
    DIR *d = r == 0 ? opendir(path) : NULL;
    if (r == 0 && !d)
        r = err_sys(e, "cannot read '%s'", path);
    for (struct dirent *one; d && (one = readdir(d));) {
        char *end;
        uint64_t number = strtoull(one->d_name, &end, 10);
        char *inner = *end || !number || keeper_job_of(k, number) ? NULL : keeper_path(k, number, NULL, NULL);
        if (inner)
            keeper_remove_tree(inner); /* it had not arrived completely */
        free(inner);
    }
    if (d)
        closedir(d);
    free(path);
    return r;
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
    return j->unwritten ? err_set(e, ERR_AGAIN, "there is no room on the keeper's disk '%s' to write down how the job has ended; it tries again", j->k->directory) : 0;
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
        remove_part(j, parts[i]);
    weigh(j);
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

/* A file under an awaited name is made by the job itself, so it will be below `files`. */
static int place_awaited(struct keeper_job *j, struct graph *g, struct graph_file *f, const char *directory, struct err *e)
{
    size_t size = strlen(directory);
    char path[4096];
    if (f->passed)
        return 0;
    if (strncmp(f->path, "//", 2) || strncmp(f->path + 1, directory, size) || strstr(f->path, "/../"))
        return err_set(e, ERR_INPUT, "job %" PRIu64 " waits for a file outside of its directory", j->row.number);
    if (snprintf(path, sizeof path, "/%s/files/%s", j->path, f->path + 1 + size) >= (int)sizeof path)
        return err_set(e, ERR_LIMIT, "the name '%.200s' is too long", f->path);
    f->path = arena_string(&g->arena, path);
    return f->path ? 0 : err_nomem(e);
}

static int place_shared(const struct keeper_job *j, struct graph *g, struct graph_file *f, struct err *e)
{
    struct stat s;
    char real[PATH_MAX];
    if (!realpath(f->path, real) || stat(real, &s) < 0)
        return err_sys(e, "the shared input '%.300s'", f->path);
    if (!S_ISREG(s.st_mode) || !kept_shared_size(j->k->shared, real))
        return err_set(e, ERR_DENIED, "'%.300s' is on no directory that the keeper shares (--shared)", f->path);
    if ((uint64_t)s.st_size != f->size_bytes || (int64_t)s.st_mtim.tv_sec * 1000000000 + s.st_mtim.tv_nsec != f->mtime_ns)
        return err_set(e, ERR_INPUT, "the shared input '%.300s' is not as it was when the job was submitted", f->path);
    f->inode = s.st_ino;
    f->path = arena_string(&g->arena, real); /* so that the file checked here is the one that is opened */
    return f->path ? 0 : err_nomem(e);
}

static int place_carried(struct keeper_job *j, struct graph *g, uint32_t index, struct err *e)
{
    struct graph_file *f = &g->file[index];
    struct stat s;
    char path[4096];
    snprintf(path, sizeof path, "%s/in/%u", j->path, index);
    if (stat(path, &s) < 0)
        return err_sys(e, "the keeper's copy of the input '%.300s' is gone", f->name);
    if ((uint64_t)s.st_size != f->size_bytes)
        return err_set(e, ERR_IO, "the keeper's copy of the input '%.300s' is damaged", f->name);
    f->path = arena_string(&g->arena, path);
    f->inode = s.st_ino;
    f->mtime_ns = (int64_t)s.st_mtim.tv_sec * 1000000000 + s.st_mtim.tv_nsec;
    return f->path ? 0 : err_nomem(e);
}

static int place_files(struct keeper_job *j, struct graph *g, const struct kept_job *k, struct err *e)
{
    for (uint32_t i = 0, at = 0; i < g->file_count; i++) {
        struct graph_file *f = &g->file[i];
        bool carried = at < k->carried_count && k->carried[at] == i;
        at += carried;
        int r = carried              ? place_carried(j, g, i, e)
                : f->awaited         ? place_awaited(j, g, f, k->directory, e)
                : S_ISDIR(f->mode) || graph_is_link(f) ? 0
                                     : place_shared(j, g, f, e);
        if (r < 0)
            return -1;
    }
    for (uint32_t i = 0; i < g->node_count; i++)
        if (g->node[i].phase > PHASES_MAX)
            return err_set(e, ERR_LIMIT, "a job of more than %d phases", PHASES_MAX);
    return 0;
}

/* What the job printed in an earlier life of the keeper is kept for comparison if somebody fetched a part of it. */
static int open_outputs(struct keeper_job *j, struct err *e)
{
    bool given = j->row.taken_bytes || j->row.receipt[0];
    struct stat s;
    char *out = keeper_path(j->k, j->row.number, "out", e), *was = keeper_path(j->k, j->row.number, "was", e);
    if (given && out && was && !part_is_there(j, "was") && rename(out, was) < 0 && errno != ENOENT)
        err_sys(e, "cannot keep '%s'", out);
    bool renamed = out && was;
    free(out);
    free(was);
    if (!renamed)
        return -1;
    if (!given)
        remove_part(j, "was");
    remove_part(j, "files");
    char *files = keeper_path(j->k, j->row.number, "files", e);
    int r = files && mkdir(files, 0700) == 0 ? 0 : err_sys(e, "cannot make the directory '%s'", files ? files : "files");
    free(files);
    fd_close(&j->out);
    fd_close(&j->was);
    fd_close(&j->err);
    j->out_bytes = j->was_bytes = 0;
    if (r < 0 || (j->out = open_part(j, "out", O_RDWR | O_CREAT | O_TRUNC, e)) < 0 ||
        (j->err = open_part(j, "err", O_WRONLY | O_CREAT | O_TRUNC, e)) < 0)
        return -1;
    if (part_is_there(j, "was") && ((j->was = open_part(j, "was", O_RDONLY, e)) < 0 || fstat(j->was, &s) < 0))
        return -1;
    j->was_bytes = j->was >= 0 ? (uint64_t)s.st_size : 0;
    weigh(j);
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
    if (!directory || place_files(j, g, kept, e) < 0 || open_outputs(j, e) < 0 ||
        (kept->has_stdin && (j->in = open_part(j, "stdin", O_RDONLY, e)) < 0)) {
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

/* ---- its output files */

struct files {
    struct arena *arena;
    struct made_file *list;
    uint32_t count;
    struct err *e;
};

static int add_files(struct files *f, const char *path, const char *below)
{
    DIR *d = opendir(path);
    int r = d ? 0 : err_sys(f->e, "the keeper cannot read '%s'", path);
    for (struct dirent *one; r == 0 && (one = readdir(d));) {
        char inner[PATH_MAX], name[PATH_MAX];
        struct stat s;
        if (!strcmp(one->d_name, ".") || !strcmp(one->d_name, ".."))
            continue;
        if (snprintf(inner, sizeof inner, "%s/%s", path, one->d_name) >= (int)sizeof inner ||
            snprintf(name, sizeof name, "%s%s%s", below, *below ? "/" : "", one->d_name) >= (int)sizeof name)
            r = err_set(f->e, ERR_LIMIT, "the name of an output file is too long");
        else if (lstat(inner, &s) < 0)
            r = err_sys(f->e, "the keeper cannot read '%s'", inner);
        else if (S_ISDIR(s.st_mode))
            r = add_files(f, inner, name);
        else if (f->count == MADE_FILES_MAX)
            r = err_set(f->e, ERR_LIMIT, "the job made more than %d output files (MADE_FILES_MAX)", MADE_FILES_MAX);
        else
            f->list[f->count++] = (struct made_file){arena_string(f->arena, name), s.st_mode & 07777, (uint64_t)s.st_size};
        if (r == 0 && f->count && !f->list[f->count - 1].name)
            r = err_nomem(f->e);
    }
    if (d)
        closedir(d);
    return r;
}

int keeper_job_files(struct keeper_job *j, const char *part, struct arena *a, const struct made_file **list, uint32_t *count, struct err *e)
{
    struct files f = {a, arena_array(a, MADE_FILES_MAX, sizeof *f.list), 0, e};
    char *path = keeper_path(j->k, j->row.number, part, e);
    int r = !f.list ? err_nomem(e) : !path ? -1 : part_is_there(j, part) ? add_files(&f, path, "") : 0;
    free(path);
    *list = f.list;
    *count = f.count;
    return r;
}

/* Counts the bytes that the job left: what it printed, and its output files. */
static int count_left(struct keeper_job *j, uint64_t *bytes, struct err *e)
{
    struct arena arena = ARENA_INIT(4 * MADE_INDEX_MAX);
    const struct made_file *list;
    uint32_t count;
    int r = keeper_job_files(j, "files", &arena, &list, &count, e);
    *bytes = j->out_bytes;
    for (uint32_t i = 0; r == 0 && i < count; i++)
        *bytes += list[i].size_bytes;
    arena_clear(&arena);
    return r;
}

int keeper_job_check(struct keeper_job *j, struct err *e)
{
    static const char *const parts[] = {"out", "files"};
    uint64_t bytes;
    if (!j->row.committed || j->row.everything)
        return 0;
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++)
        if (!part_is_there(j, parts[i]))
            return err_set(e, ERR_IO, "the output of job %" PRIu64 " is lost: '%s/%s' is not there any more; `zpipe cancel` forgets the job",
                           j->row.number, j->path, parts[i]);
    if (count_left(j, &bytes, e) < 0)
        return -1;
    if (j->out_bytes < j->row.taken_bytes || bytes < j->row.left_bytes)
        return err_set(e, ERR_IO,
                       "the output of job %" PRIu64 " is damaged: '%s' holds %" PRIu64 " bytes of the %" PRIu64 " there were; `zpipe cancel` forgets the job",
                       j->row.number, j->path, bytes, j->row.left_bytes);
    return 0;
}

int keeper_job_open_out(struct keeper_job *j, struct err *e)
{
    return (j->out = open_part(j, "out", O_RDONLY, e)) < 0 ? -1 : 0;
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
    remove_part(j, "was");
    remove_part(j, "in");
    remove_part(j, "stdin");
    weigh(j);
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
    weigh(j);
    if (committed && keeper_room(j->k, j->owner->held_bytes, 0, &e) < 0)
        said = e;
    else if (committed && (sync_parts(j, &e) < 0 || count_left(j, &j->row.left_bytes, &e) < 0))
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
    struct keeper_job *spare = keeper_list_spare(k, keeper_now_ms(k));
    if (spare && forget(spare, &e) < 0)
        keeper_unwritten(k, &e);
}
