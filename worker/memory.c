/* See memory.h. */
#include "worker/memory.h"

#include "base/fds.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define CGROUPS "/sys/fs/cgroup"

/* Finds our own cgroup in the lines of /proc/self/cgroup, "0::/PATH"; "": we are in none of version 2. */
static void own_group(char *text, char *path, size_t room)
{
    char *at = strncmp(text, "0::/", 4) == 0 ? text : strstr(text, "\n0::/");
    *path = '\0';
    if (!at)
        return;
    at += *at == '\n' ? 4 : 3;
    at[strcspn(at, "\n")] = '\0';
    snprintf(path, room, CGROUPS "%s", at);
}

uint64_t memory_of_machine(void)
{
    char text[4096], path[4096 + sizeof CGROUPS], file[sizeof path + 16];
    uint64_t bytes = (uint64_t)sysconf(_SC_PHYS_PAGES) * (uint64_t)sysconf(_SC_PAGESIZE);
    fd_read_text(AT_FDCWD, "/proc/self/cgroup", text, sizeof text);
    own_group(text, path, sizeof path);
    while (strlen(path) >= sizeof CGROUPS - 1) { /* each cgroup on the way up limits all that is below it */
        char most[64], *end;
        snprintf(file, sizeof file, "%s/memory.max", path);
        fd_read_text(AT_FDCWD, file, most, sizeof most);
        uint64_t max = strtoull(most, &end, 10); /* or "max" */
        if (end != most && max && max < bytes)
            bytes = max;
        *strrchr(path, '/') = '\0';
    }
    return bytes;
}
