/* Starts the zygote and the mounter.
 *
 * The order matters (in any other some step is refused): one clone makes all namespaces; the parent writes the user
 * maps; the child becomes its user; the mounter is forked while the host's mounts are still there; the zygote enters a
 * mount namespace of its own and builds the image in it.  The zygote is pid 1 of its pid namespace: when it dies, all
 * processes below it die, and it dies with the server. */
#include "sandbox/zygote.h"
#include "base/fds.h"
#include "sandbox/box.h"
#include "sandbox/filter.h"
#include "sandbox/mounts.h"
#include "sandbox/syscalls.h"
#include "sandbox/wire.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <linux/sched.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#define NAMESPACES                                                                                 \
    (CLONE_NEWUSER | CLONE_NEWNS | CLONE_NEWNET | CLONE_NEWIPC | CLONE_NEWUTS | CLONE_NEWPID)
#define INSIDE_ID 1000

static int write_proc(pid_t pid, const char *name, const char *text, struct err *e)
{
    char path[64];
    snprintf(path, sizeof path, "/proc/%d/%s", (int)pid, name);
    int fd = open(path, O_WRONLY | O_CLOEXEC);
    int r = fd < 0 ? -1 : fd_write_all(fd, text, strlen(text));
    if (r < 0)
        err_sys(e, "cannot write the sandbox's '%s'", name);
    fd_close(&fd);
    return r;
}

static int write_maps(pid_t pid, struct err *e)
{
    char uid[48], gid[48];
    snprintf(uid, sizeof uid, "%d %u 1", INSIDE_ID, geteuid());
    snprintf(gid, sizeof gid, "%d %u 1", INSIDE_ID, getegid());
    return write_proc(pid, "setgroups", "deny", e) < 0 || write_proc(pid, "uid_map", uid, e) < 0 ||
                   write_proc(pid, "gid_map", gid, e) < 0
               ? -1
               : 0;
}

static _Noreturn void fail(int socket, const struct err *e)
{
    struct wire head = {.kind = WIRE_FAILED, .a = (uint32_t)e->code, .b = (uint32_t)e->sys};
    wire_send(socket, head, e->text, strlen(e->text), NULL, 0);
    _exit(1);
}

static _Noreturn void fail_sys(int socket, const char *what)
{
    struct err e;
    err_sys(&e, "%s", what);
    fail(socket, &e);
}

/* Open one input of a task: send a detached mount to its init, or the reason for a failure to the server. */
static void open_one(int server, struct wire_packet *p)
{
    struct wire h = p->head;
    int task = wire_take_fd(p, 0);
    struct stat s;
    bool late = false;
    int tree = tree_open(p->data, &late);
    int why = tree < 0 ? errno : 0;
    if (!why && (h.b & WIRE_OPEN_SAME) &&
        (fstat(tree, &s) < 0 || s.st_ino != h.offset || s.st_dev != h.size))
        why = ESTALE;
    if (!why && (h.b & WIRE_OPEN_READABLE) && faccessat(AT_FDCWD, p->data, R_OK, AT_EACCESS) < 0)
        why = errno;
    if (why) {
        wire_send(server,
                  (struct wire){.kind = WIRE_FAILED, .region = h.region, .task = h.task, .offset = h.a,
                                .b = (uint32_t)why},
                  NULL, 0, NULL, 0);
    } else {
        wire_send(task, (struct wire){.kind = WIRE_TREE, .a = h.a, .b = late}, NULL, 0, &tree, 1);
    }
    fd_close(&tree);
    fd_close(&task);
}

/* Make a user namespace below ours, for the same single user, and exit.  A process that enters it has all rights over what
 * the namespace owns, which is nothing yet.  A forker enters it to make pid namespaces. */
static _Noreturn void be_users(int server)
{
    static const char *const file[][2] = {
        {"/proc/self/setgroups", "deny"}, {"/proc/self/uid_map", "1000 1000 1"}, {"/proc/self/gid_map", "1000 1000 1"}};
    bool good = unshare(CLONE_NEWUSER) == 0;
    for (int i = 0; good && i < 3; i++) {
        int fd = open(file[i][0], O_WRONLY | O_CLOEXEC);
        good = fd >= 0 && fd_write_all(fd, file[i][1], strlen(file[i][1])) == 0;
        fd_close(&fd);
    }
    int sys = errno, users = good ? open("/proc/self/ns/user", O_RDONLY | O_CLOEXEC) : -1;
    wire_send(server, (struct wire){.kind = WIRE_USERS, .b = (uint32_t)sys}, NULL, 0, &users, users >= 0);
    _exit(0);
}

static void make_users(int server)
{
    pid_t pid = fork(); /* no one waits for this process */
    if (pid == 0)
        be_users(server);
    if (pid < 0)
        wire_send(server, (struct wire){.kind = WIRE_USERS, .b = (uint32_t)errno}, NULL, 0, NULL, 0);
}

static _Noreturn void mounter(int server)
{
    static struct wire_packet p;
    prctl(PR_SET_NAME, "zpipe-mounter");
    while (wire_receive(server, &p, 0) > 0) {
        if (p.head.kind == WIRE_OPEN)
            open_one(server, &p);
        else if (p.head.kind == WIRE_USERS)
            make_users(server);
        wire_close_fds(&p);
    }
    _exit(0);
}

/* Clone into the cgroup, if the host allows that.  Without it one limit is missing, but the wall stands. */
static long clone_into(unsigned long spaces, int cgroup, bool *outside)
{
    struct clone_args a = {.flags = spaces | CLONE_INTO_CGROUP, .exit_signal = SIGCHLD, .cgroup = (uint64_t)cgroup};
    *outside = false;
    long pid = cgroup < 0 ? -1 : syscall(SYS_clone3, &a, sizeof a);
    if (pid >= 0)
        return pid;
    *outside = cgroup >= 0;
    return syscall(SYS_clone, spaces | SIGCHLD, 0, 0, 0, 0);
}

static void clone_init(struct wire_packet *p, bool none)
{
    int link = wire_take_fd(p, 0), cgroup = wire_take_fd(p, 1);
    if (link >= 0) {
        bool outside;
        long pid = clone_into(none ? 0 : CLONE_NEWPID | CLONE_NEWNS, cgroup, &outside);
        if (pid == 0)
            init_main(link, &p->head, none, outside);
        if (pid < 0) {
            struct err e;
            err_sys(&e, "cannot clone a process for the task");
            wire_send(link, (struct wire){.kind = WIRE_FAILED, .a = (uint32_t)e.code}, e.text,
                      strlen(e.text), NULL, 0);
        }
    }
    fd_close(&link);
    fd_close(&cgroup);
}

static void drop_bounding(void)
{
    for (int c = 0; c <= CAP_LAST_CAP; c++)
        prctl(PR_CAPBSET_DROP, c, 0, 0, 0);
}

/* Keep these two at the numbers from 3 on, and none of the server's other descriptors. */
static void keep_fds(int *a, int *b)
{
    int x = fcntl(*a, F_DUPFD_CLOEXEC, 200), y = fcntl(*b, F_DUPFD_CLOEXEC, 200);
    int null = open("/dev/null", O_RDWR | O_CLOEXEC);
    for (int fd = 0; fd < 3 && null >= 0; fd++)
        dup3(null, fd, O_CLOEXEC);
    *a = dup3(x, 3, O_CLOEXEC);
    *b = dup3(y, 4, O_CLOEXEC);
    if (close_range(5, ~0u, 0) < 0)
        fail_sys(*a, "cannot close what the sandbox must not have");
}

static void reset_signals(void)
{
    sigset_t empty;
    for (int s = 1; s < NSIG; s++)
        signal(s, SIG_DFL);
    signal(SIGCHLD, SIG_IGN); /* no one waits for inits */
    signal(SIGPIPE, SIG_IGN);
    signal(SIGXFSZ, SIG_IGN);
    signal(SIGTERM, SIG_IGN); /* whoever of us is in the caller's process group ends with the server */
    sigemptyset(&empty);
    sigprocmask(SIG_SETMASK, &empty, NULL);
}

static void die_with_server(int tasks)
{
    struct pollfd parent = {.fd = tasks};
    if (prctl(PR_SET_PDEATHSIG, SIGKILL) < 0 || poll(&parent, 1, 0) < 0 || (parent.revents & POLLHUP))
        _exit(1); /* the server died before prctl could ask to die with it */
}

static _Noreturn void serve(int tasks, bool none)
{
    static struct wire_packet p;
    wire_send(tasks, (struct wire){.kind = WIRE_READY}, NULL, 0, NULL, 0);
    while (wire_receive(tasks, &p, 0) > 0) {
        if (p.head.kind == WIRE_PLACE)
            clone_init(&p, none);
        wire_close_fds(&p);
    }
    _exit(0);
}

static _Noreturn void plain_zygote(int tasks, int unused)
{
    keep_fds(&tasks, &unused);
    close(unused);
    reset_signals();
    signal(SIGINT, SIG_IGN); /* signals from the terminal are the caller's affair */
    signal(SIGQUIT, SIG_IGN);
    die_with_server(tasks);
    umask(022);
    serve(tasks, true);
}

static _Noreturn void zygote(int tasks, int mounts)
{
    struct err e;
    char go;
    keep_fds(&tasks, &mounts);
    if (read(tasks, &go, 1) != 1) /* wait until the user maps are written */
        _exit(1);
    reset_signals();
    if (setresgid(INSIDE_ID, INSIDE_ID, INSIDE_ID) < 0 || setresuid(INSIDE_ID, INSIDE_ID, INSIDE_ID) < 0)
        fail_sys(tasks, "cannot take the sandbox's user");
    die_with_server(tasks);
    if (sethostname("zpipe", 5) < 0)
        fail_sys(tasks, "cannot name the sandbox's host");
    umask(022);
    prctl(PR_SET_NAME, "zpipe-zygote");
    pid_t pid = fork();
    if (pid < 0)
        fail_sys(tasks, "cannot fork the mounter");
    if (pid == 0) {
        close(tasks);
        mounter(mounts);
    }
    close(mounts);
    if (unshare(CLONE_NEWNS) < 0)
        fail_sys(tasks, "cannot make a mount namespace");
    if (image_build(&e) < 0)
        fail(tasks, &e);
    drop_bounding();
    serve(tasks, false);
}

/* Write the user maps and let the zygote go on.  If it has died, its last message is the reason. */
static int let_go(const struct zygote *z, struct err *e)
{
    static struct wire_packet last;
    if (write_maps(z->pid, e) == 0 && send(z->tasks, "g", 1, MSG_NOSIGNAL) == 1)
        return 0;
    int sys = errno;
    if (wire_receive(z->tasks, &last, MSG_DONTWAIT) > 0 && last.head.kind == WIRE_FAILED) {
        err_set(e, (int)last.head.a, "%s", last.data);
        e->sys = (int)last.head.b;
    } else if (sys == EPIPE) {
        err_set(e, ERR_GONE, "the sandbox's first process has died");
    }
    wire_close_fds(&last);
    return -1;
}

int zygote_start(struct zygote *z, bool none, struct err *e)
{
    int tasks[2], mounts[2];
    *z = (struct zygote){.tasks = -1, .mounts = -1};
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, tasks) < 0)
        return err_sys(e, "cannot make a socket");
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, mounts) < 0) {
        close(tasks[0]);
        close(tasks[1]);
        return err_sys(e, "cannot make a socket");
    }
    long pid = syscall(SYS_clone, (none ? 0 : NAMESPACES) | SIGCHLD, 0, 0, 0, 0);
    if (pid == 0)
        (none ? plain_zygote : zygote)(tasks[1], mounts[1]);
    int saved = errno;
    close(tasks[1]);
    close(mounts[1]);
    z->pid = (pid_t)pid;
    z->tasks = tasks[0];
    z->mounts = mounts[0];
    errno = saved;
    if (none)
        fd_close(&z->mounts);
    if (pid < 0)
        err_sys(e, "cannot make namespaces");
    else if (none)
        return 0;
    else if (let_go(z, e) == 0)
        return 0;
    fd_close(&z->tasks);
    fd_close(&z->mounts);
    return -1;
}
