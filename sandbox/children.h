/* A process's children are its threads' children: /proc lists them by thread. */
#pragma once
#include <stdbool.h>
#include <sys/types.h>

/* Calls `each` for every child of `pid` until one call returns true, and returns true then.  A process that starts or ends
 * meanwhile may be left out. */
bool children_each(pid_t pid, bool (*each)(void *owner, pid_t child), void *owner);
