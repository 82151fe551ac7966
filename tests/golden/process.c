/* Who and where a program is, and what it got from whoever started it. */
#include "golden/golden.h"

#include <cpuid.h>
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <netinet/in.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/personality.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/shm.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysinfo.h>
#include <sys/utsname.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static void show_ids(void)
{
    say("%d %d %d %d %d\n", getpid(), getppid(), (int)syscall(SYS_gettid), getpgrp(), getsid(0));
}

static void show_children(void)
{
    for (int i = 0; i < 5; i++) {
        pid_t pid = fork();
        if (pid == 0)
            _exit(0);
        say("%d ", pid);
        waitpid(pid, NULL, 0);
    }
    say("\n");
}

static void show_user(void)
{
    gid_t group[64];
    int count = getgroups(64, group);
    uid_t a, b, c;
    getresuid(&a, &b, &c);
    say("%u %u %u %u %d:", a, b, c, getgid(), count);
    for (int i = 0; i < count; i++)
        say(" %u", group[i]);
    say("\n");
}

static void show_host(void)
{
    struct utsname u;
    char name[256] = "";
    uname(&u);
    gethostname(name, sizeof name - 1);
    say("%s %s %s %s %s %s\n", name, u.sysname, u.nodename, u.release, u.version, u.machine);
}

static void show_cpus(void)
{
    cpu_set_t set;
    CPU_ZERO(&set);
    sched_getaffinity(0, sizeof set, &set);
    say("%d %d:", CPU_COUNT(&set), (int)sysconf(_SC_NPROCESSORS_ONLN));
    for (int i = 0; i < 64; i++)
        say("%d", !!CPU_ISSET(i, &set));
    say("\n");
}

static void show_this_cpu(void)
{
    unsigned cpu = 99, node = 99;
    syscall(SYS_getcpu, &cpu, &node, NULL);
    say("%d %u %u\n", sched_getcpu(), cpu, node);
}

static void show_environment(void)
{
    for (char **e = environ; *e; e++)
        say("%s\n", *e);
}

static void show_descriptors(void)
{
    for (int fd = 0; fd < 4096; fd++)
        if (fcntl(fd, F_GETFD) >= 0)
            say("%d ", fd);
    say("next %d\n", open("/", O_RDONLY));
}

static void show_signals(void)
{
    sigset_t mask, pending;
    sigprocmask(SIG_BLOCK, NULL, &mask);
    sigpending(&pending);
    for (int s = 1; s < 65; s++) {
        struct sigaction now = {0};
        sigaction(s, NULL, &now);
        say("%d%d%d ", sigismember(&mask, s), sigismember(&pending, s), now.sa_handler == SIG_IGN);
    }
    say("\n");
}

static void show_limits(void)
{
    for (int what = 0; what < 16; what++) {
        struct rlimit l = {0};
        getrlimit((__rlimit_resource_t)what, &l);
        say("%d %lld %lld\n", what, (long long)l.rlim_cur, (long long)l.rlim_max);
    }
}

static void show_priority(void)
{
    errno = 0;
    int nice = getpriority(PRIO_PROCESS, 0);
    say("%d %d %d %ld\n", nice, errno, sched_getscheduler(0), syscall(SYS_ioprio_get, 1, 0));
}

static void show_place(void)
{
    char path[4096] = "";
    mode_t mask = umask(0);
    if (!getcwd(path, sizeof path))
        path[0] = '\0';
    say("%s %o\n", path, mask);
}

static void show_machine(void)
{
    struct sysinfo s = {0};
    sysinfo(&s);
    say("%ld %lu %lu %lu %u %lu\n", s.uptime, s.totalram, s.freeram, s.bufferram, s.procs, s.loads[0]);
    say("%ld\n", sysconf(_SC_AVPHYS_PAGES));
}

static void show_oddities(void)
{
    struct winsize w = {0};
    say("%x %d %d ", personality(0xffffffff), prctl(PR_GET_TIMERSLACK) > 0, prctl(PR_GET_DUMPABLE));
    say("%d %d %d ", ioctl(0, TIOCGWINSZ, &w), isatty(1), prctl(PR_GET_PDEATHSIG, &(int){0}));
    say("%d\n", open("/dev/tty", O_RDWR) < 0);
}

/* The number of the processor's core is in it. */
static void show_cpuid(void)
{
    unsigned a, b, c, d;
    for (unsigned leaf = 0; leaf < 12; leaf++)
        if (__get_cpuid_count(leaf, 0, &a, &b, &c, &d))
            say("%x %x %x %x\n", a, b, c, d);
}

static void show_rdpid(void)
{
    unsigned a, b, c, d;
    unsigned long number = 0;
    for (int i = 0; i < 50 && __get_cpuid_count(7, 0, &a, &b, &c, &d) && c & bit_RDPID; i++) {
        __asm__ volatile("rdpid %0" : "=r"(number));
        say("%lu ", number);
        usleep(1);
    }
    say("\n");
}

/* A selector that selects nothing is 0 after each interrupt, whatever it was: so there is a clock in it. */
static void show_selectors(void)
{
    for (int i = 0; i < 5; i++) {
        unsigned short null = 1, now;
        unsigned long steps = 0;
        __asm__ volatile("mov %0, %%gs" : : "r"(null));
        do
            __asm__ volatile("mov %%gs, %0" : "=r"(now));
        while (now == null && ++steps < 20000000);
        say("%lu ", steps);
    }
    say("\n");
}

/* Ports are given out by chance. */
static void show_network(void)
{
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof a;
    int fd = socket(AF_INET, SOCK_STREAM, 0), error = fd < 0 ? errno : 0;
    bind(fd, (struct sockaddr *)&a, size);
    getsockname(fd, (struct sockaddr *)&a, &size);
    say("%d %d ", error, ntohs(a.sin_port));
    fd = socket(AF_NETLINK, SOCK_RAW, 0);
    say("%d\n", fd < 0 ? errno : 0);
}

/* What there is only one of for a whole host. */
static void show_shared(void)
{
    int id = (int)syscall(SYS_shmget, IPC_PRIVATE, 4096, 0600), error = id < 0 ? errno : 0;
    if (id >= 0)
        shmctl(id, IPC_RMID, NULL);
    say("%d %d ", id, error);
    id = (int)syscall(SYS_inotify_init1, 0);
    say("%d %ld\n", id < 0 ? errno : 0, syscall(SYS_pidfd_open, getpid(), 0) < 0 ? (long)errno : 0);
}

/* How much is granted by limits that nobody set. */
static void show_granted(void)
{
    union sigval value = {0};
    sigset_t one;
    int queued = 0;
    sigemptyset(&one);
    sigaddset(&one, SIGRTMIN);
    sigprocmask(SIG_BLOCK, &one, NULL);
    while (queued < 2000 && sigqueue(getpid(), SIGRTMIN, value) == 0)
        queued++;
    void *locked = mmap(NULL, 1 << 20, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_LOCKED, -1, 0);
    say("%d %d\n", queued, locked == MAP_FAILED);
}

/* What goes by the kernel's configuration and what the host is set to: barriers, clocks that wake the host, cores that it hands to
 * a program of its own, which a status tells; what can be done with files, and how much memory is granted, and where. */
static void show_built(void)
{
    struct rlimit none = {0};
    say("%ld ", syscall(SYS_membarrier, 0, 0, 0));
    say("%ld ", syscall(SYS_membarrier, 1, 0, 0));
    for (int id = 0; id < 12; id++) {
        struct timespec t = {0};
        say("%d %ld ", (int)syscall(SYS_clock_getres, id, &t), t.tv_nsec);
    }
    int status = 0;
    pid_t pid = fork();
    if (pid == 0)
        abort();
    waitpid(pid, &status, 0);
    getrlimit(RLIMIT_CORE, &none);
    say("%x %lld ", status, (long long)none.rlim_max);
    int env = open("/usr/bin/env", O_RDONLY), made = memfd_create("made", 0);
    say("%d %zd %d ", open("/usr/bin/env", O_RDONLY | O_DIRECT), copy_file_range(env, NULL, made, NULL, 1, 0), fallocate(1, 0, 0, 1));
    void *low = mmap((void *)4096, 4096, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);
    void *large = mmap(NULL, 17ull << 30, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    say("%d %d\n", low == MAP_FAILED, large == MAP_FAILED);
}

/* Ended with its parent, beside whoever goes on. */
static void show_parent_end(void)
{
    for (int i = 0; i < 10; i++) {
        int fd[2], vain = 0;
        char byte;
        pid_t child;
        if (pipe(fd) < 0)
            _exit(1);
        if ((child = fork()) == 0) {
            pid_t parent = getpid();
            if (fork() == 0) {
                prctl(PR_SET_PDEATHSIG, SIGKILL);
                while (getppid() == parent) /* it may have ended before */
                    sleep(1000);
                _exit(0);
            }
            usleep(10);
            _exit(0);
        }
        close(fd[1]);
        waitpid(child, NULL, 0);
        fcntl(fd[0], F_SETFL, O_NONBLOCK);
        while (read(fd[0], &byte, 1) < 0 && vain < 1000)
            vain++;
        say("%d\n", vain);
        close(fd[0]);
    }
}

const struct golden golden_process[] = {
    {"ids", show_ids, NULL, NULL},
    {"children", show_children, NULL, NULL},
    {"parent-end", show_parent_end, NULL, NULL},
    {"user", show_user, NULL, NULL},
    {"host", show_host, NULL, NULL},
    {"cpus", show_cpus, "the host may have one", NULL},
    {"this-cpu", show_this_cpu, "the host may have one", NULL},
    {"environment", show_environment, NULL, NULL},
    {"descriptors", show_descriptors, NULL, NULL},
    {"signals", show_signals, NULL, NULL},
    {"limits", show_limits, NULL, NULL},
    {"granted", show_granted, NULL, NULL},
    {"built", show_built, "a host has one kernel", NULL},
    {"priority", show_priority, NULL, NULL},
    {"place", show_place, NULL, NULL},
    {"machine", show_machine, NULL, NULL},
    {"cpuid", show_cpuid, "the host may have one processor", "the processor tells which it is itself"},
    {"rdpid", show_rdpid, "the processor may not have it", "the processor tells which it is itself"},
    {"selectors", show_selectors, "the processor may keep it", "the processor tells of interrupts itself"},
    {"network", show_network, NULL, NULL},
    {"shared-numbers", show_shared, NULL, NULL},
    {"oddities", show_oddities, NULL, NULL},
    {NULL, NULL, NULL, NULL}};
