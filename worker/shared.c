/* See shared.h.  The path is named by a client, which may be anybody who is let in, and this worker may be root.  So no
 * link is followed below the directory, and a file that not everybody on this host may read is not read here. */
#include "worker/shared.h"

#include "base/fds.h"
#include "base/spool.h"
#include "proto/kept.h"

#include <fcntl.h>
#include <limits.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* Writes the next name of a path to `name`.  false: there is none, or one that is not allowed there. */
static bool next_name(const char **path, char name[NAME_MAX + 1])
{
    size_t size = strcspn(*path, "/");
    if (!size || size > NAME_MAX)
        return false;
    memcpy(name, *path, size);
    name[size] = '\0';
    *path += size;
    return strcmp(name, ".") != 0 && strcmp(name, "..") != 0;
}

/* Opens the path below the directory `at`, which is taken.  It is opened without rights (O_PATH), so that nothing happens
 * if it is no file. */
static int walk(int at, const char *path)
{
    char name[NAME_MAX + 1];
    struct stat s;
    while (at >= 0 && *path++ == '/') {
        bool may = fstat(at, &s) == 0 && (!S_ISDIR(s.st_mode) || s.st_mode & S_IXOTH) && next_name(&path, name);
        int next = may ? openat(at, name, O_PATH | O_NOFOLLOW | O_CLOEXEC) : -1;
        close(at);
        at = next;
    }
    return at;
}

static bool is_the_same(int fd, const struct graph_file *f)
{
    struct stat s;
    return fstat(fd, &s) == 0 && S_ISREG(s.st_mode) && s.st_mode & S_IROTH && f->inode && s.st_ino == f->inode &&
           (uint64_t)s.st_size == f->size_bytes &&
           (int64_t)s.st_mtim.tv_sec * 1000000000 + s.st_mtim.tv_nsec == f->mtime_ns;
}

int shared_open(const char *list, const struct graph_file *f)
{
    char directory[PATH_MAX];
    struct err e;
    size_t size = kept_shared_size(list, f->path);
    if (!size || size >= sizeof directory || f->awaited || f->passed)
        return -1;
    memcpy(directory, f->path, size);
    directory[size] = '\0';
    int at = walk(open(directory, O_PATH | O_DIRECTORY | O_CLOEXEC), f->path + (size == 1 ? 0 : size));
    int fd = at >= 0 && is_the_same(at, f) ? spool_reader(at, &e) : -1;
    fd_close(&at);
    return fd;
}
