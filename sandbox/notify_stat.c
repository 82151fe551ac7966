/* What a task is told about files.  The kernel's own answers vary: numbers of devices and of unnamed files are given in the
 * order of use, and times are the host's.  So:
 *   - files of the image have the numbers, sizes and modification times that they have on the host; the modification time
 *     also stands for their other times, which depend on who reads them there.  None is later than the epoch, or all that a
 *     program makes of them would be out of date for make and ninja; but python's sources have their own time by their names,
 *     as it stands in what python has compiled of them.  Their owner is the task's user.  The gate tells the same about them (gate.c);
 *   - files that the task made have their own numbers, which a fresh tmpfs gives in order, and logical
 *     times: a time that the kernel set is replaced, in the file itself, by the logical time of the first look at it.
 *     A file that is looked at later counts as changed later, which is what `find -newer` and make need.  /job and /tmp
 *     themselves have the epoch until something in them changes, so that a look changes nothing;
 *   - everything else (inputs, sockets, pipes) has the epoch as its time, a number by the order of first looks, one link,
 *     and the task's user as its owner;
 *   - a channel is a pipe, and /dev/urandom a device.
 * Only programs that are known to show none of this are not watched (filter_watches). */
#include "sandbox/notify_task.h"
#include "base/fds.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <time.h>
#include <unistd.h>

#define SECOND_NS     1000000000ll
#define BLOCK_BYTES   4096
#define INSIDE_ID     1000
#define SCRATCH_DEV   2 /* device numbers that a task is told: for its own files, and for others */
#define OTHER_DEV     1
#define SEEN_MAX      (1u << 20) /* files whose numbers are kept */
#define SEEN_FIRST    64
#define START_NS      (10 * SECOND_NS)

/* --- numbers of files that are not the task's --- */

static uint32_t slot_of(const struct seen *s, dev_t device, ino_t inode)
{
    uint64_t hash = (device * 0x9e3779b97f4a7c15u) ^ (inode * 0xc2b2ae3d27d4eb4fu);
    uint32_t at = (uint32_t)(hash >> 32) & (s->room - 1);

    while (s->file[at].number && (s->file[at].device != device || s->file[at].inode != inode))
        at = (at + 1) & (s->room - 1);
    return at;
}

static int seen_grow(struct seen *s)
{
    struct seen grown = {.room = s->room ? s->room * 2 : SEEN_FIRST, .count = s->count};

    if (grown.room > SEEN_MAX)
        return -1;
    grown.file = calloc(grown.room, sizeof *grown.file);
    if (!grown.file)
        return -1;
    for (uint32_t i = 0; i < s->room; i++)
        if (s->file[i].number)
            grown.file[slot_of(&grown, s->file[i].device, s->file[i].inode)] = s->file[i];
    free(s->file);
    *s = grown;
    return 0;
}

ino_t notify_number(struct notify *n, dev_t device, ino_t inode)
{
    struct seen *s = &n->seen;

    if (s->count * 2 >= s->room && seen_grow(s) < 0) {
        notify_mark(n, "looks at more files than are counted");
        return inode;
    }
    struct seen_file *f = &s->file[slot_of(s, device, inode)];
    if (!f->number)
        *f = (struct seen_file){device, inode, ++s->count};
    return f->number;
}

int seen_copy(struct seen *s)
{
    struct seen_file *file = s->room ? malloc(s->room * sizeof *file) : NULL;

    if (s->room && !file)
        return -1;
    if (s->room)
        memcpy(file, s->file, s->room * sizeof *file);
    s->file = file;
    return 0;
}

/* A file's slot depends on its identity, so the table is made anew, no larger than before. */
void seen_exchange(struct seen *s, dev_t device, ino_t inode, dev_t by_device, ino_t by_inode)
{
    struct seen now = {.room = s->room, .count = s->count};
    struct seen_file *f;

    if (!s->room || !s->file[slot_of(s, device, inode)].number)
        return;
    now.file = calloc(now.room, sizeof *now.file);
    if (!now.file)
        return;
    for (uint32_t i = 0; i < s->room; i++) {
        f = &s->file[i];
        if (f->device == device && f->inode == inode)
            f->device = by_device, f->inode = by_inode;
        if (f->number)
            now.file[slot_of(&now, f->device, f->inode)] = *f;
    }
    free(s->file);
    *s = now;
}

/* --- the answer --- */

static struct timespec logical(const struct notify *n, uint64_t ns)
{
    return (struct timespec){n->epoch_s + (int64_t)(ns / SECOND_NS), (long)(ns % SECOND_NS)};
}

struct timespec clock_now(struct notify *n)
{
    return logical(n, clock_look(n));
}

/* Has the kernel set this time since the task began?  If it is later than now, a program has set it. */
static bool is_real(const struct notify *n, const struct timespec *t)
{
    __int128 ns = (__int128)t->tv_sec * SECOND_NS + t->tv_nsec;
    struct timespec now;

    clock_gettime(CLOCK_REALTIME, &now);
    return ns >= n->began_ns && ns <= (__int128)(now.tv_sec + 1) * SECOND_NS;
}

/* Find the task's own device, and when the task began.  Kernels that do not tell that (before 6.0): as long ago as a start
 * can take. */
static void learn_scratch(struct notify *n, const struct seccomp_notif *q)
{
    struct statx x = {0};
    int fd = task_open(n, q, AT_FDCWD, "/job", O_PATH | O_DIRECTORY); /* not /tmp, which may be an input */

    n->scratch_known = true;
    n->began_ns -= START_NS;
    if (fd >= 0 && statx(fd, "", AT_EMPTY_PATH, STATX_BTIME, &x) == 0)
        n->scratch_dev = makedev(x.stx_dev_major, x.stx_dev_minor);
    if (x.stx_mask & STATX_BTIME)
        n->began_ns = (x.stx_btime.tv_sec - 1) * SECOND_NS; /* /job may be a little older */
    fd_close(&fd);
}

bool notify_is_scratch(struct notify *n, const struct seccomp_notif *q, const struct stat *s)
{
    if (!n->scratch_known)
        learn_scratch(n, q);
    return n->scratch_dev && s->st_dev == n->scratch_dev;
}

void notify_time_asked(struct notify *n, const struct seccomp_notif *q, const struct timespec *t)
{
    __int128 ns = (__int128)t->tv_sec * SECOND_NS + t->tv_nsec;

    if (!n->scratch_known)
        learn_scratch(n, q);
    if (ns >= n->began_ns && (!n->asked_time || ns < n->asked_ns)) {
        n->asked_time = true;
        n->asked_ns = ns < CLOCK_NS_MAX ? (uint64_t)ns : CLOCK_NS_MAX;
    }
}

/* If it cannot be told whether the kernel or the task has set this time, the result is not certified. */
static void doubt(struct notify *n, const struct timespec *t)
{
    if (n->asked_time && is_real(n, t) && (__int128)t->tv_sec * SECOND_NS + t->tv_nsec >= n->asked_ns)
        notify_mark(n, "sets a file's time to what is now on this host");
}

static bool is_unchanged(const struct timespec *t)
{
    return !t->tv_sec && t->tv_nsec == NOTIFY_UNCHANGED_NS;
}

static void own_file(struct notify *n, const struct seccomp_notif *q, int fd, struct stat *s)
{
    doubt(n, &s->st_mtim);
    doubt(n, &s->st_atim);
    if (is_real(n, &s->st_mtim)) {
        struct timespec now = clock_now(n), both[2] = {now, now};
        char link[32];

        if (!is_real(n, &s->st_atim))
            both[0].tv_nsec = UTIME_OMIT;
        snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
        if (S_ISLNK(s->st_mode) ? syscall(SYS_utimensat, fd, "", both, AT_EMPTY_PATH) < 0
                                : utimensat(AT_FDCWD, link, both, 0) < 0)
            notify_mark(n, "a file's time cannot be set");
        notify_time_asked(n, q, &now);
        s->st_mtim = now;
    }
    if (S_ISDIR(s->st_mode) && is_unchanged(&s->st_mtim))
        s->st_mtim = logical(n, 0);
    s->st_dev = SCRATCH_DEV;
    s->st_uid = s->st_gid = INSIDE_ID;
    if (is_real(n, &s->st_atim) || (S_ISDIR(s->st_mode) && is_unchanged(&s->st_atim)))
        s->st_atim = s->st_mtim;
    s->st_ctim = s->st_mtim;
}

static void unnamed_kind(int fd, struct stat *s)
{
    struct stat null;
    int mark = S_ISSOCK(s->st_mode) ? notify_mark_of(fd) : 0;

    if (mark == NOTIFY_MARK_CHANNEL)
        s->st_mode = S_IFIFO | 0600;
    if (mark == NOTIFY_MARK_RANDOM) {
        s->st_mode = S_IFCHR | 0666;
        s->st_rdev = makedev(1, 9);
    }
    if (mark == NOTIFY_MARK_NULL && stat("/dev/null", &null) == 0)
        *s = null; /* the file of that name, also to grep, which compares them */
}

static void other_file(struct notify *n, int fd, struct stat *s)
{
    struct timespec epoch = logical(n, 0);

    unnamed_kind(fd, s);
    s->st_ino = notify_number(n, s->st_dev, s->st_ino);
    s->st_dev = OTHER_DEV;
    s->st_nlink = 1; /* also for a directory: it must not tell what is in it */
    s->st_uid = s->st_gid = INSIDE_ID;
    s->st_blksize = BLOCK_BYTES;
    if (S_ISDIR(s->st_mode))
        s->st_size = BLOCK_BYTES;
    s->st_blocks = S_ISREG(s->st_mode) || S_ISDIR(s->st_mode)
                       ? (s->st_size + BLOCK_BYTES - 1) / BLOCK_BYTES * (BLOCK_BYTES / 512)
                       : 0;
    s->st_atim = s->st_mtim = s->st_ctim = epoch;
}

/* name: NULL, or by which it is asked for. */
static void image_file(const struct notify *n, const char *name, struct stat *s)
{
    size_t size = name ? strlen(name) : 0;

    s->st_uid = s->st_gid = INSIDE_ID;
    if (s->st_mtim.tv_sec >= n->epoch_s && !(size > 3 && !strcmp(name + size - 3, ".py")))
        s->st_mtim = (struct timespec){.tv_sec = n->epoch_s};
    s->st_atim = s->st_ctim = s->st_mtim;
}

static struct statx_timestamp timestamp(const struct timespec *t)
{
    return (struct statx_timestamp){.tv_sec = t->tv_sec, .tv_nsec = (uint32_t)t->tv_nsec};
}

static void reply_statx(struct notify *n, const struct seccomp_notif *q, const struct stat *s, struct answer *a)
{
    struct statx x;

    memset(&x, 0, sizeof x);
    x.stx_mask = STATX_BASIC_STATS | ((uint32_t)q->data.args[3] & STATX_BTIME);
    x.stx_blksize = (uint32_t)s->st_blksize;
    x.stx_nlink = (uint32_t)s->st_nlink;
    x.stx_uid = s->st_uid;
    x.stx_gid = s->st_gid;
    x.stx_mode = (uint16_t)s->st_mode;
    x.stx_ino = s->st_ino;
    x.stx_size = (uint64_t)s->st_size;
    x.stx_blocks = (uint64_t)s->st_blocks;
    x.stx_atime = timestamp(&s->st_atim);
    x.stx_mtime = x.stx_ctime = timestamp(&s->st_mtim);
    if (x.stx_mask & STATX_BTIME)
        x.stx_btime = x.stx_mtime;
    x.stx_rdev_major = major(s->st_rdev);
    x.stx_rdev_minor = minor(s->st_rdev);
    x.stx_dev_major = major(s->st_dev);
    x.stx_dev_minor = minor(s->st_dev);
    if (task_write(n, q, q->data.args[4], &x, sizeof x) < 0)
        a->error = EFAULT;
}

/* What a call asks about: a path relative to a directory, or a descriptor. */
struct question {
    int directory;
    uint64_t path, to; /* addresses; path 0: none */
    bool follow, itself; /* itself: without a path, it is about the descriptor itself */
};

static struct question question_of(const struct seccomp_notif *q)
{
    const __u64 *arg = q->data.args;
    uint32_t flags;

    switch (q->data.nr) {
    case SYS_stat:
    case SYS_lstat:
        return (struct question){AT_FDCWD, arg[0], arg[1], q->data.nr == SYS_stat, false};
    case SYS_fstat:
        return (struct question){(int)arg[0], 0, arg[1], true, true};
    default: /* newfstatat, statx */
        flags = (uint32_t)arg[q->data.nr == SYS_statx ? 2 : 3];
        return (struct question){(int)arg[0], arg[1], arg[q->data.nr == SYS_statx ? 4 : 2],
                                 !(flags & AT_SYMLINK_NOFOLLOW), flags & AT_EMPTY_PATH};
    }
}

/* Does this name below the image lead to a file of the image?  A link there to the same file system counts too; but a link may
 * also lead to a device, and `..` to the sandbox's root.  The gate asks the same. */
static bool is_there(struct notify *n, const struct seccomp_notif *q, const char *path, int fd)
{
    struct stat s;

    return path_of_image(path) && fstat(fd, &s) == 0 && s.st_dev == task_image_dev(n, q);
}

/* Open the file that is asked about, by the name `path`, or ""; -1: the kernel is to answer, unless a->error is set. */
static int open_asked(struct notify *n, const struct seccomp_notif *q, const struct question *ask, char path[TASK_PATH_MAX], bool *image,
                      struct answer *a)
{
    int number = ask->directory, fd = -1;

    *path = '\0';
    if (ask->path && task_text(n, q, ask->path, path, TASK_PATH_MAX) < 0)
        return -1;
    if (!*path && !ask->itself)
        return -1; /* an empty name */
    const struct named *named = named_find(n, path);
    if (named) /* a named channel: the file that opening it gives */
        return fcntl(named->fd, F_DUPFD_CLOEXEC, 0);
    bool numbered = path_of_fd_name(path, &number);
    if (numbered && (fd = task_fd(n, q, number)) < 0) { /* the file that the image has there is only a placeholder */
        a->error = ENOENT;
        return -1;
    }
    bool opened = (!numbered || !ask->follow) && *path;
    if (!numbered || !ask->follow) {
        fd_close(&fd);
        if (*path)
            fd = task_open(n, q, ask->directory, path, O_PATH | (ask->follow ? 0 : O_NOFOLLOW));
        else
            fd = number == AT_FDCWD ? task_open_cwd(n, q) : task_fd(n, q, number);
    }
    *image = fd >= 0 && (is_there(n, q, path, fd) || fd_of_image(n, q, fd, opened));
    return fd;
}

/* Are the flags ones that the kernel knows and answers? */
static bool asks_well(const struct seccomp_notif *q)
{
    uint32_t known = AT_SYMLINK_NOFOLLOW | AT_NO_AUTOMOUNT | AT_EMPTY_PATH, mask = (uint32_t)q->data.args[3];

    if (q->data.nr == SYS_newfstatat)
        return !(mask & ~known);
    return q->data.nr != SYS_statx || (!((uint32_t)q->data.args[2] & ~(known | AT_STATX_SYNC_TYPE)) &&
                                       ((uint32_t)q->data.args[2] & AT_STATX_SYNC_TYPE) != AT_STATX_SYNC_TYPE && !(mask & STATX__RESERVED));
}

void answer_stat(struct notify *n, const struct seccomp_notif *q, struct answer *a)
{
    struct question ask = question_of(q);
    char path[TASK_PATH_MAX];
    struct stat s;
    bool image = false;
    int fd;

    if (q->data.nr == SYS_newfstatat)
        gate_lead(n, q);
    if (!asks_well(q)) {
        a->error = EINVAL;
        return;
    }
    fd = open_asked(n, q, &ask, path, &image, a);
    a->go_on = !a->error;
    if (fd >= 0 && fstat(fd, &s) == 0) {
        a->go_on = false;
        if (image)
            image_file(n, path, &s);
        else if (notify_is_scratch(n, q, &s))
            own_file(n, q, fd, &s);
        else
            other_file(n, fd, &s);
        if (q->data.nr == SYS_statx)
            reply_statx(n, q, &s, a);
        else if (task_write(n, q, ask.to, &s, sizeof s) < 0)
            a->error = EFAULT;
    }
    fd_close(&fd);
}

/* Open the place that statfs asks about; -1 with the reason in a->error. */
static int open_place(struct notify *n, const struct seccomp_notif *q, const char *path)
{
    const struct named *named = named_find(n, path);
    int number;

    if (named)
        return fcntl(named->fd, F_DUPFD_CLOEXEC, 0);
    if (path_of_fd_name(path, &number))
        return task_fd(n, q, number);
    return *path ? task_open(n, q, AT_FDCWD, path, O_PATH) : (errno = ENOENT, -1);
}

/* All files are on one file system, which is always half full. */
void answer_statfs(struct notify *n, const struct seccomp_notif *q, struct answer *a)
{
    static const struct statfs s = {.f_type = 0x01021994 /* tmpfs */, .f_bsize = BLOCK_BYTES, .f_frsize = BLOCK_BYTES,
                                    .f_blocks = NOTIFY_TOLD / BLOCK_BYTES, .f_bfree = NOTIFY_TOLD / BLOCK_BYTES / 2,
                                    .f_bavail = NOTIFY_TOLD / BLOCK_BYTES / 2, .f_files = 1 << 20, .f_ffree = 1 << 20, .f_namelen = 255};
    char path[TASK_PATH_MAX];
    bool named = q->data.nr == SYS_statfs;
    int fd;

    if (named && task_text(n, q, q->data.args[0], path, sizeof path) < 0) {
        a->go_on = true; /* the kernel will say EFAULT, or that it is too long */
        return;
    }
    fd = named ? open_place(n, q, path) : task_fd(n, q, (int)q->data.args[0]);
    if (fd < 0)
        a->error = named ? errno : EBADF;
    else if (task_write(n, q, q->data.args[1], &s, sizeof s) < 0)
        a->error = EFAULT;
    fd_close(&fd);
}
