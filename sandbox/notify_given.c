/* What a task may change by a descriptor: a file's mode and times, and whether reading and writing waits.  Some of its
 * descriptors are the caller's own files (`< f`, `>> f`), given to be read or written and nothing else; the read-only mounts
 * of the sandbox do not protect these.  So the server looks at a duplicate of the descriptor, which no thread of the task can
 * exchange, to see whether it is one of them, and does the work on that duplicate. */
#include "sandbox/notify_task.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#define PIPE_BYTES 65536 /* the room in a pipe, unless turns_stream.c has made it wide */

int notify_give(struct notify *n, const int *fds, uint32_t count, struct err *e)
{
    free(n->given);
    n->given_count = 0;
    n->given = calloc(count + 1u, sizeof *n->given);
    if (!n->given)
        return err_nomem(e);
    for (uint32_t i = 0; i < count; i++) {
        struct stat s;
        if (fstat(fds[i], &s) == 0)
            n->given[n->given_count++] = (struct given_file){s.st_dev, s.st_ino};
    }
    return 0;
}

static bool was_given(const struct notify *n, const struct stat *s)
{
    for (uint32_t i = 0; i < n->given_count; i++)
        if (n->given[i].device == s->st_dev && n->given[i].inode == s->st_ino)
            return true;
    return false;
}

/* Duplicate the task's descriptor, if it is of a file of its own; -1 with a->error. */
static int own_fd(struct notify *n, const struct seccomp_notif *q, struct answer *a)
{
    struct stat s;
    int fd = task_fd(n, q, (int)q->data.args[0]);
    if (fd < 0) {
        a->error = errno == ENOENT ? EBADF : EACCES;
        return -1;
    }
    if (fstat(fd, &s) == 0 && !was_given(n, &s))
        return fd;
    close(fd);
    a->error = EPERM;
    return -1;
}

void answer_fchmod(struct notify *n, const struct seccomp_notif *q, struct answer *a)
{
    int fd = own_fd(n, q, a);
    if (fd < 0)
        return;
    if (fchmod(fd, (mode_t)q->data.args[1]) < 0)
        a->error = errno;
    close(fd);
}

int notify_mark_of(int fd)
{
    int mark = 0;
    socklen_t size = sizeof mark;
    if (getsockopt(fd, SOL_SOCKET, SO_PRIORITY, &mark, &size) < 0)
        return -1;
    return mark >= NOTIFY_MARK_CHANNEL && mark <= NOTIFY_MARK_NULL ? mark : 0;
}

bool notify_is_its_own(const struct notify *n, int fd)
{
    struct stat s;
    if (fstat(fd, &s) < 0)
        return false;
    switch (s.st_mode & S_IFMT) {
    case S_IFIFO:
        return !was_given(n, &s);
    case S_IFSOCK:
        return !notify_mark_of(fd);
    default:
        return !(s.st_mode & S_IFMT); /* an eventfd or signalfd may wait; a file or a device never does */
    }
}

bool notify_usual_room(struct notify *n, int fd)
{
    int room = fcntl(fd, F_GETPIPE_SZ);
    if (room < 0 || room == PIPE_BYTES || room == NOTIFY_WIDE_BYTES)
        return true; /* the room in a socket is always the same */
    notify_mark(n, "a pipe of its own is smaller than usual");
    return false;
}

void answer_pipe_room(struct notify *n, const struct seccomp_notif *q, struct answer *a)
{
    int fd = task_fd(n, q, (int)q->data.args[0]);
    a->go_on = true;
    if (fd < 0)
        return;
    notify_usual_room(n, fd);
    close(fd);
}

/* fallocate on a file that is not the task's own depends on that file's file system. */
void answer_fallocate(struct notify *n, const struct seccomp_notif *q, struct answer *a)
{
    struct stat s;
    int fd = task_fd(n, q, (int)q->data.args[0]);
    a->go_on = fd < 0 || fstat(fd, &s) < 0 || !S_ISREG(s.st_mode) ||
               (!was_given(n, &s) && (!s.st_nlink || notify_is_scratch(n, q, &s))); /* no link: it is in memory */
    a->error = a->go_on ? 0 : EOPNOTSUPP;
    if (fd >= 0)
        close(fd);
}

/* Will the call succeed?  If not it is left to the kernel: a descriptor that was given to a task cannot be taken back. */
static bool succeeds(struct notify *n, const struct seccomp_notif *q)
{
    int number[2];

    return notify_has_room(q, 2) && task_read(n, q, q->data.args[0], number, sizeof number) == 0 &&
           task_write(n, q, q->data.args[0], number, sizeof number) == 0;
}

/* Make the pipe here: only when it exists can be seen how much room it has. */
void answer_pipe(struct notify *n, const struct seccomp_notif *q, struct answer *a)
{
    int flags = (int)q->data.args[1], fd[2], number[2];
    notify_hold(n, q, 2);
    a->go_on = !(flags & O_NONBLOCK) || !succeeds(n, q);
    if (a->go_on)
        return;
    if (pipe2(fd, flags | O_CLOEXEC) < 0) {
        a->error = errno;
        return;
    }
    notify_usual_room(n, fd[0]);
    for (int i = 0; i < 2 && !a->error; i++) {
        number[i] = task_add_fd(n, q, fd[i], flags & O_CLOEXEC);
        a->error = number[i] < 0 ? EMFILE : 0;
    }
    if (!a->error && task_write(n, q, q->data.args[0], number, sizeof number) < 0)
        a->error = EFAULT;
    close(fd[0]);
    close(fd[1]);
}

/* O_NONBLOCK and O_APPEND.  On a channel they have no effect, as it would be chance whether a call waits.  On a pipe of the
 * caller's the flags belong to the caller, too, and on /dev/null to the next task.  A file never waits, but may be set to
 * grow only.  What the task made itself is as empty or as full as the task has made it. */
void answer_nonblock(struct notify *n, const struct seccomp_notif *q, struct answer *a)
{
    int32_t on = 1;
    bool whole = q->data.nr == SYS_fcntl; /* sets all flags; else only this one */
    if (!whole && task_read(n, q, q->data.args[2], &on, sizeof on) < 0) {
        a->error = EFAULT;
        return;
    }
    struct stat s;
    int fd = task_fd(n, q, (int)q->data.args[0]);
    int flags = fd < 0 ? -1 : fcntl(fd, F_GETFL);
    if (flags < 0) {
        a->error = EBADF;
    } else if (whole && fstat(fd, &s) == 0 && S_ISREG(s.st_mode)) {
        if (fcntl(fd, F_SETFL, ((int)q->data.args[2] & ~O_NONBLOCK) | (flags & O_NONBLOCK)) < 0)
            a->error = errno;
    } else if (notify_is_its_own(n, fd)) {
        notify_usual_room(n, fd);
        flags = whole ? (int)q->data.args[2] : on ? flags | O_NONBLOCK : flags & ~O_NONBLOCK;
        if (fcntl(fd, F_SETFL, flags) < 0)
            a->error = errno;
    }
    if (fd >= 0)
        close(fd);
}

/* Read the times of a call.  The older calls have two numbers for each time, or one, and no way to say "now". */
static int read_times(struct notify *n, const struct seccomp_notif *q, uint64_t address, struct timespec t[2])
{
    bool seconds = q->data.nr == SYS_utime;
    int64_t one[2];

    if (q->data.nr == SYS_utimensat)
        return task_read(n, q, address, t, 2 * sizeof *t);
    for (int i = 0; i < 2; i++) {
        one[1] = 0;
        if (task_read(n, q, address + (uint64_t)i * (seconds ? sizeof one[0] : sizeof one), one, seconds ? sizeof one[0] : sizeof one) < 0)
            return -1;
        t[i] = (struct timespec){one[0], one[1] >= 0 && one[1] < 1000000 ? one[1] * 1000 : UTIME_OMIT}; /* otherwise invalid: the kernel says EINVAL */
    }
    return 0;
}

/* The times that a call sets.  "Now" is the logical clock's.  False: the call sets none, and the kernel may do it. */
static bool times_asked(struct notify *n, const struct seccomp_notif *q, uint64_t address, struct timespec t[2],
                        struct answer *a)
{
    struct timespec now;
    bool asked = !address;

    t[0].tv_nsec = t[1].tv_nsec = UTIME_NOW;
    if (address && read_times(n, q, address, t) < 0) {
        a->error = EFAULT;
        return true;
    }
    now = clock_now(n);
    for (int i = 0; i < 2; i++) {
        if (t[i].tv_nsec == UTIME_NOW) {
            t[i] = now;
            asked = true;
        }
        if (t[i].tv_nsec != UTIME_OMIT)
            notify_time_asked(n, q, &t[i]);
    }
    return asked;
}

static void set_times(int fd, bool link, const struct timespec t[2], struct answer *a)
{
    char name[32];

    snprintf(name, sizeof name, "/proc/self/fd/%d", fd);
    if (link ? syscall(SYS_utimensat, fd, "", t, AT_EMPTY_PATH) < 0 : utimensat(AT_FDCWD, name, t, 0) < 0)
        a->error = errno;
}

void answer_utime(struct notify *n, const struct seccomp_notif *q, struct answer *a)
{
    const __u64 *arg = q->data.args;
    bool at = q->data.nr == SYS_utimensat || q->data.nr == SYS_futimesat;
    uint64_t path = arg[at ? 1 : 0], times = arg[at ? 2 : 1];
    bool link = q->data.nr == SYS_utimensat && (arg[3] & AT_SYMLINK_NOFOLLOW);
    char name[TASK_PATH_MAX];
    struct timespec t[2];
    struct stat s;

    if (q->data.nr == SYS_utimensat && ((uint32_t)arg[3] & ~(uint32_t)AT_SYMLINK_NOFOLLOW))
        a->error = EINVAL;
    else if (!path && (int)arg[0] == AT_FDCWD)
        a->error = EFAULT;
    if (a->error)
        return;
    bool asked = times_asked(n, q, times, t, a);
    if (a->error)
        return;
    if (!path && at) {
        int own = own_fd(n, q, a);
        if (own >= 0 && syscall(SYS_utimensat, own, NULL, t, (int)arg[3]) < 0)
            a->error = errno;
        if (own >= 0)
            close(own);
        return;
    }
    a->go_on = true;
    if (!asked || task_text(n, q, path, name, sizeof name) < 0 || !*name)
        return;
    int fd = task_open(n, q, at ? (int)arg[0] : AT_FDCWD, name, O_PATH | (link ? O_NOFOLLOW : 0));
    if (fd < 0)
        return;
    a->go_on = false;
    set_times(fd, fstat(fd, &s) == 0 && S_ISLNK(s.st_mode), t, a);
    close(fd);
}
