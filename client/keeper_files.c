/* See keeper.h.  A submitted job's files: how much they hold, where its inputs are, and what it made. */
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

void keeper_job_weigh(struct keeper_job *j)
{
    counted = 0;
    nftw(j->path, count_one, TREE_FDS, FTW_PHYS);
    j->k->held_bytes += counted - j->held_bytes;
    j->owner->held_bytes += counted - j->held_bytes;
    j->held_bytes = counted;
}

void keeper_job_remove(struct keeper_job *j, const char *name)
{
    char *path = keeper_path(j->k, j->row.number, name, NULL);
    if (path && keeper_remove_tree(path) < 0)
        log_warn("not_removed", "path=%s", path);
    free(path);
}

int keeper_job_open(struct keeper_job *j, const char *name, int flags, struct err *e)
{
    char *path = keeper_path(j->k, j->row.number, name, e);
    int fd = path ? open(path, flags | O_CLOEXEC, 0600) : -1;
    if (path && fd < 0)
        err_sys(e, "cannot open the keeper's file '%s'", path);
    free(path);
    return fd;
}

bool keeper_job_has(const struct keeper_job *j, const char *name)
{
    char *path = keeper_path(j->k, j->row.number, name, NULL);
    bool there = path && access(path, F_OK) == 0;
    free(path);
    return there;
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

/* ---- its inputs */

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

int keeper_job_place(struct keeper_job *j, struct graph *g, const struct kept_job *k, struct err *e)
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
    int r = !f.list ? err_nomem(e) : !path ? -1 : keeper_job_has(j, part) ? add_files(&f, path, "") : 0;
    free(path);
    *list = f.list;
    *count = f.count;
    return r;
}

int keeper_job_left(struct keeper_job *j, uint64_t *bytes, struct err *e)
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
        if (!keeper_job_has(j, parts[i]))
            return err_set(e, ERR_IO, "the output of job %" PRIu64 " is lost: '%s/%s' is not there any more; `zpipe cancel` forgets the job",
                           j->row.number, j->path, parts[i]);
    if (keeper_job_left(j, &bytes, e) < 0)
        return -1;
    if (j->out_bytes < j->row.taken_bytes || bytes < j->row.left_bytes)
        return err_set(e, ERR_IO,
                       "the output of job %" PRIu64 " is damaged: '%s' holds %" PRIu64 " bytes of the %" PRIu64 " there were; `zpipe cancel` forgets the job",
                       j->row.number, j->path, bytes, j->row.left_bytes);
    return 0;
}

int keeper_job_open_out(struct keeper_job *j, struct err *e)
{
    return (j->out = keeper_job_open(j, "out", O_RDONLY, e)) < 0 ? -1 : 0;
}
