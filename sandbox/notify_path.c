/* A task's names, seen from here: the file that a path or a descriptor of a task means, opened by us
 * within the task's own root, or known by the kernel's name for it. */
#include "sandbox/notify_task.h"
#include "base/fds.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

ssize_t task_fd_name(const struct seccomp_notif *q, int number, char *name, size_t size)
{
    char link[48];
    ssize_t n;

    if (number == AT_FDCWD)
        snprintf(link, sizeof link, "/proc/%u/cwd", q->pid);
    else
        snprintf(link, sizeof link, "/proc/%u/fd/%d", q->pid, number);
    n = readlink(link, name, size - 1);
    name[n < 0 ? 0 : n] = '\0';
    return n;
}

int task_open(struct notify *n, const struct seccomp_notif *q, int directory, const char *path, uint64_t flags)
{
    struct open_how how = {.flags = flags | O_CLOEXEC, .resolve = RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS};
    char link[48], whole[2 * TASK_PATH_MAX];
    ssize_t size = 0;
    int root, fd;

    if (*path != '/') { /* from a directory, by the kernel's name for it within the task's root */
        size = task_fd_name(q, directory, whole, TASK_PATH_MAX);
        if (size <= 0 || *whole != '/')
            return errno = EINVAL, -1;
        whole[size++] = '/';
    }
    snprintf(whole + size, sizeof whole - (size_t)size, "%s", path);
    snprintf(link, sizeof link, "/proc/%u/root", q->pid);
    root = open(link, O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (root < 0)
        return errno = EINVAL, -1;
    if (!task_valid(n, q))
        fd = (errno = EINVAL, -1);
    else
        fd = (int)syscall(SYS_openat2, root, whole, &how, sizeof how);
    close(root);
    return fd;
}

bool path_of_image(const char *path)
{
    static const char *const below[] = {"/usr/", "/bin/", "/sbin/", "/lib/"};

    for (size_t i = 0; i < sizeof below / sizeof *below; i++)
        if (!strncmp(path, below[i], strlen(below[i])))
            return !strstr(path, "/../");
    return false;
}
