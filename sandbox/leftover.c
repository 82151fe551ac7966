/* What a program left in /job.  The wanted outputs are opened and passed on.  All others are named, and so are inputs that
 * it removed, so that nothing is lost silently.  The tree was made by the program, so everything is counted and bounded, no
 * link is followed out of /job, and nothing is opened that could block. */
#include "sandbox/leftover.h"
#include "base/fds.h"
#include "base/kept.h"
#include "base/pack.h"
#include "sandbox/box.h"
#include "sandbox/spec.h"
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
    const char *ceiling; /* the limit that was reached: some wanted files were not sent */
    int link, job;
    dev_t device; /* the device of /job itself; a file on another device is an input */
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

static void add(struct sender *s, const char *name, enum box_made_kind kind, mode_t mode, int fd)
{
    pack_string(&s->bytes, name);
    pack_u32(&s->bytes, mode & 0777);
    pack_u32(&s->bytes, kind);
    pack_u32(&s->bytes, fd >= 0);
    s->count++;
    if (fd >= 0)
        s->fd[s->fd_count++] = fd;
    if (s->fd_count == BATCH_FDS || s->bytes.size > BATCH_BYTES)
        flush(s);
}

/* Sends the name only. */
static void tell(struct sender *s, const char *name, enum box_made_kind kind, mode_t mode)
{
    if (s->named == LEFTOVER_NAMES)
        return;
    s->named++;
    add(s, name, kind, mode, -1);
}

static const char *in_job(const char *name)
{
    return strncmp(name, "/job/", 5) ? name : name + 5;
}

/* The index of the input with this name; file_count: there is none. */
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
    char left[16384], right[sizeof left]; /* `ulimit -s` may be small */
    off_t at = 0;
    for (ssize_t n; (n = pread(a, left, sizeof left, at)) > 0; at += n)
        if (pread(b, right, (size_t)n, at) != n || memcmp(left, right, (size_t)n))
            return false;
    return true;
}

/* Did the program find this file there, and leave it unchanged? */
static bool unchanged(const struct sender *s, const char *name, int fd, const struct stat *now)
{
    struct stat was;
    uint32_t i = input_of(s->task, name);
    if (i == s->task->file_count || s->task->file[i].link)
        return false;
    if (!leftover_compares(s->task, i) || s->files->fd[i] < 0 || fstat(s->files->fd[i], &was) < 0)
        return true; /* an input that it cannot change */
    return was.st_size == now->st_size && ((was.st_mode & 0777) | 0600) == (now->st_mode & 0777) &&
           same_bytes(s->files->fd[i], fd);
}

static int open_in_job(const struct sender *s, const char *name, int flags)
{
    struct open_how how = {.flags = (uint64_t)(flags | O_CLOEXEC | O_NONBLOCK | O_NOCTTY),
                           .resolve = RESOLVE_BENEATH | RESOLVE_NO_MAGICLINKS};
    return (int)syscall(SYS_openat2, s->job, name, &how, sizeof how);
}

/* Opens a regular file below /job, or returns -1. */
static int open_made(const struct sender *s, const char *name, struct stat *st)
{
    int fd = open_in_job(s, name, O_RDONLY);
    if (fd < 0 && errno == EACCES) { /* the program chose this mode; the file is ours, so we may change it */
        fchmodat(s->job, name, 0600, 0);
        fd = open_in_job(s, name, O_RDONLY);
    }
    if (fd >= 0 && (fstat(fd, st) < 0 || !S_ISREG(st->st_mode)))
        fd_close(&fd);
    return fd;
}

/* Is it a link that the program found there? */
static bool is_given_link(const struct sender *s, const char *name, mode_t mode)
{
    uint32_t i = S_ISLNK(mode) ? input_of(s->task, name) : s->task->file_count;
    const char *link = i < s->task->file_count ? s->task->file[i].link : NULL;
    char now[4096];
    ssize_t n = link ? readlinkat(s->job, name, now, sizeof now) : -1;
    return n > 0 && (size_t)n == strlen(link) && !memcmp(now, link, (size_t)n);
}

static void send_wanted(struct sender *s, const char *name)
{
    struct stat own, st;
    if (fstatat(s->job, name, &own, AT_SYMLINK_NOFOLLOW) < 0 || own.st_dev != s->device || S_ISDIR(own.st_mode) ||
        is_given_link(s, name, own.st_mode))
        return;
    int fd = open_made(s, name, &st);
    if (fd < 0) {
        if (!S_ISREG(own.st_mode) && input_of(s->task, name) == s->task->file_count) /* without a wall inputs are links */
            tell(s, name, S_ISLNK(own.st_mode) ? BOX_MADE_NOWHERE : BOX_MADE_SPECIAL, 0);
        return;
    }
    if (unchanged(s, name, fd, &st)) {
        close(fd);
        return;
    }
    if (s->wanted == LEFTOVER_WANTED) {
        close(fd);
        s->ceiling = "4096 output files";
        return;
    }
    s->wanted++;
    add(s, name, S_ISLNK(own.st_mode) || own.st_nlink > 1 ? BOX_MADE_LINK : BOX_MADE_FILE, st.st_mode, fd);
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
    if (kept_fits(k, name))
        send_wanted(s, name);
    else if (!S_ISREG(mode) && !S_ISLNK(mode))
        tell(s, name, BOX_MADE_SPECIAL, mode);
    else if (input_of(s->task, name) == s->task->file_count)
        tell(s, name, S_ISREG(mode) ? BOX_MADE_FILE : BOX_MADE_LINK, mode);
}

static bool lies_in(const char *name, const char *directory, size_t size)
{
    return !strncmp(in_job(name), directory, size) && in_job(name)[size] == '/';
}

/* Was this directory there when the program began, since some input or output is in it? */
static bool is_given(const struct sender *s, const char *directory)
{
    size_t size = strlen(directory);
    for (uint32_t i = 0; i < s->task->file_count; i++)
        if (lies_in(s->task->file[i].name, directory, size) || (s->task->file[i].directory && !strcmp(in_job(s->task->file[i].name), directory)))
            return true;
    for (uint32_t i = 0; i < s->kept.name_count; i++)
        if (lies_in(s->kept.name[i], directory, size))
            return true;
    return false;
}

static bool is_gone(const struct sender *s, const char *name)
{
    return faccessat(s->job, name, F_OK, AT_SYMLINK_NOFOLLOW) < 0 && errno == ENOENT;
}

/* Reports copies that the program was given, and directories that were made for it, if they are gone. */
static void tell_gone(struct sender *s)
{
    char last[4096] = "";
    for (uint32_t i = 0; i < s->task->file_count; i++) {
        const char *name = in_job(s->task->file[i].name);
        if ((leftover_compares(s->task, i) || spec_is_made(&s->task->file[i])) && name[0] != '/' && is_gone(s, name))
            tell(s, name, BOX_MADE_GONE, 0);
    }
    for (uint32_t i = 0; i < s->kept.name_count; i++) {
        const char *name = s->kept.name[i], *slash = strrchr(name, '/');
        char directory[sizeof last];
        if (name[0] == '/' || !slash || (size_t)(slash - name) >= sizeof directory)
            continue;
        snprintf(directory, sizeof directory, "%.*s", (int)(slash - name), name);
        if (strcmp(directory, last) && is_gone(s, directory))
            tell(s, directory, BOX_MADE_GONE, 0);
        strcpy(last, directory);
    }
}

/* `prefix`: the directory's name below /job with a slash, or "". */
static void walk(struct sender *s, int directory, char *prefix, int depth)
{
    DIR *d = fdopendir(directory);
    bool empty = true;
    if (!d) {
        close(directory);
        return;
    }
    for (struct dirent *entry; s->visits < LEFTOVER_VISITS && (entry = readdir(d)); s->visits++) {
        char name[4096];
        struct stat st;
        if (!strcmp(entry->d_name, ".") || !strcmp(entry->d_name, ".."))
            continue;
        empty = false;
        if (fstatat(dirfd(d), entry->d_name, &st, AT_SYMLINK_NOFOLLOW) < 0 || st.st_dev != s->device)
            continue;
        int n = snprintf(name, sizeof name - 1, "%s%s", prefix, entry->d_name);
        if (n >= (int)sizeof name - 1)
            continue;
        if (!S_ISDIR(st.st_mode)) {
            look_at(s, name, st.st_mode);
        } else if (depth < LEFTOVER_DEPTH) {
            int below = openat(dirfd(d), entry->d_name, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
            name[n] = '/';
            name[n + 1] = '\0';
            if (below >= 0)
                walk(s, below, name, depth + 1);
        }
    }
    closedir(d);
    if (empty && *prefix && s->visits < LEFTOVER_VISITS) {
        prefix[strlen(prefix) - 1] = '\0';
        if (!is_given(s, prefix))
            tell(s, prefix, BOX_MADE_DIRECTORY, 0);
    }
}

/* Sorts the names and removes duplicates. */
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
        walk(&s, again, (char[]){""}, 0);
    tell_gone(&s);
    if (s.visits == LEFTOVER_VISITS && (s.kept.name_count || s.kept.pattern_count) && !s.ceiling)
        s.ceiling = "65536 files in its directory";
    flush(&s);
    close(s.job);
    return s.ceiling;
}
