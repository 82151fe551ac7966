/* Pumps: forked children of the server that copy between channels and the caller's descriptors.  They use plain
 * blocking calls, so that nobody's terminal, pipe or file is ever made non-blocking.  A pump notes its progress in a
 * page that it shares with the server, so that it is known even if the pump is killed.
 *
 * A small input in files, or in a pipe that nobody writes to any more, needs no process: the server puts it into the
 * channel at once, which never blocks.
 *
 * A pump copies sources, one after another, to one destination.  It has all of them from the start or (`more`) is
 * sent more as it runs.  A pump that is watched has a socket: sources come over it, and what goes back only says that
 * there is news in the page, so nothing is lost if the socket has no room. */
#include "base/fds.h"
#include "base/pack.h"
#include "sandbox/server.h"
#include "sandbox/sha256.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#define PUMP_BYTES (256u << 10) /* copied by one call */
#define FEED_NOW_MAX (64u << 10) /* bytes that are fed without a process */

struct progress {
    _Atomic uint64_t bytes, sources;
    int sys;
    bool reading, digested;
    uint8_t digest[32];
};

struct pump {
    struct channel *channel; /* its region does not end before the pump */
    pid_t pid;
    bool killed;
    struct link link; /* to the process, if it is watched */
    struct progress *progress;
    struct pump *next;
};

/* ---- the process */

enum move { MOVE_SENDFILE, MOVE_SPLICE, MOVE_COPY };

struct work {
    struct progress *progress;
    int to, socket; /* socket -1: not watched */
    bool more;
    char *buffer;
    struct sha256 *hash; /* NULL: no digest is wanted */
};

/* A descriptor of the caller may be non-blocking already: then wait as a blocking call would. */
static bool try_again(int fd, short events)
{
    struct pollfd p = {.fd = fd, .events = events};
    if (errno == EINTR)
        return true;
    return errno == EAGAIN && poll(&p, 1, -1) >= 0;
}

static void moved(const struct work *w, uint64_t bytes)
{
    struct wire news = {.version = WIRE_VERSION, .kind = WIRE_MOVED};
    w->progress->bytes += bytes;
    if (w->socket >= 0)
        send(w->socket, &news, sizeof news, MSG_DONTWAIT | MSG_NOSIGNAL);
}

static int write_whole(const struct work *w, const char *data, size_t size)
{
    while (size) {
        ssize_t n = write(w->to, data, size);
        if (n < 0 && try_again(w->to, POLLOUT))
            continue;
        if (n < 0)
            return -1;
        moved(w, (uint64_t)n);
        data += n;
        size -= (size_t)n;
    }
    return 0;
}

static bool readable_now(int fd)
{
    struct pollfd p = {.fd = fd, .events = POLLIN};
    return poll(&p, 1, 0) > 0;
}

/* Never let a splice wait, for bytes or for room (a channel that is fed is non-blocking).  It would hold the pipe's lock
 * meanwhile, and whoever uses that pipe or closes an end of it, our caller's loop too, would hang and could not be
 * interrupted. */
static ssize_t move_in_kernel(const struct work *w, enum move how, const struct box_source *s, size_t size)
{
    off_t at = (off_t)s->offset;
    if (how == MOVE_SENDFILE)
        return sendfile(w->to, s->fd, s->offset == BOX_ALL ? NULL : &at, size);
    return splice(s->fd, s->offset == BOX_ALL ? NULL : &at, w->to, NULL, size, SPLICE_F_MOVE | SPLICE_F_NONBLOCK);
}

/* One step.  Returns how many bytes were copied (0: the end), or -1; progress->reading says on which side it failed. */
static ssize_t step(const struct work *w, enum move *how, const struct box_source *s)
{
    size_t size = s->size < PUMP_BYTES ? (size_t)s->size : PUMP_BYTES;
    ssize_t n;
    w->progress->reading = false;
    while (*how != MOVE_COPY) {
        n = move_in_kernel(w, *how, s, size);
        if (n > 0)
            moved(w, (uint64_t)n);
        if (n >= 0)
            return n;
        if (errno == EINTR || (errno == EAGAIN && (readable_now(s->fd) ? try_again(w->to, POLLOUT)
                                                                       : try_again(s->fd, POLLIN))))
            continue;
        if (errno == EPIPE)
            return -1;
        *how = MOVE_COPY; /* this pair does not support it, or it is a real error: read and write will tell */
    }
    do
        n = s->offset == BOX_ALL ? read(s->fd, w->buffer, size)
                                 : pread(s->fd, w->buffer, size, (off_t)s->offset);
    while (n < 0 && try_again(s->fd, POLLIN));
    if (n < 0)
        w->progress->reading = true;
    if (n > 0 && w->hash)
        sha256_add(w->hash, w->buffer, (size_t)n);
    return n > 0 && write_whole(w, w->buffer, (size_t)n) < 0 ? -1 : n;
}

static enum move way_of(const struct work *w, int from)
{
    struct stat f, t;
    if (w->hash || fstat(from, &f) < 0 || fstat(w->to, &t) < 0)
        return MOVE_COPY;
    if (S_ISREG(f.st_mode))
        return MOVE_SENDFILE;
    bool splices = S_ISFIFO(f.st_mode) || (S_ISSOCK(f.st_mode) && S_ISFIFO(t.st_mode)); /* splice would wait on a terminal in any case */
    return splices ? MOVE_SPLICE : MOVE_COPY;
}

/* As many bytes as allowed were copied: is there another one? */
static int past_limit(const struct work *w, int fd)
{
    char one;
    ssize_t n;
    do
        n = read(fd, &one, 1);
    while (n < 0 && try_again(fd, POLLIN));
    w->progress->reading = n != 0;
    if (n > 0)
        errno = EDQUOT;
    return n == 0 ? 0 : -1;
}

static int copy_source(const struct work *w, struct box_source s)
{
    enum move how = way_of(w, s.fd);
    bool all = s.offset == BOX_ALL;
    if (all && !s.size)
        s.size = BOX_ALL;
    while (s.size) {
        ssize_t n = step(w, &how, &s);
        if (n == 0 && !all) {
            w->progress->reading = true;
            errno = ESTALE;
            return -1;
        }
        if (n <= 0)
            return (int)n;
        if (!all)
            s.offset += (uint64_t)n;
        if (s.size != BOX_ALL)
            s.size -= (uint64_t)n;
    }
    return all ? past_limit(w, s.fd) : 0;
}

static int copy_sources(const struct work *w, const struct box_source *s, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++) {
        if (copy_source(w, s[i]) < 0)
            return -1;
        w->progress->sources++;
        moved(w, 0);
    }
    return 0;
}

/* Copy what is sent until the end is announced.  If the server is gone, so are we. */
static int copy_more(const struct work *w)
{
    static struct wire_packet p;
    while (wire_receive(w->socket, &p, 0) > 0) {
        struct unpack u = unpack_of(p.data, p.size);
        if (p.head.kind == WIRE_FEED_END)
            return 0;
        for (size_t i = 0; i < p.fd_count; i++) {
            struct box_source s = {.fd = p.fd[i]};
            s.offset = unpack_u64(&u);
            s.size = unpack_u64(&u);
            if (copy_sources(w, &s, 1) < 0)
                return -1;
        }
        wire_close_fds(&p);
    }
    _exit(1);
}

static int by_number(const void *a, const void *b)
{
    return *(const int *)a - *(const int *)b;
}

/* Close all of the server's descriptors but these: a writing end that is left open would be an end of file that never
 * comes. */
static int keep_only(const struct work *w, const struct box_source *s, uint32_t count)
{
    int *sorted = calloc((size_t)count + 2, sizeof *sorted);
    uint32_t kept = count;
    if (!sorted)
        return -1;
    for (uint32_t i = 0; i < count; i++)
        sorted[i] = s[i].fd;
    sorted[kept++] = w->to;
    if (w->socket >= 0)
        sorted[kept++] = w->socket;
    qsort(sorted, kept, sizeof *sorted, by_number);
    unsigned from = 0;
    for (uint32_t i = 0; i < kept; i++) {
        unsigned fd = (unsigned)sorted[i];
        if (fd > from)
            close_range(from, fd - 1, 0);
        if (fd >= from)
            from = fd + 1;
    }
    close_range(from, ~0u, 0);
    free(sorted);
    return 0;
}

static _Noreturn void be_pump(struct work *w, const struct box_source *s, uint32_t count, bool feed,
                              pid_t server)
{
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() != server)
        _exit(1);
    prctl(PR_SET_NAME, feed ? "zpipe-feed" : "zpipe-drain");
    if (feed)
        fcntl(w->to, F_SETFL, O_NONBLOCK); /* this open file is ours alone */
    w->buffer = malloc(PUMP_BYTES);
    if (w->buffer && keep_only(w, s, count) == 0) {
        if (w->hash)
            sha256_begin(w->hash);
        int r = copy_sources(w, s, count);
        if (r == 0 && w->more)
            r = copy_more(w);
        int saved = errno;
        if (w->hash)
            sha256_end(w->hash, w->progress->digest);
        w->progress->digested = w->hash != NULL;
        errno = saved;
        /* It is no error if the channel's reader left. */
        bool left = feed && !w->progress->reading && (errno == EPIPE || errno == ECONNRESET);
        w->progress->sys = r < 0 && !left ? errno : 0;
    } else {
        w->progress->sys = ENOMEM;
    }
    _exit(0);
}

/* ---- the server's side */

static void news_event(struct watch *w, uint32_t events)
{
    struct channel *c = w->owner;
    struct server *s = c->region->server;
    struct pump *p = c->pump;
    struct wire news[16];
    ssize_t n = 0;
    if ((events & EPOLLOUT) && link_flush(&p->link) == 0)
        link_watch(s, &p->link, w);
    for (size_t i = 0; i < sizeof news / sizeof *news; i++)
        if ((n = recv(w->fd, &news[0], sizeof news[0], MSG_DONTWAIT)) <= 0)
            break;
    if (n == 0)
        watch_stop(s, w); /* SIGCHLD tells of the pump's end */
    server_tell(s,
                (struct wire){.kind = WIRE_MOVED, .region = c->region->id, .a = c->index,
                              .size = p->progress->bytes, .offset = p->progress->sources},
                NULL, 0, NULL, 0);
}

static void pump_free(struct pump *p)
{
    if (p->progress != MAP_FAILED)
        munmap(p->progress, sizeof *p->progress);
    link_clear(&p->link);
    free(p);
}

/* How many bytes the writer may send; 0: no limit. */
static uint64_t writer_limit(const struct channel *c)
{
    const struct spec *s = &c->region->spec;
    int32_t writer = s->channel[c->index].writer;
    uint64_t limit = writer < 0 ? 0 : s->region.task[writer].limit.output_bytes;
    return c->keep ? keep_limit(c, limit) : limit;
}

/* The sources that the pump begins with, with our descriptors in place of the region's numbers.  Gives; NULL: no memory. */
static struct box_source *sources_of(const struct channel *c, uint32_t *count)
{
    const struct region *r = c->region;
    const struct box_channel *plan = &r->spec.region.channel[c->index];
    struct box_source *s = calloc((size_t)plan->source_count + 1, sizeof *s);
    *count = plan->source_count;
    for (uint32_t i = 0; s && i < plan->source_count; i++)
        s[i] = (struct box_source){r->fd[plan->source[i].fd], plan->source[i].offset, plan->source[i].size};
    if (s && (plan->end == BOX_DRAIN || plan->end == BOX_KEEP))
        s[(*count)++] = (struct box_source){c->read_end, BOX_ALL, writer_limit(c)};
    return s;
}

static int watch_pump(struct pump *p, struct work *w, struct err *e)
{
    int pair[2];
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0)
        return err_sys(e, "cannot make a pump's socket");
    p->link.fd = pair[0];
    w->socket = pair[1];
    p->channel->fed_watch = (struct watch){-1, news_event, p->channel};
    if (watch_start(p->channel->region->server, &p->channel->fed_watch, pair[0], EPOLLIN) < 0)
        return err_sys(e, "cannot watch a pump");
    return 0;
}

/* ---- without a process */

/* Read all that the sources hold, if it is little; 0: it is not. */
static size_t read_little(const struct box_source *s, uint32_t count, char *to)
{
    size_t total = 0;
    for (uint32_t i = 0; i < count; i++) {
        struct stat is;
        if (s[i].offset == BOX_ALL || s[i].size > FEED_NOW_MAX - total || fstat(s[i].fd, &is) < 0 ||
            !S_ISREG(is.st_mode) ||
            pread(s[i].fd, to + total, (size_t)s[i].size, (off_t)s[i].offset) != (ssize_t)s[i].size)
            return 0;
        total += (size_t)s[i].size;
    }
    return total;
}

/* Read all that a pipe will ever give, if it is little; -1: it is not.  Bytes taken out of the pipe cannot be put back, so
 * the channel must be sure to take them in one piece: an empty unix socket does that for up to half of its buffer, less 64
 * bytes. */
static ssize_t read_over(int channel, const struct box_source *s, char *to)
{
    struct pollfd p = {.fd = s->fd};
    struct stat is;
    int there, room;
    socklen_t length = sizeof room;
    ssize_t n = 1, at = 0;
    if (fstat(s->fd, &is) < 0 || !S_ISFIFO(is.st_mode) || poll(&p, 1, 0) != 1 || p.revents != POLLHUP ||
        ioctl(s->fd, FIONREAD, &there) < 0 || there > (int)FEED_NOW_MAX || (s->size && (uint64_t)there > s->size) ||
        getsockopt(channel, SOL_SOCKET, SO_SNDBUF, &room, &length) < 0 || there > room / 2 - 64)
        return -1;
    while (at < there && (n = read(s->fd, to + at, (size_t)(there - at))) > 0)
        at += n;
    return n < 0 ? -1 : at;
}

/* Advance the sources past the first `bytes`. */
static void skip_bytes(struct box_source *s, uint32_t count, uint64_t bytes)
{
    for (uint32_t i = 0; i < count && bytes; i++) {
        uint64_t n = s[i].size < bytes ? s[i].size : bytes;
        s[i].offset += n;
        s[i].size -= n;
        bytes -= n;
    }
}

/* Put bytes into the channel without a process.  *all: it got everything, and has ended; otherwise *fed bytes, which a
 * process need not bring any more. */
static int feed_now(struct channel *c, struct box_source *s, uint32_t count, size_t *fed, bool *all, struct err *e)
{
    static char bytes[FEED_NOW_MAX];
    const struct box_channel *plan = &c->region->spec.region.channel[c->index];
    *fed = 0;
    *all = false;
    if (plan->end != BOX_FEED || plan->more || plan->digest)
        return 0;
    bool pipe = count == 1 && s->offset == BOX_ALL;
    ssize_t size = pipe ? read_over(c->write_end, s, bytes) : (ssize_t)read_little(s, count, bytes);
    ssize_t n = size > 0 ? send(c->write_end, bytes, (size_t)size, MSG_DONTWAIT | MSG_NOSIGNAL) : 0;
    if (pipe && size > 0 && n != size)
        return err_sys(e, "cannot fill a channel");
    *all = n == size && (pipe || n);
    if (n <= 0 && !*all)
        return 0;
    *fed = (size_t)n;
    if (!pipe)
        skip_bytes(s, count, (uint64_t)n);
    if (*all) {
        struct wire w = {.kind = WIRE_PUMP, .region = c->region->id, .a = c->index, .size = (uint64_t)size};
        server_tell_later(c->region->server, w);
        channel_writer_left(c);
    }
    return 0;
}

/* ---- with a process */

/* Start a process for what the sources hold after the first `fed` bytes. */
static int start_process(struct channel *c, struct box_source *source, uint32_t count, size_t fed, struct err *e)
{
    struct region *r = c->region;
    struct server *s = r->server;
    const struct box_channel *plan = &r->spec.region.channel[c->index];
    bool feed = plan->end == BOX_FEED, told = plan->more || plan->tell;
    struct pump *p = calloc(1, sizeof *p);
    if (!p)
        return err_nomem(e);
    *p = (struct pump){.channel = c, .link = LINK_INIT};
    p->progress = mmap(NULL, sizeof *p->progress, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    struct sha256 hash;
    struct work w = {.progress = p->progress,
                     .to = feed ? c->write_end : c->keep ? keep_file(c) : r->fd[plan->sink],
                     .socket = -1,
                     .more = plan->more,
                     .hash = plan->digest ? &hash : NULL};
    pid_t self = getpid();
    int ok = p->progress == MAP_FAILED ? err_nomem(e) : told ? watch_pump(p, &w, e) : 0;
    if (ok == 0)
        p->progress->bytes = fed;
    if (ok == 0 && (p->pid = fork()) == 0)
        be_pump(&w, source, count, feed, self);
    if (ok == 0 && p->pid < 0)
        ok = err_sys(e, "cannot fork a pump");
    fd_close(&w.socket);
    if (ok < 0) {
        watch_stop(s, &c->fed_watch);
        pump_free(p);
        return -1;
    }
    p->next = s->pump;
    s->pump = p;
    c->pump = p;
    r->pumps_left++;
    return 0;
}

/* Close the caller's descriptors, which only the pump needs: a pipe that joins two pumps ends only when the writing one
 * alone holds it. */
static void leave_to_pump(struct channel *c)
{
    struct region *r = c->region;
    const struct box_channel *plan = &r->spec.region.channel[c->index];
    for (uint32_t i = 0; i < plan->source_count; i++)
        fd_close(&r->fd[plan->source[i].fd]);
    if (plan->end == BOX_DRAIN || plan->end == BOX_COPY)
        fd_close(&r->fd[plan->sink]);
}

int pump_start(struct channel *c, struct err *e)
{
    uint32_t count;
    struct box_source *source = sources_of(c, &count);
    if (!source)
        return err_nomem(e);
    bool all;
    size_t fed;
    int r = feed_now(c, source, count, &fed, &all, e);
    if (r == 0 && !all)
        r = start_process(c, source, count, fed, e);
    free(source);
    if (r == 0)
        leave_to_pump(c);
    return r;
}

int pump_feed(struct channel *c, const struct wire_packet *p)
{
    const struct box_channel *plan = &c->region->spec.region.channel[c->index];
    if (!plan->more)
        return -1;
    if (!c->pump || c->pump->killed)
        return 0; /* the pump has ended, and the caller is being told */
    struct wire head = {.kind = p->head.kind};
    /* If the pump is gone, SIGCHLD tells. */
    link_send(&c->pump->link, head, p->data, p->size, p->fd, p->fd_count);
    link_watch(c->region->server, &c->pump->link, &c->fed_watch);
    return 0;
}

/* A stopped process copies nothing, and can still be killed. */
void pump_hold(struct channel *c, bool hold)
{
    if (c->pump)
        kill(c->pump->pid, hold ? SIGSTOP : SIGCONT);
}

void pump_kill(struct channel *c)
{
    if (!c->pump || c->pump->killed)
        return;
    c->pump->killed = true;
    kill(c->pump->pid, SIGKILL);
}

void pump_kill_all(struct server *s)
{
    for (struct pump *p = s->pump; p; p = p->next)
        kill(p->pid, SIGKILL);
}

void pump_forget_all(struct server *s)
{
    while (s->pump) {
        struct pump *p = s->pump;
        s->pump = p->next;
        pump_free(p);
    }
}

/* A stream that could not be read to its end gets no end: its reader must not take what came for all. */
static void fed(struct channel *c, bool killed, int sys)
{
    if (sys)
        c->region->failed = c->region->server->failed = true;
    else if (!killed)
        channel_writer_ended(c);
    channel_writer_left(c);
}

bool pump_ended(struct server *s, pid_t pid, int status)
{
    struct pump **at = &s->pump;
    while (*at && (*at)->pid != pid)
        at = &(*at)->next;
    struct pump *p = *at;
    if (!p)
        return false;
    *at = p->next;
    struct channel *c = p->channel;
    struct region *r = c->region;
    enum box_channel_end end = r->spec.region.channel[c->index].end;
    bool killed = p->killed;
    int sys = killed ? 0 : status ? EIO : p->progress->sys;
    bool past = sys == EDQUOT && p->progress->reading;
    if (end != BOX_KEEP)
        server_tell(s,
                    (struct wire){.kind = WIRE_PUMP, .region = r->id, .a = c->index, .b = (uint32_t)sys,
                                  .task = p->progress->reading && sys, .size = p->progress->bytes},
                    p->progress->digest, p->progress->digested ? sizeof p->progress->digest : 0, NULL, 0);
    watch_stop(s, &c->fed_watch);
    pump_free(p);
    c->pump = NULL;
    if (end == BOX_KEEP)
        keep_end(c, past ? 0 : sys);
    if (end == BOX_FEED)
        fed(c, killed, sys);
    else if (end != BOX_COPY)
        task_drained(&r->task[r->spec.channel[c->index].writer], past);
    if (end == BOX_DRAIN || end == BOX_KEEP)
        channel_reader_left(c);
    r->pumps_left--; /* before this the region cannot end */
    region_settle(r);
    return true;
}
