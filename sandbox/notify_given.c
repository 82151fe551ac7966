/* What a task may do by descriptor to a file's mode and times.  Some of its descriptors are the caller's
 * own files (`< f`, `>> f`), given to be read or written and no more; the mounts of the sandbox, which are
 * read-only, do not cover these.  So the server asks the descriptor itself, a duplicate that no thread of
 * the task can exchange, whether it is one of them, and does the work on that duplicate. */
#include "sandbox/notify_task.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

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

/* A descriptor of the task's, of a file of its own; -1 with a->error. */
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

/* utimensat without a path. */
void answer_futimens(struct notify *n, const struct seccomp_notif *q, struct answer *a)
{
    struct timespec t[2];
    uint64_t times = q->data.args[2];
    if (times && task_read(n, q, times, t, sizeof t) < 0) {
        a->error = EFAULT;
        return;
    }
    int fd = own_fd(n, q, a);
    if (fd < 0)
        return;
    if (syscall(SYS_utimensat, fd, NULL, times ? t : NULL, (int)q->data.args[3]) < 0)
        a->error = errno;
    close(fd);
}
