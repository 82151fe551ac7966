/* The processes and threads of a task take turns: only one of them is at work at any time, so that the order in which they
 * do things is the same in every run.  See turns.c. */
#pragma once
#include "sandbox/notify.h"

#include <stdbool.h>
#include <sys/types.h>

struct server;
struct task;

/* Begin to follow what the task's processes do.  The task has one process so far. */
void turns_begin(struct task *t);
/* A wait status of a traced process.  False: turns.c does not trace it. */
bool turns_stopped(struct server *s, pid_t pid, int status);
/* A wait status of a process that is traced for beside.c.  False: beside.c does not trace it. */
bool beside_stopped(struct server *s, pid_t pid, int status);
/* The process is stopped, for the end of a child or by a signal that stops: if the signal broke a call of which we had not
 * been told, begin the call again. */
void beside_begin_again(pid_t pid);
/* "": the task had only one process, or its processes always took turns; else why what they did may vary (static text). */
const char *turns_broken(const struct task *t);
void turns_free(struct task *t); /* also allowed if turns_begin was not called */
