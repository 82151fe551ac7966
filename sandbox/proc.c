/* See proc.h. */
#include "sandbox/proc.h"
#include "base/fds.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* The kernel's flags of a thread, in /proc/PID/stat; see proc_pid_stat(5). */
#define FLAGS_FIELD 9
#define PF_EXITING  0x4u
#define PF_SIGNALED 0x400u

long proc_setting(const char *name, long absent)
{
    char path[128], text[32];
    snprintf(path, sizeof path, "/proc/sys/%s", name);
    return fd_read_text(AT_FDCWD, path, text, sizeof text) > 0 ? strtol(text, NULL, 10) : absent;
}

bool proc_read(pid_t pid, const char *what, char *text, size_t room)
{
    char path[64];
    snprintf(path, sizeof path, "/proc/%d/%s", (int)pid, what);
    return fd_read_text(AT_FDCWD, path, text, room) > 0;
}

bool proc_status_text(pid_t pid, char text[PROC_STATUS_ROOM])
{
    static const char head[] = "\nGroups:";
    char path[40], *groups;
    snprintf(path, sizeof path, "/proc/%d/status", (int)pid);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t more = fd < 0 ? -1 : fd_read_all(fd, text, PROC_STATUS_ROOM - 1);
    size_t size = more > 0 ? (size_t)more : 0;
    text[size] = '\0';
    while (more > 0 && size == PROC_STATUS_ROOM - 1 && (groups = strstr(text, head))) {
        char *from = groups + sizeof head - 1, *end = strchr(from, '\n');
        size = (size_t)((end ? groups : from) - text); /* its end is yet to come: its name stays until then */
        if (end) {
            size_t rest = strlen(end);
            memmove(groups, end, rest);
            size += rest;
        }
        more = fd_read_all(fd, text + size, PROC_STATUS_ROOM - 1 - size);
        size += more > 0 ? (size_t)more : 0;
        text[size] = '\0';
    }
    fd_close(&fd);
    return size > 0;
}

uint64_t proc_number(const char *text, const char *name, int base)
{
    const char *at = strstr(text, name);
    return at ? strtoull(at + strlen(name), NULL, base) : 0;
}

bool proc_status(pid_t pid, const char *name, char value[PROC_LINE_MAX])
{
    char path[40], line[PROC_LINE_MAX];
    bool found = false;
    snprintf(path, sizeof path, "/proc/%d/status", (int)pid);
    FILE *f = fopen(path, "re");
    while (f && !found && fgets(line, sizeof line, f))
        found = !strncmp(line, name, strlen(name));
    if (f)
        fclose(f);
    if (found)
        strcpy(value, line + strlen(name));
    return found;
}

static char state_in(int directory, const char *path, pid_t *parent)
{
    char text[512];
    if (fd_read_text(directory, path, text, sizeof text) <= 0)
        return 'X';
    const char *end = strrchr(text, ')'); /* the name before it may hold anything */
    if (!end || end[1] != ' ')
        return 'X';
    if (parent)
        *parent = (pid_t)strtol(end + 3, NULL, 10);
    return end[2];
}

char proc_state(pid_t pid, pid_t *parent)
{
    char path[32];
    snprintf(path, sizeof path, "/proc/%d/stat", (int)pid);
    return state_in(AT_FDCWD, path, parent);
}

char proc_state_at(int directory)
{
    return state_in(directory, "stat", NULL);
}

bool proc_ends(pid_t tid)
{
    char text[512];
    const char *at = proc_read(tid, "stat", text, sizeof text) ? strrchr(text, ')') : NULL;
    for (int i = 2; at && i < FLAGS_FIELD; i++)
        at = strchr(at + 1, ' ');
    return !at || strtoul(at, NULL, 10) & (PF_EXITING | PF_SIGNALED);
}
