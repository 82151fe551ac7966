/* Clocks, by every way to them, and what waits for them. */
#include "golden/golden.h"

#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/futex.h>
#include <poll.h>
#include <setjmp.h>
#include <signal.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/resource.h>
#include <sys/select.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/timerfd.h>
#include <sys/times.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static void spin(void)
{
    for (volatile int i = 0; i < 3000000; i++)
        ;
}

static long long now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1000000000ll + t.tv_nsec;
}

static void show_clocks(void)
{
    for (int id = 0; id < 12; id++) {
        struct timespec t = {0};
        int r = clock_gettime(id, &t);
        say("%d %d %lld.%09ld\n", id, r, (long long)t.tv_sec, t.tv_nsec);
    }
}

static void show_time(void)
{
    struct timeval t;
    struct timespec s;
    gettimeofday(&t, NULL);
    timespec_get(&s, TIME_UTC);
    say("%lld %lld.%06ld %ld\n", (long long)time(NULL), (long long)t.tv_sec, (long)t.tv_usec, s.tv_nsec);
}

static void show_calls(void)
{
    struct timespec t;
    struct timeval v;
    syscall(SYS_clock_gettime, CLOCK_REALTIME, &t);
    syscall(SYS_gettimeofday, &v, NULL);
    say("%ld %ld %ld\n", t.tv_nsec, (long)v.tv_usec, syscall(SYS_time, NULL));
}

/* A function of the kernel's own library, found as C libraries find it. */
static void *vdso_function(const char *base, const char *name)
{
    const Elf64_Ehdr *h = (const void *)base;
    const Elf64_Phdr *p = (const void *)(base + h->e_phoff);
    const Elf64_Dyn *d = NULL;
    const Elf64_Sym *symbol = NULL;
    const char *text = NULL;
    size_t count = 0;
    for (int i = 0; i < h->e_phnum; i++)
        if (p[i].p_type == PT_DYNAMIC)
            d = (const void *)(base + p[i].p_offset);
    for (; d && d->d_tag != DT_NULL; d++) {
        if (d->d_tag == DT_SYMTAB)
            symbol = (const void *)(base + d->d_un.d_ptr);
        if (d->d_tag == DT_STRTAB)
            text = base + d->d_un.d_ptr;
        if (d->d_tag == DT_HASH)
            count = ((const uint32_t *)(base + d->d_un.d_ptr))[1];
    }
    if (!count)
        count = 16; /* only a GNU hash: there are about a dozen */
    for (size_t i = 0; symbol && text && i < count; i++)
        if (symbol[i].st_name < 4096 && !strcmp(text + symbol[i].st_name, name))
            return (void *)(base + symbol[i].st_value);
    return NULL;
}

static void show_vdso(void)
{
    const char *base = (const char *)getauxval(AT_SYSINFO_EHDR);
    struct timespec t = {0};
    int (*clock)(int, struct timespec *) = NULL;
    void *found = base ? vdso_function(base, "__vdso_clock_gettime") : NULL;
    memcpy(&clock, &found, sizeof clock);
    if (clock)
        clock(CLOCK_REALTIME, &t);
    say("%p %ld\n", (const void *)base, t.tv_nsec);
}

/* Whoever does not believe the auxiliary vector looks for it: wherever a page begins as a library does. */
static int is_there(int null, const char *page)
{
    return write(null, page, 1) == 1;
}

static void show_vdso_found(void)
{
    const char *told = (const char *)getauxval(AT_SYSINFO_EHDR);
    uintptr_t top = 0x7ffffffff000, page = 4096, from = top - 0x9000000;
    int to[2], found = 0, (*clock)(int, struct timespec *) = NULL;
    if (pipe2(to, O_NONBLOCK) < 0)
        return;
    if (told && (uintptr_t)told < from)
        from = (uintptr_t)told - 64 * page, top = (uintptr_t)told + 64 * page; /* on a host, not far from there */
    for (uintptr_t at = from; at < top; at += page) {
        const char *base = (const char *)at;
        struct timespec t = {0};
        char byte;
        if (!is_there(to[1], base))
            continue;
        (void)!read(to[0], &byte, 1);
        found++;
        if (memcmp(base, ELFMAG, SELFMAG) != 0 || ((const Elf64_Ehdr *)base)->e_phnum > 6)
            continue;
        void *function = vdso_function(base, "__vdso_clock_gettime");
        memcpy(&clock, &function, sizeof clock);
        if (clock)
            clock(CLOCK_REALTIME_COARSE, &t);
        say("%lx %ld %ld\n", (unsigned long)at, (long)t.tv_sec, t.tv_nsec);
    }
    say("%d pages\n", found);
}

static sigjmp_buf back;

static void jump(int signal)
{
    siglongjmp(back, signal);
}

static void show_vsyscall(void)
{
    struct timeval t = {0};
    int (*call)(struct timeval *, void *) = NULL;
    uintptr_t place = 0xffffffffff600000;
    memcpy(&call, &place, sizeof call);
    signal(SIGSEGV, jump);
    if (sigsetjmp(back, 1) == 0)
        call(&t, NULL);
    say("%lld %ld\n", (long long)t.tv_sec, (long)t.tv_usec);
}

static void show_cpu(void)
{
    struct timespec t;
    struct rusage use;
    struct tms ticks;
    spin();
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    getrusage(RUSAGE_SELF, &use);
    say("%ld %ld %ld %ld %ld ", t.tv_nsec, clock(), (long)use.ru_utime.tv_usec, use.ru_minflt, use.ru_nvcsw);
    say("%ld %ld\n", (long)times(&ticks), (long)ticks.tms_utime);
}

static void show_child_use(void)
{
    struct rusage use;
    pid_t pid = fork();
    if (pid == 0) {
        spin();
        _exit(0);
    }
    wait4(pid, NULL, 0, &use);
    say("%ld %ld\n", (long)use.ru_utime.tv_usec, use.ru_minflt);
}

/* A child's end is told with the time that it took. */
static volatile clock_t told_ticks;

static void take_ticks(int signal, siginfo_t *info, void *context)
{
    (void)signal, (void)context;
    told_ticks = info->si_utime + info->si_stime;
}

static pid_t start_worker(void)
{
    pid_t pid = fork();
    if (pid == 0) {
        for (volatile int i = 0; i < 40000000; i++)
            ;
        _exit(0);
    }
    return pid;
}

static void show_child_told(void)
{
    struct sigaction take = {.sa_sigaction = take_ticks, .sa_flags = SA_SIGINFO};
    sigaction(SIGCHLD, &take, NULL);
    pid_t pid = start_worker();
    while (waitpid(pid, NULL, 0) < 0 && errno == EINTR)
        ;
    say("%ld\n", (long)told_ticks);
}

static void show_child_waited(void)
{
    siginfo_t info = {0};
    sigset_t child;
    sigemptyset(&child);
    sigaddset(&child, SIGCHLD);
    sigprocmask(SIG_BLOCK, &child, NULL);
    pid_t pid = start_worker();
    sigwaitinfo(&child, &info);
    waitpid(pid, NULL, 0);
    say("%ld\n", (long)(info.si_utime + info.si_stime));
}

static void show_sleep(void)
{
    struct timespec t = {.tv_nsec = 1000000}, until;
    long long begin = now();
    nanosleep(&t, NULL);
    say("%lld ", now() - begin);
    clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_nsec += until.tv_nsec < 998000000 ? 1000000 : 0;
    clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &until, NULL);
    say("%lld\n", now() - begin);
}

static volatile sig_atomic_t rung;

static void ring(int signal)
{
    (void)signal;
    rung++;
}

static void set_timer(long usec, long again)
{
    struct itimerval t = {.it_value.tv_usec = usec, .it_interval.tv_usec = again};
    signal(SIGALRM, ring);
    setitimer(ITIMER_REAL, &t, NULL);
}

/* How often a clock is looked at until it rings. */
static void show_itimer(void)
{
    long looks = 0;
    struct itimerval left;
    set_timer(5000, 0);
    for (; !rung && looks < 100000000; looks++)
        now();
    getitimer(ITIMER_REAL, &left);
    say("%ld %d %ld\n", looks, rung, (long)left.it_value.tv_usec);
}

static void show_interval(void)
{
    long long begin = now(), at[4];
    set_timer(3000, 2000);
    for (int i = 0; i < 4; i++) {
        while (rung <= i)
            now();
        at[i] = now() - begin;
    }
    say("%lld %lld %lld %lld\n", at[0], at[1], at[2], at[3]);
}

/* A sleep that a timer cuts short: what is left of it. */
static void show_broken_sleep(void)
{
    struct timespec t = {.tv_sec = 1}, rest = {0};
    set_timer(5000, 0);
    int r = nanosleep(&t, &rest);
    say("%d %d %d %lld.%09ld\n", r, r ? errno : 0, rung, (long long)rest.tv_sec, rest.tv_nsec);
}

static void show_timerfd(void)
{
    struct itimerspec t = {.it_value.tv_nsec = 1000000};
    uint64_t count = 0;
    long long begin = now();
    int fd = timerfd_create(CLOCK_MONOTONIC, 0);
    if (fd < 0) {
        say("%d\n", errno);
        return;
    }
    timerfd_settime(fd, 0, &t, NULL);
    if (read(fd, &count, sizeof count) < 0)
        count = 0;
    say("%llu %lld\n", (unsigned long long)count, now() - begin);
}

static void show_timer(void)
{
    timer_t timer;
    struct itimerspec t = {.it_value.tv_sec = 1};
    struct sigevent e = {.sigev_notify = SIGEV_NONE};
    if (timer_create(CLOCK_MONOTONIC, &e, &timer) < 0) {
        say("%d\n", errno);
        return;
    }
    timer_settime(timer, 0, &t, NULL);
    timer_gettime(timer, &t);
    say("%ld\n", t.it_value.tv_nsec);
}

static void show_poll(void)
{
    long long begin = now();
    struct timeval t = {.tv_usec = 1000};
    poll(NULL, 0, 1);
    say("%lld ", now() - begin);
    select(0, NULL, NULL, NULL, &t);
    say("%lld %ld\n", now() - begin, (long)t.tv_usec);
}

static void show_futex(void)
{
    uint32_t word = 0;
    struct timespec t = {.tv_nsec = 1000000};
    long long begin = now();
    long r = syscall(SYS_futex, &word, FUTEX_WAIT, 0, &t, NULL, 0);
    say("%ld %lld\n", r, now() - begin);
}

/* How often it turns until a clock has moved on. */
static void show_busy(void)
{
    struct timespec t;
    long turns = 0;
    clock_gettime(CLOCK_MONOTONIC, &t);
    for (long begin = t.tv_nsec, ns = 0; ns < 1000000 && turns < 100000000; turns++) {
        clock_gettime(CLOCK_MONOTONIC, &t);
        ns = (t.tv_nsec - begin + 1000000000) % 1000000000;
    }
    say("%ld\n", turns);
}

static void show_tsc(void)
{
    say("%llu\n", __builtin_ia32_rdtsc());
}

const struct golden golden_time[] = {
    {"clocks", show_clocks, NULL, NULL},
    {"time", show_time, NULL, NULL},
    {"calls", show_calls, NULL, NULL},
    {"vdso", show_vdso, NULL, NULL},
    {"vdso-found", show_vdso_found, NULL, NULL},
    {"vsyscall", show_vsyscall, "the host may have no such page", NULL},
    {"cpu-time", show_cpu, NULL, NULL},
    {"child-use", show_child_use, NULL, NULL},
    {"child-told", show_child_told, NULL, NULL},
    {"child-waited", show_child_waited, NULL, NULL},
    {"sleep", show_sleep, NULL, NULL},
    {"itimer", show_itimer, NULL, NULL},
    {"interval", show_interval, NULL, NULL},
    {"broken-sleep", show_broken_sleep, NULL, NULL},
    {"timerfd", show_timerfd, NULL, NULL},
    {"timer", show_timer, NULL, NULL},
    {"poll-limit", show_poll, NULL, NULL},
    {"futex-limit", show_futex, NULL, NULL},
    {"busy", show_busy, NULL, NULL},
    {"tsc", show_tsc, NULL, "the processor's own counter is not trapped"},
    {NULL, NULL, NULL, NULL}};
