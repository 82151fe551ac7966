/* How much memory this host has for tasks. */
#pragma once
#include <stdint.h>

#define MEMORY_SHARE_PERCENT 80 /* the share that a worker gives to tasks by default; the rest is for the kernel's file cache and for us */

/* The memory of the machine, or the smallest limit of our cgroups (version 2). */
uint64_t memory_of_machine(void);
