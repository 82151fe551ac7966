/* A cgroup (version 2) for each task, if this process may make some.  It limits the memory and the number of processes of a
 * task's whole tree, in addition to the limits of each process, which apply on every host.
 *
 * A cgroup is usable as a base if this process may make others below it (systemd's Delegate=yes, or root's own), if it has
 * the controllers for memory and processes, and if nobody else is in it.  A cgroup that gives controllers to those below it
 * may have no process of its own, so zpipe-box and its caller go into a leaf of it, named `zpipe`.  If they are in such a
 * leaf already nobody is moved.
 *
 * Below the base this server has a directory, which is locked while the server lives, and in it a cgroup for each task,
 * used again when nobody is in it.  What a killed server left there is removed when the next one starts. */
#pragma once
#include "sandbox/box.h"

#include <stdbool.h>
#include <stdint.h>

#define CGROUPS_MAX     1024 /* of one server; further tasks have none */
#define CGROUP_PATH_MAX 512
#define CGROUP_TEXT_MAX (CGROUP_PATH_MAX + 48) /* the path of a task's cgroup */

struct cgroup;

struct cgroups {
    int dir;         /* the server's directory; -1: there are no cgroups */
    int base;        /* the base */
    char name[32];   /* name of `dir` in the base */
    char path[CGROUP_PATH_MAX]; /* path of the base, as in /proc/PID/cgroup */
    const char *why; /* why there are none; static text */
    struct cgroup *idle, **last; /* cgroups without a task; the one that was given back first is first */
    uint32_t count;
};

#define CGROUPS_INIT ((struct cgroups){.dir = -1, .base = -1, .why = ""})

/* Looks for a base.  If there is none there are no cgroups, and `why` says so. */
void cgroups_open(struct cgroups *c);
/* Call it when no task is left. */
void cgroups_close(struct cgroups *c);
/* The host refuses to start a process in them: from now on there are none. */
void cgroups_refused(struct cgroups *c);

/* Takes one that nobody is in; NULL: the task has none. */
struct cgroup *cgroup_take(struct cgroups *c);
void cgroup_give_back(struct cgroups *c, struct cgroup *g); /* NULL is allowed, here and below */
int cgroup_fd(const struct cgroup *g);                      /* its directory, borrowed; -1: there is none */
/* Sets the task's limits, as far as the kernel accepts them; cgroup_report says which. */
void cgroup_limit(struct cgroup *g, const struct box_limits *l);
/* CPU time of all that were in it since its limits were set; false: unknown. */
bool cgroup_cpu_ns(const struct cgroup *g, uint64_t *ns);
/* Has the kernel killed what is in it because its own memory limit was reached, since the last call? */
bool cgroup_ran_out(struct cgroup *g);
/* Fills the report: which cgroup it is, or why there is none, and which limits it has; `text` must live as long as r. */
void cgroup_report(const struct cgroups *c, const struct cgroup *g, char text[CGROUP_TEXT_MAX], struct box_result *r);
