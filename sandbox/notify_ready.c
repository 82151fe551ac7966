/* Waits for descriptors without a limit of time.  Which of several channels has bytes first, and whether a writer has ended
 * already, is chance.  So a channel always counts as ready, as a file does: the read or write that follows waits, and is
 * full.  Pipelines have no circles through a program's own waits, so no program waits for ever that would not have
 * otherwise.  What the task made itself is ready if the kernel says so.  If nothing is ready the kernel waits. */
#include "sandbox/notify_task.h"
#include "base/fds.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/select.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#define POLLED_MAX   64 /* a call or an epoll with more is not looked through */
#define FDINFO_BYTES 8192
#define MINOR_BITS   20 /* of a device number in the kernel */
#define MINOR_MASK   ((1u << MINOR_BITS) - 1)

static const char too_many[] = "waits for more descriptors at once than are looked through";

/* --- epoll: /proc tells what it watches --- */

struct watched {
    int fd;
    uint32_t events;
    uint64_t data, inode;
    uint32_t device; /* as the kernel counts it */
};

static int by_number(const void *a, const void *b)
{
    return ((const struct watched *)a)->fd - ((const struct watched *)b)->fd;
}

/* The descriptors that an epoll watches; -1: too many. */
static int watched_by(const struct seccomp_notif *q, int number, struct watched w[POLLED_MAX])
{
    char path[64], text[FDINFO_BYTES];
    int count = 0;

    snprintf(path, sizeof path, "/proc/%u/fdinfo/%d", q->pid, number);
    FILE *f = fopen(path, "re");
    while (f && fgets(text, sizeof text, f)) {
        struct watched one;
        unsigned long long data, inode;

        if (sscanf(text, "tfd: %d events: %x data: %llx pos:%*d ino:%llx sdev:%x", &one.fd, &one.events, &data, &inode, &one.device) != 5)
            continue;
        one.data = data;
        one.inode = inode;
        if (count == POLLED_MAX) {
            count = -1;
            break;
        }
        w[count++] = one;
    }
    if (f)
        fclose(f);
    if (count > 0)
        qsort(w, (size_t)count, sizeof *w, by_number); /* the kernel orders them by address */
    return count;
}

/* The descriptor by which a file is watched, borrowed from the task; -1: it has closed that number, or uses it for another
 * file, while the epoll watches the first one still. */
static int watched_fd(struct notify *n, const struct seccomp_notif *q, const struct watched *w)
{
    struct stat s;
    int fd = task_fd(n, q, w->fd);

    if (fd >= 0 && (fstat(fd, &s) < 0 || s.st_ino != w->inode || major(s.st_dev) != w->device >> MINOR_BITS || minor(s.st_dev) != (w->device & MINOR_MASK)))
        fd_close(&fd);
    return fd;
}

static bool is_epoll(int fd)
{
    static const char epoll[] = "anon_inode:[eventpoll]";
    char link[32], name[sizeof epoll];

    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    return readlink(link, name, sizeof name) == sizeof epoll - 1 && !memcmp(name, epoll, sizeof epoll - 1);
}

/* An epoll among other descriptors: the kernel tells whether something has come on what it watches. */
static void look_into(struct notify *n, const struct seccomp_notif *q, int number)
{
    struct watched w[POLLED_MAX];
    int count = watched_by(q, number, w);
    bool own = count >= 0;

    for (int i = 0; own && i < count; i++) {
        int fd = watched_fd(n, q, &w[i]);

        own = fd >= 0 && notify_is_its_own(n, fd) && !is_epoll(fd);
        fd_close(&fd);
    }
    if (!own)
        notify_mark(n, "waits for an epoll that waits for a channel");
}

/* What a descriptor of the task, closed here, is ready for; *channel: it is a channel or a file, which is always ready. */
static short ready_for(struct notify *n, const struct seccomp_notif *q, int number, int fd, short events, bool *channel)
{
    struct pollfd p = {.fd = fd, .events = events};

    if (p.fd < 0)
        return POLLNVAL;
    *channel = !notify_is_its_own(n, p.fd);
    if (*channel)
        p.revents = events & (POLLIN | POLLRDNORM | POLLOUT | POLLWRNORM);
    else
        poll(&p, 1, 0);
    if (!*channel && is_epoll(p.fd))
        look_into(n, q, number);
    fd_close(&p.fd);
    return p.revents;
}

void notify_live(struct notify *n)
{
    n->live = true;
}

/* Nothing is ready: let the kernel wait; what it then finds at a channel is chance. */
static void leave(struct notify *n, bool channels, struct answer *a)
{
    a->go_on = true;
    if (channels)
        notify_mark(n, "waits for the other end of a channel to leave");
}

void ready_poll(struct notify *n, const struct seccomp_notif *q, struct answer *a)
{
    uint64_t count = q->data.args[1];
    struct pollfd p[POLLED_MAX];
    bool channels = false;

    a->go_on = true;
    if (count > POLLED_MAX)
        notify_mark(n, too_many);
    if (n->live || count > POLLED_MAX || task_read(n, q, q->data.args[0], p, count * sizeof *p) < 0)
        return;
    for (uint64_t i = 0; i < count; i++) {
        bool channel = false;

        p[i].revents = p[i].fd < 0 ? 0 : ready_for(n, q, p[i].fd, task_fd(n, q, p[i].fd), p[i].events, &channel);
        channels |= channel;
        a->value += p[i].revents != 0;
    }
    a->go_on = false;
    if (!channels || !a->value)
        leave(n, channels, a);
    else if (task_write(n, q, q->data.args[0], p, count * sizeof *p) < 0)
        a->error = EFAULT;
}

void ready_select(struct notify *n, const struct seccomp_notif *q, struct answer *a)
{
    static const short event[] = {POLLIN, POLLOUT, POLLPRI};
    int32_t most = (int32_t)q->data.args[0];
    uint64_t count = most < FD_SETSIZE ? (uint64_t)most : FD_SETSIZE, bytes = (count + 63) / 64 * 8;
    fd_set set[3];
    bool channels = false;

    a->go_on = true;
    if (n->live || most < 0)
        return;
    memset(set, 0, sizeof set);
    for (int i = 0; i < 3; i++)
        for (int k = 0; k < i; k++)
            if (q->data.args[1 + k] &&
                q->data.args[1 + i] - q->data.args[1 + k] + bytes < 2 * bytes) {
                notify_mark(n, "waits with sets that share memory");
                return;
            }
    for (int i = 0; i < 3; i++)
        if (q->data.args[1 + i] && task_read(n, q, q->data.args[1 + i], &set[i], bytes) < 0)
            return;
    for (int fd = 0; fd < (int)count; fd++)
        for (int i = 0; i < 3; i++) {
            bool channel = false;
            short ready = FD_ISSET(fd, &set[i]) ? ready_for(n, q, fd, task_fd(n, q, fd), event[i], &channel) : 0;

            if (ready == POLLNVAL)
                return; /* the kernel will say so */
            channels |= channel;
            a->value += ready != 0;
            if (!ready)
                FD_CLR(fd, &set[i]);
        }
    a->go_on = false;
    if (!channels || !a->value) {
        leave(n, channels, a);
        return;
    }
    for (int i = 0; i < 3; i++)
        if (q->data.args[1 + i] && task_write(n, q, q->data.args[1 + i], &set[i], bytes) < 0)
            a->error = EFAULT;
}

/* Report the channels among them as ready; the others are left in w.  -1: some are watched for changes, or are not to be found. */
static int channels_of(struct notify *n, const struct seccomp_notif *q, struct watched *w,
                       int count, struct epoll_event *e)
{
    int channels = 0;

    for (int i = 0; i < count; i++) {
        bool channel = false;
        int fd = watched_fd(n, q, &w[i]);

        if (fd < 0)
            return -1;
        short ready = ready_for(n, q, w[i].fd, fd, (short)(w[i].events & 0xffff), &channel);

        if (!channel)
            continue;
        if (w[i].events & (EPOLLET | EPOLLONESHOT))
            return -1;
        if (ready)
            e[channels++] = (struct epoll_event){.events = (uint32_t)ready, .data.u64 = w[i].data};
    }
    return channels;
}

/* Add the others that are ready after the channels. */
static int others_of(struct notify *n, const struct seccomp_notif *q, struct epoll_event *e,
                     int channels)
{
    struct epoll_event real[POLLED_MAX];
    int fd = task_fd(n, q, (int)q->data.args[0]), all = channels;
    int count = fd < 0 ? 0 : epoll_wait(fd, real, POLLED_MAX, 0);

    fd_close(&fd);
    for (int i = 0; i < count; i++) {
        bool channel = false;

        for (int k = 0; k < channels; k++)
            channel |= e[k].data.u64 == real[i].data.u64;
        if (!channel && all < POLLED_MAX)
            e[all++] = real[i];
    }
    return all;
}

void ready_epoll(struct notify *n, const struct seccomp_notif *q, struct answer *a)
{
    struct watched w[POLLED_MAX];
    struct epoll_event e[POLLED_MAX];
    int count = watched_by(q, (int)q->data.args[0], w), most = (int)q->data.args[2];
    int ready = count < 0 ? -1 : channels_of(n, q, w, count, e);

    a->go_on = true;
    if (ready < 0)
        notify_mark(n, count < 0 ? too_many : "waits for a channel to change");
    if (ready <= 0 || most <= 0 || n->live)
        return;
    ready = others_of(n, q, e, ready);
    a->go_on = false;
    a->value = ready < most ? ready : most;
    if (task_write(n, q, q->data.args[1], e, (size_t)a->value * sizeof *e) < 0)
        a->error = EFAULT;
}
