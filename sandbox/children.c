/* See children.h. */
#include "sandbox/children.h"
#include "base/fds.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>

static bool of_thread(int threads, const char *thread, bool (*each)(void *, pid_t), void *owner)
{
    char path[300];
    bool found = false;
    int child;
    snprintf(path, sizeof path, "%s/children", thread);
    int fd = openat(threads, path, O_RDONLY | O_CLOEXEC);
    FILE *in = fd < 0 ? NULL : fdopen(fd, "r");
    if (!in) {
        fd_close(&fd);
        return false;
    }
    while (!found && fscanf(in, "%d", &child) == 1)
        found = each(owner, (pid_t)child);
    fclose(in);
    return found;
}

bool children_each(pid_t pid, bool (*each)(void *owner, pid_t child), void *owner)
{
    char path[64];
    bool found = false;
    snprintf(path, sizeof path, "/proc/%d/task", (int)pid);
    DIR *d = opendir(path);
    for (struct dirent *entry; d && !found && (entry = readdir(d));)
        found = entry->d_name[0] != '.' && of_thread(dirfd(d), entry->d_name, each, owner);
    if (d)
        closedir(d);
    return found;
}
