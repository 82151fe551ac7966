/* What a program left in /job: the wanted outputs are opened and passed on, the rest is named, so that
 * nothing is lost without a word.  The tree was made by the program: everything counted and bounded, no
 * link followed out of /job, nothing opened that could block. */
#include "sandbox/leftover.h"
#include "base/fds.h"
#include "base/kept.h"
#include "base/pack.h"
#include "sandbox/box.h"
#include "sandbox/wire.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#define BATCH_FDS   64
#define BATCH_BYTES (WIRE_DATA_MAX - 8192)

struct sender {
    const struct box_task *task;
    const struct task_files *files;
    struct kept kept;
    const char *ceiling; /* that was met: some wanted files were not handed over */
    int link, job;
    dev_t device; /* of /job itself: what lies elsewhere is an input */
    struct buf bytes;
    uint32_t count, named, wanted, visits;
    int fd[BATCH_FDS];
    uint32_t fd_count;
};

static void flush(struct sender *s)
{
    if (s->bytes.failed)
        s->ceiling = "memory for its output files";
    else if (s->count)
        wire_send(s->link, (struct wire){.kind = WIRE_MADE, .a = s->count}, s->bytes.data, s->bytes.size,
                  s->fd, s->fd_count);
    for (uint32_t i = 0; i < s->fd_count; i++)
        close(s->fd[i]);
    s->fd_count = s->count = 0;
    buf_clear(&s->bytes);
    s->bytes = BUF_INIT(WIRE_DATA_MAX);
}

static void add(struct sender *s, const char *name, mode_t mode, int fd)
{
    pack_string(&s->bytes, name);
    pack_u32(&s->bytes, mode & 0777);
    pack_u32(&s->bytes, fd >= 0);
    s->count++;
    if (fd >= 0)
        s->fd[s->fd_count++] = fd;
    if (s->fd_count == BATCH_FDS || s->bytes.size > BATCH_BYTES)
        flush(s);
}

static const char *in_job(const char *name)
{
    return strncmp(name, "/job/", 5) ? name : name + 5;
}

/* Which input has this name; file_count: none. */
static uint32_t input_of(const struct box_task *t, const char *name)
{
    uint32_t i = 0;
    while (i < t->file_count && strcmp(in_job(t->file[i].name), name))
        i++;
    return i;
}

bool leftover_compares(const struct box_task *t, uint32_t file)
{
    return t->file[file].copy;
}

static bool same_bytes(int a, int b)
{
    char left[65536], right[sizeof left];
    off_t at = 0;
    for (ssize_t n; (n = pread(a, left, sizeof left, at)) > 0; at += n)
        if (pread(b, right, (size_t)n, at) != n || memcmp(left, right, (size_t)n))
            return false;
    return true;
}

/* The program found it there and has not changed it. */
static bool unchanged(const struct sender *s, const char *name, int fd, const struct stat *now)
{
    struct stat was;
    uint32_t i = input_of(s->task, name);
    if (i == s->task->file_count)
        return false;
    if (!leftover_compares(s->task, i) || s->files->fd[i] < 0 || fstat(s->files->fd[i], &was) < 0)
        return true; /* an input that it may not change */
    return was.st_size == now->st_size && ((was.st_mode & 0777) | 0600) == (now->st_mode & 0777) &&
           same_bytes(s->files->fd[i], fd);
}

/* A regular file of the program's own below /job, or -1. */
static int open_made(const struct sender *s, const char *name, struct stat *st)
{
    struct open_how how = {.flags = O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY,
                           .resolve = RESOLVE_BENEATH | RESOLVE_NO_MAGICLINKS};
    int fd = (int)syscall(SYS_openat2, s->job, name, &how, sizeof how);
    if (fd < 0 && errno == EACCES) { /* a mode that the program chose; the file is ours */
        fchmodat(s->job, name, 0600, 0);
        fd = (int)syscall(SYS_openat2, s->job, name, &how, sizeof how);
    }
    if (fd >= 0 && (fstat(fd, st) < 0 || !S_ISREG(st->st_mode)))
        fd_close(&fd);
    return fd;
}

static void send_wanted(struct sender *s, const char *name)
{
    struct stat st;
    int fd = open_made(s, name, &st);
    if (fd < 0)
        return;
    if (st.st_dev != s->device || unchanged(s, name, fd, &st)) {
        close(fd);
        return;
    }
    if (s->wanted == LEFTOVER_WANTED) {
        close(fd);
        s->ceiling = "4096 output files";
        return;
    }
    s->wanted++;
    add(s, name, st.st_mode, fd);
}

static int by_name(const void *name, const void *output)
{
    return strcmp(name, *(const char *const *)output);
}

static void look_at(struct sender *s, const char *name, mode_t mode)
{
    const struct kept *k = &s->kept;
    if (k->name_count && bsearch(name, k->name, k->name_count, sizeof *k->name, by_name))
        return; /* sent by its name */
    if (kept_fits(k, name)) {
        send_wanted(s, name);
    } else if (s->named < LEFTOVER_NAMES && input_of(s->task, name) == s->task->file_count) {
        s->named++;
        add(s, name, mode, -1);
    }
}

/* `prefix`: the directory's name below /job with a slash, or "". */
static void walk(struct sender *s, int directory, const char *prefix, int depth)
{
    DIR *d = fdopendir(directory);
    if (!d) {
        close(directory);
        return;
    }
    for (struct dirent *entry; s->visits < LEFTOVER_VISITS && (entry = readdir(d)); s->visits++) {
        char name[4096];
        struct stat st;
        if (!strcmp(entry->d_name, ".") || !strcmp(entry->d_name, "..") ||
            fstatat(dirfd(d), entry->d_name, &st, AT_SYMLINK_NOFOLLOW) < 0 || st.st_dev != s->device)
            continue;
        int n = snprintf(name, sizeof name - 1, "%s%s", prefix, entry->d_name);
        if (n >= (int)sizeof name - 1)
            continue;
        if (S_ISREG(st.st_mode)) {
            look_at(s, name, st.st_mode);
        } else if (S_ISDIR(st.st_mode) && depth < LEFTOVER_DEPTH) {
            int below = openat(dirfd(d), entry->d_name, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
            name[n] = '/';
            name[n + 1] = '\0';
            if (below >= 0)
                walk(s, below, name, depth + 1);
        }
    }
    closedir(d);
}

/* The names sorted, and the same without those that come twice. */
static int sort_names(struct sender *s)
{
    const struct box_task *t = s->task;
    const char **name = calloc((size_t)t->output_count + 1, sizeof *name);
    uint32_t count = 0;
    if (!name)
        return -1;
    for (uint32_t i = 0; i < t->output_count; i++)
        name[i] = in_job(t->output[i]);
    kept_sort(name, t->output_count);
    for (uint32_t i = 0; i < t->output_count; i++)
        if (!count || strcmp(name[count - 1], name[i]))
            name[count++] = name[i];
    s->kept = (struct kept){name, count, t->out_glob, t->out_glob_count};
    return 0;
}

const char *leftover_send(const struct box_task *t, const struct task_files *f, int link)
{
    struct sender s = {.task = t, .files = f, .link = link, .bytes = BUF_INIT(WIRE_DATA_MAX)};
    struct stat st;
    s.job = open(".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (s.job < 0 || fstat(s.job, &st) < 0 || sort_names(&s) < 0)
        return "memory for its output files";
    s.device = st.st_dev;
    for (uint32_t i = 0; i < s.kept.name_count; i++)
        send_wanted(&s, s.kept.name[i]);
    int again = openat(s.job, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (again >= 0)
        walk(&s, again, "", 0);
    if (s.visits == LEFTOVER_VISITS && (s.kept.name_count || s.kept.pattern_count) && !s.ceiling)
        s.ceiling = "65536 files in its directory";
    flush(&s);
    close(s.job);
    return s.ceiling;
}
