/* System calls at random, with arguments at random, inside a sandbox.
 *
 *     wall_fuzz SEED CHILDREN
 *
 * Each child makes CALLS calls, or fewer: it may end itself, be killed by the filter, or wait for ever and be
 * killed by us.  Every other child has a second thread that does so, too, and with what the first one asks about.  The
 * same seed asks the same.  That the host is unharmed is for the caller to see; here
 * it is only said what happened.
 *
 * What must stay true: where there is no wall nothing is called.  Calls that make processes are left out, and
 * those that end others get our own number; no large memory is asked for. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#define CALLS   400
#define NUMBERS 480 /* the newest calls are below */
#define WAIT_MS 40  /* then a child that says nothing more is killed */
#define ROOM    (1 << 16)

static uint64_t state;

static uint64_t next(void)
{
    state ^= state << 13, state ^= state >> 7, state ^= state << 17;
    return state;
}

/* Any of these lets a call do what it says: then this is no place for us. */
static bool wall_is_missing(void)
{
    return getpid() != 2 || getppid() != 1 || syscall(SYS_unshare, 0) == 0 || errno != ENOSYS ||
           syscall(SYS_clone3, NULL, 0) == 0 || errno != ENOSYS || access("/var", F_OK) == 0;
}

static bool left_out(long nr)
{
    static const long out[] = {SYS_fork, SYS_vfork, SYS_clone, SYS_exit, SYS_exit_group, SYS_rt_sigreturn,
                               SYS_pause, SYS_rt_sigsuspend};
    for (size_t i = 0; i < sizeof out / sizeof *out; i++)
        if (nr == out[i])
            return true;
    return false;
}

/* They end most children early: not so often. */
static bool takes_memory(long nr)
{
    return nr == SYS_munmap || nr == SYS_mremap || nr == SYS_mprotect || nr == SYS_mmap || nr == SYS_madvise ||
           nr == SYS_brk || nr == SYS_execve || nr == SYS_execveat;
}

static bool takes_pid(long nr)
{
    return nr == SYS_kill || nr == SYS_tkill || nr == SYS_tgkill || nr == SYS_rt_sigqueueinfo ||
           nr == SYS_rt_tgsigqueueinfo || nr == SYS_setpgid;
}

static uint64_t argument(uint8_t *room)
{
    static const char *const names[] = {"/tmp/a", "b", "/", ".", "/dev/null", "/dev/stdin", "input.txt", "../../etc",
                                        "/proc/self/mem", "/dev/urandom", ""};
    static const uint64_t edges[] = {0, 1, (uint64_t)-1, (uint64_t)-100, 0x7fffffff, 0x80000000, 0xffffffff,
                                     1ull << 47, 0xffffffff81000000, 4096, 65536};
    switch (next() % 8) {
    case 0:
        return edges[next() % (sizeof edges / sizeof *edges)];
    case 1:
        return next() % 12; /* a descriptor, or a small number */
    case 2:
        return 1ull << next() % 24; /* a flag */
    case 3:
        return (uint64_t)(uintptr_t)names[next() % (sizeof names / sizeof *names)];
    case 4:
        return (uint64_t)(uintptr_t)(room + ROOM - next() % 64); /* to the end of what is there */
    case 5:
        return (next() & 0xffff) | (next() % 2 ? next() << 32 : 0);
    default:
        return (uint64_t)(uintptr_t)(room + next() % (ROOM - 4096));
    }
}

static void one_call(uint8_t *room)
{
    uint64_t a[6];
    long nr = (long)(next() % NUMBERS);
    if (next() % 64 == 0)
        nr |= 0x40000000; /* x32 */
    for (int i = 0; i < 6; i++)
        a[i] = argument(room);
    if (next() % 16 == 0)
        for (int i = 0; i < 64; i++)
            room[next() % ROOM] = (uint8_t)next();
    if (left_out(nr) || (takes_memory(nr) && next() % 16 != 0))
        return;
    if (takes_pid(nr))
        a[0] = (uint64_t)getpid();
    syscall(nr, a[0], a[1], a[2], a[3], a[4], a[5]);
}

static void *call_beside(void *room)
{
    for (int i = 0; i < CALLS; i++)
        one_call(room);
    return NULL;
}

static _Noreturn void be_child(void)
{
    pthread_t thread;
    int pair[2];
    uint8_t *room = mmap(NULL, ROOM, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (room == MAP_FAILED)
        _exit(1);
    for (int i = 0; i < ROOM; i++)
        room[i] = (uint8_t)next();
    open("/tmp", O_RDONLY | O_DIRECTORY);
    open("/tmp/a", O_RDWR | O_CREAT, 0600);
    if (socketpair(AF_UNIX, SOCK_STREAM, 0, pair) < 0 || pipe(pair) < 0)
        _exit(1);
    if (next() % 2 && pthread_create(&thread, NULL, call_beside, room))
        _exit(1);
    call_beside(room);
    if (next() % 256 == 0)
        __asm__ volatile("int $0x80" : : "a"(20L) : "memory", "r8", "r9", "r10", "r11");
    _exit(0);
}

static pid_t start_child(uint64_t seed, int number, int *alive)
{
    int ends[2];
    if (pipe2(ends, O_CLOEXEC) < 0)
        return -1;
    pid_t pid = fork();
    if (pid == 0) {
        int null = open("/dev/null", O_RDWR);
        for (int fd = 0; fd < 3; fd++)
            dup2(null, fd); /* the caller's must not be closed or filled */
        state = (seed + 1) * 0x9e3779b97f4a7c15ull + (uint64_t)number * 0xd1342543de82ef95ull;
        state += !state;
        be_child();
    }
    close(ends[1]);
    *alive = ends[0];
    return pid;
}

int main(int argc, char **argv)
{
    int ended = 0, by_filter = 0, stopped = 0, other = 0, alive, status;
    if (argc != 3)
        return 2;
    if (wall_is_missing()) {
        printf("no wall here: nothing is called\n");
        return 3;
    }
    uint64_t seed = strtoull(argv[1], NULL, 10);
    for (int i = 0; i < atoi(argv[2]); i++) {
        pid_t pid = start_child(seed, i, &alive);
        if (pid < 0)
            return 1;
        struct pollfd p = {alive, POLLIN, 0};
        poll(&p, 1, WAIT_MS); /* until its end is closed: it has ended, or it did so at random */
        kill(pid, SIGKILL);
        if (waitpid(pid, &status, 0) != pid)
            return 1;
        close(alive);
        int by = WIFSIGNALED(status) ? WTERMSIG(status) : 0;
        ended += by == 0;
        by_filter += by == SIGSYS;
        stopped += by == SIGKILL;
        other += by != 0 && by != SIGSYS && by != SIGKILL;
    }
    printf("%d children: %d ended, %d killed by the filter, %d by us, %d by another signal\n",
           ended + by_filter + stopped + other, ended, by_filter, stopped, other);
    return 0;
}
