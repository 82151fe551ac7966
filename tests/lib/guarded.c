/* See guarded.h.  Three processes: a keeper that makes the namespaces, pid 1 in them, and the task,
 * which installs the filter as its last act and shows its listener. */
#include "lib/guarded.h"
#include "base/fds.h"
#include "sandbox/filter.h"
#include "sandbox/shim.h"
#include "lib/test.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/personality.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/ptrace.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define HARNESS_FAILED 97

static void put_file(const char *path, const char *text)
{
    int fd = open(path, O_WRONLY | O_CLOEXEC);

    if (fd < 0 || fd_write_all(fd, text, strlen(text)) < 0) {
        fprintf(stderr, "harness: %s: %s\n", path, strerror(errno));
        _exit(HARNESS_FAILED);
    }
    close(fd);
}

static void check(int result, const char *what)
{
    if (result >= 0)
        return;
    fprintf(stderr, "harness: %s: %s\n", what, strerror(errno));
    _exit(HARNESS_FAILED);
}

static void place_shim(void)
{
    int fd;

    check(mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL), "private mounts");
    check(mount("shim", "/lib64", "tmpfs", 0, "mode=755"), "tmpfs");
    fd = open(SHIM_PLACE, O_WRONLY | O_CREAT | O_CLOEXEC, 0755);
    check(fd, SHIM_PLACE);
    check(fd_write_all(fd, shim_image, shim_image_size), "shim");
    close(fd);
    check(chmod(SHIM_PLACE, 0755), "chmod");
}

static int new_namespaces(void)
{
    char map[64];
    unsigned uid = geteuid(), gid = getegid();

    if (unshare(CLONE_NEWUSER | CLONE_NEWNS | CLONE_NEWPID) < 0)
        return -1;
    put_file("/proc/self/setgroups", "deny");
    snprintf(map, sizeof map, "1000 %u 1", uid);
    put_file("/proc/self/uid_map", map);
    snprintf(map, sizeof map, "1000 %u 1", gid);
    put_file("/proc/self/gid_map", map);
    return 0;
}

int guarded_pair(int link[2])
{
    int on = 1;

    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, link) < 0)
        return -1;
    return setsockopt(link[0], SOL_SOCKET, SO_PASSCRED, &on, sizeof on);
}

int guarded_show(int link, int listener)
{
    char taken;

    if (fd_write_all(link, &listener, sizeof listener) < 0 || read(link, &taken, 1) != 1)
        return -1;
    return close(listener);
}

int guarded_take(int link)
{
    union {
        struct cmsghdr head;
        char room[CMSG_SPACE(sizeof(struct ucred))];
    } control;
    int number, pidfd, fd;
    struct iovec part = {&number, sizeof number};
    struct msghdr m = {
        .msg_iov = &part, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof control};
    struct ucred who;

    if (recvmsg(link, &m, 0) != sizeof number || !CMSG_FIRSTHDR(&m))
        return -1;
    memcpy(&who, CMSG_DATA(CMSG_FIRSTHDR(&m)), sizeof who);
    pidfd = (int)syscall(SYS_pidfd_open, who.pid, 0);
    fd = (int)syscall(SYS_pidfd_getfd, pidfd, number, 0);
    close(pidfd);
    return fd >= 0 && write(link, "t", 1) == 1 ? fd : -1;
}

static _Noreturn void be_task(const struct guarded *g, int link)
{
    static const char *const env[] = {"PATH=/usr/bin:/bin", "HOME=/", "LC_ALL=C.UTF-8", "TZ=UTC",
                                      NULL};
    struct err e;
    int listener;
    int status;

    check(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), "no_new_privs");
    check(personality(ADDR_NO_RANDOMIZE), "personality");
    if (filter_install(g->opens, &listener, &e) < 0) {
        fprintf(stderr, "harness: %s\n", e.text);
        _exit(HARNESS_FAILED);
    }
    check(guarded_show(link, listener), "the listener");
    close(link);
    if (!g->argv) {
        status = g->body();
        fflush(NULL);
        _exit(status);
    }
    execve(g->argv[0], (char *const *)(uintptr_t)g->argv, (char *const *)(uintptr_t)env);
    _exit(errno == ENOENT ? 127 : 126);
}

static int to_status(int status)
{
    return WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
}

static int wait_for(pid_t pid)
{
    int status;

    while (waitpid(pid, &status, 0) < 0)
        if (errno != EINTR)
            return HARNESS_FAILED;
    return to_status(status);
}

static _Noreturn void be_keeper(const struct guarded *g, int link, int in, int out)
{
    pid_t pid;

    check(dup2(in, 0), "stdin");
    check(dup2(out, 1), "stdout");
    check(dup2(out, 2), "stderr");
    check(prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0), "pdeathsig");
    check(new_namespaces(), "namespaces");
    if (!g->no_shim)
        place_shim();
    pid = fork();
    check(pid, "fork");
    if (pid == 0) { /* pid 1 */
        check(prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0), "pdeathsig");
        pid = fork();
        check(pid, "fork");
        if (pid == 0)
            be_task(g, link);
        close(link);
        _exit(wait_for(pid));
    }
    close(link);
    _exit(wait_for(pid));
}

static int64_t now_s(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec;
}

/* Programs that have not the shim stop at their start. */
static void let_go(int signals)
{
    struct signalfd_siginfo info;
    siginfo_t stopped = {0};

    while (read(signals, &info, sizeof info) > 0)
        ;
    while (waitid(P_ALL, 0, &stopped, WSTOPPED | WNOHANG | __WALL) == 0 && stopped.si_pid) {
        pid_t pid = stopped.si_pid;
        int event = stopped.si_status >> 8, signal = stopped.si_status & 0x7f;

        notify_stopped(pid, stopped.si_status << 8 | 0x7f);
        ptrace(PTRACE_DETACH, pid, NULL, (void *)(intptr_t)(event ? 0 : signal));
        stopped.si_pid = 0;
    }
}

/* Answers until no process is left under the filter.  -1: time is over. */
static int serve(struct notify *n, int signals)
{
    int64_t end = now_s() + GUARDED_SECONDS;
    struct err e;

    while (now_s() < end) {
        struct pollfd p[3] = {
            {notify_fd(n), POLLIN, 0}, {notify_random_fd(n), POLLIN, 0}, {signals, POLLIN, 0}};

        poll(p, 3, 1000);
        let_go(signals);
        if (notify_serve(n, &e) < 0) {
            assert_int_equal(e.code, ERR_GONE);
            return 0;
        }
    }
    return -1;
}

static int input_of(const struct guarded *g)
{
    int ends[2];

    if (!g->input)
        return open("/dev/null", O_RDWR | O_CLOEXEC);
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends), 0);
    assert_int_equal(fd_write_all(ends[1], g->input, strlen(g->input)), 0);
    close(ends[1]);
    return ends[0];
}

void guarded_run(const struct guarded *g, struct guarded_result *r)
{
    struct err e;
    struct notify *n = NULL;
    int link[2], listener = -1, in = input_of(g);
    int out[2];
    sigset_t child, before;
    pid_t pid;
    ssize_t got;
    int signals;

    memset(r, 0, sizeof *r);
    assert_int_equal(pipe2(out, O_CLOEXEC), 0); /* its 64 KiB hold all that is written */
    assert_int_equal(filter_prepare(g->opens, &e), 0);
    assert_int_equal(guarded_pair(link), 0);
    fflush(NULL);
    pid = fork();
    assert_true(pid >= 0);
    if (pid == 0)
        be_keeper(g, link[1], in, out[1]);
    close(link[1]);
    close(out[1]);
    close(in);
    listener = guarded_take(link[0]);
    close(link[0]);
    sigemptyset(&child);
    sigaddset(&child, SIGCHLD);
    sigprocmask(SIG_BLOCK, &child, &before);
    signals = signalfd(-1, &child, SFD_CLOEXEC | SFD_NONBLOCK);
    if (listener >= 0) {
        n = notify_new(listener, g->seed, g->stream, g->epoch_s, &e);
        assert_non_null(n);
        if (serve(n, signals) < 0) {
            kill(pid, SIGKILL);
            wait_for(pid);
            r->status = -1;
        } else {
            r->status = wait_for(pid);
        }
        notify_report(n, &r->report);
        r->opened = notify_calls(n, 257);
        notify_free(n);
    } else {
        wait_for(pid);
        r->status = -1;
    }
    close(signals);
    sigprocmask(SIG_SETMASK, &before, NULL);
    got = fd_read_all(out[0], r->output, sizeof r->output - 1);
    r->output[got < 0 ? 0 : got] = '\0';
    close(out[0]);
    if (r->status == -1)
        fail_msg("the harness failed: %s", r->output);
}

bool guarded_possible(void)
{
    pid_t pid = fork();

    if (pid == 0)
        _exit(unshare(CLONE_NEWUSER | CLONE_NEWNS | CLONE_NEWPID) < 0);
    return pid > 0 && wait_for(pid) == 0;
}

int guarded_as_nobody(void)
{
    pid_t pid;

    if (geteuid() != 0)
        return 0;
    fflush(NULL);
    pid = fork();
    if (pid == 0) {
        int self = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);
        char *argv[] = {"as-nobody", NULL};

        if (setgroups(0, NULL) < 0 || setresgid(65534, 65534, 65534) < 0 ||
            setresuid(65534, 65534, 65534) < 0)
            _exit(HARNESS_FAILED);
        fexecve(self, argv, environ);
        _exit(HARNESS_FAILED);
    }
    return pid < 0 ? HARNESS_FAILED : wait_for(pid);
}
