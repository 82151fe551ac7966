/* The processes behind the server: the zygote, which has the namespaces and the image and clones an init
 * per task, and the mounter beside it, which still sees the host's files and makes detached mounts of
 * the inputs. */
#pragma once
#include "base/err.h"

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

struct zygote {
    pid_t pid;
    int tasks, mounts; /* sockets to the zygote and to the mounter, owned */
};

/* none: no wall at all; there is no mounter then (mounts: -1).  Returns when the processes are under way; WIRE_READY or WIRE_FAILED comes on `tasks`. */
int zygote_start(struct zygote *z, bool none, struct err *e);

/* pid 1 of a task.  `link`: its socket to the server; `h`, a WIRE_TASK, says which bytes of `spec` are the task.
 * Does not return. */
struct wire;
_Noreturn void init_main(int link, int spec, const struct wire *h, bool none);

/* In a child just before its exec. */
struct box_task;
int program_setup(const struct box_task *t, bool keep_rights, struct err *e);

/* Why the host refused, and what allows it: rewrites the text of e. */
void host_explain(struct err *e);
