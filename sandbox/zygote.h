/* The processes behind the server: the zygote, which has the namespaces and the image and clones an init
 * per task, and the mounter beside it, which still sees the host's files and makes detached mounts of
 * the inputs. */
#pragma once
#include "base/err.h"

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#define ZYGOTE_TASKS_FD 3 /* in the zygote: its socket */

struct zygote {
    pid_t pid;
    int tasks, mounts; /* sockets to the zygote and to the mounter, owned */
};

/* none: no wall at all; there is no mounter then (mounts: -1).  Returns when the processes are under way; WIRE_READY or WIRE_FAILED comes on `tasks`. */
int zygote_start(struct zygote *z, bool none, struct err *e);

/* In a task's first two processes our own descriptors have numbers from here on: a program's are all smaller
 * (RLIMIT_NOFILE). */
#define OURS_FD 1024

/* pid 1 of a task.  `link`: its socket to the server; `h`: a WIRE_PLACE; outside: not in the cgroup that came with it.
 * Does not return. */
struct wire;
_Noreturn void init_main(int link, const struct wire *h, bool none, bool outside);

/* In whoever makes programs, or becomes one: what it cannot undo, and its children have. */
int program_wall(bool none, struct err *e);
/* In the process that will become a program: what no process has from another. */
void program_alone(void);
/* A user namespace has the limits that whoever makes it has then, soft ones too, for all in it: ours are raised before. */
void program_raise(void);
/* Why what programs see of their limits is not as always: those that we were started with; or "". */
const char *limits_unusual(void);
/* unusual.c: why no result of this host is certified; or "". */
const char *unusual_host(void);
bool unusual_sealed(const void *page, int protection); /* a page with that protection: may nobody change it any more? */
/* From outside, before its exec: what is the same for all, and what is the task's. */
struct box_limits;
int program_limit_common(pid_t pid, struct err *e);
int program_limit(pid_t pid, const struct box_limits *l, struct err *e);

/* Why the host refused, and what allows it: rewrites the text of e. */
void host_explain(struct err *e);
