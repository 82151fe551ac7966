/* See client.h and proto/record.h.  A task that failed, or was asked for, arrives after the files of its map (made.c).  It
 * becomes a directory that appears complete, named JOB-STAGE-BLOCK with the numbers that plans and messages show.  Only the
 * newest records are kept. */
#include "client/client.h"

#include "base/digest.h"
#include "base/fds.h"
#include "base/log.h"
#include "base/spool.h"
#include "proto/record.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#define NEW_PREFIX  ".new-" /* an incomplete record: what a killed zpipe leaves is removed like old ones */
#define ENTRIES_MAX 4096    /* entries of a directory that are looked at */

/* ---- the directory */

char *record_place(const char *given, struct err *e)
{
    char own[PATH_MAX];
    if (!*given) {
        if (!spool_cache(own, sizeof own - sizeof "/failed"))
            return err_set(e, ERR_NOENT, "there is no cache directory for tasks that failed: set HOME, or give a directory"), NULL;
        strcat(own, "/failed");
        given = own;
    }
    char *path = mkdir(given, 0700) < 0 && errno != EEXIST ? NULL : realpath(given, NULL);
    if (!path)
        err_sys(e, "cannot use the directory '%s' for tasks that failed", given);
    return path;
}

/* Is it a name of the form that records have? */
static bool is_ours(const char *name)
{
    uint32_t stage;
    uint64_t block;
    char job[64];
    int end = 0;
    return !strncmp(name, NEW_PREFIX, sizeof NEW_PREFIX - 1) ||
           (sscanf(name, "%63[0-9a-f]-%" SCNu32 "-%" SCNu64 "%n", job, &stage, &block, &end) == 3 && !name[end]);
}

/* Removes the files of a record, and nothing else that may lie in its directory. */
static void remove_record(const char *path)
{
    DIR *d = opendir(path);
    uint32_t input;
    for (struct dirent *one; d && (one = readdir(d));)
        if (record_file_name(one->d_name, &input))
            unlinkat(dirfd(d), one->d_name, 0);
    if (d)
        closedir(d);
    rmdir(path);
}

struct entry {
    char name[NAME_MAX + 1];
    struct timespec time;
};

static int newest_first(const void *a, const void *b)
{
    const struct timespec *x = &((const struct entry *)a)->time, *y = &((const struct entry *)b)->time;
    return x->tv_sec != y->tv_sec ? (x->tv_sec < y->tv_sec) - (x->tv_sec > y->tv_sec) : (x->tv_nsec < y->tv_nsec) - (x->tv_nsec > y->tv_nsec);
}

/* Removes old records so that there is room for one more. */
static void prune(const char *records)
{
    struct entry *list = calloc(ENTRIES_MAX, sizeof *list);
    DIR *d = list ? opendir(records) : NULL;
    size_t count = 0;
    struct stat s;
    for (struct dirent *one; d && count < ENTRIES_MAX && (one = readdir(d));) {
        if (!is_ours(one->d_name) || fstatat(dirfd(d), one->d_name, &s, AT_SYMLINK_NOFOLLOW) < 0 || !S_ISDIR(s.st_mode))
            continue;
        snprintf(list[count].name, sizeof list[count].name, "%s", one->d_name);
        list[count++].time = s.st_mtim;
    }
    if (d)
        closedir(d);
    if (count)
        qsort(list, count, sizeof *list, newest_first);
    for (size_t i = CLIENT_RECORDS_MAX - 1; i < count; i++) {
        char path[PATH_MAX];
        if (snprintf(path, sizeof path, "%s/%s", records, list[i].name) < (int)sizeof path)
            remove_record(path);
    }
    free(list);
}

/* ---- a record that comes */

struct record_in *record_begin(const char *records)
{
    struct record_in *r = calloc(1, sizeof *r);
    if (!r)
        return NULL;
    r->fd = -1;
    prune(records);
    if (asprintf(&r->path, "%s/%sXXXXXX", records, NEW_PREFIX) < 0)
        r->path = NULL;
    r->broken = !r->path || !mkdtemp(r->path);
    if (r->broken)
        log_warn("no_record", "directory=%s", records);
    return r;
}

static int open_new(struct record_in *r, const char *name)
{
    char path[PATH_MAX];
    int fd = -1;
    if (!r->broken && snprintf(path, sizeof path, "%s/%s", r->path, name) < (int)sizeof path)
        fd = open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
    r->broken |= fd < 0;
    return fd;
}

int record_add(struct record_in *r, const char *name, uint64_t size, struct err *e)
{
    uint32_t input;
    bool task = !strcmp(name, "task");
    if (!record_file_name(name, &input) || size > (task ? RECORD_TASK_MAX : RECORD_BYTES_MAX - r->bytes) || (task && r->task))
        return err_set(e, ERR_PROTO, "the record of a task came that cannot be");
    r->bytes += task ? 0 : size;
    r->task |= task;
    if (input != UINT32_MAX && r->inputs <= input)
        r->inputs = input + 1;
    fd_close(&r->fd);
    r->fd = open_new(r, name);
    return 0;
}

void record_free(struct record_in *r)
{
    if (!r)
        return;
    fd_close(&r->fd);
    if (r->path)
        remove_record(r->path);
    free(r->path);
    free(r);
}

int record_end(struct record_in *r, const char *records, const char *name, char **path)
{
    fd_close(&r->fd);
    if (r->broken || !r->task || !is_ours(name) || asprintf(path, "%s/%s", records, name) < 0)
        return *path = NULL, -1;
    if (!access(*path, F_OK))
        remove_record(*path); /* a record of the same name from an earlier run */
    if (rename(r->path, *path) == 0) {
        free(r->path);
        r->path = NULL;
        return 0;
    }
    free(*path);
    return *path = NULL, -1;
}

/* ---- what is printed about a record */

/* Decodes the record's file `task` into the arena.  false: it cannot be read. */
static bool read_task(const struct record_in *r, struct arena *a, struct record *out)
{
    char name[PATH_MAX], *text = NULL;
    struct stat s;
    int fd = snprintf(name, sizeof name, "%s/task", r->path) < (int)sizeof name ? open(name, O_RDONLY | O_CLOEXEC) : -1;
    if (fd >= 0 && fstat(fd, &s) == 0)
        text = arena_alloc(a, (size_t)s.st_size + 1);
    bool good = text && fd_read_all(fd, text, (size_t)s.st_size) == (ssize_t)s.st_size &&
                record_decode((struct slice){text, (size_t)s.st_size}, a, out, NULL) == 0;
    fd_close(&fd);
    return good;
}

/* Copies a file that goes away with its job into the record, as one more input. */
static bool take_in(struct record_in *r, struct graph *g, struct graph_file *f)
{
    static char bytes[1 << 16];
    char name[16], path[64];
    struct stat s;
    snprintf(name, sizeof name, "in.%u", r->inputs);
    snprintf(path, sizeof path, "%s%s", RECORD_FILES, name);
    int from = open(f->path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    bool good = from >= 0 && fstat(from, &s) == 0 && record_add(r, name, (uint64_t)s.st_size, NULL) == 0;
    ssize_t n = good ? 1 : -1;
    while (n > 0 && (n = fd_read_all(from, bytes, sizeof bytes)) > 0)
        if (fd_write_all(r->fd, bytes, (size_t)n) < 0)
            n = -1;
    fd_close(&from);
    f->size_bytes = good ? (uint64_t)s.st_size : 0;
    f->path = arena_string(&g->arena, path);
    return n == 0 && f->path;
}

/* Files below this directory will not stay: copies them into the record. */
static bool enclose(struct record_in *r, struct record *record, const char *below)
{
    struct buf graph = BUF_INIT(GRAPH_BYTES_MAX), task = BUF_INIT(RECORD_TASK_MAX);
    struct graph *g = graph_decode(record->graph.data, record->graph.size, NULL);
    size_t size = strlen(below);
    bool good = g;
    for (uint32_t i = 0; good && i < g->file_count; i++)
        if (!strncmp(g->file[i].path, below, size) && g->file[i].path[size] == '/' && S_ISREG(g->file[i].mode))
            good = take_in(r, g, &g->file[i]);
    if (good && graph_encode(g, &graph, NULL) == 0) {
        record->graph = (struct slice){graph.data, graph.size};
        char path[PATH_MAX];
        good = record_encode(record, &task, NULL) == 0 && snprintf(path, sizeof path, "%s/task", r->path) < (int)sizeof path &&
               unlink(path) == 0;
        int fd = good ? open_new(r, "task") : -1;
        good = fd >= 0 && fd_write_all(fd, task.data, task.size) == 0;
        fd_close(&fd);
    }
    buf_clear(&graph);
    buf_clear(&task);
    graph_free(g);
    return good;
}

/* ---- records of jobs of this client */

int record_file(struct made_reader *m, const struct made_file *f, struct err *e)
{
    if (!m->record && !(m->record = record_begin(m->job->records)))
        return err_nomem(e);
    if (record_add(m->record, f->name + sizeof RECORD_PREFIX - 1, f->size_bytes, e) < 0)
        return -1;
    m->fd = m->record->fd;
    m->left_bytes = f->size_bytes;
    return 0;
}

void record_broke(struct made_reader *m)
{
    m->record->broken = true;
}

void record_drop(struct made_reader *m)
{
    record_free(m->record);
    m->record = NULL;
}

/* A job that runs in this process alone has no number that is unique on the host.  It is named after its text, so that the
 * same text has the same name and prints the same. */
static void job_name(const struct zpipe_job *j, char *out, size_t size)
{
    char hex[65];
    struct digest d;
    digest_of(j->text, strlen(j->text), &d);
    digest_print(&d, hex);
    if (j->z->embedded)
        snprintf(out, size, "%.8s", hex);
    else
        snprintf(out, size, "%" PRIu64, j->held ? j->held : j->number);
}

/* Prepares what is said at the job's end: each record that was asked for, but only the first of a task that failed. */
static void tell(struct zpipe_job *j, const char *job, uint32_t node, uint64_t block, const char *path)
{
    const struct graph_node *n = &j->graph->node[node];
    bool asked = block >= n->recorded_first && block <= n->recorded_last;
    char name[128], *usual = record_place("", NULL);
    snprintf(name, sizeof name, "%s/%u/%" PRIu64, job, node + 1, block);
    const char *shown = j->held || (usual && !strcmp(usual, j->records)) ? name : path;
    if (asked)
        buf_printf(&j->recorded, "zpipe: recorded: zpipe replay %s\n", shown);
    else if (!j->failed_recorded)
        buf_printf(&j->recorded, "zpipe: run it alone: zpipe replay %s\n", shown);
    j->failed_recorded |= !asked;
    j->asked_recorded |= asked;
    free(usual);
}

void record_tell(struct zpipe_job *j)
{
    bool asked = false;
    for (uint32_t i = 0; i < j->whole->node_count; i++)
        asked |= j->whole->node[i].recorded_last;
    if (j->recorded.size)
        client_job_say(j, "%s", j->recorded.data);
    if (asked && !j->asked_recorded)
        client_job_say(j, "zpipe: no task was recorded: none with these numbers came to its end, or what it read and wrote is more than %u MiB\n",
                       RECORD_BYTES_MAX >> 20);
}

void record_whole(struct made_reader *m)
{
    struct zpipe_job *j = m->job;
    struct arena a = ARENA_INIT(4 * (size_t)RECORD_TASK_MAX);
    struct record record = {0};
    char job[64], name[128], *path = NULL, *end = j->held ? strrchr(j->records, '/') : NULL;
    char *below = end ? strndup(j->records, (size_t)(end - j->records)) : NULL;
    fd_close(&m->record->fd);
    job_name(j, job, sizeof job);
    bool good = !m->record->broken && read_task(m->record, &a, &record) && (!j->held || (below && enclose(m->record, &record, below)));
    snprintf(name, sizeof name, "%s-%u-%" PRIu64, job, m->node + 1, record.number + 1);
    if (good && record_end(m->record, j->records, name, &path) == 0)
        tell(j, job, m->node, record.number + 1, path);
    free(path);
    free(below);
    arena_clear(&a);
    record_drop(m);
}

/* ---- a record that is asked for */

char *record_find(const char *name, const char *records, struct err *e)
{
    char task[PATH_MAX], *place = NULL, *path = NULL;
    if (snprintf(task, sizeof task, "%s/task", name) < (int)sizeof task && access(task, F_OK) == 0)
        path = strdup(name);
    else if (!(place = record_place(records ? records : "", e)))
        return NULL;
    else if (asprintf(&path, "%s/%s", place, name) >= 0)
        for (char *at = path + strlen(place) + 1; *at; at++)
            *at = *at == '/' ? '-' : *at;
    else
        path = NULL;
    if (path && place && (!is_ours(path + strlen(place) + 1) || access(path, F_OK) < 0)) {
        err_set(e, ERR_NOENT,
                "'%.200s' is neither a record's directory nor JOB/STAGE/BLOCK of one in '%s', where the newest %d are (a task that ended well is "
                "recorded where --record-tasks asks for it)",
                name, place, CLIENT_RECORDS_MAX);
        free(place);
        free(path);
        return NULL;
    }
    free(place);
    if (!path)
        err_nomem(e);
    return path;
}
