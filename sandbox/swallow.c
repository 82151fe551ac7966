/* A channel whose reader has left, and whose writer shows elsewhere how far it came (`tee f | head -1`).  SIGPIPE must meet
 * such a writer at the same byte in every run: it may write exactly SWALLOW_BYTES more than the reader took, and the write
 * that would go beyond that fails.
 *
 * At first what is written is thrown away, as fast as it comes, through a socket whose buffer is made small.  That must stop
 * while what the socket can hold still fits into the rest.  Then every thread of the writer is stopped (freeze.c) and the
 * bytes in the socket are counted.  From there on each write is counted: by its size as it begins, and corrected by what it
 * wrote when it has ended. */
#include "base/fds.h"
#include "sandbox/server.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/ptrace.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#define SWALLOW_BYTES (1u << 20)
#define SMALL_BYTES   8192 /* the socket's buffer is made so small, so that little must be counted */
/* The most that the socket can hold: what was asked for, doubled by the kernel, and a write's piece of half of that. */
#define HELD(asked)   (3u * (asked))
#define DEPTH_MAX     64   /* programs that write to each other in a chain */
#define PIECES_MAX    1024       /* pieces of a writev: the kernel's limit */

static void swallow_event(struct watch *w, uint32_t events);

/* Has the task, or a task that writes to it, a file open for writing? */
static bool writes_files(const struct region *r, int32_t task, uint32_t depth)
{
    bool found = depth < DEPTH_MAX && task_writes_files(&r->task[task]);
    for (uint32_t i = 0; !found && depth < DEPTH_MAX && i < r->spec.region.channel_count; i++)
        if (r->spec.channel[i].reader == task && r->spec.channel[i].writer >= 0 && r->spec.region.channel[i].exact)
            found = writes_files(r, r->spec.channel[i].writer, depth + 1);
    return found;
}

bool swallow_wanted(const struct channel *c)
{
    const struct region *r = c->region;
    const struct box_channel *plan = &r->spec.region.channel[c->index];
    return c->writer_inode && (!plan->if_files || writes_files(r, r->spec.channel[c->index].writer, 0));
}

int swallow_begin(struct channel *c)
{
    int one = 1, small = SMALL_BYTES, fd = fcntl(c->held, F_DUPFD_CLOEXEC, 0);
    if (fd < 0)
        return -1;
    bool here = c->write_end >= 0; /* no program has the writing end yet */
    int end = here ? c->write_end : task_socket(&c->region->task[c->region->spec.channel[c->index].writer], c->writer_inode);
    bool shrunk = end >= 0 && setsockopt(end, SOL_SOCKET, SO_SNDBUF, &small, sizeof small) == 0;
    if (!here)
        fd_close(&end);
    c->count_bytes = HELD(shrunk ? SMALL_BYTES : CHANNEL_EXACT_BYTES);
    setsockopt(fd, SOL_SOCKET, SO_RCVLOWAT, &one, sizeof one); /* read what there is, without waiting for more */
    c->rest_bytes = SWALLOW_BYTES;
    c->swallow_watch = (struct watch){-1, swallow_event, c};
    if (watch_start(c->region->server, &c->swallow_watch, fd, EPOLLIN | EPOLLRDHUP) < 0) {
        close(fd);
        return -1;
    }
    c->swallow = SWALLOW_ALL;
    c->swallow_fd = fd;
    return 0;
}

/* Throw away what is there, but no more than may go uncounted; false: that much was reached, or nothing more will come. */
static bool drain(struct channel *c)
{
    static char waste[65536];
    ssize_t n;
    do {
        uint64_t most = c->swallow == SWALLOW_ALL ? c->rest_bytes - c->count_bytes : sizeof waste;
        n = recv(c->swallow_fd, waste, most < sizeof waste ? most : sizeof waste, MSG_DONTWAIT);
        if (n > 0 && c->swallow != SWALLOW_COUNTED)
            c->rest_bytes -= (uint64_t)n < c->rest_bytes ? (uint64_t)n : c->rest_bytes;
    } while (n > 0 && (c->swallow != SWALLOW_ALL || c->rest_bytes > c->count_bytes));
    return n != 0;
}

void swallow_clear(struct channel *c)
{
    if (c->swallow == SWALLOW_NOT)
        return;
    watch_stop(c->region->server, &c->swallow_watch);
    freeze_forget(c->region->server, c);
    fd_close(&c->swallow_fd);
    c->swallow = SWALLOW_NOT;
}

/* End the channel. */
static void end(struct channel *c)
{
    struct task *writer = &c->region->task[c->region->spec.channel[c->index].writer];
    swallow_clear(c);
    c->reader_gone = true;
    channel_cut(c);
    task_heard(writer);
}

static void swallow_event(struct watch *w, uint32_t events)
{
    struct channel *c = w->owner;
    struct server *s = c->region->server;
    (void)events;
    if (!drain(c)) {
        end(c);
    } else if (c->swallow == SWALLOW_ALL && c->rest_bytes == c->count_bytes) {
        watch_stop(s, w); /* not a byte more before the writer is stopped */
        c->swallow = SWALLOW_STOPS;
        freeze_begin(s, &c->region->task[c->region->spec.channel[c->index].writer], c);
    }
}

bool swallow_still(struct channel *c)
{
    if (c->swallow != SWALLOW_STOPS)
        return c->swallow == SWALLOW_COUNTED;
    if (!drain(c) || watch_start(c->region->server, &c->swallow_watch, c->swallow_fd, EPOLLIN | EPOLLRDHUP) < 0) {
        end(c);
        return false;
    }
    c->swallow = SWALLOW_COUNTED;
    return true;
}

static uint64_t size_of_pieces(pid_t tid, uint64_t address, uint64_t count)
{
    struct iovec piece[PIECES_MAX];
    struct iovec here = {piece, count * sizeof *piece}, there = {(void *)address, count * sizeof *piece};
    uint64_t size = 0;
    if (count > PIECES_MAX || process_vm_readv(tid, &here, 1, &there, 1, 0) != (ssize_t)here.iov_len)
        return 0; /* the call will fail by itself */
    for (uint64_t i = 0; i < count; i++)
        size += piece[i].iov_len;
    return size;
}

/* The descriptor that a call writes to, and how many bytes; -1: it does not write. */
static int written_by(pid_t tid, const struct __ptrace_syscall_info *info, uint64_t *size)
{
    const uint64_t *arg = (const uint64_t *)info->entry.args;
    switch (info->entry.nr) {
    case SYS_write:
    case SYS_sendto:
        *size = arg[2];
        return (int)arg[0];
    case SYS_writev:
    case SYS_pwritev2:
        *size = size_of_pieces(tid, arg[1], arg[2]);
        return (int)arg[0];
    case SYS_sendfile:
        *size = arg[3];
        return (int)arg[0];
    case SYS_splice:
        *size = arg[4];
        return (int)arg[2];
    default:
        return -1;
    }
}

/* The socket that a descriptor is; 0: none. */
static ino_t socket_of(pid_t tid, int fd)
{
    char path[64];
    struct stat s;
    snprintf(path, sizeof path, "/proc/%d/fd/%d", (int)tid, fd);
    return stat(path, &s) == 0 && S_ISSOCK(s.st_mode) ? s.st_ino : 0;
}

bool swallow_concerns(const struct task *t, pid_t tid, int fd, bool write)
{
    const struct region *r = t->region;
    ino_t inode = socket_of(tid, fd);
    for (uint32_t i = 0; inode && i < r->spec.region.channel_count; i++) {
        const struct channel *c = &r->channel[i];
        const struct spec_channel *side = &r->spec.channel[i];
        struct stat s;
        if (write ? side->writer == (int32_t)t->index && c->writer_inode == inode
                  : side->reader == (int32_t)t->index && !r->spec.region.channel[i].lines && c->held >= 0 &&
                        fstat(c->held, &s) == 0 && s.st_ino == inode)
            return true;
    }
    return false;
}

bool swallow_call(struct channel *c, pid_t tid, uint64_t *size)
{
    struct __ptrace_syscall_info info;
    if (ptrace(PTRACE_GET_SYSCALL_INFO, tid, (void *)sizeof info, &info) <= 0 || info.op != PTRACE_SYSCALL_INFO_ENTRY)
        return false;
    int fd = written_by(tid, &info, size);
    if (fd < 0 || socket_of(tid, fd) != c->writer_inode)
        return false;
    if (*size > c->rest_bytes) {
        end(c);
        return false;
    }
    c->rest_bytes -= *size;
    return true;
}

void swallow_wrote(struct channel *c, pid_t tid, uint64_t size)
{
    struct __ptrace_syscall_info info;
    bool known = ptrace(PTRACE_GET_SYSCALL_INFO, tid, (void *)sizeof info, &info) > 0 && info.op == PTRACE_SYSCALL_INFO_EXIT;
    uint64_t wrote = known && info.exit.rval > 0 ? (uint64_t)info.exit.rval : 0;
    c->rest_bytes += wrote < size ? size - wrote : 0;
}
