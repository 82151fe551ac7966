/* What the kernel tells about files, and in which order. */
#include "golden/golden.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <time.h>
#include <unistd.h>

static void say_stat(const char *what, const struct stat *s)
{
    say("%s dev %lx ino %lu mode %o nlink %lu %u:%u rdev %lx size %ld blksize %ld blocks %ld ", what,
        (long)s->st_dev, (long)s->st_ino, s->st_mode, (long)s->st_nlink, s->st_uid, s->st_gid, (long)s->st_rdev,
        (long)s->st_size, (long)s->st_blksize, (long)s->st_blocks);
    say("%ld.%09ld %ld.%09ld %ld.%09ld\n", (long)s->st_atim.tv_sec, s->st_atim.tv_nsec, (long)s->st_mtim.tv_sec,
        s->st_mtim.tv_nsec, (long)s->st_ctim.tv_sec, s->st_ctim.tv_nsec);
}

static void put(const char *name, const char *text)
{
    int fd = open(name, O_WRONLY | O_CREAT | O_TRUNC, 0644);
    if (write(fd, text, strlen(text)) < 0)
        say("%d\n", errno);
    close(fd);
}

static void show_stat(void)
{
    struct stat s;
    put("one", "text");
    stat("one", &s);
    say_stat("stat", &s);
    int fd = open("one", O_RDONLY);
    fstat(fd, &s);
    say_stat("fstat", &s);
    if (symlink("one", "link") == 0 && lstat("link", &s) == 0)
        say_stat("lstat", &s);
    stat("link", &s);
    say_stat("through", &s);
    fstatat(AT_FDCWD, ".", &s, 0);
    say_stat("here", &s);
    close(fd);
}

static void show_statx(void)
{
    struct statx x = {0};
    put("two", "text");
    int r = statx(AT_FDCWD, "two", 0, STATX_BASIC_STATS | STATX_BTIME, &x);
    say("%d %x:%x %llu %lld.%09u %lld.%09u\n", r, x.stx_dev_major, x.stx_dev_minor, (unsigned long long)x.stx_ino,
        (long long)x.stx_mtime.tv_sec, x.stx_mtime.tv_nsec, (long long)x.stx_btime.tv_sec, x.stx_btime.tv_nsec);
}

static void show_directories(void)
{
    static const char *const path[] = {"/tmp", "/", ".", "/etc/passwd"};
    for (int i = 0; i < 4; i++) {
        struct stat s = {0};
        int r = stat(path[i], &s);
        say("%d %o ", r, s.st_mode);
        if (i == 0 || i == 2)
            say_stat(path[i], &s);
    }
    say("\n");
}

static void show_touch(void)
{
    struct stat s;
    put("three", "");
    utimensat(AT_FDCWD, "three", NULL, 0);
    stat("three", &s);
    say("%ld.%09ld ", (long)s.st_mtim.tv_sec, s.st_mtim.tv_nsec);
    struct timespec t[2] = {{.tv_nsec = UTIME_OMIT}, {.tv_nsec = UTIME_NOW}};
    utimensat(AT_FDCWD, "three", t, 0);
    stat("three", &s);
    say("%ld.%09ld ", (long)s.st_mtim.tv_sec, s.st_mtim.tv_nsec);
    /* Times that the program sets stay: times long ago and far ahead, and one time without the other. */
    static const struct timespec fixed[][2] = {{{1000000000, 5}, {1000000001, 7}},
                                               {{4000000000, 5}, {4000000001, 7}},
                                               {{1000000002, 9}, {0, UTIME_NOW}}};
    int fd = open("three", O_WRONLY);
    for (int i = 0; i < 3; i++) {
        futimens(fd, fixed[i]);
        stat("three", &s);
        say("%d %d ", s.st_atim.tv_sec == fixed[i][0].tv_sec, s.st_mtim.tv_sec == fixed[i][1].tv_sec);
    }
    say("%ld.%09ld\n", (long)s.st_mtim.tv_sec, s.st_mtim.tv_nsec);
}

static void show_standard(void)
{
    for (int fd = 0; fd < 3; fd++) {
        struct stat s = {0};
        fstat(fd, &s);
        say_stat("fd", &s);
    }
}

static void show_unnamed(void)
{
    int fd[8] = {-1, -1, -1, -1, memfd_create("m", 0), eventfd(0, 0), epoll_create1(0), -1};
    struct stat s;
    if (pipe(fd) < 0 || socketpair(AF_UNIX, SOCK_STREAM, 0, fd + 2) < 0)
        say("%d\n", errno);
    for (int i = 0; i < 7; i++)
        if (fstat(fd[i], &s) == 0)
            say_stat("unnamed", &s);
}

static void show_order(void)
{
    char name[16];
    struct dirent *e;
    mkdir("many", 0755);
    for (int i = 0; i < 40; i++) {
        snprintf(name, sizeof name, "many/%x", i * 2654435761u);
        put(name, "");
    }
    DIR *d = opendir("many");
    while (d && (e = readdir(d)))
        say("%s %lu %ld\n", e->d_name, (long)e->d_ino, (long)e->d_off);
}

static void show_system(void)
{
    struct statfs s = {0};
    int r = statfs(".", &s);
    say("%d %lx %lx %lu %lu %lu %lu\n", r, (long)s.f_type, (long)s.f_flags, s.f_blocks, s.f_bfree, s.f_files,
        s.f_ffree);
    say("%x %x\n", s.f_fsid.__val[0], s.f_fsid.__val[1]);
}

static void show_link(void)
{
    char text[4096] = "";
    int fd[2];
    if (pipe(fd) < 0)
        return;
    for (int i = 0; i < 5; i++) {
        char name[32];
        snprintf(name, sizeof name, "/proc/self/fd/%d", i);
        ssize_t n = readlink(name, text, sizeof text - 1);
        text[n < 0 ? 0 : n] = '\0';
        say("%zd %s\n", n, text);
    }
}

static void show_proc(void)
{
    static const char *const name[] = {"self/stat", "self/maps", "meminfo", "loadavg", "uptime", "cpuinfo"};
    for (int i = 0; i < 6; i++) {
        char path[64], text[8192];
        snprintf(path, sizeof path, "/proc/%s", name[i]);
        int fd = open(path, O_RDONLY);
        ssize_t n = fd < 0 ? -1 : read(fd, text, sizeof text);
        unsigned long sum = 0;
        for (ssize_t k = 0; k < n; k++)
            sum = sum * 31 + (unsigned char)text[k];
        say("%s %zd %lx\n", path, n, sum);
    }
}

static void show_times_of_writes(void)
{
    struct stat a, b;
    put("early", "1");
    stat("early", &a);
    put("late", "2");
    put("early", "3");
    stat("late", &b);
    say("%ld.%09ld %ld.%09ld\n", (long)a.st_mtim.tv_sec, a.st_mtim.tv_nsec, (long)b.st_mtim.tv_sec, b.st_mtim.tv_nsec);
    stat("early", &a);
    say("%ld.%09ld\n", (long)a.st_mtim.tv_sec, a.st_mtim.tv_nsec);
}

static const char image[] = GOLDEN_IMAGE;

/* Somebody on the host, or in another task, may have locked it. */
static void show_lock(void)
{
    int fd = open(image, O_RDONLY), own = open("own", O_RDWR | O_CREAT, 0600);
    struct flock l = {.l_type = F_RDLCK};
    say("%d ", flock(fd, LOCK_SH | LOCK_NB));
    say("%d ", fcntl(fd, F_GETLK, &l));
    say("%d %d ", l.l_type, fcntl(fd, F_SETLK, &(struct flock){.l_type = F_RDLCK}));
    say("%d ", fcntl(fd, F_SETLK, &(struct flock){.l_type = F_WRLCK}) < 0 ? errno : 0);
    /* Locks on the task's own files exclude each other as usual. */
    int two = open("own", O_RDWR);
    say("%d %d ", flock(own, LOCK_EX | LOCK_NB), flock(two, LOCK_EX | LOCK_NB) < 0 ? errno : 0);
    say("%d\n", flock(own, LOCK_UN) + flock(two, LOCK_EX | LOCK_NB));
}

/* The kernel tells a file's owner more than others. */
/* What lies below a directory that it has closed to itself. */
static void say_closed(void)
{
    struct stat s;
    struct statfs f;
    if (mkdir("closed", 0755) < 0 || mkdir("closed/below", 0755) < 0 || chmod("closed", 0) < 0)
        say("%d ", errno);
    say("%d ", stat("closed/below", &s) < 0 ? errno : 0);
    say("%d ", statfs("closed/below", &f) < 0 ? errno : 0);
    say("%d ", access("closed/below", W_OK) < 0 ? errno : 0);
    say("%d ", chmod("closed", 0755) < 0 ? errno : 0);
    say("%d\n", rmdir("closed/below") < 0 || rmdir("closed") < 0 ? errno : 0);
}

/* The directory that it is in, and a file that it holds, which it may open no more. */
static void say_closed_itself(void)
{
    struct stat s;
    int was = open(".", O_RDONLY | O_DIRECTORY), fd = open("kept", O_RDWR | O_CREAT, 0600);
    char name[32];
    snprintf(name, sizeof name, "/dev/fd/%d", fd);
    say("%d ", fchmod(fd, 0400) < 0 ? errno : 0);
    say("%d ", open(name, O_WRONLY) < 0 ? errno : 0);
    if (mkdir("closed", 0755) < 0 || chdir("closed") < 0 || chmod(".", 0) < 0)
        say("%d ", errno);
    say("%d ", fstatat(AT_FDCWD, "", &s, AT_EMPTY_PATH) < 0 ? errno : 0);
    say("%ld.%ld ", (long)s.st_mtim.tv_sec, s.st_mtim.tv_nsec);
    say("%d ", stat(".", &s) < 0 ? errno : 0);
    say("%d\n", fchdir(was) < 0 || rmdir("closed") < 0 || unlink("kept") < 0 ? errno : 0);
}

/* A look from a directory below one that the program has closed to itself. */
static void show_closed_above(void)
{
    struct stat s = {0};
    int was = open(".", O_RDONLY | O_DIRECTORY);
    if (mkdir("above", 0755) < 0 || mkdir("above/here", 0755) < 0 || chdir("above/here") < 0 || mkdir("inner", 0755) < 0 || chmod("..", 0) < 0)
        say("%d ", errno);
    say("%d ", stat("inner", &s) < 0 ? errno : 0);
    say("%ld.%ld\n", (long)s.st_mtim.tv_sec, s.st_mtim.tv_nsec);
    if (rmdir("inner") < 0 || fchdir(was) < 0 || chmod("above", 0755) < 0 || rmdir("above/here") < 0 || rmdir("above") < 0)
        say("%d\n", errno);
}

static void show_rights(void)
{
    say_closed();
    say_closed_itself();
    say("%d ", access(image, W_OK) < 0 ? errno : 0);
    say("%d ", open(image, O_WRONLY) < 0 ? errno : 0);
    say("%d ", access("/usr", W_OK) < 0 ? errno : 0);
    say("%d ", access("/usr/none", W_OK) < 0 ? errno : 0);
    say("%d ", truncate("golden", 5) < 0 ? errno : 0); /* ourselves inside, and nothing elsewhere */
    say("%d ", access(".", W_OK));
    say("%d ", open(image, O_RDONLY | O_NOATIME) < 0 ? errno : 0);
    say("%d\n", fcntl(open(image, O_RDONLY), F_SETFL, O_NOATIME) < 0 ? errno : 0);
}

/* Where a file has holes depends on its file system. */
static void show_holes(void)
{
    int fd = open(image, O_RDONLY);
    struct stat s;
    fstat(fd, &s);
    say("%d ", lseek(fd, 0, SEEK_HOLE) == s.st_size);
    say("%ld %ld ", (long)lseek(fd, 100, SEEK_DATA), (long)lseek(fd, 0, SEEK_CUR));
    say("%d\n", lseek(fd, s.st_size, SEEK_DATA) < 0 ? errno : 0);
    fd = open("sparse", O_RDWR | O_CREAT, 0600);
    say("%d ", ftruncate(fd, 1 << 20) + (pwrite(fd, "x", 1, 1 << 19) != 1));
    say("%ld %ld\n", (long)lseek(fd, 0, SEEK_DATA), (long)lseek(fd, 1 << 19, SEEK_HOLE));
}

/* What statx tells of an image's file: the number of its mount; its owner, which depends on the host's user; and when it
 * was last read, by anybody. */
static void show_image(void)
{
    static const char *const path[] = {image, "/usr", "/bin/sh", "usr/bin/env", "/lib/x86_64-linux-gnu/libc.so.6"};
    for (int i = 0; i < 5; i++) {
        struct statx x = {0};
        struct stat s = {0};
        int r = statx(AT_FDCWD, path[i], 0, STATX_BASIC_STATS | STATX_BTIME, &x);
        say("%d ", r);
        say_bytes(&x, sizeof x);
        say("%d ", fstatat(AT_FDCWD, path[i], &s, AT_SYMLINK_NOFOLLOW));
        say("%u:%u %o %ld ", s.st_uid, s.st_gid, s.st_mode, (long)s.st_size);
        say("%ld.%09ld %ld.%09ld\n", (long)s.st_atim.tv_sec, s.st_atim.tv_nsec, (long)s.st_ctim.tv_sec, s.st_ctim.tv_nsec);
    }
}

/* Names that begin in the image but lead out of it, to the sandbox's root or to a device; asked so often that the gate is
 * asked, too. */
static void show_beyond(void)
{
    static const char *const path[] = {"/usr/..", "/bin/..", "/usr/bin/../..", "/usr/lib/systemd/system/hwclock.service", "/usr/bin/.."};
    for (int i = 0; i < 20; i++) {
        struct stat s = {0};
        say("%d ", fstatat(AT_FDCWD, path[i % 5], &s, 0) < 0 ? errno : 0);
        if (i % 5 < 4)
            say_stat(path[i % 5], &s);
    }
}

/* A file without a name leaves no trace in its directory, but that the next one's number is another. */
static void show_nameless(void)
{
    struct stat s = {0};
    char c;
    say("%zd ", read(0, &c, 1)); /* a program that is cloned is cloned here */
    int fd = open(".", O_TMPFILE | O_RDWR, 0600);
    say("%d ", fd < 0 ? errno : 0);
    fstat(fd, &s);
    say("%lu\n", (unsigned long)s.st_ino);
}

const struct golden golden_files[] = {
    {"stat", show_stat, NULL, NULL},
    {"statx", show_statx, NULL, NULL},
    {"image", show_image, NULL, NULL},
    {"beyond", show_beyond, NULL, NULL},
    {"nameless", show_nameless, NULL, NULL},
    {"directories", show_directories, NULL, NULL},
    {"touch", show_touch, NULL, NULL},
    {"writes", show_times_of_writes, NULL, NULL},
    {"standard", show_standard, NULL, NULL},
    {"unnamed", show_unnamed, NULL, NULL},
    {"order", show_order, NULL, NULL},
    {"file-system", show_system, NULL, NULL},
    {"fd-link", show_link, NULL, NULL},
    {"lock", show_lock, NULL, NULL},
    {"closed-above", show_closed_above, NULL, NULL},
    {"rights", show_rights, NULL, NULL},
    {"holes", show_holes, NULL, NULL},
    {"proc", show_proc, NULL, NULL},
    {NULL, NULL, NULL, NULL}};
