/* How much memory there is for tasks. */
#pragma once
#include <stdint.h>

#define MEMORY_SHARE_PERCENT 80 /* of it a worker gives to tasks, unless it is told how much: the rest is the kernel's, for files, and ours */

/* What the machine has, or the least that one of our cgroups (version 2) may have. */
uint64_t memory_of_machine(void);
