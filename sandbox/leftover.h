/* Handles what a program left in /job, which is our current directory. */
#pragma once
#include "sandbox/mounts.h"

/* Sends the wanted files, and the names of others and of removed ones (at most LEFTOVER_NAMES), as WIRE_MADE packets.  A
 * copy of an input is an output only if its bytes or its mode have changed.  Returns NULL, or the limit that was reached
 * before all wanted files were sent. */
#define LEFTOVER_NAMES   64
#define LEFTOVER_VISITS  65536 /* directory entries that are looked at */
#define LEFTOVER_DEPTH   32
#define LEFTOVER_WANTED  4096
const char *leftover_send(const struct box_task *t, const struct task_files *f, int link);
/* Must the copied file stay open until then, for the comparison? */
bool leftover_compares(const struct box_task *t, uint32_t file);
