/* What a task shares with others: files of the image and of the caller, which the whole host may use, and channels, whose
 * other end is in use.  A lock on such a file would meet locks of the host, and hold the host up.  Where a file has holes
 * depends on its file system.  Whether a file may be written depends on who owns it.  Shutting down a channel shows how
 * much had come.  So such calls are answered here, for descriptors and names that are not the task's own. */
#include "sandbox/notify_task.h"
#include "base/fds.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#define COARSE_NS 4000000 /* the step of a coarse clock */

/* Duplicate the task's descriptor, if it is shared with others.  -1: it is the task's own, and the kernel is to go on; or
 * there is none (a->error). */
static int shared_fd(struct notify *n, const struct seccomp_notif *q, struct stat *s,
                     struct answer *a)
{
    int fd = task_fd(n, q, (int)q->data.args[0]);

    if (fd < 0 || fstat(fd, s) < 0)
        a->error = EBADF;
    else if (notify_is_scratch(n, q, s) || notify_is_its_own(n, fd))
        a->go_on = true;
    if (a->error || a->go_on)
        fd_close(&fd);
    return fd;
}

static void lock_whole(struct notify *n, const struct seccomp_notif *q, struct answer *a)
{
    int what = (int)q->data.args[1] & ~LOCK_NB;

    if (what == LOCK_EX)
        notify_mark(n, "locks a file that is not its own");
    else if (what != LOCK_SH && what != LOCK_UN)
        a->error = EINVAL;
}

/* Answer as if no other process had a lock on the file. */
static void lock_range(struct notify *n, const struct seccomp_notif *q, int fd, struct answer *a)
{
    uint32_t what = (uint32_t)q->data.args[1];
    int mode = fcntl(fd, F_GETFL) & O_ACCMODE;
    struct flock l;

    if (task_read(n, q, q->data.args[2], &l, sizeof l) < 0)
        a->error = EFAULT;
    else if (l.l_type != F_RDLCK && l.l_type != F_WRLCK &&
             (l.l_type != F_UNLCK || what == F_GETLK || what == F_OFD_GETLK))
        a->error = EINVAL;
    else if (what == F_GETLK || what == F_OFD_GETLK) {
        l.l_type = F_UNLCK;
        a->error = task_write(n, q, q->data.args[2], &l, sizeof l) < 0 ? EFAULT : 0;
    } else if ((l.l_type == F_RDLCK && mode == O_WRONLY) ||
               (l.l_type == F_WRLCK && mode == O_RDONLY))
        a->error = EBADF;
    else if (l.l_type == F_WRLCK)
        notify_mark(n, "locks a file that is not its own");
}

void answer_lock(struct notify *n, const struct seccomp_notif *q, struct answer *a)
{
    struct stat s;
    int fd = shared_fd(n, q, &s, a);

    if (fd < 0)
        return;
    if (q->data.nr == SYS_flock)
        lock_whole(n, q, a);
    else
        lock_range(n, q, fd, a);
    fd_close(&fd);
}

/* Answer for a file without holes.  The descriptor's offset is shared by our duplicate and the task. */
void answer_seek(struct notify *n, const struct seccomp_notif *q, struct answer *a)
{
    struct stat s;
    int fd = shared_fd(n, q, &s, a);
    off_t from = (off_t)q->data.args[1];

    if (fd < 0)
        return;
    a->go_on = !S_ISREG(s.st_mode);
    if (!a->go_on && (from < 0 || from >= s.st_size))
        a->error = ENXIO;
    else if (!a->go_on)
        a->value = lseek(fd, (int)q->data.args[2] == SEEK_HOLE ? s.st_size : from, SEEK_SET);
    fd_close(&fd);
}

/* A channel looks like a pipe. */
void answer_shutdown(struct notify *n, const struct seccomp_notif *q, struct answer *a)
{
    struct stat s;
    int fd = shared_fd(n, q, &s, a);

    if (fd >= 0)
        a->error = ENOTSOCK;
    fd_close(&fd);
}

void answer_send(struct notify *n, const struct seccomp_notif *q, struct answer *a)
{
    struct stat s;
    int fd = shared_fd(n, q, &s, a);

    if (fd < 0)
        return;
    a->go_on = true;
    notify_mark(n, "asks whether a channel has room");
    fd_close(&fd);
}

/* May the file be written?  The mounts are read-only, but the kernel looks at the owner first, and who that is depends on
 * who started zpipe-box.  It is also asked whether there is such a descriptor. */
void answer_access(struct notify *n, const struct seccomp_notif *q, struct answer *a)
{
    const __u64 *arg = q->data.args;
    bool at = q->data.nr != SYS_access;
    bool link = q->data.nr == SYS_faccessat2 && arg[3] & AT_SYMLINK_NOFOLLOW;
    bool write = arg[at ? 2 : 1] & W_OK;
    char path[TASK_PATH_MAX];
    struct stat s;
    int number, fd;

    a->go_on = true;
    if (task_text(n, q, arg[at ? 1 : 0], path, sizeof path) < 0 || !*path || named_find(n, path))
        return;
    if (path_of_fd_name(path, &number)) {
        fd = task_fd(n, q, number);
        a->go_on = fd >= 0;
        a->error = a->go_on ? 0 : ENOENT;
        fd_close(&fd);
        return;
    }
    if (!write)
        return;
    fd = task_open(n, q, at ? (int)arg[0] : AT_FDCWD, path, O_PATH | (link ? O_NOFOLLOW : 0));
    if (fd >= 0 && fstat(fd, &s) == 0 && (S_ISREG(s.st_mode) || S_ISDIR(s.st_mode)) &&
        !notify_is_scratch(n, q, &s)) {
        a->go_on = false;
        a->error = EROFS;
    }
    fd_close(&fd);
}

/* The kernel's own answer depends on how it was built, and on whether the host has a clock that can wake it. */
void answer_clock_getres(struct notify *n, const struct seccomp_notif *q, struct answer *a)
{
    int32_t id = (int32_t)q->data.args[0];
    bool coarse = id == CLOCK_REALTIME_COARSE || id == CLOCK_MONOTONIC_COARSE;
    struct timespec t = {0, coarse ? COARSE_NS : 1};

    if (!clock_known(n, id))
        a->error = EINVAL;
    else if (q->data.args[1] && task_write(n, q, q->data.args[1], &t, sizeof t) < 0)
        a->error = EFAULT;
}
