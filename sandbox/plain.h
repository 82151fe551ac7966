/* --isolation=none: a task's place without any wall, a temporary directory instead of /job. */
#pragma once
#include "base/err.h"
#include "sandbox/box.h"
#include "sandbox/mounts.h"

/* In the task's init: make the directory, fill it, enter it. */
int plain_place(const struct box_task *t, const struct task_files *f, struct err *e);
/* Remove it. */
void plain_remove(void);
/* Kill every child; called until there are none.  Grandchildren come to us when their parents end. */
void plain_kill_children(void);
