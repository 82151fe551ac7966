/* A cgroup (version 2) for each task, where some were given to this process to make: what holds the memory and the
 * processes of all of a task's tree together, beside the limits of each process, which hold everywhere.
 *
 * Given is a cgroup that a process may make others below (systemd's Delegate=yes, or root's own), with the controllers of
 * memory and processes, and in which nobody else is: whoever has controllers for those below has no process of its own, so
 * zpipe-box and who started it go into a leaf of it, named `zpipe`.  Who is in such a leaf already moves nobody.
 *
 * Below it this server has a directory, locked while the server lives, and in that a cgroup for each task, used again when
 * nobody is in it.  What an earlier server left, which was killed, goes when the next one starts. */
#pragma once
#include "sandbox/box.h"

#include <stdbool.h>
#include <stdint.h>

#define CGROUPS_MAX     1024 /* of one server; tasks beyond have none */
#define CGROUP_PATH_MAX 512
#define CGROUP_TEXT_MAX (CGROUP_PATH_MAX + 48) /* one of a task's */

struct cgroup;

struct cgroups {
    int dir;         /* ours; -1: there are none */
    int base;        /* what was given */
    char name[32];   /* of dir, there */
    char path[CGROUP_PATH_MAX]; /* of base, as /proc/PID/cgroup has it */
    const char *why; /* there are none; static text */
    struct cgroup *idle, **last; /* that have no task, the one that was given back first in front */
    uint32_t count;
};

#define CGROUPS_INIT ((struct cgroups){.dir = -1, .base = -1, .why = ""})

/* Who was given none has none, and `why` says so. */
void cgroups_open(struct cgroups *c);
/* When no task is left. */
void cgroups_close(struct cgroups *c);
/* The host starts no process in them: from now on there are none. */
void cgroups_refused(struct cgroups *c);

/* One that nobody is in; NULL: the task has none. */
struct cgroup *cgroup_take(struct cgroups *c);
void cgroup_give_back(struct cgroups *c, struct cgroup *g); /* NULL is allowed, here and below */
int cgroup_fd(const struct cgroup *g);                      /* its directory, borrowed; -1: there is none */
/* The task's limits, as far as the kernel takes them: cgroup_report says which it took. */
void cgroup_limit(struct cgroup *g, const struct box_limits *l);
/* CPU time of all that were in it since its limits were set; false: unknown. */
bool cgroup_cpu_ns(const struct cgroup *g, uint64_t *ns);
/* Has the kernel ended what is in it, for want of memory below its own limit?  Since it was asked last. */
bool cgroup_ran_out(struct cgroup *g);
/* Which one it is, or why there is none, and what it holds; `text` must live as long as r. */
void cgroup_report(const struct cgroups *c, const struct cgroup *g, char text[CGROUP_TEXT_MAX], struct box_result *r);
