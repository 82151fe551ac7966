/* Landlock, where the kernel has it: a second wall below the mounts.  A file is reached only beneath the
 * sandbox's own root, written only in the task's own places, whatever a forgotten directory descriptor or
 * a mistake in the mounts would allow; no device is made or commanded, no network and no abstract socket
 * is reached. */
#pragma once
#include "base/err.h"

#include <stdbool.h>
#include <stdint.h>

struct fence_rule {
    const char *path;
    bool write; /* else: read and execute */
    bool make;  /* with write: also make, remove and rename below it */
};

/* What this kernel has: Landlock's version, 0 when it is too old or switched off; -1 when it was refused,
 * which is no answer.  Ask before the filter is there. */
int fence_version(struct err *e);

/* From now on for this process and its children, irrevocably.  no_new_privs must be set.  Nothing, with
 * version 0. */
int fence_enter(int version, const struct fence_rule *rule, unsigned count, struct err *e);
