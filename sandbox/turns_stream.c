/* Programs that stream into each other through a pipe or socket of the task's own: one writes until that is full, then
 * another reads until it is empty.
 *
 * A write that waits for room has written a part.  If it were just stopped it would return with that, which no program
 * expects of a pipe.  So zpipe-box writes the rest for it as there is room, and the program goes on with the full count
 * when all is written, or when there is no reader left.  The writer is stopped meanwhile, and so is every thread that
 * could read: so how much room there is follows from what they did. */
#include "base/fds.h"
#include "sandbox/lead.h"
#include "sandbox/notify_task.h"
#include "sandbox/turns_member.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <sys/ptrace.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/user.h>
#include <unistd.h>

#define PIECE_BYTES 65536
#define STREAM_FILLS 4 /* a thread that has waited so often for room streams */
#define MOVED_MAX   (1u << 20) /* more than any pipe or socket has room for */

static bool in_pieces(unsigned long nr)
{
    return nr == SYS_writev || nr == SYS_pwritev2;
}

bool turns_writes(unsigned long nr)
{
    return nr == SYS_write || in_pieces(nr) || nr == SYS_sendto || nr == SYS_sendfile;
}

void turns_write_stopped(struct member *m)
{
    struct user_regs_struct regs;
    if (!turns_writes(m->call.nr) || ptrace(PTRACE_GETREGS, m->pid, NULL, &regs) < 0 || regs.orig_rax != m->call.nr)
        return;
    if ((long long)regs.rax > 0)
        m->written = regs.rax; /* nothing was written: the kernel begins the call again */
}

void turns_write_end(struct member *m)
{
    struct user_regs_struct regs;
    if (ptrace(PTRACE_GETREGS, m->pid, NULL, &regs) == 0) {
        regs.rax = m->written;
        ptrace(PTRACE_SETREGS, m->pid, NULL, &regs);
    }
    m->written = 0;
}

/* Find the next bytes that the call has to write; 0: there are none. */
static uint64_t rest(const struct member *m, uint64_t *at)
{
    const struct call *c = &m->call;
    uint64_t skip = m->written;
    *at = c->arg[1] + skip;
    if (!in_pieces(c->nr))
        return c->nr != SYS_sendfile && skip < c->arg[2] ? c->arg[2] - skip : 0;
    return lead_piece(m->pid, c->arg[1], c->arg[2], skip, at);
}

/* A non-blocking descriptor for what the call writes to.  A pipe is opened anew, as O_NONBLOCK would be seen by all that
 * share it.  The program may have something else under that number by now, but it must be writable. */
static int open_to_write(const struct member *m)
{
    struct stat s;
    int fd = turns_borrow(m, (int)m->call.arg[0]), other = -1;
    if (fd < 0 || fstat(fd, &s) < 0 || (fcntl(fd, F_GETFL) & O_ACCMODE) == O_RDONLY)
        fd_close(&fd);
    if (fd < 0 || S_ISSOCK(s.st_mode))
        return fd;
    if (S_ISFIFO(s.st_mode))
        other = fd_reopen(fd, O_WRONLY | O_NONBLOCK);
    close(fd);
    return other;
}

static ssize_t put(int fd, const void *bytes, size_t size)
{
    ssize_t n = send(fd, bytes, size, MSG_DONTWAIT | MSG_NOSIGNAL);
    return n < 0 && errno == ENOTSOCK ? write(fd, bytes, size) : n; /* no SIGPIPE: the server ignores it */
}

static bool wants_no_signal(const struct call *c)
{
    return c->nr == SYS_sendto && c->arg[3] & MSG_NOSIGNAL;
}

/* What it writes to was full once more.  Whoever has filled a pipe a few times will go on to fill it; the first bytes go on as early as ever. */
static bool streams(struct member *m)
{
    m->fills = (m->fills + 1) % STREAM_FILLS;
    return !m->fills;
}

/* The turn is passed less often if a pipe is wide.  When it is made so follows from what the threads did, so it must not be refused.  True: now
 * there is room. */
static bool widen(const struct member *m, int fd)
{
    int room = fcntl(fd, F_GETPIPE_SZ);
    if (room < 0 || room >= (int)NOTIFY_WIDE_BYTES)
        return false;
    if (fcntl(fd, F_SETPIPE_SZ, NOTIFY_WIDE_BYTES) >= 0)
        return true;
    notify_mark(m->turns->task->notify, "a pipe of its own cannot be made wider");
    return false;
}

/* Write as much as there is room for.  0: there was no room for more; else an errno. */
static int write_rest(struct member *m, int fd)
{
    static char bytes[PIECE_BYTES];
    uint64_t at, size;
    for (uint64_t moved = 0; moved < MOVED_MAX && (size = rest(m, &at)) > 0;) {
        size = size < sizeof bytes ? size : sizeof bytes;
        if (!turns_read_memory(m->pid, at, bytes, size))
            return EFAULT;
        ssize_t n = put(fd, bytes, size);
        int error = n < 0 ? errno : 0;
        if (error == EAGAIN && streams(m) && widen(m, fd))
            continue;
        if (n <= 0)
            return error == EAGAIN && moved ? 0 : error;
        m->written += (uint64_t)n;
        moved += (uint64_t)n;
    }
    return 0;
}

bool turns_write_on(struct member *m)
{
    uint64_t at;
    int fd = open_to_write(m), error = fd < 0 ? EBADF : write_rest(m, fd);
    fd_close(&fd);
    if (!error && rest(m, &at))
        return false;
    if (error == EPIPE && !wants_no_signal(&m->call))
        syscall(SYS_tgkill, m->process, m->pid, SIGPIPE);
    turns_write_end(m);
    return true;
}

bool turns_widen(struct member *m)
{
    int fd = turns_writes(m->call.nr) && streams(m) ? open_to_write(m) : -1;
    bool wide = fd >= 0 && widen(m, fd);
    fd_close(&fd);
    return wide && (!m->written || turns_write_on(m));
}
