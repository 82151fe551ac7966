/* bench/floor [RUNS]: what a start costs that is asked of a server, with no sandbox at all.
 *
 * A caller asks a server by a packet, that one the first process of a place by another, which wakes a child that shares its memory and
 * has been waiting before its exec; the program runs; its end goes the same way back.  Nobody has a namespace, a filter, a shim or
 * anything to decide.  So what lies between this and posix_spawn with wait is the price of standing ready in another process, and
 * zpipe-box can only come close to it.  The static program is also stopped once at its exec, by its place: that is where what the kernel
 * tells it (auxv) must be changed, as it has no loader in whose stead the shim could do that.  Alternating, all on one CPU; medians. */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/futex.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/ptrace.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define RUNS_MAX     100000
#define PACKET_BYTES 300 /* a request's, and a result's */
#define STACK_BYTES  65536
#define REST_NS      2000000

static const char *program[] = {"/bin/true", NULL};
static const char *const no_words[] = {NULL};
static int stopped; /* at the exec */

static void must(int result, const char *what)
{
    if (result >= 0)
        return;
    fprintf(stderr, "bench/floor: %s: %s\n", what, strerror(errno));
    exit(1);
}

static int turn; /* a futex: the child waits for 1; the kernel writes 0 when it has its program */

static long futex(int what, int value)
{
    return syscall(SYS_futex, &turn, what, value, NULL, NULL, 0);
}

static int be_program(void *unused)
{
    (void)unused;
    while (__atomic_load_n(&turn, __ATOMIC_ACQUIRE) != 1)
        futex(FUTEX_WAIT, 2);
    execve(program[0], (char *const *)(uintptr_t)program, (char *const *)(uintptr_t)no_words);
    return 127;
}

/* For one start. */
static _Noreturn void be_place(int link, int signals)
{
    static char stack[STACK_BYTES] __attribute__((aligned(16)));
    char packet[PACKET_BYTES];
    int status = 0;
    turn = 2;
    pid_t child = clone(be_program, stack + sizeof stack, CLONE_VM | CLONE_FILES | CLONE_CHILD_CLEARTID | SIGCHLD, NULL, NULL, NULL, &turn);
    must(child, "clone");
    must((int)send(link, packet, 1, 0), "send"); /* ready */
    if (recv(link, packet, sizeof packet, 0) <= 0) { /* no start is wanted any more */
        kill(child, SIGKILL);
        _exit(0);
    }
    if (stopped)
        must((int)ptrace(PTRACE_SEIZE, child, NULL, (void *)(intptr_t)(PTRACE_O_TRACEEXEC | PTRACE_O_EXITKILL)), "ptrace");
    __atomic_store_n(&turn, 1, __ATOMIC_RELEASE);
    futex(FUTEX_WAKE, 1);
    if (stopped) {
        must(waitpid(child, &status, __WALL), "wait");
        must((int)ptrace(PTRACE_DETACH, child, NULL, NULL), "ptrace");
    }
    struct pollfd p[2] = {{.fd = signals, .events = POLLIN}, {.fd = link, .events = POLLIN}};
    must(poll(p, 2, -1), "poll");
    must(waitpid(-1, &status, 0), "wait");
    memset(packet, 0, sizeof packet);
    memcpy(packet, &status, sizeof status);
    must((int)send(link, packet, sizeof packet, 0), "send");
    _exit(0);
}

static int new_place(int signals)
{
    int pair[2];
    char ready;
    must(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair), "socketpair");
    pid_t pid = fork();
    must(pid, "fork");
    if (pid == 0) {
        close(pair[0]);
        be_place(pair[1], signals);
    }
    close(pair[1]);
    must((int)recv(pair[0], &ready, 1, 0), "recv");
    return pair[0];
}

static _Noreturn void be_server(int control)
{
    struct epoll_event ev = {.events = EPOLLIN, .data.fd = control};
    char packet[PACKET_BYTES];
    sigset_t child;
    sigemptyset(&child);
    sigaddset(&child, SIGCHLD);
    sigprocmask(SIG_BLOCK, &child, NULL);
    int signals = signalfd(-1, &child, SFD_CLOEXEC), epoll = epoll_create1(EPOLL_CLOEXEC), place = -1;
    must(signals, "signalfd");
    must(epoll_ctl(epoll, EPOLL_CTL_ADD, control, &ev), "epoll_ctl");
    for (;;) {
        if (place < 0) {
            place = new_place(signals);
            ev.data.fd = place;
            must(epoll_ctl(epoll, EPOLL_CTL_ADD, place, &ev), "epoll_ctl");
        }
        must(epoll_wait(epoll, &ev, 1, -1), "epoll_wait");
        ssize_t n = recv(ev.data.fd, packet, sizeof packet, 0);
        if (n <= 0)
            _exit(0);
        must((int)send(ev.data.fd == control ? place : control, packet, (size_t)n, 0), "send");
        if (ev.data.fd == control)
            continue;
        close(place);
        place = -1;
        sched_yield(); /* the caller goes on first */
        while (waitpid(-1, NULL, 0) < 0 && errno == EINTR)
            ;
    }
}

static double now_us(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec * 1e6 + (double)t.tv_nsec / 1e3;
}

static double by_spawn(void)
{
    pid_t pid;
    double began = now_us();
    must(-posix_spawn(&pid, program[0], NULL, NULL, (char *const *)(uintptr_t)program, (char *const *)(uintptr_t)no_words), "posix_spawn");
    must(waitpid(pid, NULL, 0), "wait");
    return now_us() - began;
}

static double by_server(int control)
{
    char packet[PACKET_BYTES] = {0};
    double began = now_us();
    must((int)send(control, packet, sizeof packet, 0), "send");
    struct pollfd p = {.fd = control, .events = POLLIN};
    must(poll(&p, 1, -1), "poll");
    must((int)recv(control, packet, sizeof packet, 0), "recv");
    return now_us() - began;
}

static int by_size(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static void measure(int runs, const char *name)
{
    static double bare[RUNS_MAX], served[RUNS_MAX];
    int control[2];
    must(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, control), "socketpair");
    pid_t server = fork();
    must(server, "fork");
    if (server == 0) {
        close(control[0]);
        be_server(control[1]);
    }
    close(control[1]);
    for (int i = 0; i < runs; i++) {
        nanosleep(&(struct timespec){.tv_nsec = REST_NS}, NULL);
        bare[i] = by_spawn();
        nanosleep(&(struct timespec){.tv_nsec = REST_NS}, NULL);
        served[i] = by_server(control[0]);
    }
    close(control[0]);
    waitpid(server, NULL, 0);
    qsort(bare, (size_t)runs, sizeof *bare, by_size);
    qsort(served, (size_t)runs, sizeof *served, by_size);
    double a = bare[runs / 2], b = served[runs / 2];
    printf("%-28s bare %.0f us, by a server without a sandbox %.0f us: %.2fx, %+.0f us\n", name, a, b, b / a, b - a);
}

int main(int argc, char **argv)
{
    static char tiny[PATH_MAX];
    int runs = argc > 1 ? atoi(argv[1]) : 300;
    cpu_set_t one;
    ssize_t length = readlink("/proc/self/exe", tiny, sizeof tiny - sizeof "tiny");
    if (runs < 1 || runs > RUNS_MAX || length <= 0)
        return 1;
    tiny[length] = 0;
    memcpy(strrchr(tiny, '/') + 1, "tiny", sizeof "tiny");
    CPU_ZERO(&one);
    CPU_SET(0, &one);
    must(sched_setaffinity(0, sizeof one, &one), "cannot stay on one CPU");
    measure(runs, "/bin/true");
    program[0] = tiny;
    measure(runs, "static, 2 instructions");
    stopped = 1;
    measure(runs, "  stopped at its exec");
    return 0;
}
