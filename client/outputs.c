/* See client.h.  Output files appear whole or not at all.  They are written without a name (O_TMPFILE in the target's
 * directory, so that `kill -9` leaves nothing behind), and at commit all are synced, then all are given temporary names,
 * then all are renamed.  Only a crash during the renames can leave some in place and others not. */
#include "client/client.h"

#include "base/digest.h"
#include "base/fds.h"
#include "base/grow.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/random.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <unistd.h>

#define RESOLVE_MAX 4096
#define OUTPUTS_MAX (1u << 24)
#define LINKS_MAX   40 /* one after the other, as in the kernel */

static const char *slash_of(const char *path)
{
    return strrchr(path, '/'); /* an absolute path: there is one */
}

/* For a file that does not exist: its path with the directory resolved, so that two spellings of one path are recognised as
 * the same.  `linked`: a symlink leads there, and where it leads no directory is made.  Gives; NULL with errno. */
static char *below_real(char *name, bool linked)
{
    char *slash = strrchr(name, '/'), *whole = NULL;
    *slash = '\0';
    char *parent = realpath(*name ? name : "/", NULL);
    *slash = '/';
    if (!parent && linked)
        return NULL;
    if (parent && asprintf(&whole, "%s%s", strcmp(parent, "/") ? parent : "", slash) < 0)
        whole = NULL;
    free(parent);
    return whole ? whole : strdup(name);
}

/* The absolute path at which a file of this name is, or would be made.  A symlink is followed, as sh does, even if its
 * target does not exist.  Gives; NULL with errno. */
static char *target_of(const char *directory, const char *path)
{
    char name[RESOLVE_MAX], link[RESOLVE_MAX];
    const char *before = path[0] == '/' ? "" : directory;
    int left = LINKS_MAX;
    size_t size = (size_t)snprintf(name, sizeof name, "%s%s%s", before, *before ? "/" : "", path);
    while (size < sizeof name && left--) {
        char *real = realpath(name, NULL);
        if (real || errno != ENOENT)
            return real;
        ssize_t n = readlink(name, link, sizeof link - 1);
        if (n < 0)
            return errno == EINVAL || errno == ENOENT ? below_real(name, left < LINKS_MAX - 1) : NULL;
        link[n] = '\0';
        size_t keep = link[0] == '/' ? 0 : (size_t)(slash_of(name) + 1 - name);
        size = keep + (size_t)n;
        if (size < sizeof name)
            memcpy(name + keep, link, (size_t)n + 1);
    }
    errno = size < sizeof name ? ELOOP : ENAMETOOLONG;
    return NULL;
}

/* The same, but if the name is a symlink's it is that of the symlink. */
static char *place_of(const char *directory, const char *path)
{
    char name[RESOLVE_MAX];
    if (snprintf(name, sizeof name, "%s/%s", directory, path) < (int)sizeof name)
        return below_real(name, false);
    errno = ENAMETOOLONG;
    return NULL;
}

/* The target's directory.  For a file that was found in /job, whose directories may still have to be made: the nearest one
 * above that exists. */
static void directory_of(const struct output *o, char out[static RESOLVE_MAX])
{
    size_t size = (size_t)(slash_of(o->path) - o->path);
    snprintf(out, RESOLVE_MAX, "%.*s", size ? (int)size : 1, o->path);
    while (o->node == GRAPH_NONE && access(out, F_OK) < 0 && errno == ENOENT && out[1]) {
        char *slash = strrchr(out, '/');
        slash[slash == out] = '\0';
    }
}

/* A random temporary name in the directory.  Gives; NULL with errno. */
static char *hidden_name(const char *directory)
{
    uint64_t number;
    char *path;
    if (getrandom(&number, sizeof number, 0) < 0 ||
        asprintf(&path, "%s/.zpipe-%016llx", directory, (unsigned long long)number) < 0)
        return NULL;
    return path;
}

static int open_hidden(struct output *o)
{
    char directory[RESOLVE_MAX];
    directory_of(o, directory);
    int fd = open(directory, O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
    if (fd >= 0 || (errno != EOPNOTSUPP && errno != EISDIR && errno != EINVAL))
        return fd;
    /* This file system has no O_TMPFILE: use a temporary name, which only `kill -9` can leave behind. */
    if (!(o->hidden = hidden_name(directory)))
        return -1;
    return open(o->hidden, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
}

/* The files of a submitted job stay below its directory at the keeper.  Missing directories are made there, since those of
 * the machine where the files will go are not here. */
static int confine(const struct zpipe_job *j, const char *path, struct err *e)
{
    char name[RESOLVE_MAX];
    bool up = path[0] == '/';
    for (const char *at = path; *at && !up; at += strcspn(at, "/"), at += *at == '/')
        up = !strncmp(at, "..", 2) && (!at[2] || at[2] == '/');
    if (up || snprintf(name, sizeof name, "%s/%s", j->directory, path) >= (int)sizeof name)
        return err_set(e, ERR_INPUT, "a submitted job cannot write '%.200s': only names below the working directory are kept", path);
    for (char *at = strchr(name + strlen(j->directory) + 1, '/'); at; at = strchr(at + 1, '/')) {
        *at = '\0';
        if (mkdir(name, 0700) < 0 && errno != EEXIST)
            return err_sys(e, "cannot make the directory '%s'", name);
        *at = '/';
    }
    return 0;
}

static int output_open(struct zpipe_job *j, struct output *o, const char *path, struct err *e)
{
    struct stat s;
    if (j->held && confine(j, path, e) < 0)
        return -1;
    o->path = o->in_link ? place_of(j->directory, path) : target_of(j->directory, path);
    if (!o->path)
        return err_sys(e, "cannot write '%s'", path);
    if (!o->in_link && stat(o->path, &s) == 0) {
        if (S_ISDIR(s.st_mode))
            return err_set(e, ERR_INPUT, "cannot write '%s': it is a directory", path);
        if (access(o->path, W_OK) < 0)
            return err_sys(e, "cannot write '%s'", path);
        if (!S_ISREG(s.st_mode)) { /* a device, a fifo: written as it is, as in sh */
            o->fd = open(o->path, O_WRONLY | O_CLOEXEC | O_NOCTTY);
            if (o->fd < 0)
                return err_sys(e, "cannot open '%s' for writing", path);
            free(o->path);
            o->path = NULL;
            return 0;
        }
        o->mode = s.st_mode;
    }
    int hidden = open_hidden(o);
    if (hidden < 0)
        return err_sys(e, "cannot write '%s'", path);
    o->fd = fd_reopen(hidden, O_WRONLY); /* programs get a descriptor that can only be written to, as from sh */
    close(hidden);
    return o->fd < 0 ? err_sys(e, "cannot write '%s'", path) : 0;
}

struct output *output_add(struct zpipe_job *j, uint32_t node, const char *path, struct err *e)
{
    if (j->no_outputs) {
        err_set(e, ERR_DENIED, "it makes the file '%s', and this job may make none", path);
        return NULL;
    }
    if (!grow(&j->output, &j->output_room, j->output_count, OUTPUTS_MAX, sizeof *j->output)) {
        err_nomem(e);
        return NULL;
    }
    struct output *o = &j->output[j->output_count++];
    *o = (struct output){.node = node, .fd = -1, .phase = node == GRAPH_NONE ? j->phase : j->whole->node[node].phase};
    return output_open(j, o, path, e) < 0 ? NULL : o;
}

int output_in_link(struct zpipe_job *j, struct output *o, const char *path, struct err *e)
{
    if (o->hidden)
        unlink(o->hidden);
    free(o->hidden);
    free(o->path);
    o->hidden = o->path = NULL;
    fd_close(&o->fd);
    o->mode = 0;
    o->in_link = true;
    return output_open(j, o, path, e);
}

static int append(const struct output *o, struct err *e)
{
    int from = fd_reopen(o->fd, O_RDONLY);
    int to = open(o->path, O_WRONLY | O_CREAT | O_CLOEXEC, 0666);
    off_t end = to >= 0 ? lseek(to, 0, SEEK_END) : -1;
    ssize_t n = from < 0 || end < 0 ? -1 : 1;
    while (n > 0)
        n = sendfile(to, from, NULL, 1 << 20);
    if (n == 0 && fsync(to) < 0)
        n = -1;
    if (n < 0)
        err_sys(e, "cannot append to '%s'", o->path);
    if (n < 0 && end >= 0 && ftruncate(to, end) < 0)
        err_wrap(e, "and cannot undo it");
    fd_close(&from);
    fd_close(&to);
    return n < 0 ? -1 : 0;
}

/* If the program that wrote this file failed, see whether there is still no room on the disk: if so, a full disk is
 * probably why, and the file is not put in place. */
static int check_complete(const struct zpipe_job *j, const struct output *o, struct err *e)
{
    const struct graph *g = j->whole;
    bool failed = false;
    struct stat s;
    for (uint32_t i = 0; i < g->edge_count; i++)
        failed |= g->edge[i].to == o->node && j->end[g->edge[i].from].status;
    if (!failed || fstat(o->fd, &s) < 0)
        return 0;
    if (fallocate(o->fd, FALLOC_FL_KEEP_SIZE, s.st_size, 65536) < 0 && (errno == ENOSPC || errno == EDQUOT))
        return err_sys(e, "'%s' could not be completed, and no output was put in place", o->path);
    if (ftruncate(o->fd, s.st_size) < 0)
        return err_sys(e, "cannot complete '%s'", o->path);
    return 0;
}

/* A target that existed keeps its mode, unless the program that left the file in /job chose another one. */
static mode_t mode_of(const struct output *o)
{
    mode_t mask = umask(0);
    umask(mask);
    if (!o->mode)
        return (o->chosen ? o->chosen : 0666) & ~mask;
    bool another = o->chosen && o->chosen != ((o->mode & 0777) | 0600);
    return another ? o->chosen : o->mode & 07777;
}

/* Make the directories that the stage made in /job for this file. */
static int make_directories(struct output *o, struct err *e)
{
    for (char *at = strchr(o->path + 1, '/'); at && o->node == GRAPH_NONE; at = strchr(at + 1, '/')) {
        *at = '\0';
        int r = mkdir(o->path, 0777);
        o->directories += r == 0;
        if (r < 0 && errno != EEXIST)
            err_sys(e, "cannot make the directory '%s'", o->path);
        bool failed = r < 0 && errno != EEXIST;
        *at = '/';
        if (failed)
            return -1;
    }
    return 0;
}

/* Remove those of them that are empty, the deepest first. */
static void remove_directories(struct output *o)
{
    for (char *at; o->directories; o->directories--) {
        at = strrchr(o->path, '/');
        *at = '\0';
        rmdir(o->path);
    }
}

int output_publish(struct output *o, struct err *e)
{
    char self[64], directory[RESOLVE_MAX];
    if (fchmod(o->fd, mode_of(o)) < 0)
        return err_sys(e, "cannot complete '%s'", o->path);
    if (o->hidden)
        return 0;
    directory_of(o, directory);
    o->hidden = hidden_name(directory);
    snprintf(self, sizeof self, "/proc/self/fd/%d", o->fd);
    if (o->hidden && linkat(AT_FDCWD, self, AT_FDCWD, o->hidden, AT_SYMLINK_FOLLOW) == 0)
        return 0;
    err_sys(e, "cannot put '%s' in place", o->path);
    free(o->hidden);
    o->hidden = NULL;
    return -1;
}

struct output *output_at(struct zpipe_job *j, const char *path)
{
    char *target = target_of(j->directory, path);
    struct output *found = NULL;
    for (uint32_t i = 0; target && i < j->output_count; i++) {
        struct output *o = &j->output[i];
        if (o->path && o->made && !o->replaced && !o->append && o->phase < j->phase && !strcmp(o->path, target))
            found = o;
    }
    free(target);
    return found;
}

static bool is_placed(const struct output *o)
{
    return o->path && o->made && !o->replaced && !o->append;
}

/* Everything but the rename: all files are synced, and then get their modes and temporary names.  The bytes of all are on their
 * way to the disk before the first is waited for, and no name is given in between: so the file system's log, too, is written
 * for all at once. */
static int prepare(struct zpipe_job *j, struct err *e)
{
    struct output *all = j->output, *end = j->output + j->output_count;
    for (struct output *o = all; o < end; o++)
        if (o->path && o->made && !o->replaced && check_complete(j, o, e) < 0)
            return -1;
    for (struct output *o = all; o < end; o++)
        if (is_placed(o))
            (void)!sync_file_range(o->fd, 0, 0, SYNC_FILE_RANGE_WRITE); /* some file systems cannot: fsync does it all */
    for (struct output *o = all; o < end; o++)
        if (is_placed(o) && fsync(o->fd) < 0)
            return err_sys(e, "cannot complete '%s'", o->path);
    for (struct output *o = all; o < end; o++)
        if (is_placed(o) && (make_directories(o, e) < 0 || output_publish(o, e) < 0))
            return -1;
    return 0;
}

int outputs_commit(struct zpipe_job *j, struct err *e)
{
    if (prepare(j, e) < 0)
        return -1;
    for (uint32_t i = 0; i < j->output_count; i++) {
        struct output *o = &j->output[i];
        if (o->path && o->made && o->append && append(o, e) < 0)
            return -1;
    }
    for (uint32_t i = 0; i < j->output_count; i++) {
        struct output *o = &j->output[i];
        if (!is_placed(o))
            continue;
        if (rename(o->hidden, o->path) < 0)
            return err_sys(e, "cannot put '%s' in place", o->path);
        free(o->hidden);
        o->hidden = NULL;
        o->directories = 0;
    }
    return 0;
}

/* The digest of the file behind fd, read through a descriptor of our own. */
static int digest_file(int fd, char out[65], struct err *e)
{
    int from = fd_reopen(fd, O_RDONLY);
    struct digest d;
    int r = from < 0 ? err_sys(e, "cannot read an output") : digest_of_file(from, &d, e);
    if (r == 0)
        digest_print(&d, out);
    fd_close(&from);
    return r;
}

int outputs_check(struct zpipe_job *j, struct err *e)
{
    const struct graph *g = j->whole;
    for (uint32_t i = 0; i < g->expect_count; i++) {
        int fd = j->check[i].fd;
        char hex[65];
        for (uint32_t k = 0; fd < 0 && k < j->output_count; k++)
            if (j->output[k].node == g->expect[i].node)
                fd = j->output[k].fd;
        if (digest_file(fd, hex, e) < 0)
            return -1;
        if (strcmp(hex, g->expect[i].sha256))
            return err_set(e, ERR_INPUT, "line %u: %.200s has the digest %s, and check wants %s%s", g->expect[i].line,
                           g->expect[i].name, hex, g->expect[i].sha256,
                           j->output_count ? "; no output was put in place" : "");
    }
    return 0;
}

void outputs_close(struct zpipe_job *j)
{
    for (uint32_t i = 0; i < j->output_count; i++) {
        struct output *o = &j->output[i];
        if (o->hidden)
            unlink(o->hidden);
        free(o->hidden);
        fd_close(&o->fd);
    }
    for (uint32_t i = j->output_count; i-- > 0;) {
        remove_directories(&j->output[i]);
        free(j->output[i].path);
    }
    free(j->output);
    j->output = NULL;
    j->output_count = j->output_room = 0;
}
