/* Channels: the streams of a region.
 *
 * A channel is a unix stream socket pair whose reading end always reads full (SO_RCVLOWAT).  To its writer it must
 * look like a pipe: when the reader leaves the writer gets SIGPIPE, even in a write that is blocked.  A socket alone
 * does not do that (a blocked write gets ECONNRESET or EPIPE without a signal).  So the server keeps the reading end
 * open, and cuts the channel only while every thread of the writing sandbox is stopped: when they go on, their
 * interrupted writes start again and meet a socket that is already shut down.
 *
 * The reader must see an end only if the writer ended by itself: the kernel also closes the descriptors of a program
 * that was killed, and a `sort` would then print half of its input, sorted.  So the server keeps the writing end open,
 * too, until the writer's init has reported its end.  If it never does, the reader is killed as well
 * (region_end_failed). */
#include "base/fds.h"
#include "sandbox/server.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#define SEND_BYTES (1 << 19) /* asked for; the host's wmem_max decides.  More makes pipelines on one CPU
                              * slower (caches), less makes them wait for each other on two. */

int channel_pair(int pair[2], bool full_reads)
{
    int low = INT_MAX, bytes = SEND_BYTES;
    int mark = NOTIFY_MARK_CHANNEL; /* a program that asks what it is is told: a pipe */
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) < 0)
        return -1;
    setsockopt(pair[1], SOL_SOCKET, SO_SNDBUF, &bytes, sizeof bytes);
    shutdown(pair[1], SHUT_RD);
    if (full_reads && setsockopt(pair[0], SOL_SOCKET, SO_RCVLOWAT, &low, sizeof low) < 0) {
        close(pair[0]);
        close(pair[1]);
        return -1;
    }
    for (int i = 0; i < 2; i++)
        setsockopt(pair[i], SOL_SOCKET, SO_PRIORITY, &mark, sizeof mark);
    return 0;
}

/* A program that writes to /dev/null is told so, also if its bytes are counted on their way: grep stops at its first match there. */
static void mark_null(struct channel *c)
{
    const struct spec *s = &c->region->spec;
    int32_t writer = s->channel[c->index].writer;
    int mark = NOTIFY_MARK_NULL;
    for (uint32_t i = 0; writer >= 0 && i < s->region.task[writer].port_count; i++)
        if (s->region.task[writer].port[i].null && s->region.task[writer].port[i].channel == (int32_t)c->index)
            setsockopt(c->write_end, SOL_SOCKET, SO_PRIORITY, &mark, sizeof mark);
}

static int make_pair(struct channel *c, bool full_reads, struct err *e)
{
    int pair[2];
    if (channel_pair(pair, full_reads) < 0)
        return err_sys(e, "cannot make a channel");
    c->read_end = pair[0];
    c->write_end = pair[1];
    mark_null(c);
    if (c->region->spec.region.channel[c->index].exact) {
        int bytes = CHANNEL_EXACT_BYTES;
        struct stat s;
        setsockopt(c->write_end, SOL_SOCKET, SO_SNDBUF, &bytes, sizeof bytes);
        c->writer_inode = fstat(c->write_end, &s) == 0 ? s.st_ino : 0;
    }
    return 0;
}

/* Take the caller's sockets, in the order of spec_channel. */
static int take_remote(struct channel *c, enum box_channel_end end, bool full_reads, struct err *e)
{
    struct region *r = c->region;
    int *fd = &r->fd[r->spec.channel[c->index].fd_first];
    int low = INT_MAX, bytes = SEND_BYTES, kind = 0, mark = NOTIFY_MARK_CHANNEL;
    socklen_t size = sizeof kind;
    if (getsockopt(fd[0], SOL_SOCKET, SO_DOMAIN, &kind, &size) < 0 || kind != AF_UNIX)
        return err_set(e, ERR_PROTO, "a channel's end is no unix socket");
    setsockopt(fd[0], SOL_SOCKET, SO_PRIORITY, &mark, sizeof mark);
    if (end == BOX_REMOTE_READER) {
        c->write_end = fd[0];
        c->read_end = fd[1];
        fd[1] = -1;
        setsockopt(c->write_end, SOL_SOCKET, SO_SNDBUF, &bytes, sizeof bytes);
        shutdown(c->write_end, SHUT_RD);
    } else {
        c->read_end = fd[0];
        if (full_reads)
            setsockopt(c->read_end, SOL_SOCKET, SO_RCVLOWAT, &low, sizeof low);
    }
    fd[0] = -1;
    return 0;
}

int channel_open(struct channel *c, struct err *e)
{
    struct region *r = c->region;
    const struct box_channel *plan = &r->spec.region.channel[c->index];
    const struct spec_channel *side = &r->spec.channel[c->index];
    if (plan->end == BOX_COPY)
        return pump_start(c, e);
    bool full = !plan->lines && side->reader >= 0;
    bool remote = plan->end == BOX_REMOTE_READER || plan->end == BOX_REMOTE_WRITER;
    if ((remote ? take_remote(c, plan->end, full, e) : make_pair(c, full, e)) < 0)
        return -1;
    c->held = fcntl(c->read_end, F_DUPFD_CLOEXEC, 0);
    if (c->held < 0)
        return err_sys(e, "cannot keep a channel's end");
    int all = INT_MAX;
    setsockopt(c->read_end, SOL_SOCKET, SO_PEEK_OFF, &all, sizeof all);
    if (plan->end == BOX_KEEP)
        return keep_start(c, e);
    if (plan->end != BOX_FEED && plan->end != BOX_DRAIN)
        return 0;
    int result = pump_start(c, e);
    if (plan->end == BOX_DRAIN || !c->pump)
        channel_handed_out(c, plan->end == BOX_FEED);
    return result;
}

void channel_handed_out(struct channel *c, bool write)
{
    bool program = write && c->region->spec.channel[c->index].writer >= 0;
    if (!program)
        fd_close(write ? &c->write_end : &c->read_end);
}

void channel_writer_ended(struct channel *c)
{
    fd_close(&c->write_end);
}

bool channel_writer_hung_up(const struct channel *c)
{
    struct pollfd p = {.fd = c->held, .events = POLLRDHUP};
    return c->held < 0 || (poll(&p, 1, 0) > 0 && (p.revents & (POLLHUP | POLLRDHUP)));
}

/* Reading a byte from a socket lowers its peek offset by one; nobody uses that offset otherwise, so it counts the bytes
 * that were read. */
bool channel_read_from(const struct channel *c)
{
    int rest = INT_MAX;
    socklen_t size = sizeof rest;
    return c->passed ||
           (c->held >= 0 && getsockopt(c->held, SOL_SOCKET, SO_PEEK_OFF, &rest, &size) == 0 && rest < INT_MAX);
}

bool channel_written_to(const struct channel *c)
{
    int there = 0;
    return channel_read_from(c) || (c->held >= 0 && ioctl(c->held, FIONREAD, &there) == 0 && there > 0);
}

/* After the shutdown nothing more comes in.  Take out what is there, so that the close does not reset the writer's end. */
void channel_cut(struct channel *c)
{
    static char waste[65536];
    if (c->held < 0)
        return;
    c->passed = channel_written_to(c);
    watch_stop(c->region->server, &c->hangup_watch);
    shutdown(c->held, SHUT_RD);
    while (recv(c->held, waste, sizeof waste, MSG_DONTWAIT) > 0)
        ;
    fd_close(&c->held);
}

void channel_reader_left(struct channel *c)
{
    struct region *r = c->region;
    int32_t writer = r->spec.channel[c->index].writer;
    bool writes = writer >= 0 && r->task[writer].state == TASK_SETUP && !channel_writer_hung_up(c);
    if (c->reader_gone || c->swallow != SWALLOW_NOT)
        return;
    left_note(c, writes);
    if (writes && swallow_wanted(c) && swallow_begin(c) == 0)
        return;
    c->reader_gone = true;
    if (writes) {
        freeze_begin(r->server, &r->task[writer], c);
        task_heard(&r->task[writer]);
        return;
    }
    channel_cut(c);
    if (r->spec.region.channel[c->index].end == BOX_FEED)
        pump_kill(c);
}

void channel_break(struct channel *c)
{
    if (c->pump)
        pump_kill(c); /* the pump is the reading side: its end is what the writers notice */
    else
        channel_reader_left(c);
}

void channel_writer_left(struct channel *c)
{
    c->writer_gone = true;
    if (c->region->spec.channel[c->index].reader >= 0 || c->pump)
        return;
    if (c->region->spec.region.channel[c->index].end == BOX_KEEP)
        keep_end(c, 0);
    watch_stop(c->region->server, &c->hangup_watch);
    fd_close(&c->held); /* the caller reads from an end of its own */
}

void channel_clear(struct channel *c)
{
    swallow_clear(c);
    freeze_forget(c->region->server, c);
    keep_clear(c);
    fd_close(&c->write_end);
    fd_close(&c->read_end);
    watch_stop(c->region->server, &c->hangup_watch);
    watch_stop(c->region->server, &c->fed_watch);
    fd_close(&c->held);
}
