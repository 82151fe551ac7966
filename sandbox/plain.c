/* A task without a wall.  Its files are links and copies in a temporary directory; names outside cannot
 * be given.  Its processes are those below its init, which is their reaper. */
#include "sandbox/plain.h"
#include "base/fds.h"
#include "sandbox/spec.h"

#include <errno.h>
#include <fcntl.h>
#include <fts.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <unistd.h>

static char directory[4096];

static int make_parents(char *path)
{
    for (char *at = strchr(path, '/'); at; at = strchr(at + 1, '/')) {
        *at = '\0';
        int r = mkdir(path, 0755);
        *at = '/';
        if (r < 0 && errno != EEXIST)
            return -1;
    }
    return 0;
}

static int place(const struct box_file *file, const struct task_files *f, uint32_t i)
{
    char path[4200];
    if (file->name[0] == '/') {
        if (file->path && !strcmp(file->path, file->name) && !file->copy)
            return 0; /* it is there */
        errno = ENOTSUP;
        return -1;
    }
    snprintf(path, sizeof path, "%s", file->name);
    if (make_parents(path) < 0)
        return -1;
    if (file->directory)
        return mkdir(path, 0755) < 0 && errno != EEXIST ? -1 : 0;
    if (file->link)
        return symlink(file->link, path);
    return f->tree[i] ? symlink(file->path, path) : file_copy(file, f->fd[i], path);
}

int plain_place(const struct box_task *t, const struct task_files *f, struct err *e)
{
    const char *base = getenv("TMPDIR");
    snprintf(directory, sizeof directory, "%s/zpipe-box-XXXXXX", base && *base == '/' ? base : "/tmp");
    if (prctl(PR_SET_CHILD_SUBREAPER, 1) < 0 || !mkdtemp(directory) || chdir(directory) < 0) {
        directory[0] = '\0';
        return err_sys(e, "cannot make a temporary directory for the program");
    }
    for (uint32_t i = 0; i < t->file_count; i++)
        if (place(&t->file[i], f, i) < 0) {
            err_sys(e, "cannot place the input '%s'", t->file[i].name);
            plain_remove();
            return -1;
        }
    for (uint32_t i = 0; i < t->output_count; i++) {
        char path[4200];
        snprintf(path, sizeof path, "%s", t->output[i]);
        if (path[0] != '/')
            make_parents(path); /* where it cannot be, the program says it */
    }
    return 0;
}

void plain_remove(void)
{
    char *paths[] = {directory, NULL};
    FTS *walk = directory[0] ? fts_open(paths, FTS_PHYSICAL | FTS_NOCHDIR, NULL) : NULL;
    if (!walk)
        return;
    for (FTSENT *entry; (entry = fts_read(walk));) {
        if (entry->fts_info == FTS_DP)
            rmdir(entry->fts_accpath);
        else if (entry->fts_info != FTS_D)
            unlink(entry->fts_accpath);
    }
    fts_close(walk);
    directory[0] = '\0';
}

void plain_kill_children(void)
{
    char path[64];
    int child;
    snprintf(path, sizeof path, "/proc/self/task/%d/children", (int)getpid());
    FILE *in = fopen(path, "re");
    if (!in)
        return;
    while (fscanf(in, "%d", &child) == 1)
        if (child > 1)
            kill((pid_t)child, SIGKILL);
    fclose(in);
}
