/* Lists the directories of inputs.  In which order a file system gives names, and with which numbers, is its own affair: on
 * ext4 it depends on a random number of the file system's, on others on the order in which the files were made.  So names
 * come from Z to A, as from a task's own directories, into which they were put from A to Z; and the numbers are those that
 * stat tells.
 *
 * The whole directory is read and sorted when the program begins to read it.  The offset of the program's descriptor is then
 * the number of names that it has had, so that descriptors which share an offset share it still, and seekdir(3) works. */
#include "sandbox/notify_task.h"
#include "base/fds.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#define LIST_MAX   100000 /* names of a directory that is sorted */
#define LIST_FIRST 64
#define REPLY_MAX  65536 /* bytes in one answer */

struct listed {
    char *name; /* owned */
    ino_t inode; /* the file system's */
    uint8_t type;
};

static void forget(struct listing *l)
{
    for (uint32_t i = 0; i < l->count; i++)
        free(l->entry[i].name);
    free(l->entry);
    *l = (struct listing){0};
}

void listing_close(struct notify *n)
{
    forget(&n->listing);
}

/* "." and ".." first, the others from Z to A. */
static int compare(const void *a, const void *b)
{
    const char *x = ((const struct listed *)a)->name, *y = ((const struct listed *)b)->name;
    bool dots_x = !strcmp(x, ".") || !strcmp(x, ".."), dots_y = !strcmp(y, ".") || !strcmp(y, "..");

    if (dots_x || dots_y)
        return dots_x && dots_y ? strcmp(x, y) : dots_y - dots_x;
    return strcmp(y, x);
}

static int take(struct listing *l, const struct dirent *d)
{
    if (l->count == l->room) {
        uint32_t room = l->room ? l->room * 2 : LIST_FIRST;
        struct listed *grown = realloc(l->entry, room * sizeof *grown);

        if (!grown)
            return -1;
        l->entry = grown;
        l->room = room;
    }
    char *name = strdup(d->d_name);
    if (!name)
        return -1;
    l->entry[l->count++] = (struct listed){name, d->d_ino, d->d_type};
    return 0;
}

/* Read the directory into the listing; -1: it cannot be read, or is too long. */
static int list(struct listing *l, int directory, const struct stat *s)
{
    int fd = openat(directory, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *d = fd < 0 ? NULL : fdopendir(fd);
    const struct dirent *one;
    int r = 0;

    if (!d) {
        fd_close(&fd);
        return -1;
    }
    forget(l);
    l->device = s->st_dev;
    l->inode = s->st_ino;
    while (r == 0 && (errno = 0, one = readdir(d)))
        r = l->count == LIST_MAX ? -1 : take(l, one);
    if (errno)
        r = -1;
    closedir(d);
    if (r < 0)
        forget(l);
    else
        qsort(l->entry, l->count, sizeof *l->entry, compare);
    return r;
}

/* Write one name as getdents64, or the older getdents, gives it; its size, or 0: there is no room. */
static size_t put(char *at, size_t room, bool old, const struct listed *e, uint64_t number, uint64_t next)
{
    size_t head = old ? 18 : 19, length = strlen(e->name), size = (head + length + (old ? 2 : 1) + 7) & ~(size_t)7;
    uint16_t record = (uint16_t)size;

    if (size > room)
        return 0;
    memset(at, 0, size);
    memcpy(at, &number, 8);
    memcpy(at + 8, &next, 8);
    memcpy(at + 16, &record, 2);
    if (old)
        at[size - 1] = (char)e->type;
    else
        at[18] = (char)e->type;
    memcpy(at + head, e->name, length);
    return size;
}

static void reply(struct notify *n, const struct seccomp_notif *q, int fd, uint64_t at, struct answer *a)
{
    static char bytes[REPLY_MAX];
    const struct listing *l = &n->listing;
    uint32_t wanted = (uint32_t)q->data.args[2];
    size_t room = wanted < sizeof bytes ? wanted : sizeof bytes, size = 0, one;
    uint64_t i = at;

    for (; i < l->count; i++, size += one) {
        const struct listed *e = &l->entry[i];

        one = put(bytes + size, room - size, q->data.nr == SYS_getdents, e, notify_number(n, l->device, e->inode), i + 1);
        if (!one)
            break;
    }
    if (!size && i < l->count)
        a->error = EINVAL; /* not even one has room */
    else if (task_write(n, q, q->data.args[1], bytes, size) < 0)
        a->error = EFAULT;
    else if (i != at && lseek(fd, (off_t)i, SEEK_SET) < 0)
        a->error = EIO;
    a->value = (int64_t)size;
}

void answer_list(struct notify *n, const struct seccomp_notif *q, struct answer *a)
{
    struct listing *l = &n->listing;
    int fd = task_fd(n, q, (int)q->data.args[0]);
    int flags = fd < 0 ? -1 : fcntl(fd, F_GETFL);
    struct stat s;

    a->go_on = true;
    if (flags >= 0 && !(flags & O_PATH) && fstat(fd, &s) == 0 && S_ISDIR(s.st_mode) && !notify_is_scratch(n, q, &s) &&
        !fd_of_image(n, q, fd, false)) {
        off_t at = lseek(fd, 0, SEEK_CUR);
        bool known = at > 0 && l->entry && l->device == s.st_dev && l->inode == s.st_ino;

        a->go_on = at < 0 || (!known && list(l, fd, &s) < 0);
        if (a->go_on)
            notify_mark(n, "reads a directory of which the order is its file system's");
        else
            reply(n, q, fd, (uint64_t)at, a);
    }
    fd_close(&fd);
}
