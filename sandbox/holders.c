/* Does a process of the task still hold one of the caller's descriptors for writing?  A shell's pipeline ends when the last
 * writer has closed it, not when the first program ends.  For a channel the socket shows that.  For a pipe or file that was
 * passed as it is, only the processes' tables of descriptors do.  They also lead to the writing end of a channel, of which
 * we keep none. */
#include "sandbox/children.h"
#include "sandbox/server.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#define DEPTH_MAX 256
#define LOOKS_MAX 65536 /* descriptors in one look; a process with more may hold any file */

struct look {
    const struct task *t;
    bool files;   /* wanted: any regular file that is open for writing */
    ino_t socket; /* wanted; 0: any output */
    int looks, depth;
    pid_t pid; /* where it was found */
    int fd;
};

static bool is_output(const struct task *t, const struct stat *s)
{
    const struct box_task *plan = &t->region->spec.region.task[t->index];
    for (uint32_t i = 0; i < plan->port_count; i++) {
        const struct box_port *p = &plan->port[i];
        struct stat own;
        if (p->write && p->channel < 0 && p->file >= 0 && fstat(t->region->fd[p->file], &own) == 0 &&
            own.st_dev == s->st_dev && own.st_ino == s->st_ino)
            return true;
    }
    return false;
}

static bool is_wanted(const struct look *l, const struct stat *s)
{
    return l->files    ? S_ISREG(s->st_mode)
           : l->socket ? S_ISSOCK(s->st_mode) && s->st_ino == l->socket
                       : is_output(l->t, s);
}

/* The link to an open file has the rights that it was opened with. */
static bool is_written(int directory, const char *name)
{
    struct stat s;
    return fstatat(directory, name, &s, AT_SYMLINK_NOFOLLOW) == 0 && s.st_mode & S_IWUSR;
}

static bool process_holds(struct look *l, pid_t pid)
{
    char path[64];
    bool found = false;
    snprintf(path, sizeof path, "/proc/%d/fd", (int)pid);
    DIR *d = opendir(path);
    if (!d)
        return false;
    for (struct dirent *entry; !found && (entry = readdir(d));) {
        struct stat s;
        if (++l->looks > LOOKS_MAX)
            found = true;
        else
            found = entry->d_name[0] != '.' && fstatat(dirfd(d), entry->d_name, &s, 0) == 0 && is_wanted(l, &s) &&
                    (!l->files || (atoi(entry->d_name) > 2 && is_written(dirfd(d), entry->d_name)));
        l->fd = found && l->looks <= LOOKS_MAX ? atoi(entry->d_name) : -1;
    }
    l->pid = pid;
    closedir(d);
    return found;
}

static bool child_holds(void *owner, pid_t pid)
{
    struct look *l = owner;
    if (process_holds(l, pid))
        return true;
    l->depth++;
    bool found = l->depth < DEPTH_MAX && children_each(pid, child_holds, l);
    l->depth--;
    return found;
}

bool task_passes_outputs(const struct task *t)
{
    const struct box_task *plan = &t->region->spec.region.task[t->index];
    bool any = false;
    for (uint32_t i = 0; i < plan->port_count; i++)
        any |= plan->port[i].write && plan->port[i].channel < 0 && plan->port[i].file >= 0;
    return any;
}

bool task_holds_outputs(const struct task *t)
{
    struct look l = {.t = t};
    return task_passes_outputs(t) && task_first(t) && children_each(t->init, child_holds, &l);
}

int task_socket(const struct task *t, ino_t socket)
{
    struct look l = {.t = t, .socket = socket, .fd = -1};
    if (!task_first(t) || !children_each(t->init, child_holds, &l) || l.fd < 0)
        return -1;
    int pidfd = (int)syscall(SYS_pidfd_open, l.pid, 0);
    int fd = pidfd < 0 ? -1 : (int)syscall(SYS_pidfd_getfd, pidfd, l.fd, 0);
    struct stat s;
    if (pidfd >= 0)
        close(pidfd);
    if (fd >= 0 && (fstat(fd, &s) < 0 || !is_wanted(&l, &s))) { /* the process has put something else there */
        close(fd);
        return -1;
    }
    return fd;
}

bool task_writes_files(const struct task *t)
{
    struct look l = {.t = t, .files = true};
    return task_first(t) && children_each(t->init, child_holds, &l);
}
