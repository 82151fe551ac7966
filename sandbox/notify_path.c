/* Files as a task names them: opens the file that a path or descriptor of the task means, within the task's own root, or
 * finds the kernel's name for it. */
#include "sandbox/notify_task.h"
#include "base/fds.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <linux/openat2.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#define OPENS_MAX 1000 /* tries: the kernel gives up at a `..` if anything on the host is renamed or mounted meanwhile */

/* The kernel's name, within the task's root, of a descriptor's file or of the current directory (AT_FDCWD); its size, or
 * -1. */
static ssize_t task_fd_name(const struct seccomp_notif *q, int number, char *name, size_t size)
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

/* The number of the mount that a file is in; 0: the kernel does not tell (before 5.8). */
static uint64_t mount_of(int directory, const char *path)
{
    struct statx x;

    return statx(directory, path, AT_EMPTY_PATH, STATX_MNT_ID, &x) == 0 && (x.stx_mask & STATX_MNT_ID) ? x.stx_mnt_id : 0;
}

/* The task's root.  None of its processes can have another one, so it is looked up once. */
static int root_of(struct notify *n, const struct seccomp_notif *q)
{
    char link[32];
    int root;

    if (n->root >= 0)
        return n->root;
    snprintf(link, sizeof link, "/proc/%u/root", q->pid);
    root = open(link, O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (root >= 0 && !task_valid(n, q))
        fd_close(&root);
    n->root = root;
    if (root >= 0) {
        struct stat s;
        n->root_mount = mount_of(root, "");
        n->image_mount = mount_of(root, "usr/");
        n->image_dev = fstatat(root, "usr/", &s, 0) == 0 ? s.st_dev : 0;
    }
    if (n->root_mount == n->image_mount)
        n->root_mount = n->image_mount = 0; /* they tell nothing */
    return root;
}

uint64_t task_image_mount(struct notify *n, const struct seccomp_notif *q)
{
    return root_of(n, q) < 0 ? 0 : n->image_mount;
}

dev_t task_image_dev(struct notify *n, const struct seccomp_notif *q)
{
    return root_of(n, q) < 0 ? 0 : n->image_dev;
}

bool fd_of_image(struct notify *n, const struct seccomp_notif *q, int fd, bool own)
{
    char link[32], name[64];
    uint64_t mount = mount_of(fd, ""), image = task_image_mount(n, q);
    ssize_t size;

    if (mount && (mount == image || mount == n->root_mount || mount == n->job_mount))
        return mount == image;
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd); /* it is in a mount within the image, or in none of the task's */
    size = readlink(link, name, sizeof name - 1);
    name[size < 0 ? 0 : size] = '\0';
    if (own && image && !strncmp(name, "/job/", 5))
        n->job_mount = mount;
    return path_of_image(name);
}

int task_open_cwd(struct notify *n, const struct seccomp_notif *q)
{
    char link[32];

    snprintf(link, sizeof link, "/proc/%u/cwd", q->pid);
    int fd = open(link, O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (fd >= 0 && !task_valid(n, q))
        fd_close(&fd);
    return fd;
}

static const char too_deep[] = "looks at a file whose whole name is longer than a name may be";

/* Has the directory no name any more, by which we could open something?  The kernel still can, and tells times of its own.
 * `size`: of the name and a slash, or 0. */
static bool is_gone(const char *name, ssize_t size)
{
    static const char gone[] = " (deleted)/";
    const ssize_t end = sizeof gone - 1;

    return size >= end && !strncmp(name + size - end, gone, (size_t)end);
}

/* All our rights; looked at once, as they stay the same while we serve. */
static struct __user_cap_data_struct all[_LINUX_CAPABILITY_U32S_3];

static bool is_root(void)
{
    static enum { UNKNOWN, NO, YES } root;
    struct __user_cap_header_struct head = {.version = _LINUX_CAPABILITY_VERSION_3};

    if (root == UNKNOWN)
        root = geteuid() == 0 && syscall(SYS_capget, &head, all) == 0 ? YES : NO;
    return root == YES;
}

void rights_lower(struct rights *r)
{
    struct __user_cap_header_struct head = {.version = _LINUX_CAPABILITY_VERSION_3};
    struct __user_cap_data_struct few[_LINUX_CAPABILITY_U32S_3];

    r->lowered = is_root();
    if (!r->lowered)
        return;
    memcpy(few, all, sizeof few);
    few[0].effective &= ~(1u << CAP_DAC_OVERRIDE | 1u << CAP_DAC_READ_SEARCH);
    syscall(SYS_capset, &head, few);
}

void rights_back(const struct rights *r)
{
    struct __user_cap_header_struct head = {.version = _LINUX_CAPABILITY_VERSION_3};
    int error = errno;

    if (r->lowered)
        syscall(SYS_capset, &head, all);
    errno = error;
}

static int open_with_its_rights(int root, const char *path, const struct open_how *how)
{
    struct rights r;

    rights_lower(&r);
    int fd = (int)syscall(SYS_openat2, root, path, how, sizeof *how);
    rights_back(&r);
    return fd;
}

/* Can the kernel reach this directory by its name?  Not if a directory on the way is closed to the task, even if the task
 * is in it or holds it. */
static bool leads_there(int root, char *whole, ssize_t size, const struct open_how *how)
{
    whole[size - 1] = '\0'; /* without the slash, as the directory itself need not be accessible */
    int fd = open_with_its_rights(root, *whole ? whole : "/", how);
    bool there = fd >= 0;

    fd_close(&fd);
    return there;
}

int task_open(struct notify *n, const struct seccomp_notif *q, int directory, const char *path, uint64_t flags)
{
    struct open_how how = {.flags = flags | O_CLOEXEC, .resolve = RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS};
    char whole[2 * TASK_PATH_MAX];
    ssize_t size = 0;
    int root, fd;

    if (*path != '/') { /* relative to a directory: use the kernel's name for that, within the task's root */
        size = task_fd_name(q, directory, whole, TASK_PATH_MAX);
        if (size < 0 && errno == ENAMETOOLONG)
            notify_mark(n, too_deep);
        if (size <= 0 || *whole != '/')
            return errno = EINVAL, -1;
        whole[size++] = '/';
    }
    snprintf(whole + size, sizeof whole - (size_t)size, "%s", path);
    root = root_of(n, q);
    if (root < 0)
        notify_lacks(n);
    if (root < 0 || !task_valid(n, q))
        return errno = EINVAL, -1;
    for (int i = 0; i < OPENS_MAX; i++) {
        fd = open_with_its_rights(root, whole, &how);
        if (fd < 0 && errno == ENOENT && is_gone(whole, size))
            notify_mark(n, "looks at a directory that it has removed");
        if (fd < 0 && errno == ENAMETOOLONG && size)
            notify_mark(n, too_deep);
        if (fd < 0 && errno == EACCES && size) {
            if (!leads_there(root, whole, size, &(struct open_how){.flags = O_PATH | O_CLOEXEC, .resolve = how.resolve}))
                notify_mark(n, "looks at a file from a directory below one that it has closed");
            errno = EACCES;
        }
        if (fd < 0)
            notify_lacks(n);
        if (fd >= 0 || errno != EAGAIN)
            return fd;
    }
    notify_mark(n, "a name with '..' could not be followed");
    return -1;
}

bool path_of_image(const char *path)
{
    static const char *const below[] = {"/usr/", "/bin/", "/sbin/", "/lib/"};

    for (size_t i = 0; i < sizeof below / sizeof *below; i++)
        if (!strncmp(path, below[i], strlen(below[i])))
            return !strstr(path, "/../");
    return false;
}
