/* What a program left in /job: the wanted outputs are opened and passed on, the rest is named, so that
 * nothing is lost without a word.  The tree was made by the program: everything counted and bounded, no
 * link followed out of /job, nothing opened that could block. */
#include "sandbox/leftover.h"
#include "base/fds.h"
#include "base/pack.h"
#include "sandbox/box.h"
#include "sandbox/wire.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <fnmatch.h>
#include <linux/openat2.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#define BATCH_FDS   64
#define BATCH_BYTES (WIRE_DATA_MAX - 8192)

struct sender {
    const struct box_task *task;
    int link, job;
    dev_t device; /* of /job itself: what lies elsewhere is an input */
    struct buf bytes;
    uint32_t count, named, wanted, visits;
    int fd[BATCH_FDS];
    uint32_t fd_count;
};

static void flush(struct sender *s)
{
    if (s->count && !s->bytes.failed)
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

static bool is_input(const struct sender *s, const char *name)
{
    for (uint32_t i = 0; i < s->task->file_count; i++) {
        const char *input = s->task->file[i].name;
        if (!strcmp(input, name) || (!strncmp(input, "/job/", 5) && !strcmp(input + 5, name)))
            return true;
    }
    return false;
}

static const char *in_job(const char *name)
{
    return strncmp(name, "/job/", 5) ? name : name + 5;
}

static bool is_output(const struct sender *s, const char *name)
{
    for (uint32_t i = 0; i < s->task->output_count; i++)
        if (!strcmp(in_job(s->task->output[i]), name))
            return true;
    return false;
}

static bool matches(const struct sender *s, const char *name)
{
    for (uint32_t i = 0; i < s->task->out_glob_count; i++)
        if (fnmatch(in_job(s->task->out_glob[i]), name, FNM_PATHNAME | FNM_PERIOD) == 0)
            return true;
    return false;
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
    if (s->wanted == LEFTOVER_WANTED)
        return;
    int fd = open_made(s, name, &st);
    if (fd < 0)
        return;
    s->wanted++;
    add(s, name, st.st_mode, fd);
}

static void look_at(struct sender *s, const char *name, mode_t mode)
{
    if (is_output(s, name))
        return; /* sent by its name */
    if (matches(s, name)) {
        send_wanted(s, name);
    } else if (s->named < LEFTOVER_NAMES && !is_input(s, name)) {
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

void leftover_send(const struct box_task *t, int link)
{
    struct sender s = {.task = t, .link = link, .bytes = BUF_INIT(WIRE_DATA_MAX)};
    struct stat st;
    s.job = open(".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (s.job < 0 || fstat(s.job, &st) < 0)
        return;
    s.device = st.st_dev;
    for (uint32_t i = 0; i < t->output_count; i++)
        send_wanted(&s, in_job(t->output[i]));
    int again = openat(s.job, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (again >= 0)
        walk(&s, again, "", 0);
    flush(&s);
    close(s.job);
}
