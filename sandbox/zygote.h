/* The processes behind the server.  The zygote has the namespaces and the image, and clones an init per task.  The mounter,
 * beside it, still sees the host's files, and makes detached mounts of the inputs. */
#pragma once
#include "base/err.h"

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

struct zygote {
    pid_t pid;
    int tasks, mounts; /* sockets to the zygote and to the mounter, owned */
};

/* none: no wall at all, and then no mounter (mounts: -1).  Returns once the processes are under way; WIRE_READY or
 * WIRE_FAILED follows on `tasks`. */
int zygote_start(struct zygote *z, bool none, struct err *e);

/* In a task's init and in the process that becomes its program our own descriptors have numbers from here on; a program's
 * are all smaller (RLIMIT_NOFILE). */
#define OURS_FD 1024

/* Runs pid 1 of a task.  `link`: its socket to the server; `h`: the WIRE_PLACE that asked for it; outside: it is not in the
 * cgroup that came with that.  Does not return. */
struct wire;
_Noreturn void init_main(int link, const struct wire *h, bool none, bool outside);

/* In a process that makes programs, or becomes one: set up what cannot be undone and is inherited by its children. */
int program_wall(bool none, struct err *e);
/* Make the Landlock ruleset for a process that will become a program, of the places that stand now; -1 as *ruleset: this kernel
 * has none. */
int program_fence(int *ruleset, struct err *e);
/* Enter it (-1: do nothing), also behind the filter. */
int program_enter(int ruleset, struct err *e);
/* In the process that will become a program: set up what is not inherited. */
void program_alone(void);
/* Raise our limits.  A user namespace takes the limits, soft ones too, of the process that makes it, for all in it; so call
 * this before. */
void program_raise(void);
/* Why programs see other limits than usual: because of those that we were started with; or "". */
const char *limits_unusual(void);
/* unusual.c: why no result on this host is certified; or "". */
const char *unusual_host(void);
bool unusual_sealed(const void *page, int protection); /* can nobody change a page with that protection any more? */
/* Set a program's limits from outside, before its exec: those common to all, and the task's. */
struct box_limits;
int program_limit_common(pid_t pid, struct err *e);
int program_limit(pid_t pid, const struct box_limits *l, struct err *e);

/* Rewrites the text of e so that it says why the host refused, and what would allow it. */
void host_explain(struct err *e);
