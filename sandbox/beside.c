/* Processes that run side by side: signals for the ends of children that arrive while a call waits for our answer.
 *
 * Until we have read a notification, a signal can break the call that waits for it.  The kernel then begins the call again,
 * unless the signal's handler does not want that (it lacks SA_RESTART): then the call fails with EINTR, as no fork and no
 * stat does outside.  A shell has such a handler for the ends of its children, and would say "Cannot fork".  While processes
 * take turns this cannot happen.  When they do not, a process that starts others and has such a handler is traced, so that
 * the signal is seen before it is delivered: the call is begun again, as if the signal had come before it. */
#include "sandbox/server.h"
#include "sandbox/turns_member.h"

#include <errno.h>
#include <signal.h>
#include <stddef.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/user.h>
#include <sys/wait.h>

#define RESTART        512 /* ERESTARTSYS: the call is begun again, unless a handler does not want that */
#define RESTART_ALWAYS 513 /* ERESTARTNOINTR */

/* Would such a handler break this call outside, too?  See signal(7). */
static bool breaks_outside(unsigned long long nr)
{
    static const uint16_t waits[] = {
        SYS_read, SYS_readv, SYS_pread64, SYS_preadv, SYS_preadv2, SYS_write, SYS_writev, SYS_pwrite64, SYS_pwritev, SYS_pwritev2,
        SYS_sendfile, SYS_sendto, SYS_sendmsg, SYS_recvfrom, SYS_recvmsg, SYS_ioctl, SYS_fcntl, SYS_flock, SYS_futex, SYS_wait4,
        SYS_waitid, SYS_poll, SYS_ppoll, SYS_select, SYS_pselect6, SYS_epoll_wait, SYS_epoll_pwait, SYS_nanosleep,
        SYS_clock_nanosleep, SYS_pause, SYS_rt_sigsuspend, SYS_rt_sigtimedwait};
    for (size_t i = 0; i < sizeof waits / sizeof *waits; i++)
        if (waits[i] == nr)
            return true;
    return false;
}

void beside_begin_again(pid_t pid)
{
    struct user_regs_struct regs;
    if (ptrace(PTRACE_GETREGS, pid, NULL, &regs) < 0 || (long long)regs.rax != -RESTART || breaks_outside(regs.orig_rax))
        return;
    regs.rax = (unsigned long long)-RESTART_ALWAYS;
    ptrace(PTRACE_SETREGS, pid, NULL, &regs);
}

static pid_t *place_of(struct turns *ts, pid_t pid)
{
    for (uint32_t i = 0; i < TURNS_MEMBERS_MAX; i++)
        if (ts->beside[i] == pid)
            return &ts->beside[i];
    return NULL;
}

void beside_watch(struct turns *ts, pid_t pid)
{
    if (!notify_breaks(ts->task->notify) || (ptrace(PTRACE_SEIZE, pid, NULL, PTRACE_O_TRACEEXEC) < 0 && errno != EPERM))
        return; /* EPERM: the process is traced already */
    pid_t *place = place_of(ts, pid);
    place = place ? place : place_of(ts, 0);
    if (place)
        *place = pid;
    /* else its next stop lets it go */
}

static bool is_group_stop(int status)
{
    int by = WSTOPSIG(status);
    return status >> 16 == PTRACE_EVENT_STOP && (by == SIGSTOP || by == SIGTSTP || by == SIGTTIN || by == SIGTTOU);
}

/* Resume the process after a stop. */
static void stopped_for(pid_t *place, int status)
{
    pid_t pid = *place;
    int event = status >> 16, by = WSTOPSIG(status);
    if (event == PTRACE_EVENT_EXEC) { /* a new program has no handlers yet; we are asked when it sets one */
        *place = 0;
        ptrace(PTRACE_DETACH, pid, NULL, NULL);
    } else if (is_group_stop(status)) {
        beside_begin_again(pid); /* a child may end before it goes on */
        ptrace(PTRACE_LISTEN, pid, NULL, NULL);
    } else {
        if (!event && by == SIGCHLD)
            beside_begin_again(pid);
        if (event && event != PTRACE_EVENT_STOP) /* turns.c asked for this event */
            ptrace(PTRACE_SETOPTIONS, pid, NULL, PTRACE_O_TRACEEXEC);
        ptrace(PTRACE_CONT, pid, NULL, (void *)(intptr_t)(event ? 0 : by));
    }
}

bool beside_stopped(struct server *s, pid_t pid, int status)
{
    for (struct turns *ts = s->turns; ts; ts = ts->next) {
        pid_t *place = ts->lost ? place_of(ts, pid) : NULL;
        if (!place)
            continue;
        if (WIFSTOPPED(status))
            stopped_for(place, status);
        else
            *place = 0;
        return true;
    }
    return false;
}
