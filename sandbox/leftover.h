/* What a program left in /job, our current directory. */
#pragma once
struct box_task;

/* Hand over the wanted files and name the others (at most LEFTOVER_NAMES), as WIRE_MADE packets. */
#define LEFTOVER_NAMES   64
#define LEFTOVER_VISITS  65536 /* directory entries looked at */
#define LEFTOVER_DEPTH   32
#define LEFTOVER_WANTED  4096
void leftover_send(const struct box_task *t, int link);
