/* Pumps: forked children of the server that copy between a channel and the caller's descriptors with
 * plain blocking calls, so that nobody's terminal, pipe or file is ever set non-blocking.  What they did
 * is in a page shared with the server, so that it is known even when one is killed. */
#include "base/fds.h"
#include "sandbox/server.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#define PUMP_BYTES (256u << 10) /* moved by one call */

struct progress {
    _Atomic uint64_t bytes;
    int sys;
    bool reading;
};

struct pump {
    struct channel *channel; /* its region waits for us */
    pid_t pid;
    bool feed, killed;
    struct progress *progress;
    struct pump *next;
};

enum move { MOVE_SENDFILE, MOVE_SPLICE, MOVE_COPY };

/* A descriptor of the caller's may be non-blocking already: then wait as a blocking call would. */
static bool try_again(int fd, short events)
{
    struct pollfd p = {.fd = fd, .events = events};
    if (errno == EINTR)
        return true;
    return errno == EAGAIN && poll(&p, 1, -1) >= 0;
}

static int write_whole(int to, const char *data, size_t size, struct progress *p)
{
    while (size) {
        ssize_t n = write(to, data, size);
        if (n < 0 && try_again(to, POLLOUT))
            continue;
        if (n < 0)
            return -1;
        p->bytes += (uint64_t)n;
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

/* One step: more (1), end (0), or an error (-1, p->reading tells where). */
static int step(enum move *how, int from, int to, char *buffer, struct progress *p)
{
    ssize_t n;
    p->reading = false;
    if (*how != MOVE_COPY) {
        n = *how == MOVE_SENDFILE ? sendfile(to, from, NULL, PUMP_BYTES)
                                  : splice(from, NULL, to, NULL, PUMP_BYTES, SPLICE_F_MOVE);
        if (n > 0)
            p->bytes += (uint64_t)n;
        if (n >= 0)
            return n > 0;
        if (errno == EINTR || (errno == EAGAIN && (readable_now(from) ? try_again(to, POLLOUT)
                                                                      : try_again(from, POLLIN))))
            return 1;
        if (errno == EPIPE)
            return -1;
        *how = MOVE_COPY; /* not for this pair, or a real error: reading and writing tell which */
    }
    do
        n = read(from, buffer, PUMP_BYTES);
    while (n < 0 && try_again(from, POLLIN));
    if (n <= 0) {
        p->reading = n < 0;
        return (int)n;
    }
    return write_whole(to, buffer, (size_t)n, p) < 0 ? -1 : 1;
}

static enum move way_of(int from, int to, bool feed)
{
    struct stat s;
    if (fstat(feed ? from : to, &s) < 0)
        return MOVE_COPY;
    if (feed && S_ISREG(s.st_mode))
        return MOVE_SENDFILE;
    return S_ISFIFO(s.st_mode) ? MOVE_SPLICE : MOVE_COPY;
}

static int pump_one(int from, int to, bool feed, char *buffer, struct progress *p)
{
    enum move how = way_of(from, to, feed);
    int r;
    while ((r = step(&how, from, to, buffer, p)) > 0)
        ;
    return r;
}

static int by_number(const void *a, const void *b)
{
    return *(const int *)a - *(const int *)b;
}

/* Close all of the server's descriptors but these: a forgotten writing end would be an end of file that
 * never comes. */
static int keep_only(int end, const int *fds, uint32_t count)
{
    int *sorted = calloc((size_t)count + 1, sizeof *sorted);
    if (!sorted)
        return -1;
    memcpy(sorted, fds, count * sizeof *fds);
    sorted[count] = end;
    qsort(sorted, (size_t)count + 1, sizeof *sorted, by_number);
    unsigned from = 0;
    for (uint32_t i = 0; i <= count; i++) {
        unsigned fd = (unsigned)sorted[i];
        if (fd > from)
            close_range(from, fd - 1, 0);
        from = fd + 1;
    }
    close_range(from, ~0u, 0);
    free(sorted);
    return 0;
}

static _Noreturn void be_pump(struct progress *p, int end, const int *fds, uint32_t count, bool feed,
                              pid_t server)
{
    char *buffer = malloc(PUMP_BYTES);
    sigset_t none;
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() != server)
        _exit(1);
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    prctl(PR_SET_NAME, feed ? "zpipe-feed" : "zpipe-drain");
    if (buffer && keep_only(end, fds, count) == 0) {
        int r = 0;
        for (uint32_t i = 0; r == 0 && i < count; i++)
            r = pump_one(feed ? fds[i] : end, feed ? end : fds[i], feed, buffer, p);
        /* A channel whose reader left is no error. */
        p->sys = r < 0 && !(feed && !p->reading && (errno == EPIPE || errno == ECONNRESET)) ? errno : 0;
    } else {
        p->sys = ENOMEM;
    }
    _exit(0);
}

int pump_start(struct channel *c, const int *fds, uint32_t count, bool feed, struct err *e)
{
    struct server *s = c->region->server;
    struct pump *p = calloc(1, sizeof *p);
    struct progress *shared =
        mmap(NULL, sizeof *shared, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    pid_t self = getpid();
    if (!p || shared == MAP_FAILED) {
        free(p);
        if (shared != MAP_FAILED)
            munmap(shared, sizeof *shared);
        return err_nomem(e);
    }
    p->pid = fork();
    if (p->pid == 0)
        be_pump(shared, feed ? c->write_end : c->read_end, fds, count, feed, self);
    if (p->pid < 0) {
        err_sys(e, "cannot fork a pump");
        munmap(shared, sizeof *shared);
        free(p);
        return -1;
    }
    p->channel = c;
    p->feed = feed;
    p->progress = shared;
    p->next = s->pump;
    s->pump = p;
    c->pump = p;
    c->region->pumps_left++;
    return 0;
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
        munmap(p->progress, sizeof *p->progress);
        free(p);
    }
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
    int sys = p->killed ? 0 : status ? EIO : p->progress->sys;
    server_tell(s,
                (struct wire){.kind = WIRE_PUMP, .region = r->id, .a = c->index, .b = (uint32_t)sys,
                              .task = p->progress->reading && sys, .size = p->progress->bytes},
                NULL, 0, NULL, 0);
    munmap(p->progress, sizeof *p->progress);
    bool feed = p->feed;
    free(p);
    c->pump = NULL;
    r->pumps_left--;
    if (feed)
        channel_writer_left(c);
    else
        channel_reader_left(c);
    region_settle(r);
    return true;
}
