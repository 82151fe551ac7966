/* What a task's processes have used so far, by the kernel's own count: bytes for whoever watches, CPU time
 * and threads for limits.  Nothing on the way of the bytes counts them, and no cgroup is needed. */
#include "sandbox/usage.h"
#include "sandbox/children.h"
#include "sandbox/proc.h"

#include <dirent.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define NS            1000000000ull
#define CHILDREN_MAX  65536
#define CPU_FIELD     14 /* utime in /proc/PID/stat, the first of four; see proc_pid_stat(5) */

/* Its own, and that of its children which it has waited for. */
static uint64_t cpu_of(pid_t pid)
{
    char text[1024];
    uint64_t ticks = 0;
    if (!proc_read(pid, "stat", text, sizeof text))
        return 0;
    char *at = strrchr(text, ')'); /* the second field; it may hold anything */
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

enum what { WHAT_COUNT, WHAT_ALL };
static void add(pid_t pid, enum what what, struct usage *u);

static void add_children(pid_t pid, const char *thread, enum what what, struct usage *u)
{
    char file[40];
    char *text = malloc(CHILDREN_MAX), *rest = text;
    snprintf(file, sizeof file, "task/%.20s/children", thread);
    if (text && proc_read(pid, file, text, CHILDREN_MAX))
        for (char *word; (word = strsep(&rest, " "));)
            if (*word)
                add((pid_t)atoi(word), what, u);
    free(text);
}

/* A process and all below it. */
static void add(pid_t pid, enum what what, struct usage *u)
{
    char path[64];
    snprintf(path, sizeof path, "/proc/%d/task", (int)pid);
    DIR *d = opendir(path);
    if (d && what == WHAT_ALL) {
        add_bytes(pid, u);
        u->cpu_ns += cpu_of(pid);
    }
    for (struct dirent *entry; d && u->threads < USAGE_THREADS_MAX && (entry = readdir(d));) {
        if (*entry->d_name == '.')
            continue;
        u->threads++;
        add_children(pid, entry->d_name, what, u);
    }
    if (d)
        closedir(d);
}

struct below {
    enum what what;
    struct usage *u;
};

static bool add_child(void *owner, pid_t child)
{
    const struct below *b = owner;
    add(child, b->what, b->u);
    return false;
}

void usage_look(pid_t init, struct usage *u)
{
    *u = (struct usage){0};
    children_each(init, add_child, &(struct below){WHAT_ALL, u});
}

uint32_t usage_count(pid_t init)
{
    struct usage u = {0};
    children_each(init, add_child, &(struct below){WHAT_COUNT, &u});
    return u.threads;
}
