/* The file trees of a sandbox: the zygote's image, the mounter's detached inputs, a task's own places. */
#pragma once
#include "base/err.h"
#include "sandbox/box.h"

#include <stdbool.h>

/* In the zygote, alone in its mount namespace: build the image, make it the root, read-only. */
int image_build(struct err *e);

/* A detached copy of what is mounted at `path`, read-only, nosuid, nodev, with all below it; -1 with
 * errno.  *late: this kernel cannot (before 5.12): the place must be made read-only after it is mounted,
 * and mounts below it are left out. */
int tree_open(const char *path, bool *late);

#define SCRATCH_DEFAULT (1ull << 30) /* bytes of /tmp and /job together, of a task without a limit */

struct task_files {
    int *fd;    /* per file of the task: a detached tree, or a file to copy from */
    bool *tree; /* which of the two */
    bool *late; /* as tree_open says */
};

/* A new file `path` with the bytes that `f` is of `from`; -1 with errno. */
int file_copy(const struct box_file *f, int from, const char *path);

/* Must this task have a root of its own?  Then its place cannot be made before it is known. */
bool mounts_need_root(const struct box_task *t);
/* In an init, alone in its mount namespace: /tmp and /job, empty, and that is where it is.  `own`: NULL, or the task that
 * needs a root of its own. */
int mounts_begin(const struct box_task *own, struct err *e);
/* Then what is the task's: its files, and room for them.  Borrows the fds. */
int mounts_add(const struct box_task *t, const struct task_files *f, struct err *e);
