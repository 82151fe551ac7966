/* Does anybody of a task still hold one of the caller's descriptors for writing?  A shell's pipeline ends
 * when the last writer has let go, not when the first program ends.  For channels the socket tells; for a
 * pipe or file that was passed as it is, only the processes' tables of descriptors do. */
#include "sandbox/server.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#define DEPTH_MAX 256
#define LOOKS_MAX 65536 /* descriptors in one look; who has more may hold any */

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

static bool process_holds(const struct task *t, pid_t pid, int *looks)
{
    char path[64];
    bool found = false;
    snprintf(path, sizeof path, "/proc/%d/fd", (int)pid);
    DIR *d = opendir(path);
    if (!d)
        return false;
    for (struct dirent *entry; !found && (entry = readdir(d));) {
        struct stat s;
        if (++*looks > LOOKS_MAX)
            found = true;
        else
            found = entry->d_name[0] != '.' && fstatat(dirfd(d), entry->d_name, &s, 0) == 0 && is_output(t, &s);
    }
    closedir(d);
    return found;
}

static bool below_holds(const struct task *t, pid_t pid, int depth, int *looks)
{
    char path[80];
    bool found = false;
    int child;
    snprintf(path, sizeof path, "/proc/%d/task/%d/children", (int)pid, (int)pid);
    FILE *in = depth < DEPTH_MAX ? fopen(path, "re") : NULL;
    if (!in)
        return false;
    while (!found && fscanf(in, "%d", &child) == 1)
        found = process_holds(t, (pid_t)child, looks) || below_holds(t, (pid_t)child, depth + 1, looks);
    fclose(in);
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
    int looks = 0;
    return task_passes_outputs(t) && t->init && below_holds(t, t->init, 0, &looks);
}
