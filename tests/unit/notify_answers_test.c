/* The answers, seen from inside by raw system calls: right values, right errors for hostile
 * arguments, and a server that neither crashes nor hangs when tasks die, race or flood. */
#include "sandbox/clock_page.h"
#include "lib/test.h"
#include "base/fds.h"
#include "lib/guarded.h"
#include "sandbox/box.h"
#include "sandbox/notify_task.h"
#include "sandbox/usage.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/select.h>
#include <sys/statfs.h>
#include <sys/syscall.h>
#include <sys/sysinfo.h>
#include <sys/time.h>
#include <sys/times.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define EPOCH 1000000000

static int failures;

/* For the child: cmocka's assertions must not be used there. */
#define EXPECT(condition)                                                                          \
    do {                                                                                           \
        errno = 0;                                                                                 \
        if (!(condition)) {                                                                        \
            printf("line %d: %s (%s)\n", __LINE__, #condition, strerror(errno));                   \
            failures++;                                                                            \
        }                                                                                          \
    } while (0)

#define FAILS(call, error) EXPECT((call) == -1 && errno == (error))

static int64_t clock_ns(int id)
{
    struct timespec t = {0};

    syscall(SYS_clock_gettime, id, &t);
    return t.tv_sec * 1000000000ll + t.tv_nsec;
}

static int clocks(void)
{
    static const int ids[] = {0, 1, 4, 5, 6, 7, 8, 9, 11};
    struct timeval tv;
    struct timespec t;
    int64_t before;
    long now = 0;

    for (size_t i = 0; i < sizeof ids / sizeof *ids; i++) {
        before = clock_ns(ids[i]);
        EXPECT(clock_ns(ids[i]) == before + CLOCK_STEP_NS);
    }
    EXPECT(clock_ns(0) / 1000000000 == EPOCH);
    EXPECT(clock_ns(1) / 1000000000 == 1000);
    EXPECT(clock_ns(2) < 1000000);
    EXPECT(clock_ns(-6) < 1000000); /* a process's CPU clock */
    FAILS(syscall(SYS_clock_gettime, 10, &t), EINVAL);
    FAILS(syscall(SYS_clock_gettime, 99, &t), EINVAL);
    FAILS(syscall(SYS_clock_gettime, 0, NULL), EFAULT);
    FAILS(syscall(SYS_clock_gettime, 0, -1l), EFAULT);
    EXPECT(syscall(SYS_gettimeofday, &tv, NULL) == 0 && tv.tv_sec == EPOCH);
    EXPECT(syscall(SYS_gettimeofday, NULL, NULL) == 0);
    EXPECT(syscall(SYS_time, &now) == EPOCH && now == EPOCH);
    EXPECT(syscall(SYS_time, NULL) == EPOCH);
    FAILS(syscall(SYS_time, 8), EFAULT);
    EXPECT(syscall(SYS_times, NULL) >= 100000);
    return failures;
}

static int sleeps(void)
{
    struct timespec t = {100, 5}, bad = {0, 1000000000}, negative = {-1, 0},
                    forever = {INT64_MAX, 999999999};
    struct timeval tv = {7, 0};
    int64_t before = clock_ns(0), cpu = clock_ns(2);

    EXPECT(syscall(SYS_nanosleep, &t, NULL) == 0);
    EXPECT(clock_ns(0) / 1000000000 == EPOCH + 100 && clock_ns(0) > before);
    EXPECT(clock_ns(2) < cpu + 1000000); /* sleeping uses no CPU */
    FAILS(syscall(SYS_nanosleep, &bad, NULL), EINVAL);
    FAILS(syscall(SYS_nanosleep, &negative, NULL), EINVAL);
    FAILS(syscall(SYS_nanosleep, NULL, NULL), EFAULT);
    t.tv_sec = EPOCH + 200;
    EXPECT(syscall(SYS_clock_nanosleep, 0, TIMER_ABSTIME, &t, NULL) == 0);
    EXPECT(clock_ns(0) / 1000000000 == EPOCH + 200);
    EXPECT(syscall(SYS_clock_nanosleep, 0, TIMER_ABSTIME, &t, NULL) == 0); /* past: no step back */
    EXPECT(clock_ns(0) / 1000000000 == EPOCH + 200);
    t.tv_sec = 50;
    EXPECT(syscall(SYS_clock_nanosleep, 1, 0, &t, NULL) == 0);
    EXPECT(clock_ns(1) / 1000000000 == 1250);
    FAILS(syscall(SYS_clock_nanosleep, 42, 0, &t, NULL), EINVAL);
    EXPECT(syscall(SYS_poll, NULL, 0, 50000) == 0);
    EXPECT(clock_ns(1) / 1000000000 == 1300);
    EXPECT(syscall(SYS_select, 0, NULL, NULL, NULL, &tv) == 0 && tv.tv_sec == 0);
    EXPECT(clock_ns(1) / 1000000000 == 1307);
    t.tv_sec = 3;
    EXPECT(syscall(SYS_pselect6, 0, NULL, NULL, NULL, &t, NULL) == 0);
    EXPECT(syscall(SYS_ppoll, NULL, 0, &(struct timespec){10, 0}, NULL, 8) == 0);
    EXPECT(clock_ns(1) / 1000000000 == 1320);
    FAILS(syscall(SYS_select, 0, NULL, NULL, NULL, 8), EFAULT);
    for (int i = 0; i < 3; i++) /* the clock stops at its end, and does not wrap */
        EXPECT(syscall(SYS_nanosleep, &forever, NULL) == 0);
    before = clock_ns(1);
    EXPECT(before > 0 && clock_ns(1) >= before);
    return failures;
}

static int machine(void)
{
    struct rlimit limit = {0}, wish = {5, 5};
    struct sysinfo info;
    struct statfs fs;
    struct rusage use;
    struct itimerval timer = {{9, 9}, {9, 9}};
    uint64_t mask[2] = {99, 99};
    unsigned cpu = 9, node = 9;
    int priority = 9;

    EXPECT(syscall(SYS_sysinfo, &info) == 0 && info.totalram * info.mem_unit == 16ull << 30);
    FAILS(syscall(SYS_sysinfo, 0), EFAULT);
    EXPECT(syscall(SYS_statfs, "/", &fs) == 0 && fs.f_bsize == 4096);
    EXPECT(syscall(SYS_fstatfs, 0, &fs) == 0 && fs.f_namelen == 255);
    EXPECT(syscall(SYS_getrusage, RUSAGE_SELF, &use) == 0 && use.ru_maxrss == 0);
    FAILS(syscall(SYS_getrusage, 77, &use), EINVAL);
    EXPECT(syscall(SYS_getcpu, &cpu, &node, NULL) == 0 && cpu == 0 && node == 0);
    EXPECT(syscall(SYS_getcpu, NULL, NULL, NULL) == 0);
    EXPECT(syscall(SYS_sched_getaffinity, 0, 16, mask) == 8 && mask[0] == 1 && mask[1] == 99);
    FAILS(syscall(SYS_sched_getaffinity, 0, 4, mask), EINVAL);
    FAILS(syscall(SYS_sched_getaffinity, 0, 9, mask), EINVAL);
    EXPECT(syscall(SYS_sched_getparam, 0, &priority) == 0 && priority == 0);
    EXPECT(syscall(SYS_sched_getscheduler, 0) == 0);
    EXPECT(syscall(SYS_getpriority, PRIO_PROCESS, 0) == 20);
    FAILS(syscall(SYS_getpriority, 3, 0), EINVAL);
    EXPECT(syscall(SYS_prlimit64, 0, RLIMIT_NOFILE, &wish, &limit) == 0 && limit.rlim_max > 5);
    EXPECT(syscall(SYS_prlimit64, 0, RLIMIT_NOFILE, NULL, &limit) == 0 && limit.rlim_max > 5);
    FAILS(syscall(SYS_prlimit64, 0, 99, &wish, &limit), EINVAL);
    FAILS(syscall(SYS_prlimit64, 1, RLIMIT_NOFILE, NULL, &limit), EPERM);
    EXPECT(syscall(SYS_setitimer, 0, &timer, &timer) == 0 && timer.it_value.tv_sec == 0);
    EXPECT(syscall(SYS_getitimer, 0, &timer) == 0);
    FAILS(syscall(SYS_getitimer, 5, &timer), EINVAL);
    FAILS(syscall(SYS_uname, 16), EFAULT);
    return failures;
}

static int random_calls(void)
{
    static char big[1 << 20];
    char a[16], b[16];

    EXPECT(syscall(SYS_getrandom, a, sizeof a, 0) == 16 &&
           syscall(SYS_getrandom, b, sizeof b, 1) == 16);
    EXPECT(memcmp(a, b, sizeof a) != 0);
    EXPECT(syscall(SYS_getrandom, a, 0, 0) == 0);
    EXPECT(syscall(SYS_getrandom, big, sizeof big, 0) == 65536);
    EXPECT(syscall(SYS_getrandom, big, -1l, 0) == 65536); /* what fits; the rest is not ours */
    FAILS(syscall(SYS_getrandom, a, 8, 0xff), EINVAL);
    FAILS(syscall(SYS_getrandom, NULL, 8, 0), EFAULT);
    FAILS(syscall(SYS_getrandom, 0xffff800000000000ul, 8, 0), EFAULT);
    return failures;
}

static int random_files(void)
{
    static char piece[100000], again[100000];
    int fd[NOTIFY_RANDOM_MAX + 1];

    for (int i = 0; i < NOTIFY_RANDOM_MAX; i++)
        EXPECT((fd[i] = open("/dev/urandom", O_RDONLY | O_CLOEXEC)) >= 0);
    FAILS(open("/dev/random", O_RDONLY), EMFILE);
    EXPECT(fcntl(fd[0], F_GETFD) == FD_CLOEXEC);
    EXPECT(read(fd[0], piece, sizeof piece) ==
           sizeof piece); /* full, though we fill 64 KiB ahead */
    EXPECT(read(fd[1], again, sizeof again) == sizeof again);
    EXPECT(memcmp(piece, again, sizeof piece) != 0);
    for (int i = 0; i < NOTIFY_RANDOM_MAX; i++)
        close(fd[i]);
    for (int i = 0; i < 300; i++) { /* closed ones make room */
        int one = open("/dev/urandom", O_RDONLY);

        EXPECT(one >= 0 && read(one, piece, 8) == 8);
        close(one);
    }
    EXPECT((fd[0] = open("/dev/urandom", O_RDONLY)) >= 0);
    return failures;
}

static int opens(void)
{
    char *page = valloc(8192);
    char text[4] = "";
    int fd, closed = open("/dev/null", O_RDONLY);

    close(closed);
    EXPECT((fd = open("/dev/stdin", O_RDONLY)) > 2);
    EXPECT(read(fd, text, 3) == 3 && !strcmp(text, "abc"));
    EXPECT(fcntl(fd, F_GETFD) == 0);
    EXPECT(open("/dev/stdout", O_WRONLY | O_CLOEXEC) > 2);
    FAILS(open("/dev/stdout", O_RDONLY), EACCES); /* a pipe's writing end */
    FAILS(open("/dev/fd/1000000", O_RDONLY), ENOENT);
    FAILS(open("/dev/fd/99999999999999999999", O_RDONLY), ENOENT);
    FAILS(open("/no/such/file", O_RDONLY), ENOENT);
    FAILS(syscall(SYS_openat, AT_FDCWD, NULL, O_RDONLY), EFAULT);
    FAILS(syscall(SYS_openat, AT_FDCWD, -4096l, O_RDONLY), EFAULT);
    strcpy(page + 4096 - 11, "/dev/stdin"); /* ends with its page */
    munmap(page + 4096, 4096);
    EXPECT((fd = open(page + 4096 - 11, O_RDONLY)) > 2);
    page[4095] = 'x'; /* no end at all */
    FAILS(open(page + 4096 - 11, O_RDONLY), EFAULT);
    (void)closed;
    return failures;
}

static void on_signal(int number)
{
    (void)number;
}

/* Signals do not break answers (without SA_RESTART the kernel may say EINTR before we are asked);
 * children killed in the middle of one do no harm. */
static int storms(void)
{
    struct sigaction action = {.sa_handler = on_signal, .sa_flags = SA_RESTART};
    char byte;
    int status;
    pid_t parent = getpid();

    sigaction(SIGUSR1, &action, NULL);
    for (int round = 0; round < 20; round++) {
        pid_t child = fork();

        if (child == 0) {
            for (;;) {
                kill(parent, SIGUSR1);
                clock_ns(0);
            }
        }
        for (int i = 0; i < 50; i++)
            EXPECT(syscall(SYS_getrandom, &byte, 1, 0) == 1);
        kill(child, SIGKILL);
        while (waitpid(child, &status, 0) < 0)
            ;
        EXPECT(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
    }
    return failures;
}

static int queue(int count)
{
    sigset_t one;

    sigemptyset(&one);
    sigaddset(&one, SIGRTMIN);
    sigprocmask(SIG_BLOCK, &one, NULL);
    for (int i = 0; i < count; i++)
        EXPECT(sigqueue(getpid(), SIGRTMIN, (union sigval){0}) == 0);
    return failures;
}

static int queues_few(void)
{
    return queue(100);
}

static int queues_many(void)
{
    struct rlimit l = {0};

    getrlimit(RLIMIT_SIGPENDING, &l);
    return queue((int)l.rlim_cur / 2 + 1);
}

/* The child's end could tell its parent, by a handler, how long it has run. */
static int other_end(void)
{
    pid_t child = (pid_t)syscall(SYS_clone, SIGURG, 0, 0, 0, 0);

    if (child == 0)
        _exit(0);
    EXPECT(waitpid(child, NULL, __WALL) == child);
    return failures;
}

static char flipping[32] = "/dev/stdin";
static volatile int stop; /* no bool: gcc 12 drops the volatile of one that a sanitizer looks at, from -O1 on */

static void *flip(void *unused)
{
    while (!stop) {
        memcpy(flipping, "/etc/passwd", 12);
        memcpy(flipping, "/dev/stdin", 11);
    }
    return unused;
}

/* A path that changes while it is looked at gives one file or the other, or none. */
static int races(void)
{
    pthread_t thread;

    pthread_create(&thread, NULL, flip, NULL);
    for (int i = 0; i < 2000; i++) {
        int fd = open(flipping, O_RDONLY);

        if (fd >= 0)
            close(fd);
        else
            EXPECT(errno != ENOSYS);
    }
    stop = true;
    pthread_join(thread, NULL);
    return failures;
}

static struct timespec span;

static void *flip_span(void *unused)
{
    while (!stop) {
        __atomic_store_n(&span.tv_nsec, -1, __ATOMIC_RELAXED);
        __atomic_store_n(&span.tv_nsec, 7, __ATOMIC_RELAXED);
    }
    return unused;
}

/* The values that were checked are those that are used: a span is good and slept, or bad and refused; no clock goes back. */
static int racing_spans(void)
{
    pthread_t thread;
    int64_t before = clock_ns(CLOCK_MONOTONIC);

    pthread_create(&thread, NULL, flip_span, NULL);
    for (int i = 0; i < 2000; i++) {
        long slept = syscall(i % 2 ? SYS_nanosleep : SYS_ppoll, i % 2 ? (void *)&span : NULL, 0, &span, 0, 8);
        int why = errno;
        int64_t now = clock_ns(CLOCK_MONOTONIC);

        EXPECT(slept == 0 || why == EINVAL);
        EXPECT(now > before && now < before + 1000000);
        before = now;
    }
    stop = true;
    pthread_join(thread, NULL);
    return failures;
}

static int thread_opens_stdin_body;

static void *open_stdin(void *unused)
{
    char text[4] = "";
    int fd = open("/dev/stdin", O_RDONLY);

    thread_opens_stdin_body = fd > 2 && read(fd, text, 3) == 3 && !strcmp(text, "abc");
    return unused;
}

/* A notification from a thread carries the thread's number, not the process's. */
static int thread_opens(void)
{
    pthread_t thread;

    pthread_create(&thread, NULL, open_stdin, NULL);
    pthread_join(thread, NULL);
    return !thread_opens_stdin_body;
}

static int waits_for_descriptors(void)
{
    struct pollfd p = {0, POLLIN, 0}, none[3] = {{0, 0, 0}, {1, 0, 0}, {2, 0, 0}};
    int64_t before = clock_ns(1);
    int fd;

    EXPECT(syscall(SYS_poll, none, 3, 0) >= 0);
    EXPECT(syscall(SYS_poll, &p, 1, -1) == 1);
    EXPECT(syscall(SYS_poll, &p, 1, 5000) == 1);
    EXPECT(clock_ns(1) >= before + 5000000000ll);
    EXPECT((fd = epoll_create1(0)) >= 0);
    EXPECT(syscall(SYS_epoll_wait, fd, &(struct epoll_event){0}, 1, 1) == 0);
    return failures;
}

static int quiet(void)
{
    struct pollfd none[3] = {{0, 0, 0}, {1, 0, 0}, {2, 0, 0}};

    EXPECT(syscall(SYS_poll, none, 3, 0) >= 0);
    EXPECT(clock_ns(0) > 0);
    return failures;
}

static volatile int rung, rung_value;

static void on_timer(int number, siginfo_t *info, void *context)
{
    (void)number, (void)context;
    rung++;
    rung_value = info->si_value.sival_int;
}

/* One that rings again and again, one at a time of day, one that never rings; and what there is none of. */
static int made_timers(void)
{
    struct sigaction on = {.sa_sigaction = on_timer, .sa_flags = SA_SIGINFO};
    struct sigevent e = {.sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGUSR1, .sigev_value.sival_int = 77};
    struct itimerspec again = {{0, 200000000}, {0, 300000000}}, day = {.it_value.tv_sec = EPOCH + 100}, left = {0}, bad = {.it_value.tv_nsec = -1};
    struct timespec t = {2, 0}, rest = {0};
    int id[4] = {-1, -1, -1, -1};

    EXPECT(sigaction(SIGUSR1, &on, NULL) == 0 && sigaction(SIGALRM, &on, NULL) == 0);
    EXPECT(syscall(SYS_timer_create, CLOCK_MONOTONIC, &e, &id[0]) == 0 && id[0] == 0);
    EXPECT(syscall(SYS_timer_settime, id[0], 0, &again, NULL) == 0);
    FAILS(syscall(SYS_nanosleep, &t, &rest), EINTR);
    EXPECT(rung == 1 && rung_value == 77 && rest.tv_sec == 1 && rest.tv_nsec == 700000000);
    EXPECT(syscall(SYS_timer_gettime, id[0], &left) == 0 && left.it_value.tv_nsec == 200000000 && left.it_interval.tv_nsec == 200000000);
    EXPECT(syscall(SYS_timer_getoverrun, id[0]) == 0);
    EXPECT(syscall(SYS_timer_delete, id[0]) == 0);
    FAILS(syscall(SYS_timer_settime, id[0], 0, &again, NULL), EINVAL);
    EXPECT(syscall(SYS_timer_create, CLOCK_REALTIME, NULL, &id[1]) == 0);
    EXPECT(syscall(SYS_timer_settime, id[1], TIMER_ABSTIME, &day, &left) == 0 && !left.it_value.tv_sec && !left.it_value.tv_nsec);
    t.tv_sec = 1000;
    FAILS(syscall(SYS_nanosleep, &t, NULL), EINTR);
    EXPECT(rung == 2 && clock_ns(CLOCK_REALTIME) / 1000000000 == EPOCH + 100);
    e.sigev_notify = SIGEV_NONE;
    EXPECT(syscall(SYS_timer_create, CLOCK_BOOTTIME, &e, &id[2]) == 0 && id[2] != id[1]);
    EXPECT(syscall(SYS_timer_settime, id[2], 0, &again, NULL) == 0);
    EXPECT(syscall(SYS_nanosleep, &t, NULL) == 0 && rung == 2);
    FAILS(syscall(SYS_timer_settime, id[2], 0, &bad, NULL), EINVAL);
    FAILS(syscall(SYS_timer_settime, id[2], 0, NULL, NULL), EFAULT);
    FAILS(syscall(SYS_timer_gettime, id[2], NULL), EFAULT);
    FAILS(syscall(SYS_timer_gettime, -1, &left), EINVAL);
    FAILS(syscall(SYS_timer_delete, 60), EINVAL);
    FAILS(syscall(SYS_timer_create, CLOCK_REALTIME, NULL, NULL), EFAULT);
    FAILS(syscall(SYS_timer_create, CLOCK_REALTIME, 8, &id[3]), EFAULT);
    FAILS(syscall(SYS_timer_create, CLOCK_THREAD_CPUTIME_ID, NULL, &id[3]), ENOSYS);
    e.sigev_notify = 4; /* SIGEV_THREAD_ID */
    FAILS(syscall(SYS_timer_create, CLOCK_REALTIME, &e, &id[3]), ENOSYS);
    e.sigev_notify = SIGEV_SIGNAL;
    e.sigev_signo = 65;
    FAILS(syscall(SYS_timer_create, CLOCK_REALTIME, &e, &id[3]), EINVAL);
    if (fork() == 0) /* they are the process's own */
        _exit(syscall(SYS_timer_gettime, id[2], &left) == 0 || errno != EINVAL);
    EXPECT(wait(&id[3]) > 0 && id[3] == 0);
    return failures;
}

/* Nobody deletes them, and there is room for those of others. */
static int timers_of_many(void)
{
    int id, status;

    for (int i = 0; i < 2 * NOTIFY_TIMERS_MAX; i++) {
        if (fork() == 0)
            _exit(syscall(SYS_timer_create, CLOCK_REALTIME, NULL, &id) < 0);
        EXPECT(wait(&status) > 0 && status == 0);
    }
    for (int i = 0; i < NOTIFY_TIMERS_MAX; i++)
        EXPECT(syscall(SYS_timer_create, CLOCK_REALTIME, NULL, &id) == 0 && id == i);
    FAILS(syscall(SYS_timer_create, CLOCK_REALTIME, NULL, &id), EAGAIN);
    return failures;
}

static void on_child(int number, siginfo_t *info, void *context)
{
    (void)number, (void)info, (void)context;
}

static void take_details(void)
{
    struct sigaction a = {.sa_sigaction = on_child, .sa_flags = SA_SIGINFO | SA_RESTART};

    EXPECT(sigaction(SIGCHLD, &a, NULL) == 0);
}

static void have_child(bool waits)
{
    pid_t pid = fork();

    if (pid == 0)
        _exit(0);
    EXPECT(pid > 0 && (!waits || waitpid(pid, NULL, 0) == pid));
}

/* Nobody tells a process without children how long they have run. */
static int details_and_no_child(void)
{
    have_child(true);
    take_details();
    return failures;
}

static int details_and_child(void)
{
    take_details();
    have_child(true);
    return failures;
}

static int child_and_details(void)
{
    have_child(false);
    take_details();
    return failures;
}

/* The signal of a child that is gone waits. */
static int child_gone_and_details(void)
{
    sigset_t set;

    sigemptyset(&set);
    sigaddset(&set, SIGCHLD);
    EXPECT(sigprocmask(SIG_BLOCK, &set, NULL) == 0);
    have_child(true);
    take_details();
    return failures;
}

/* A child that takes the details of its own children, of which it has none, tells its parent nothing. */
static int childs_details(void)
{
    for (int i = 0; i < 2; i++) {
        pid_t pid = fork();

        if (pid == 0) {
            take_details();
            _exit(failures);
        }
        EXPECT(pid > 0 && waitpid(pid, NULL, 0) == pid);
    }
    return failures;
}

static int details_of_many(void)
{
    for (int i = 0; i < NOTIFY_TELLERS; i++)
        childs_details();
    take_details();
    have_child(true);
    return failures;
}

struct row {
    const char *name;
    int (*body)(void);
    const char *why; /* the mark it must leave */
};

static const struct row rows[] = {
    {"clocks", clocks, ""},
    {"sleeps", sleeps, ""},
    {"machine", machine, ""},
    {"timers that are made", made_timers, ""},
    {"timers of many", timers_of_many, ""},
    {"getrandom", random_calls, ""},
    {"random files", random_files, ""},
    {"opens", opens, ""},
    {"signals and kills", storms, ""},
    {"some queued signals", queues_few, ""},
    {"many queued signals", queues_many, "has so many signals waiting that others' could leave no room"},
    {"a child that ends by another signal", other_end, "is told how long its children have run"},
    {"details without children", details_and_no_child, ""},
    {"details, then a child", details_and_child, "is told how long its children have run"},
    {"a child, then details", child_and_details, "is told how long its children have run"},
    {"a child that is gone, then details", child_gone_and_details, "is told how long its children have run"},
    {"a child's details", childs_details, ""},
    {"details of many processes", details_of_many, "is told how long its children have run"},
    {"a racing path", races, ""},
    {"racing spans", racing_spans, ""},
    {"a thread opens", thread_opens, ""},
    {"waits", waits_for_descriptors, "waits for a descriptor with a limit of time"},
    {"quiet", quiet, ""},
};

static void inside(void **context)
{
    const struct row *row = *context;
    struct guarded g = {
        .body = row->body, .input = "abcdef", .opens = true, .epoch_s = EPOCH, .no_shim = true};
    static struct guarded_result r;

    guarded_run(&g, &r);
    if (r.status != 0)
        fail_msg("status %d: %s", r.status, r.output);
    assert_string_equal(r.report.uncertified_why, row->why);
}

/* The keystream of the zero key, as published with the cipher, and that streams are apart. */
static void generator(void **context)
{
    static const uint8_t zero_key[16] = {0x76, 0xb8, 0xe0, 0xad, 0xa0, 0xf1, 0x3d, 0x90,
                                         0x40, 0x5d, 0x6a, 0xe5, 0x53, 0x86, 0xbd, 0x28};
    static const uint64_t seeds[][3] = {
        {1, 2, 3}, {2, 1, 3}, {1, 3, 2}, {1, 2, 4}, {1ull << 32 | 1, 2, 3}};
    uint8_t got[5][200], pieces[200];
    struct random r;

    (void)context;
    random_init(&r, 0, 0, 0);
    memset(r.input + 4, 0, 12 * sizeof *r.input);
    random_bytes(&r, got[0], 16);
    assert_memory_equal(got[0], zero_key, 16);
    for (int i = 0; i < 5; i++) {
        random_init(&r, seeds[i][0], seeds[i][1], seeds[i][2]);
        random_bytes(&r, got[i], 200);
        for (int k = 0; k < i; k++)
            assert_memory_not_equal(got[i], got[k], 8);
    }
    random_init(&r, 1ull << 32 | 1, 2, 3);
    for (size_t done = 0, piece = 1;
         done<200; done += piece, piece = done + 2 * piece> 200 ? 200 - done : 2 * piece)
        random_bytes(&r, pieces + done, piece);
    assert_memory_equal(pieces, got[4], 200);
}

/* A descriptor that is not a listener gives an error, and does not hang. */
static void no_listener(void **context)
{
    struct err e;
    struct notify *n = notify_new(open("/dev/null", O_RDWR | O_CLOEXEC), 1, 2, 3, &e);

    (void)context;
    assert_non_null(n);
    assert_int_equal(notify_serve(n, &e), -1);
    assert_int_not_equal(e.code, ERR_GONE);
    assert_int_equal(notify_random_fd(n), -1);
    notify_free(n);
    notify_free(NULL);
}

/* Threads made under the filter by a program that started outside: its library has an rseq already
 * and insists on more.  Start without. */
static void without_rseq(void)
{
    char self[] = "/proc/self/exe";

    if (getenv("GLIBC_TUNABLES"))
        return;
    setenv("GLIBC_TUNABLES", "glibc.pthread.rseq=0", 1);
    execv(self, (char *[]){self, NULL});
}

/* May one more be started? */
static bool may_fork(struct notify *n)
{
    struct seccomp_notif q = {.data.nr = SYS_fork};
    struct answer a = {0};

    answer_forking(n, &q, &a);
    assert_true(a.go_on || a.error == EAGAIN);
    return a.go_on;
}

static uint32_t threads_now(void)
{
    struct usage u;
    usage_look(getpid(), &u);
    return u.threads;
}

/* The kernel does not count root's processes.  While there is surely room processes are not counted, then those that live
 * are. */
static void processes(void **context)
{
    struct notify_report r;
    struct err e;
    struct notify *n = notify_new(open("/dev/null", O_RDONLY | O_CLOEXEC), 0, 0, 0, &e);
    uint32_t there = threads_now();

    (void)context;
    assert_non_null(n);
    notify_limit(n, &(struct box_limits){0}, getpid());
    for (unsigned i = 1; i < NOTIFY_PROCS_MAX; i++)
        assert_true(may_fork(n));
    assert_int_equal(n->procs_room, 0);
    assert_true(may_fork(n));
    assert_int_equal(n->procs_room, NOTIFY_PROCS_MAX - there - 1);
    pid_t pid = fork();
    if (pid == 0)
        for (;;)
            pause();
    n->procs = there + 1; /* as if there were no more */
    n->procs_room = 0;
    assert_false(may_fork(n));
    notify_report(n, &r);
    assert_string_equal(r.limit_hit, "procs");
    n->crowd.until_ns = INT64_MAX; /* who tries again and again does not make us count */
    for (int i = 0; i < 100; i++)
        assert_false(may_fork(n));
    assert_true(n->crowd.until_ns == INT64_MAX);
    kill(pid, SIGKILL);
    assert_int_equal(waitpid(pid, NULL, 0), pid);
    assert_true(may_fork(n));
    notify_free(n);
}

/* Each process is the only child of the one before, and there are more of them than we may have descriptors. */
static void chain(void **context)
{
    enum { LINKS = 200, FILES = 60 };
    struct rlimit was, few;
    uint32_t before = threads_now();
    int ends[2];
    char last;

    (void)context;
    assert_int_equal(pipe2(ends, O_CLOEXEC), 0);
    pid_t first = fork();
    for (int i = 1; i <= LINKS && first == 0; i++) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        if (i == LINKS ? write(ends[1], "", 1) == 1 : fork() != 0)
            for (;;)
                pause();
    }
    assert_true(first > 0);
    assert_int_equal(read(ends[0], &last, 1), 1);
    getrlimit(RLIMIT_NOFILE, &was);
    few = (struct rlimit){FILES, was.rlim_max};
    setrlimit(RLIMIT_NOFILE, &few);
    uint32_t there = threads_now();
    setrlimit(RLIMIT_NOFILE, &was);
    kill(first, SIGKILL);
    assert_int_equal(waitpid(first, NULL, 0), first);
    close(ends[0]);
    close(ends[1]);
    assert_int_equal(there, before + LINKS);
}

/* If we have no descriptor left to look with, what the kernel then answers is not certified. */
static void no_descriptor(void **context)
{
    struct seccomp_notif q = {.pid = (uint32_t)getpid()};
    struct notify_report r;
    struct rlimit was;
    struct err e;

    (void)context;
    for (int path = 0; path < 2; path++) {
        struct notify *n = notify_new(open("/dev/null", O_RDONLY | O_CLOEXEC), 0, 0, 0, &e);
        assert_non_null(n);
        getrlimit(RLIMIT_NOFILE, &was);
        setrlimit(RLIMIT_NOFILE, &(struct rlimit){0, was.rlim_max});
        int fd = path ? task_open(n, &q, AT_FDCWD, "/etc", O_PATH) : task_fd(n, &q, 0);
        setrlimit(RLIMIT_NOFILE, &was);
        assert_int_equal(fd, -1);
        notify_report(n, &r);
        assert_string_equal(r.uncertified_why, "zpipe-box has too many files open to see what a call is about");
        notify_free(n);
    }
}

int main(void)
{
    struct CMUnitTest tests[5 + sizeof rows / sizeof *rows] = {
        cmocka_unit_test(generator),
        cmocka_unit_test(no_listener),
        cmocka_unit_test(processes),
        cmocka_unit_test(chain),
        cmocka_unit_test(no_descriptor),
    };

    without_rseq();
    if (!guarded_possible()) {
        print_message("no user namespaces here: skipped\n");
        return 0;
    }
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        tests[5 + i] =
            (struct CMUnitTest){rows[i].name, inside, NULL, NULL, (void *)(uintptr_t)&rows[i]};
    if (cmocka_run_group_tests(tests, NULL, NULL) != 0)
        return 1;
    return guarded_as_nobody();
}
