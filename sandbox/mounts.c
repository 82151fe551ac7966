/* The file trees of a sandbox.
 *
 * The image is a small tmpfs with read-only binds of the host's programs, made once by the zygote.  Each task has a copy of
 * that mount namespace and one tmpfs, with one half for /tmp and one half for /job, so that one size limits both.  Inputs
 * come as detached mounts, made read-only before anybody can reach them.  For a name outside /job and /tmp (`/data/x`) new
 * directories in the root are needed: such a task gets a root of its own, because the image's root is shared. */
#include "sandbox/mounts.h"
#include "base/fds.h"
#include "sandbox/shim.h"
#include "sandbox/spec.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <glob.h>
#include <linux/mount.h>
#include <linux/openat2.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/syscall.h>
#include <unistd.h>

/* From <sys/mount.h>, which does not go together with <linux/mount.h> everywhere. */
int mount(const char *, const char *, const char *, unsigned long, const void *);
int umount2(const char *, int);
#ifndef MNT_DETACH
#define MNT_DETACH 2
#endif
#ifndef AT_RECURSIVE
#define AT_RECURSIVE 0x8000
#endif
#ifndef SYS_mount_setattr
#define SYS_mount_setattr 442
#endif

#define SCRATCH_INODES  "1048576"
#define NAMED_FDS       64 /* of /dev/fd: bash uses the last ones */
#define COPY_CHUNK      (1u << 30)
#define LOCKED          (MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV)

static int set_attr(int at, const char *path, unsigned flags, uint64_t attr)
{
    struct mount_attr a = {.attr_set = attr};
    return (int)syscall(SYS_mount_setattr, at, path, flags, &a, sizeof a);
}

/* Adds flags.  Old kernels refuse a remount that leaves out flags which are set. */
static int remount(const char *path, unsigned long flags)
{
    struct statvfs s;
    if (statvfs(path, &s) < 0)
        return -1;
    const unsigned long pairs[][2] = {{ST_NOSUID, MS_NOSUID},   {ST_NODEV, MS_NODEV},
                                      {ST_NOEXEC, MS_NOEXEC},   {ST_RDONLY, MS_RDONLY},
                                      {ST_NOATIME, MS_NOATIME}, {ST_NODIRATIME, MS_NODIRATIME},
                                      {ST_RELATIME, MS_RELATIME}};
    for (size_t i = 0; i < sizeof pairs / sizeof *pairs; i++)
        if (s.f_flag & pairs[i][0])
            flags |= pairs[i][1];
    return mount(NULL, path, NULL, MS_REMOUNT | MS_BIND | flags, NULL);
}

static int open_tree_at(const char *path, unsigned flags)
{
    return (int)syscall(SYS_open_tree, AT_FDCWD, path, OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | flags);
}

static int place_tree(int tree, const char *path)
{
    return (int)syscall(SYS_move_mount, tree, "", AT_FDCWD, path, MOVE_MOUNT_F_EMPTY_PATH);
}

static int tree_with(const char *path, uint64_t attr, bool *late)
{
    int tree = open_tree_at(path, AT_RECURSIVE);
    *late = false;
    if (tree < 0 || set_attr(tree, "", AT_EMPTY_PATH | AT_RECURSIVE, attr) == 0)
        return tree;
    int why = errno;
    close(tree);
    if (why != ENOSYS) {
        errno = why;
        return -1;
    }
    *late = true;
    return open_tree_at(path, 0);
}

int tree_open(const char *path, bool *late)
{
    return tree_with(path, LOCKED, late);
}

static int bind_as(const char *from, const char *to, bool device)
{
    bool late;
    int tree = tree_with(from, device ? MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID : LOCKED, &late);
    if (tree < 0)
        return -1;
    int r = place_tree(tree, to);
    close(tree);
    if (r == 0 && late)
        r = remount(to, MS_RDONLY | MS_NOSUID | (device ? 0 : MS_NODEV));
    return r;
}

static int touch(const char *path)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0644);
    if (fd < 0)
        return -1;
    close(fd);
    return 0;
}

static int write_file(const char *path, const void *data, size_t size, mode_t mode)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC | O_EXCL, mode);
    if (fd < 0)
        return -1;
    int r = fd_write_all(fd, data, size);
    close(fd);
    return r;
}

/* Shows the host's `/name`: a link stays a link, a directory is bound; what is missing is left out. */
static int take_top(const char *name, struct err *e)
{
    char from[64], link[256];
    struct stat s;
    snprintf(from, sizeof from, "/%s", name);
    if (lstat(from, &s) < 0)
        return 0;
    if (S_ISLNK(s.st_mode)) {
        ssize_t n = readlink(from, link, sizeof link - 1);
        link[n < 0 ? 0 : n] = '\0';
        if (n > 0 && symlink(link, name) == 0)
            return 0;
    } else if (mkdir(name, 0755) == 0 && bind_as(from, name, false) == 0) {
        return 0;
    }
    return err_sys(e, "cannot show '%s' in the sandbox", from);
}

/* The files that we write ourselves.  Of /proc there is what programs ask for that do not mean to look at processes: how many processors and
 * how much memory there are, as the calls tell it (notify_answers.c), and a process's own numbers, which are all 0. */
static int make_own(struct err *e)
{
    static const char *const directory[] = {"etc", "etc/ssl", "proc", "proc/self"};
    static const struct {
        const char *name, *text;
    } own[] = {
        {"etc/passwd", "root:x:0:0:root:/:/bin/sh\nzpipe:x:1000:1000:zpipe:/job:/bin/sh\n"
                       "nobody:x:65534:65534:nobody:/:/bin/false\n"},
        {"etc/group", "root:x:0:\nzpipe:x:1000:\nnogroup:x:65534:\n"},
        {"etc/nsswitch.conf", "passwd: files\ngroup: files\nhosts: files\nservices: files\n"},
        {"etc/hosts", "127.0.0.1 localhost zpipe\n"},
        {"etc/hostname", "zpipe\n"},
        {"proc/cpuinfo", "processor\t: 0\nmodel name\t: x86-64\ncpu cores\t: 1\nflags\t\t: fpu tsc cx8 cmov mmx fxsr sse sse2 syscall lm\n\n"},
        {"proc/meminfo", "MemTotal:       16777216 kB\nMemFree:         8388608 kB\nMemAvailable:    8388608 kB\nBuffers:               0 kB\n"
                         "Cached:                0 kB\nSwapTotal:             0 kB\nSwapFree:              0 kB\n"},
        {"proc/self/stat", "0 (program) R 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0\n"},
    };
    for (size_t i = 0; i < sizeof directory / sizeof *directory; i++)
        if (mkdir(directory[i], 0755) < 0)
            return err_sys(e, "cannot make '/%s' in the sandbox", directory[i]);
    for (size_t i = 0; i < sizeof own / sizeof *own; i++)
        if (write_file(own[i].name, own[i].text, strlen(own[i].text), 0644) < 0)
            return err_sys(e, "cannot write '/%s' in the sandbox", own[i].name);
    return 0;
}

static void make_etc(void)
{
    /* Configuration of programs, and nothing that shows users or secrets of the host. */
    static const char pattern[] =
        "/etc/{alternatives,ld.so.cache,ld.so.conf,ld.so.conf.d,perl,python3*,mime.types,magic,"
        "magic.mime,services,protocols,locale.alias,ssl/certs,ssl/openssl.cnf,fonts,gawk*,R,java*,groff,ghostscript,ImageMagick*,texmf,xml}";
    glob_t found = {0};
    glob(pattern, GLOB_BRACE, NULL, &found); /* sorted, as programs see the order of these files, and it must not be the host's */
    for (size_t i = 0; i < found.gl_pathc; i++) {
        const char *from = found.gl_pathv[i], *to = from + 1;
        struct stat s;
        if (stat(from, &s) < 0 || !(S_ISDIR(s.st_mode) || S_ISREG(s.st_mode)))
            continue;
        /* One that cannot be shown is only a program's configuration: it sees none. */
        if ((S_ISDIR(s.st_mode) ? mkdir(to, 0755) : touch(to)) == 0)
            bind_as(from, to, false);
    }
    globfree(&found);
}

static int make_dev(struct err *e)
{
    static const char *const name[] = {"null", "zero", "full"};
    if (mkdir("dev", 0755) < 0)
        return err_sys(e, "cannot make '/dev' in the sandbox");
    for (size_t i = 0; i < sizeof name / sizeof *name; i++) {
        char from[32];
        snprintf(from, sizeof from, "/dev/%s", name[i]);
        if (touch(from + 1) < 0 || bind_as(from, from + 1, true) < 0)
            return err_sys(e, "cannot show '%s' in the sandbox", from);
    }
    if (symlink("/tmp", "dev/shm") < 0) /* POSIX semaphores and shared memory */
        return err_sys(e, "cannot make '/dev/shm' in the sandbox");
    /* For programs that look before they open (`sort /dev/stdin`): something is there, as if fd 0 were a socket.  Opening
     * it is answered by notify.c. */
    static const char *const end[] = {"dev/stdin", "dev/stdout", "dev/stderr"};
    for (size_t i = 0; i < sizeof end / sizeof *end; i++)
        if (mknod(end[i], S_IFSOCK | 0666, 0) < 0)
            return err_sys(e, "cannot make '/%s' in the sandbox", end[i]);
    if (mkdir("dev/fd", 0755) < 0)
        return err_sys(e, "cannot make '/dev/fd' in the sandbox");
    for (int fd = 0; fd < NAMED_FDS; fd++) {
        char path[32];
        snprintf(path, sizeof path, "dev/fd/%d", fd);
        if (mknod(path, S_IFSOCK | 0666, 0) < 0)
            return err_sys(e, "cannot make '/%s' in the sandbox", path);
    }
    return 0;
}

/* A directory of our own, so that the loader's place holds the shim. */
static int make_loader(struct err *e)
{
    if (mkdir("lib64", 0755) < 0 || write_file(&SHIM_PLACE[1], shim_image, shim_image_size, 0755) < 0)
        return err_sys(e, "cannot place the loader in the sandbox");
    return 0;
}

/* Makes the current directory the root, and removes the old root. */
static int enter_root(struct err *e)
{
    if (syscall(SYS_pivot_root, ".", ".") < 0)
        return err_sys(e, "cannot change the sandbox's root (pivot_root)%s",
                       errno == EINVAL ? "; the host's root is an initial ramdisk" : "");
    if (umount2(".", MNT_DETACH) < 0 || chdir("/") < 0)
        return err_sys(e, "cannot leave the host's root");
    return 0;
}

static int lock_root(struct err *e)
{
    if (set_attr(AT_FDCWD, "/", 0, LOCKED) == 0 ||
        (errno == ENOSYS && remount("/", MS_RDONLY | MS_NOSUID | MS_NODEV) == 0))
        return 0;
    return err_sys(e, "cannot make the sandbox's root read-only");
}

int image_build(struct err *e)
{
    static const char *const top[] = {"usr", "bin", "sbin", "lib", "lib32", "libx32"};
    if (mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0)
        return err_sys(e, "cannot make the mounts private");
    if (mount("zpipe", "/tmp", "tmpfs", MS_NOSUID | MS_NODEV, "mode=0755,size=8m") < 0)
        return err_sys(e, "cannot mount a tmpfs for the sandbox's root");
    if (chdir("/tmp") < 0)
        return err_sys(e, "cannot enter the sandbox's root");
    for (size_t i = 0; i < sizeof top / sizeof *top; i++)
        if (take_top(top[i], e) < 0)
            return -1;
    if (make_loader(e) < 0 || make_own(e) < 0 || make_dev(e) < 0)
        return -1;
    make_etc();
    if (mkdir("tmp", 0755) < 0 || mkdir("job", 0755) < 0)
        return err_sys(e, "cannot make directories in the sandbox");
    return enter_root(e) < 0 || lock_root(e) < 0 ? -1 : 0;
}

/* Shows everything in `from` also in `to`, an empty directory that can be written. */
static int refill(const char *from, const char *to)
{
    DIR *d = opendir(from);
    if (!d)
        return -1;
    int r = 0;
    for (struct dirent *entry; r == 0 && (entry = readdir(d));) {
        char a[640], b[640], link[256];
        struct stat s;
        if (!strcmp(entry->d_name, ".") || !strcmp(entry->d_name, ".."))
            continue;
        snprintf(a, sizeof a, "%s/%s", from, entry->d_name);
        snprintf(b, sizeof b, "%s/%s", to, entry->d_name);
        if (lstat(a, &s) < 0) {
            r = -1;
        } else if (S_ISLNK(s.st_mode)) {
            ssize_t n = readlink(a, link, sizeof link - 1);
            link[n < 0 ? 0 : n] = '\0';
            r = n < 0 ? -1 : symlink(link, b);
        } else {
            r = S_ISDIR(s.st_mode) ? mkdir(b, s.st_mode & 0777) : touch(b);
            if (r == 0)
                r = mount(a, b, NULL, MS_BIND | MS_REC, NULL);
        }
    }
    closedir(d);
    return r;
}

/* `name` as an absolute path in the sandbox. */
static void whole_name(const char *name, char *path, size_t size)
{
    snprintf(path, size, "%s%s", *name == '/' ? "" : "/job/", name);
}

static bool below(const char *path, const char *directory)
{
    size_t n = strlen(directory);
    return !strncmp(path, directory, n) && (path[n] == '/' || !path[n]);
}

/* No input is put where files of the image are: there the program sees the image's. */
static bool in_image(const char *path)
{
    static const char *const top[] = {"/usr", "/bin", "/sbin", "/lib", "/lib32", "/libx32", "/lib64",
                                      "/dev", "/proc"};
    for (size_t i = 0; i < sizeof top / sizeof *top; i++)
        if (below(path, top[i]))
            return true;
    return false;
}

/* Makes a root for this task alone, while /tmp and /job are still the image's empty places. */
static int own_root(bool own_etc, bool own_dev, struct err *e)
{
    if (mount("zpipe", "/tmp", "tmpfs", MS_NOSUID | MS_NODEV, "mode=0755,size=8m") < 0 ||
        refill("/", "/tmp") < 0 || chdir("/tmp") < 0)
        return err_sys(e, "cannot make a root for the task");
    if (enter_root(e) < 0)
        return -1;
    if (own_etc && (mount("zpipe", "/job", "tmpfs", MS_NOSUID | MS_NODEV, "mode=0755,size=8m") < 0 ||
                    refill("/etc", "/job") < 0 || mount("/job", "/etc", NULL, MS_MOVE, NULL) < 0))
        return err_sys(e, "cannot make '/etc' for the task");
    if (own_dev && (mount("zpipe", "/job", "tmpfs", MS_NOSUID, "mode=0755,size=8m") < 0 ||
                    refill("/dev", "/job") < 0 || mount("/job", "/dev", NULL, MS_MOVE, NULL) < 0 ||
                    mkdir("/dev/in", 0755) < 0 || mkdir("/dev/out", 0755) < 0))
        return err_sys(e, "cannot make '/dev' for the task");
    return 0;
}

/* Makes the names exist, for programs that look before they open.  The server answers the opening itself. */
static int place_names(const struct box_task *t, struct err *e)
{
    char path[300];
    for (uint32_t i = 0; i < t->port_count; i++) {
        const struct box_port *p = &t->port[i];
        mode_t kind = p->channel >= 0 ? S_IFIFO : S_IFREG;
        if (!p->name)
            continue;
        snprintf(path, sizeof path, "/dev/%s", p->name);
        if (mknod(path, kind | (p->write ? 0644 : 0444), 0) < 0)
            return err_sys(e, "cannot make '%s' in the sandbox", path);
    }
    return mount(NULL, "/dev", NULL, MS_REMOUNT | MS_BIND | MS_RDONLY | MS_NOSUID, NULL) < 0
               ? err_sys(e, "cannot make '/dev' read-only")
               : 0;
}

/* Makes the task's writable places.  To read a directory leaves no time there: the next task may have the same, and be told of it. */
static int scratch(struct err *e)
{
    char options[96];
    snprintf(options, sizeof options, "mode=0755,nr_inodes=" SCRATCH_INODES ",size=%llu", SCRATCH_DEFAULT);
    if (mount("zpipe", "/tmp", "tmpfs", MS_NOSUID | MS_NODEV | MS_NODIRATIME, options) < 0 ||
        mkdir("/tmp/job", 0755) < 0 || mkdir("/tmp/tmp", 0755) < 0 || chmod("/tmp/tmp", 01777) < 0 ||
        mount("/tmp/job", "/job", NULL, MS_BIND, NULL) < 0 ||
        mount("/tmp/tmp", "/tmp", NULL, MS_BIND, NULL) < 0)
        return err_sys(e, "cannot make the task's '/tmp' and '/job'");
    return 0;
}

/* The copies of inputs get room in addition to what the task may write. */
static int resize(const struct box_task *t, const struct task_files *f, struct err *e)
{
    uint64_t bytes = t->limit.scratch_bytes ? t->limit.scratch_bytes : SCRATCH_DEFAULT;
    char options[48];
    for (uint32_t i = 0; i < t->file_count; i++) {
        struct stat s;
        if (!f->tree[i] && fstat(f->fd[i], &s) == 0 && s.st_size > 0)
            bytes += (t->file[i].size ? t->file[i].size : (uint64_t)s.st_size) + 4096;
    }
    if (bytes == SCRATCH_DEFAULT)
        return 0;
    snprintf(options, sizeof options, "size=%llu", (unsigned long long)bytes);
    return mount(NULL, "/tmp", NULL, MS_REMOUNT | MS_NOSUID | MS_NODEV, options) < 0
               ? err_sys(e, "cannot set the size of the task's '/tmp' and '/job'")
               : 0;
}

static int make_parents(char *path)
{
    for (char *at = strchr(path + 1, '/'); at; at = strchr(at + 1, '/')) {
        *at = '\0';
        int r = mkdir(path, 0755);
        *at = '/';
        if (r < 0 && errno != EEXIST)
            return -1;
    }
    return 0;
}

int file_copy(const struct box_file *f, int from, const char *path)
{
    struct stat s;
    if (fstat(from, &s) < 0)
        return -1;
    if (!S_ISREG(s.st_mode)) {
        errno = S_ISDIR(s.st_mode) ? EISDIR : EINVAL;
        return -1;
    }
    int to = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, (s.st_mode & 0777) | 0600);
    if (to < 0)
        return -1;
    off_t at = (off_t)f->offset;
    uint64_t left = f->size ? f->size : UINT64_MAX;
    ssize_t n;
    do {
        n = sendfile(to, from, &at, left < COPY_CHUNK ? (size_t)left : COPY_CHUNK);
        left -= n > 0 ? (uint64_t)n : 0;
    } while ((n > 0 && left) || (n < 0 && errno == EINTR));
    if (n == 0 && f->size) {
        errno = ESTALE; /* the file has become shorter */
        n = -1;
    }
    int saved = errno;
    close(to);
    errno = saved;
    return n < 0 ? -1 : 0;
}

/* Puts an input in its place: read-only in every case, unless the task is to have a copy of its own. */
static int place_file(const struct box_file *file, const struct task_files *f, uint32_t i, char *path)
{
    struct stat s, there;
    bool locked = !file->copy;
    if (make_parents(path) < 0 && errno != EROFS)
        return -1;
    if (file->directory)
        return mkdir(path, 0755) < 0 && errno != EEXIST ? -1 : 0;
    if (!f->tree[i])
        return file_copy(file, f->fd[i], path) < 0 || (locked && bind_as(path, path, false) < 0) ? -1 : 0;
    if (fstat(f->fd[i], &s) < 0)
        return -1;
    if (lstat(path, &there) < 0 && (S_ISDIR(s.st_mode) ? mkdir(path, 0755) : touch(path)) < 0)
        return -1;
    if (place_tree(f->fd[i], path) < 0)
        return -1;
    return f->late[i] ? remount(path, MS_RDONLY | MS_NOSUID | MS_NODEV) : 0;
}

/* Makes a link.  What a link says may come from anybody, so nothing here follows one: links are made after all that they
 * could lead astray, and the directory of a link is reached through none. */
static int place_link(const struct box_file *file, char *path)
{
    struct open_how how = {.flags = O_PATH | O_DIRECTORY | O_CLOEXEC, .resolve = RESOLVE_NO_SYMLINKS};
    char *name = strrchr(path, '/') + 1, first = *name;
    *name = '\0';
    int directory = (int)syscall(SYS_openat2, AT_FDCWD, path, &how, sizeof how);
    *name = first;
    if (directory < 0)
        return -1;
    int r = symlinkat(file->link, directory, name);
    int saved = errno;
    close(directory);
    errno = saved;
    return r < 0 && errno == EEXIST ? 0 : r;
}

/* Makes the directory of each link; the links themselves come last. */
static int place_links(const struct box_task *t, bool parents, struct err *e)
{
    char path[4200];
    for (uint32_t i = 0; i < t->file_count; i++) {
        if (!t->file[i].link)
            continue;
        whole_name(t->file[i].name, path, sizeof path);
        if (!in_image(path) && (parents ? make_parents(path) : place_link(&t->file[i], path)) < 0)
            return err_sys(e, "cannot place the input '%s' in the sandbox", t->file[i].name);
    }
    return 0;
}

/* What else the task needs for itself, besides /tmp and /job. */
struct needs {
    bool root, etc, names;
};

static struct needs needs_of(const struct box_task *t)
{
    struct needs n = {0};
    char path[4200];
    for (uint32_t i = 0; i < t->file_count; i++) {
        whole_name(t->file[i].name, path, sizeof path);
        n.root |= !below(path, "/job") && !below(path, "/tmp") && !in_image(path);
        n.etc |= below(path, "/etc");
    }
    for (uint32_t i = 0; i < t->port_count; i++)
        n.names |= t->port[i].name != NULL;
    n.root |= n.names;
    return n;
}

bool mounts_need_root(const struct box_task *t)
{
    return needs_of(t).root;
}

int mounts_begin(const struct box_task *own, struct err *e)
{
    struct needs n = own ? needs_of(own) : (struct needs){0};
    if ((n.root && own_root(n.etc, n.names, e) < 0) || (n.names && place_names(own, e) < 0) || scratch(e) < 0)
        return -1;
    return chdir("/job") < 0 ? err_sys(e, "cannot enter '/job'") : 0;
}

int mounts_renew(struct err *e)
{
    /* All is put below /job and goes with it: each unmounting waits until all CPUs have noticed it. */
    char old[] = "/job/XXXXXX";
    if (chdir("/") < 0 || !mkdtemp(old))
        return err_sys(e, "cannot leave '/job'");
    while (mount("/tmp", old, NULL, MS_MOVE, NULL) == 0)
        ;
    if (errno != EINVAL || umount2("/job", MNT_DETACH) < 0)
        return err_sys(e, "cannot unmount the last task's '/tmp' and '/job'");
    if (scratch(e) < 0)
        return -1;
    return chdir("/job") < 0 ? err_sys(e, "cannot enter '/job'") : 0;
}

int mounts_add(const struct box_task *t, const struct task_files *f, struct err *e)
{
    char path[4200];
    if (resize(t, f, e) < 0)
        return -1;
    for (uint32_t i = 0; i < t->file_count; i++) {
        whole_name(t->file[i].name, path, sizeof path);
        if (!t->file[i].link && !in_image(path) && place_file(&t->file[i], f, i, path) < 0)
            return err_sys(e, "cannot place the input '%s' in the sandbox", t->file[i].name);
    }
    if (place_links(t, true, e) < 0)
        return -1;
    for (uint32_t i = 0; i < t->output_count; i++) { /* if it cannot be made the program will say so */
        whole_name(t->output[i], path, sizeof path);
        if (below(path, "/job"))
            make_parents(path);
    }
    if (place_links(t, false, e) < 0)
        return -1;
    return mounts_need_root(t) ? lock_root(e) : 0;
}
