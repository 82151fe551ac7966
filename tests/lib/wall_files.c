/* Files.  See wall_probe.h. */
#include "wall_probe.h"

#define RACES     3000

int host_file(void)
{
    return opens(marker, O_RDONLY);
}

int host_passwd(void)
{
    char text[4096];
    int fd = open("/etc/passwd", O_RDONLY | O_CLOEXEC);
    ssize_t n = fd < 0 ? -1 : read(fd, text, sizeof text - 1);
    if (fd >= 0)
        close(fd);
    text[n > 0 ? n : 0] = '\0';
    return n > 0 && !strstr(text, "zpipe:x:1000");
}

int host_directories(void)
{
    return access("/var", F_OK) == 0 || access("/sys/kernel", F_OK) == 0;
}

int up_from(int directory)
{
    char path[4200];
    snprintf(path, sizeof path, "../../../../../../..%s", marker);
    return got_fd(openat(directory, path, O_RDONLY | O_CLOEXEC));
}

int above_root(void)
{
    int root = open("/", O_PATH | O_DIRECTORY | O_CLOEXEC);
    int through = up_from(root);
    close(root);
    return through;
}

int forgotten_fd(void)
{
    return fcntl(FORGOTTEN, F_GETFD) >= 0;
}

int forgotten_fd_up(void)
{
    return up_from(FORGOTTEN) || (fchdir(FORGOTTEN) == 0 && up_from(AT_FDCWD));
}

int more_fds(void)
{
    for (int fd = 3; fd < 65536; fd++)
        if (fcntl(fd, F_GETFD) >= 0)
            return 1;
    return 0;
}

int proc_mem(void)
{
    return opens("/proc/self/mem", O_RDWR);
}

int proc_root(void)
{
    return opens("/proc/self/root", O_RDONLY) || opens("/proc/1/root", O_RDONLY);
}

int file_handle(void)
{
    struct {
        struct file_handle head;
        char room[128];
    } h = {.head.handle_bytes = sizeof h.room};
    int id;
    return syscall(SYS_name_to_handle_at, AT_FDCWD, "/", &h, &id, 0) == 0 || errno == EOVERFLOW ||
           errno == EOPNOTSUPP;
}

int open_handle(void)
{
    return is_there(syscall(SYS_open_by_handle_at, -1, NULL, O_RDONLY));
}

int write_image(void)
{
    return access("/usr", W_OK) == 0 || access("/usr/bin/env", W_OK) == 0;
}

int write_input(void)
{
    return opens("input.txt", O_WRONLY);
}

/* A descriptor that was given for reading says nothing about its file's mode and times. */
int mode_by_fd(void)
{
    struct stat s;
    return fstat(0, &s) == 0 && S_ISREG(s.st_mode) && fchmod(0, s.st_mode & 0777) == 0;
}

int times_by_fd(void)
{
    struct stat s;
    if (fstat(0, &s) < 0)
        return 0;
    struct timespec t[2] = {s.st_atim, {0, UTIME_OMIT}};
    return syscall(SYS_utimensat, 0, NULL, t, 0) == 0 || syscall(SYS_utimensat, 0, "", t, AT_EMPTY_PATH) == 0;
}

/* The same, while a thread exchanges the descriptor under the question. */
static int raced_fd = -1, raced_own = -1;
static bool race_over;
static int races;

static int end_at_once(void *unused)
{
    return unused != NULL;
}

/* Threads take turns, and there is no race, unless a process does what cannot be done in turns. */
static void run_side_by_side(void)
{
    static char stack[16384];
    pid_t pid = clone(end_at_once, stack + sizeof stack, CLONE_VM | SIGCHLD, NULL);
    if (pid > 0)
        waitpid(pid, NULL, 0);
}

static void *exchange(void *unused)
{
    while (!__atomic_load_n(&race_over, __ATOMIC_RELAXED)) {
        dup2(0, raced_fd);
        dup2(raced_own, raced_fd);
        __atomic_fetch_add(&races, 1, __ATOMIC_RELAXED);
    }
    return unused;
}

int mode_by_raced_fd(void)
{
    struct stat before, after;
    pthread_t thread;
    char own[] = "/tmp/own-XXXXXX";
    raced_own = mkostemp(own, O_CLOEXEC);
    unlink(own);
    raced_fd = dup(raced_own);
    run_side_by_side();
    if (raced_fd < 0 || fstat(0, &before) < 0 || pthread_create(&thread, NULL, exchange, NULL) != 0)
        return 0;
    for (int tries = 0; tries < RACES || __atomic_load_n(&races, __ATOMIC_RELAXED) < RACES; tries++)
        fchmod(raced_fd, before.st_mode & 0777);
    __atomic_store_n(&race_over, true, __ATOMIC_RELAXED);
    pthread_join(thread, NULL);
    close(raced_fd);
    close(raced_own);
    return fstat(0, &after) < 0 || before.st_ctim.tv_sec != after.st_ctim.tv_sec ||
           before.st_ctim.tv_nsec != after.st_ctim.tv_nsec;
}

int make_device(void)
{
    int made = mknod("probe-device", S_IFBLK | 0600, makedev(7, 250)) == 0;
    unlink("probe-device");
    return made;
}

int setuid_bit(void)
{
    struct stat s;
    int fd = open("probe-setuid", O_CREAT | O_EXCL | O_WRONLY | O_CLOEXEC, 04755);
    int made = fd >= 0 && fstat(fd, &s) == 0 && (s.st_mode & 06000);
    if (fd < 0)
        fd = open("probe-setuid", O_CREAT | O_EXCL | O_WRONLY | O_CLOEXEC, 0755);
    made |= fchmod(fd, 04755) == 0 || chmod("probe-setuid", 02755) == 0;
    close(fd);
    unlink("probe-setuid");
    return made;
}

int devices(void)
{
    return access("/dev/mem", F_OK) == 0 || access("/dev/tty", F_OK) == 0 || access("/dev/ptmx", F_OK) == 0 ||
           access("/dev/fuse", F_OK) == 0;
}
