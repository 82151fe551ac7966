/* See client.h and proto/record.h.  A task that failed comes behind the files of its map (made.c), and becomes a directory
 * that appears whole: JOB-STAGE-BLOCK, the numbers of plans and messages.  The newest few are kept. */
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

#define NEW_PREFIX  ".new-" /* one that is not whole: what a killed zpipe leaves is removed like old ones */
#define ENTRIES_MAX 4096    /* looked at in a directory */

struct record_in {
    char *path;  /* owned */
    int fd;      /* of the file that comes */
    uint64_t bytes;
    bool task;   /* that file has come */
    bool broken; /* it is not to be kept */
};

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

/* Is it a name that we give? */
static bool is_ours(const char *name)
{
    uint32_t stage;
    uint64_t block;
    char job[64];
    int end = 0;
    return !strncmp(name, NEW_PREFIX, sizeof NEW_PREFIX - 1) ||
           (sscanf(name, "%63[0-9a-f]-%" SCNu32 "-%" SCNu64 "%n", job, &stage, &block, &end) == 3 && !name[end]);
}

/* The files of a record, and nothing else that may lie there. */
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

/* Room for one more. */
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

/* ---- one that comes */

static struct record_in *begin(struct zpipe_job *j)
{
    struct record_in *r = calloc(1, sizeof *r);
    if (!r)
        return NULL;
    r->fd = -1;
    prune(j->records);
    if (asprintf(&r->path, "%s/%sXXXXXX", j->records, NEW_PREFIX) < 0)
        r->path = NULL;
    r->broken = !r->path || !mkdtemp(r->path);
    if (r->broken)
        log_warn("no_record", "directory=%s", j->records);
    return r;
}

void record_broke(struct made_reader *m)
{
    m->record->broken = true;
}

int record_file(struct made_reader *m, const struct made_file *f, struct err *e)
{
    const char *name = f->name + sizeof RECORD_PREFIX - 1;
    uint32_t input;
    struct record_in *r = m->record ? m->record : (m->record = begin(m->job));
    if (!r)
        return err_nomem(e);
    bool task = !strcmp(name, "task");
    if (!record_file_name(name, &input) || f->size_bytes > (task ? RECORD_TASK_MAX : RECORD_BYTES_MAX - r->bytes) || (task && r->task))
        return err_set(e, ERR_PROTO, "a worker sent the record of a task that cannot be");
    r->bytes += task ? 0 : f->size_bytes;
    r->task |= task;
    fd_close(&r->fd);
    char path[PATH_MAX];
    if (!r->broken && snprintf(path, sizeof path, "%s/%s", r->path, name) < (int)sizeof path)
        r->fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
    r->broken |= r->fd < 0;
    m->fd = r->fd;
    m->left_bytes = f->size_bytes;
    return 0;
}

static char *read_task(const char *path, size_t *size)
{
    char name[PATH_MAX], *text = NULL;
    struct stat s;
    int fd = snprintf(name, sizeof name, "%s/task", path) < (int)sizeof name ? open(name, O_RDONLY | O_CLOEXEC) : -1;
    if (fd >= 0 && fstat(fd, &s) == 0 && (text = malloc((size_t)s.st_size + 1)) &&
        fd_read_all(fd, text, (size_t)s.st_size) != (ssize_t)s.st_size) {
        free(text);
        text = NULL;
    }
    *size = text ? (size_t)s.st_size : 0;
    fd_close(&fd);
    return text;
}

/* Its number, of the stage's tasks; false: it cannot be read. */
static bool number_of(const char *path, uint64_t *number)
{
    struct arena a = ARENA_INIT(2 * (size_t)RECORD_TASK_MAX);
    struct record record = {0};
    size_t size;
    char *text = read_task(path, &size);
    bool good = text && record_decode((struct slice){text, size}, &a, &record, NULL) == 0;
    *number = record.number;
    free(text);
    arena_clear(&a);
    return good;
}

/* A job of this process alone has no number of its own that another would not have: the same text has the same name, and
 * prints the same. */
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

void record_whole(struct made_reader *m)
{
    struct zpipe_job *j = m->job;
    struct record_in *r = m->record;
    char job[64], *path = NULL, *own = NULL, *name = NULL;
    uint64_t number;
    fd_close(&r->fd);
    if (r->broken || !r->task || !number_of(r->path, &number)) {
        record_drop(m);
        return;
    }
    job_name(j, job, sizeof job);
    if (asprintf(&path, "%s/%s-%u-%" PRIu64, j->records, job, m->node + 1, number + 1) < 0)
        path = NULL;
    char *usual = record_place("", NULL);
    bool short_name = usual && !strcmp(usual, j->records);
    if (path && asprintf(&name, "%s/%u/%" PRIu64, job, m->node + 1, number + 1) < 0)
        name = NULL;
    if (path && !access(path, F_OK))
        remove_record(path); /* of an earlier run */
    if (path && name && rename(r->path, path) == 0) {
        own = r->path;
        r->path = NULL;
        if (!j->recorded)
            j->recorded = strdup(short_name ? name : path);
    }
    free(usual);
    free(own);
    free(name);
    free(path);
    record_drop(m);
}

void record_drop(struct made_reader *m)
{
    struct record_in *r = m->record;
    if (!r)
        return;
    m->record = NULL;
    fd_close(&r->fd);
    if (r->path)
        remove_record(r->path);
    free(r->path);
    free(r);
}

/* ---- one that is asked for */

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
        err_set(e, ERR_NOENT, "'%.200s' is neither a record's directory nor JOB/STAGE/BLOCK of one in '%s', where the newest %d are", name,
                place, CLIENT_RECORDS_MAX);
        free(place);
        free(path);
        return NULL;
    }
    free(place);
    if (!path)
        err_nomem(e);
    return path;
}
