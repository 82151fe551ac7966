/* Landlock, if the kernel has it: a second wall besides the mounts.  Files can be reached only below the sandbox's own
 * root, and written only in the task's own places, even with a forgotten directory descriptor or a mistake in the mounts.
 * No device can be made or controlled, and no network and no abstract socket reached. */
#pragma once
#include "base/err.h"

#include <stdbool.h>
#include <stdint.h>
#include <sys/syscall.h>

#ifndef SYS_landlock_create_ruleset
#define SYS_landlock_create_ruleset 444
#define SYS_landlock_add_rule       445
#define SYS_landlock_restrict_self  446
#endif

struct fence_rule {
    const char *path;
    bool write; /* may be written; if not: read and executed */
    bool make;  /* with write: also make, remove and rename below it */
};

/* Landlock's version in this kernel; 0: it is too old, or Landlock is switched off; -1: the question was refused, so it is
 * not known.  Call it before the filter is installed. */
int fence_version(struct err *e);

/* Makes a ruleset of the rules; its descriptor, or -1.  Whoever is to stand behind it gives it to landlock_restrict_self. */
int fence_make(int version, const struct fence_rule *rule, unsigned count, struct err *e);

/* Applies the rules to this process and its children, irrevocably.  no_new_privs must be set.  Does nothing with version 0. */
int fence_enter(int version, const struct fence_rule *rule, unsigned count, struct err *e);
