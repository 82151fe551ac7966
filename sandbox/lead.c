/* Continues a call that a stop made shorter than it would have been.
 *
 * The registers are set back to the system call, and its arguments to what is left.  When that has ended, the program gets
 * the sum, and its own arguments back.  A call with several pieces is continued piece by piece, by plain reads and writes.
 * If the rest of a write met a channel that was cut, the whole write has failed, as it would have without the stop
 * (swallow.c): how much of it was done before depends on chance. */
#include "base/fds.h"
#include "sandbox/lead.h"
#include "sandbox/server.h"
#include "sandbox/turns_member.h"

#include <errno.h>
#include <limits.h>
#include <sys/ptrace.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#define SYSCALL_BYTES 2 /* size of the instruction */
#define RESTART_UNLESS_HANDLED 514 /* ERESTARTNOHAND: the kernel makes the call again, or turns it into EINTR if a signal is handled */

enum shape { SHAPE_NONE, SHAPE_BUFFER, SHAPE_PIECES, SHAPE_MESSAGE, SHAPE_FILE };

/* Where the bytes of a call are that waits for a channel (syscalls.def has no other such calls). */
static enum shape shape_of(const struct user_regs_struct *call, bool *writes)
{
    unsigned long long nr = call->orig_rax;
    *writes = nr == SYS_write || nr == SYS_sendto || nr == SYS_writev || nr == SYS_pwritev2 ||
              nr == SYS_sendfile;
    switch (nr) {
    case SYS_read:
    case SYS_write:
    case SYS_sendto:
        return SHAPE_BUFFER;
    case SYS_recvfrom:
        return call->r10 & MSG_PEEK ? SHAPE_NONE : SHAPE_BUFFER;
    case SYS_readv:
    case SYS_writev:
    case SYS_preadv2:
    case SYS_pwritev2:
        return SHAPE_PIECES;
    case SYS_recvmsg:
        return call->rdx & MSG_PEEK ? SHAPE_NONE : SHAPE_MESSAGE;
    case SYS_sendfile:
        return SHAPE_FILE;
    default:
        return SHAPE_NONE;
    }
}

uint64_t lead_piece(pid_t pid, uint64_t address, uint64_t count, uint64_t skip, uint64_t *at)
{
    static struct iovec v[IOV_MAX];
    if (count > IOV_MAX || !turns_read_memory(pid, address, v, count * sizeof *v))
        return 0;
    for (uint64_t i = 0; i < count; skip -= v[i++].iov_len) {
        *at = (uint64_t)(uintptr_t)v[i].iov_base + skip;
        if (skip < v[i].iov_len)
            return v[i].iov_len - skip;
    }
    return 0;
}

static uint64_t message_piece(pid_t tid, uint64_t address, uint64_t skip, uint64_t *at)
{
    struct msghdr m;
    return turns_read_memory(tid, address, &m, sizeof m)
               ? lead_piece(tid, (uint64_t)(uintptr_t)m.msg_iov, m.msg_iovlen, skip, at)
               : 0;
}

/* Begins the call for what is left; false: nothing is left. */
static bool begin_rest(struct lead *l, pid_t tid)
{
    bool writes;
    struct user_regs_struct regs = l->call;
    enum shape shape = shape_of(&l->call, &writes);
    uint64_t whole = shape == SHAPE_FILE ? l->call.r10 : l->call.rdx,
             left = l->done < whole ? whole - l->done : 0, at = l->call.rsi + l->done;
    bool pieces = shape == SHAPE_PIECES || shape == SHAPE_MESSAGE;
    if (shape == SHAPE_PIECES)
        left = lead_piece(tid, l->call.rsi, l->call.rdx, l->done, &at);
    else if (shape == SHAPE_MESSAGE)
        left = message_piece(tid, l->call.rsi, l->done, &at);
    if (!left)
        return false;
    if (shape == SHAPE_FILE) { /* the file, or the program's memory, counts the offset */
        regs.r10 = left;
    } else {
        regs.rsi = at;
        regs.rdx = left;
    }
    l->asked = left;
    regs.rax = !pieces ? regs.orig_rax : writes ? SYS_write : SYS_read;
    regs.orig_rax = (unsigned long long)-1; /* not a call that the kernel would start again */
    regs.rip -= SYSCALL_BYTES;
    return ptrace(PTRACE_SETREGS, tid, NULL, &regs) == 0;
}

static bool ends_when_stopped(unsigned long long nr)
{
    switch (nr) {
    case SYS_rt_sigtimedwait:
    case SYS_epoll_wait:
    case SYS_epoll_pwait:
    case SYS_select: /* these where their limit of time is not written back (limits.c) */
    case SYS_pselect6:
    case SYS_ppoll:
        return true;
    default:
        return false;
    }
}

void lead_again(pid_t tid)
{
    struct user_regs_struct regs;
    if (ptrace(PTRACE_GETREGS, tid, NULL, &regs) < 0 || (long long)regs.rax != -EINTR || !ends_when_stopped(regs.orig_rax))
        return;
    regs.rax = (unsigned long long)-RESTART_UNLESS_HANDLED;
    ptrace(PTRACE_SETREGS, tid, NULL, &regs);
}

void lead_begin(struct lead *l, const struct task *t, pid_t tid)
{
    struct user_regs_struct regs;
    bool writes;
    l->on = false;
    if (ptrace(PTRACE_GETREGS, tid, NULL, &regs) < 0 || (long long)regs.rax <= 0 ||
        shape_of(&regs, &writes) == SHAPE_NONE || !swallow_concerns(t, tid, (int)regs.rdi, writes))
        return;
    *l = (struct lead){.done = regs.rax, .call = regs};
    l->on = begin_rest(l, tid);
}

/* Lets the thread go on with that result, as if it came from the call that was stopped. */
static void give(struct lead *l, pid_t tid, long long result)
{
    struct user_regs_struct regs = l->call;
    regs.rax = (unsigned long long)result;
    ptrace(PTRACE_SETREGS, tid, NULL, &regs);
    l->on = false;
}

/* Sets back the offset of a sendfile that failed as a whole: it has read nothing. */
static void unread(const struct lead *l, pid_t tid)
{
    int64_t place;
    if (l->call.rdx) {
        if (!turns_read_memory(tid, l->call.rdx, &place, sizeof place))
            return;
        place -= (int64_t)l->done;
        turns_write_memory(tid, l->call.rdx, &place, sizeof place);
        return;
    }
    int pidfd = freeze_pidfd(tid),
        fd = pidfd < 0 ? -1 : (int)syscall(SYS_pidfd_getfd, pidfd, l->call.rsi, 0);
    if (fd >= 0)
        lseek(fd, -(off_t)l->done, SEEK_CUR);
    fd_close(&fd);
    fd_close(&pidfd);
}

void lead_end(struct lead *l, pid_t tid)
{
    struct user_regs_struct regs;
    bool writes;
    if (!l->on || ptrace(PTRACE_GETREGS, tid, NULL, &regs) < 0)
        return;
    long long got = (long long)regs.rax;
    if (got <= -512 && got >= -516) /* the kernel starts it again */
        return;
    if (got > 0)
        l->done += (uint64_t)got;
    if (got > 0 && (uint64_t)got == l->asked && begin_rest(l, tid))
        return;
    enum shape shape = shape_of(&l->call, &writes);
    bool failed = writes && got == -EPIPE;
    if (failed && shape == SHAPE_FILE)
        unread(l, tid);
    give(l, tid, failed ? -EPIPE : (long long)l->done);
}

void lead_break(struct lead *l, pid_t tid)
{
    if (l->on)
        give(l, tid, (long long)l->done);
}
