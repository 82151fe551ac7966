/* Named channels: opens /dev/in/NAME and /dev/out/NAME, and enforces the quota of an output.  The kernel has no such quota,
 * so the server writes for the task: it copies the bytes out of the task's memory, as many as there is room for, and
 * returns how many these were.  So no thread can change them between the check and the write, and a write beyond the quota
 * fails with EDQUOT after the last byte that fits.  Only files have a quota, as writing to a file does not wait. */
#include "sandbox/notify_task.h"

#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#define WRITE_BYTES 65536   /* the most that one call writes.  A longer write returns early, as any write may */
#define PIECES_READ IOV_MAX /* pieces of a writev that are looked at; the first one that is not empty is written */

int notify_name(struct notify *n, const char *name, int fd, bool write, uint64_t quota, struct err *e)
{
    struct stat s;
    if (!n->named)
        n->named = calloc(NOTIFY_NAMES_MAX, sizeof *n->named);
    if (!n->named)
        return err_nomem(e);
    if (n->named_count == NOTIFY_NAMES_MAX)
        return err_set(e, ERR_LIMIT, "a program has at most %d named channels", NOTIFY_NAMES_MAX);
    if (fd < 0 || fstat(fd, &s) < 0)
        return err_sys(e, "the named channel '%s' is not there", name);
    if (quota && !S_ISREG(s.st_mode))
        return err_set(e, ERR_INPUT, "the named channel '%s' has a quota and is no file", name);
    n->named[n->named_count++] = (struct named){name, fd, write, quota, 0, s.st_dev, s.st_ino};
    return 0;
}

const struct named *named_find(const struct notify *n, const char *path)
{
    if (strncmp(path, "/dev/", 5))
        return NULL;
    for (uint32_t i = 0; i < n->named_count; i++)
        if (!strcmp(n->named[i].name, path + 5))
            return &n->named[i];
    return NULL;
}

/* The output with a quota that this descriptor is of, however the task got it; or NULL. */
static struct named *limited(struct notify *n, int fd)
{
    struct stat s;
    if (fstat(fd, &s) < 0)
        return NULL;
    for (uint32_t i = 0; i < n->named_count; i++)
        if (n->named[i].quota && n->named[i].device == s.st_dev && n->named[i].inode == s.st_ino)
            return &n->named[i];
    return NULL;
}

/* Which bytes the call would write; -1 with a->error. */
static int bytes_of(struct notify *n, const struct seccomp_notif *q, uint64_t *at, uint64_t *size, struct answer *a)
{
    static struct iovec piece[PIECES_READ];
    uint64_t count = q->data.args[2];
    *at = q->data.args[1];
    *size = q->data.args[2];
    if (q->data.nr == SYS_write || q->data.nr == SYS_pwrite64)
        return 0;
    *size = 0;
    if (count > PIECES_READ || task_read(n, q, q->data.args[1], piece, count * sizeof *piece) < 0) {
        a->error = count > PIECES_READ ? EINVAL : EFAULT;
        return -1;
    }
    for (uint64_t i = 0; i < count && !*size; i++) {
        *at = (uint64_t)(uintptr_t)piece[i].iov_base;
        *size = piece[i].iov_len;
    }
    return 0;
}

static void write_for(struct notify *n, const struct seccomp_notif *q, int fd, struct named *named, struct answer *a)
{
    static char data[WRITE_BYTES];
    bool placed = q->data.nr != SYS_write && q->data.nr != SYS_writev;
    uint64_t at, size, left = named->quota - named->used;
    if (bytes_of(n, q, &at, &size, a) < 0 || !size)
        return;
    if (!left) {
        a->error = EDQUOT;
        return;
    }
    size = size < left ? size : left;
    size = size < WRITE_BYTES ? size : WRITE_BYTES;
    if (task_read(n, q, at, data, size) < 0) {
        a->error = EFAULT;
        return;
    }
    ssize_t put = placed ? pwrite(fd, data, size, (off_t)q->data.args[3]) : write(fd, data, size);
    if (put < 0) {
        a->error = errno;
        return;
    }
    named->used += (uint64_t)put;
    a->value = put;
}

/* sendfile is refused here if it does not read from a file; programs then read and write. */
void answer_sendfile(struct notify *n, const struct seccomp_notif *q, struct answer *a)
{
    struct stat s;
    int from = task_fd(n, q, (int)q->data.args[1]);
    if (from >= 0 && fstat(from, &s) == 0 && !S_ISREG(s.st_mode))
        a->error = EINVAL;
    else
        answer_writing(n, q, a);
    if (from >= 0)
        close(from);
}

void answer_writing(struct notify *n, const struct seccomp_notif *q, struct answer *a)
{
    int fd = task_fd(n, q, (int)q->data.args[0]);
    struct named *named = fd < 0 ? NULL : limited(n, fd);
    struct stat s;
    a->go_on = !named;
    if (!named)
        ; /* left to the kernel */
    else if (q->data.nr == SYS_sendfile)
        a->error = EINVAL; /* callers fall back to read and write */
    else if (q->data.nr == SYS_ftruncate)
        a->error = fstat(fd, &s) == 0 && q->data.args[1] <= (uint64_t)s.st_size && ftruncate(fd, (off_t)q->data.args[1]) == 0
                       ? 0
                       : EDQUOT;
    else
        write_for(n, q, fd, named, a);
    if (fd >= 0)
        close(fd);
}
