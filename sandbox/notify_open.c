/* Opens /dev/stdin, /dev/fd/N and the like by name.  There is no /proc in a sandbox, and a channel is a socket, which could
 * not be opened through /proc (ENXIO); so the task gets a duplicate of its own descriptor.  A regular file is opened anew,
 * as the kernel does it, with its own offset, but never with more rights than the descriptor has.  Every other name is
 * passed to the kernel.  A path may change under our eyes, but need not be trusted: the sandbox's mounts are the wall, not
 * this file. */
#include "sandbox/notify_task.h"
#include "base/fds.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#define FD_NUMBER_MAX 1048575

enum special { SPECIAL_NONE, SPECIAL_FD, SPECIAL_RANDOM };

/* A decimal number and nothing else; -1. */
static int fd_number(const char *text)
{
    int number = 0;

    if (!*text || (text[0] == '0' && text[1]))
        return -1;
    for (; *text; text++) {
        if (*text < '0' || *text > '9')
            return -1;
        number = 10 * number + (*text - '0');
        if (number > FD_NUMBER_MAX)
            return -1;
    }
    return number;
}

static enum special classify(const char *path, int *fd)
{
    static const char *const names[] = {"/dev/stdin", "/dev/stdout", "/dev/stderr"};
    static const char *const folders[] = {"/dev/fd/", "/proc/self/fd/", "/proc/thread-self/fd/"};

    if (path[0] != '/')
        return SPECIAL_NONE;
    if (!strcmp(path, "/dev/urandom") || !strcmp(path, "/dev/random"))
        return SPECIAL_RANDOM;
    for (int i = 0; i < 3; i++)
        if (!strcmp(path, names[i])) {
            *fd = i;
            return SPECIAL_FD;
        }
    for (int i = 0; i < 3; i++) {
        size_t size = strlen(folders[i]);

        if (!strncmp(path, folders[i], size)) {
            *fd = fd_number(path + size);
            return *fd < 0 ? SPECIAL_NONE : SPECIAL_FD;
        }
    }
    return SPECIAL_NONE;
}

bool path_of_fd_name(const char *path, int *fd)
{
    return classify(path, fd) == SPECIAL_FD;
}

/* Open the regular file of *fd anew, and replace *fd. */
static int reopen(int *fd, int have, int flags, bool own)
{
    struct rights r = {.lowered = false};
    int wish = (flags & (O_ACCMODE | O_APPEND | O_TRUNC)) | O_NOCTTY;
    int fresh;

    if (have & O_APPEND) /* a file that may only grow must not be truncated */
        wish = (wish & ~O_TRUNC) | O_APPEND;
    if ((wish & O_ACCMODE) == O_RDONLY)
        wish &= ~O_TRUNC;
    if (own) /* the task's own file, whose mode is its own affair */
        rights_lower(&r);
    fresh = fd_reopen(*fd, wish);
    rights_back(&r);
    if (fresh < 0)
        return -1;
    close(*fd);
    *fd = fresh;
    return 0;
}

/* Give the task `fd` (taken), or the same file opened anew. */
static void give_opened(struct notify *n, const struct seccomp_notif *q, int fd, int flags,
                        struct answer *a)
{
    struct stat st;
    int have;

    if (fd < 0) {
        a->error = errno == ENOENT ? ENOENT : EACCES;
        return;
    }
    have = fcntl(fd, F_GETFL);
    if (have < 0 || (have & O_PATH) || fstat(fd, &st) < 0 ||
        ((have & O_ACCMODE) != O_RDWR && (have & O_ACCMODE) != (flags & O_ACCMODE)))
        a->error = EACCES;
    else if (S_ISREG(st.st_mode) && reopen(&fd, have, flags, notify_is_scratch(n, q, &st)) < 0)
        a->error = EACCES;
    else
        task_give_fd(n, q, fd, flags & O_CLOEXEC, a);
    close(fd);
}

static void open_named(struct notify *n, const struct seccomp_notif *q, const struct named *named,
                       int flags, struct answer *a)
{
    a->go_on = false;
    if ((flags & O_ACCMODE) != (named->write ? O_WRONLY : O_RDONLY))
        a->error = EACCES;
    else
        give_opened(n, q, fcntl(named->fd, F_DUPFD_CLOEXEC, 0), flags, a);
}

/* Refuse to open a file for writing that may not be written.  The kernel would first look whether some process on this host
 * runs it (ETXTBSY), and then who owns it (EACCES, if zpipe-box is not root's), so its answer varies. */
static void refuse_writing(struct notify *n, const struct seccomp_notif *q, int directory, const char *name, int flags,
                           struct answer *a)
{
    struct stat st;

    if (((flags & O_ACCMODE) != O_WRONLY && (flags & O_ACCMODE) != O_RDWR) || flags & (O_TRUNC | O_PATH | O_DIRECTORY) ||
        (flags & (O_CREAT | O_EXCL)) == (O_CREAT | O_EXCL))
        return;
    int fd = task_open(n, q, directory, name, O_PATH | (flags & O_NOFOLLOW));
    if (fd < 0)
        return; /* the kernel will say why */
    if (fstat(fd, &st) == 0 && S_ISREG(st.st_mode) && syscall(SYS_faccessat2, fd, "", W_OK, AT_EMPTY_PATH) < 0) {
        a->go_on = notify_is_scratch(n, q, &st);
        a->error = a->go_on ? 0 : EROFS;
    }
    close(fd);
}

static void answer_path(struct notify *n, const struct seccomp_notif *q, int directory, uint64_t path, int flags,
                        struct answer *a)
{
    char name[TASK_PATH_MAX];
    int number = -1, fd;

    a->go_on = true;
    notify_hold(n, q, 1);
    if (task_text(n, q, path, name, sizeof name) < 0)
        return; /* the kernel will say EFAULT, or that it is too long */
    const struct named *named = named_find(n, name);
    if (named) {
        open_named(n, q, named, flags, a);
        return;
    }
    switch (classify(name, &number)) {
    case SPECIAL_FD:
        a->go_on = false;
        if ((flags & (O_NOFOLLOW | O_PATH)) == O_NOFOLLOW) /* outside of a sandbox it is a link */
            a->error = ELOOP;
        else
            give_opened(n, q, task_fd(n, q, number), flags, a);
        break;
    case SPECIAL_RANDOM:
        a->go_on = false;
        fd = random_open(n);
        if (fd < 0) {
            a->error = EMFILE;
            break;
        }
        task_give_fd(n, q, fd, flags & O_CLOEXEC, a);
        close(fd);
        break;
    case SPECIAL_NONE:
        refuse_writing(n, q, directory, name, flags, a);
        break;
    }
}

void answer_open(struct notify *n, const struct seccomp_notif *q, struct answer *a)
{
    answer_path(n, q, AT_FDCWD, q->data.args[0], (int)q->data.args[1], a);
}

void answer_openat(struct notify *n, const struct seccomp_notif *q, struct answer *a)
{
    gate_lead(n, q);
    answer_path(n, q, (int)q->data.args[0], q->data.args[1], (int)q->data.args[2], a);
}

void answer_creat(struct notify *n, const struct seccomp_notif *q, struct answer *a)
{
    answer_path(n, q, AT_FDCWD, q->data.args[0], O_WRONLY | O_CREAT | O_TRUNC, a);
}

void answer_truncate(struct notify *n, const struct seccomp_notif *q, struct answer *a)
{
    char name[TASK_PATH_MAX];

    a->go_on = true;
    if (task_text(n, q, q->data.args[0], name, sizeof name) == 0)
        refuse_writing(n, q, AT_FDCWD, name, O_WRONLY, a);
}

/* The name of the process's program.  It lies in mounts that are not ours, and so the kernel gives it as the task sees it. */
void answer_readlink(struct notify *n, const struct seccomp_notif *q, struct answer *a)
{
    bool at = q->data.nr == SYS_readlinkat;
    char name[TASK_PATH_MAX], program[TASK_PATH_MAX];
    int room = (int)q->data.args[at ? 3 : 2];

    a->go_on = true;
    if (task_text(n, q, q->data.args[at], name, sizeof name) < 0 || (strcmp(name, "/proc/self/exe") != 0 && strcmp(name, "/proc/thread-self/exe") != 0))
        return;
    snprintf(name, sizeof name, "/proc/%d/exe", (int)q->pid);
    ssize_t size = readlink(name, program, sizeof program);
    if (size < 0 || !task_valid(n, q))
        return; /* the kernel says that there is no /proc */
    a->go_on = false;
    if (room < size)
        size = room;
    if (size <= 0)
        a->error = EINVAL;
    else if (task_write(n, q, q->data.args[at + 1], program, (size_t)size) < 0)
        a->error = EFAULT;
    a->value = size;
}
