/* The file trees of a sandbox: the zygote's image, the mounter's detached inputs, a task's own places. */
#pragma once
#include "base/err.h"
#include "sandbox/box.h"

#include <stdbool.h>

/* In the zygote, in its own mount namespace: builds the image and makes it the root, read-only. */
int image_build(struct err *e);

/* Makes a detached copy of what is mounted at `path` and everything below it: read-only, nosuid, nodev; -1 with errno.
 * *late: this kernel (before 5.12) cannot make it read-only yet: that must be done after it is mounted, and mounts below it
 * are left out. */
int tree_open(const char *path, bool *late);

#define SCRATCH_DEFAULT (1ull << 30) /* bytes in /tmp and /job together, for a task without a limit */

struct task_files {
    int *fd;    /* for each file of the task: a detached tree, or a file to copy from */
    bool *tree; /* true: it is a detached tree */
    bool *late; /* see tree_open */
};

/* Makes a new file `path` with the part of `from` that `f` describes; -1 with errno. */
int file_copy(const struct box_file *f, int from, const char *path);

/* Does this task need a root of its own?  Then its place cannot be made before the task is known. */
bool mounts_need_root(const struct box_task *t);
/* In an init, in its own mount namespace: makes /tmp and /job, empty, and makes /job the current directory.  `own`: NULL,
 * or the task that needs a root of its own. */
int mounts_begin(const struct box_task *own, struct err *e);
/* Makes /tmp and /job anew.  All that is in the old ones goes, inputs too. */
int mounts_renew(struct err *e);
/* Then adds what belongs to the task: its files, and room for them.  Borrows the fds. */
int mounts_add(const struct box_task *t, const struct task_files *f, struct err *e);
