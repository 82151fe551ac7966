/* The server's guard: a process that shares the server's table of descriptors, and outlives the server by as long as its
 * sandboxes do.
 *
 * When a process is killed the kernel closes its descriptors before it kills the processes that die with it.  The server's
 * descriptors are the writing ends of channels and the listeners of system calls.  Were they closed first, a program would
 * see the end of an input that has not ended, or be told that a call does not exist, and could still print what follows
 * from that.  The guard keeps all of them open until every program is dead.  Only then does the caller learn that the
 * server is gone, as the server's socket to the caller is among them.
 *
 * A server that stands still (in a page of a file whose file system does not answer, say) does not notice that its caller is
 * gone.  The guard does, and kills it then. */
#include "sandbox/server.h"

#include <poll.h>
#include <signal.h>
#include <sched.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#define LEAVE_MS 10000 /* that a server may take to end after its caller */

/* Wait until one of these processes has ended; false: that takes longer. */
static bool wait_end(struct pollfd *p, nfds_t count, int ms)
{
    int n;
    while ((n = poll(p, count, ms)) < 0)
        ;
    return n > 0;
}

static _Noreturn void be_guard(int server, int zygote, int caller)
{
    struct pollfd p[] = {{.fd = zygote, .events = POLLIN}, {.fd = server, .events = POLLIN}, {.fd = caller}};
    sigset_t all;
    sigfillset(&all);
    sigprocmask(SIG_SETMASK, &all, NULL);
    setsid(); /* a signal to the server's process group must not reach us: the sandboxes die by us */
    prctl(PR_SET_NAME, "zpipe-guard");
    wait_end(p, 3, -1);
    if (!wait_end(p, 2, LEAVE_MS))
        syscall(SYS_pidfd_send_signal, server, SIGKILL, NULL, 0);
    wait_end(p, 2, -1);
    syscall(SYS_pidfd_send_signal, zygote, SIGKILL, NULL, 0); /* it may not have asked yet to be killed with the server */
    wait_end(p, 1, -1);
    _exit(0);
}

int guard_start(struct server *s, struct err *e)
{
    /* Not closed: the guard uses them, too. */
    int server = (int)syscall(SYS_pidfd_open, getpid(), 0);
    int zygote = (int)syscall(SYS_pidfd_open, s->zygote.pid, 0);
    long pid = server < 0 || zygote < 0 ? -1 : syscall(SYS_clone, CLONE_FILES | SIGCHLD, 0, 0, 0, 0);
    if (pid == 0)
        be_guard(server, zygote, s->control.fd);
    s->guard = (pid_t)pid;
    return pid < 0 ? err_sys(e, "cannot make the guard of the sandboxes") : 0;
}
