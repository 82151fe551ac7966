/* What a program left in /job, our current directory. */
#pragma once
#include "sandbox/mounts.h"

/* Hand over the wanted files and name the others, and what was removed (at most LEFTOVER_NAMES), as WIRE_MADE packets.  A copy of
 * an input is an output only if its bytes or its mode are others now.  NULL, or the ceiling that was met
 * before all of the wanted files were handed over. */
#define LEFTOVER_NAMES   64
#define LEFTOVER_VISITS  65536 /* directory entries looked at */
#define LEFTOVER_DEPTH   32
#define LEFTOVER_WANTED  4096
const char *leftover_send(const struct box_task *t, const struct task_files *f, int link);
/* Must the copy's original stay open until then? */
bool leftover_compares(const struct box_task *t, uint32_t file);
