/* What a task's processes have used so far, as the kernel counts it: bytes for progress, CPU time and threads for limits.
 * So no process that moves the bytes has to count them, and no cgroup is needed. */
#include "sandbox/usage.h"
#include "base/grow.h"
#include "sandbox/children.h"
#include "sandbox/proc.h"

#include <dirent.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define NS            1000000000ull
#define CPU_FIELD     14 /* utime in /proc/PID/stat, the first of four; see proc_pid_stat(5) */

/* The CPU time of a process, and of its children that it has waited for. */
static uint64_t cpu_of(pid_t pid)
{
    char text[1024];
    uint64_t ticks = 0;
    if (!proc_read(pid, "stat", text, sizeof text))
        return 0;
    char *at = strrchr(text, ')'); /* the end of the second field, which may contain anything */
    for (int i = 2; at && i < CPU_FIELD; i++)
        at = strchr(at + 1, ' ');
    for (int i = 0; at && i < 4; i++)
        ticks += strtoull(at, &at, 10);
    return ticks * (NS / (uint64_t)sysconf(_SC_CLK_TCK));
}

static void add_bytes(pid_t pid, struct usage *u)
{
    char text[1024];
    if (!proc_read(pid, "io", text, sizeof text))
        return;
    u->bytes_in += proc_number(text, "rchar: ", 10);
    u->bytes_out += proc_number(text, "wchar: ", 10);
}

static void add_below(pid_t pid, bool numbers, struct usage *u);

/* A process and all below it. */
static void add(pid_t pid, bool numbers, struct usage *u)
{
    char path[64];
    snprintf(path, sizeof path, "/proc/%d/task", (int)pid);
    DIR *d = opendir(path);
    if (!d)
        return;
    if (!numbers) {
        add_bytes(pid, u);
        u->cpu_ns += cpu_of(pid);
    }
    for (struct dirent *entry; (entry = readdir(d));) {
        if (*entry->d_name == '.')
            continue;
        if (numbers && grow(&u->tid, &u->room, u->threads, USAGE_THREADS_MAX, sizeof *u->tid))
            u->tid[u->threads] = (pid_t)strtol(entry->d_name, NULL, 10);
        u->threads++;
    }
    closedir(d);
    add_below(pid, numbers, u);
}

struct children {
    pid_t *pid;
    uint32_t count, room;
};

static bool note(void *owner, pid_t child)
{
    struct children *c = owner;
    if (grow(&c->pid, &c->room, c->count, USAGE_THREADS_MAX, sizeof *c->pid))
        c->pid[c->count++] = child;
    return false;
}

/* Adds the processes below pid.  Nothing is open while it goes down: a chain of processes may be longer than we may have
 * descriptors. */
static void add_below(pid_t pid, bool numbers, struct usage *u)
{
    struct children c = {0};
    children_each(pid, note, &c);
    for (uint32_t i = 0; i < c.count && u->threads < USAGE_THREADS_MAX; i++)
        add(c.pid[i], numbers, u);
    free(c.pid);
}

void usage_look(pid_t init, struct usage *u)
{
    *u = (struct usage){0};
    add_below(init, false, u);
}

uint32_t usage_count(pid_t init, pid_t **tid)
{
    struct usage u = {0};
    add_below(init, true, &u);
    if (u.threads > u.room) {
        free(u.tid);
        u.tid = NULL;
    }
    *tid = u.tid;
    return u.threads;
}
