/* The processes and threads of a task take turns: of all of them one is at work, so that in whose order they do things
 * is the same every time.  See turns.c. */
#pragma once
#include "sandbox/notify.h"

#include <stdbool.h>
#include <sys/types.h>

struct server;
struct task;

/* Listen to what the task's processes do.  It has one process so far. */
void turns_begin(struct task *t);
/* A wait status of a traced process.  False: it is none of ours. */
bool turns_stopped(struct server *s, pid_t pid, int status);
/* There has been one process only, or they always took turns: all that start others are heard of. */
/* Of one that is traced for beside.c, likewise. */
bool beside_stopped(struct server *s, pid_t pid, int status);
/* It is stopped, for the end of a child or by a signal that stops: a call that was broken before we have heard of it begins again. */
void beside_begin_again(pid_t pid);
bool turns_kept(const struct task *t);
void turns_free(struct task *t); /* never begun is allowed */
