/* See census.h. */
#include "lib/census.h"

#include <dirent.h>
#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define DEADLINE_S 30

static long text_count(const char *path, const char *line)
{
    char text[512];
    long count = 0;
    FILE *f = fopen(path, "re");
    while (f && fgets(text, sizeof text, f)) {
        if (!line)
            count++;
        else if (!strncmp(text, line, strlen(line)))
            count = strtol(text + strlen(line), NULL, 10);
    }
    if (f)
        fclose(f);
    return count;
}

static long fd_count(pid_t pid)
{
    char path[64];
    long count = 0;
    snprintf(path, sizeof path, "/proc/%d/fd", (int)pid);
    DIR *d = opendir(path);
    for (struct dirent *e; d && (e = readdir(d));)
        count += *e->d_name != '.';
    if (d)
        closedir(d);
    return count;
}

int census_family(pid_t pid, pid_t all[CENSUS_PROCESSES], int count)
{
    char path[300];
    int child;
    if (count == CENSUS_PROCESSES)
        return count;
    all[count++] = pid;
    snprintf(path, sizeof path, "/proc/%d/task", (int)pid);
    DIR *d = opendir(path);
    for (struct dirent *thread; d && (thread = readdir(d));) {
        snprintf(path, sizeof path, "/proc/%d/task/%.200s/children", (int)pid, thread->d_name);
        FILE *f = *thread->d_name == '.' ? NULL : fopen(path, "re");
        while (f && fscanf(f, "%d", &child) == 1)
            count = census_family((pid_t)child, all, count);
        if (f)
            fclose(f);
    }
    if (d)
        closedir(d);
    return count;
}

pid_t census_server(void)
{
    pid_t all[CENSUS_PROCESSES];
    return census_family(getpid(), all, 0) > 1 ? all[1] : 0;
}

static bool is_named(pid_t pid, const char *line)
{
    char path[64], name[32] = "";
    snprintf(path, sizeof path, "/proc/%d/comm", (int)pid);
    FILE *f = fopen(path, "re");
    if (f && !fgets(name, sizeof name, f))
        *name = '\0';
    if (f)
        fclose(f);
    return !strcmp(name, line);
}

static bool is_init(pid_t pid)
{
    return is_named(pid, "zpipe-init\n");
}

/* Takes the server's guard out, which is there from its beginning to its end, and has its descriptors. */
static void take_guard(pid_t *all, int *count)
{
    int kept = 0;
    for (int i = 0; i < *count; i++)
        if (!is_named(all[i], "zpipe-guard\n"))
            all[kept++] = all[i];
    *count = kept;
}

/* Takes out of a family each init with its one child, which has not got its program. */
static int take_places(pid_t *all, int *count, pid_t *init)
{
    int kept = 0, places = 0;
    for (int i = 0; i < *count; i++) {
        pid_t own[CENSUS_PROCESSES];
        if (is_init(all[i]) && census_family(all[i], own, 0) == 2 && i + 1 < *count && own[1] == all[i + 1] &&
            is_init(own[1]))
            init[places++] = all[i++];
        else
            all[kept++] = all[i];
    }
    *count = kept;
    return places;
}

int census_places(pid_t init[CENSUS_PROCESSES])
{
    pid_t all[CENSUS_PROCESSES];
    int count = census_family(census_server(), all, 0);
    return take_places(all, &count, init);
}

static struct census look(void)
{
    struct census s = {0};
    pid_t all[CENSUS_PROCESSES], init[CENSUS_PROCESSES];
    s.processes = census_family(census_server(), all, 0);
    take_guard(all, &s.processes);
    s.places = take_places(all, &s.processes, init);
    for (int i = 0; i < s.processes; i++) {
        char path[64];
        s.fds += fd_count(all[i]);
        snprintf(path, sizeof path, "/proc/%d/mountinfo", (int)all[i]);
        s.mounts += text_count(path, NULL);
        snprintf(path, sizeof path, "/proc/%d/status", (int)all[i]);
        s.kib += text_count(path, "VmRSS:");
    }
    s.fds -= 2L * s.places;
    return s;
}

struct census census_again(const struct census *than)
{
    struct census s = {0};
    for (int i = 0; i < DEADLINE_S * 100; i++) {
        s = look();
        if (s.processes <= than->processes && s.fds <= than->fds && s.mounts <= than->mounts)
            break;
        nanosleep(&(struct timespec){.tv_nsec = 10000000}, NULL);
    }
    return s;
}

struct census census(int expected)
{
    struct census s = census_again(&(struct census){.processes = expected, .fds = LONG_MAX, .mounts = LONG_MAX});
    /* The server may not have both descriptors yet of a place that is being made, but look() takes two off. */
    s.fds += 2 * sysconf(_SC_NPROCESSORS_ONLN);
    return s;
}
