/* Random bytes as a function of (seed, stream): ChaCha20 (RFC 8439's block, a 64-bit counter).  Each opened /dev/urandom
 * has a stream of its own, so that how far one was filled ahead does not show in another.
 *
 * /dev/urandom itself is one end of a socket pair whose SO_RCVLOWAT makes reads of any size full,
 * and whose other end we keep filled, as it drains, from the server's loop.  lseek, which fails, shows that it is no
 * device; and a write, which is thrown away (a device that was opened for reading would refuse it, but here that would
 * take a SIGPIPE). */
#include "sandbox/notify_task.h"
#include "base/fds.h"

#include <errno.h>
#include <limits.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#define GETRANDOM_ONCE  65536 /* a longer request is answered in part, as the kernel may do */
#define GETRANDOM_FLAGS 7u
#define REFILL_BYTES    4096
#define FIRST_BYTES     1024  /* most programs read a few bytes, and close it */
#define RANDOM_FIRST    4096  /* the size asked for the socket's buffer, which the kernel doubles: it is full with the first bytes */
#define RANDOM_AHEAD    32768 /* the size asked for once bytes were read */
#define REFILLS_MAX     64    /* pieces written to one file at once */

static uint32_t rotate(uint32_t x, int n)
{
    return x << n | x >> (32 - n);
}

static void quarter(uint32_t *x, int a, int b, int c, int d)
{
    x[a] += x[b], x[d] = rotate(x[d] ^ x[a], 16);
    x[c] += x[d], x[b] = rotate(x[b] ^ x[c], 12);
    x[a] += x[b], x[d] = rotate(x[d] ^ x[a], 8);
    x[c] += x[d], x[b] = rotate(x[b] ^ x[c], 7);
}

static void next_block(struct random *r)
{
    uint32_t x[16];

    memcpy(x, r->input, sizeof x);
    for (int i = 0; i < 10; i++) {
        for (int k = 0; k < 4; k++)
            quarter(x, k, 4 + k, 8 + k, 12 + k);
        for (int k = 0; k < 4; k++)
            quarter(x, k, 4 + (k + 1) % 4, 8 + (k + 2) % 4, 12 + (k + 3) % 4);
    }
    for (int i = 0; i < 16; i++) {
        uint32_t word = x[i] + r->input[i];

        for (int k = 0; k < 4; k++)
            r->block[4 * i + k] = (uint8_t)(word >> 8 * k);
    }
    if (++r->input[12] == 0)
        r->input[13]++;
    r->used = 0;
}

void random_init(struct random *r, uint64_t seed, uint64_t stream, uint64_t sub)
{
    static const uint32_t constant[4] = {0x61707865, 0x3320646e, 0x79622d32, 0x6b206574};
    static const uint32_t label[4] = {0x7069707a, 0x61722065, 0x6d6f646e, 0x00003120};

    memset(r, 0, sizeof *r);
    memcpy(r->input, constant, sizeof constant);
    r->input[4] = (uint32_t)seed, r->input[5] = (uint32_t)(seed >> 32);
    r->input[6] = (uint32_t)stream, r->input[7] = (uint32_t)(stream >> 32);
    memcpy(r->input + 8, label, sizeof label);
    r->input[14] = (uint32_t)sub, r->input[15] = (uint32_t)(sub >> 32);
    r->used = sizeof r->block;
}

void random_bytes(struct random *r, void *data, size_t size)
{
    uint8_t *out = data;

    while (size) {
        size_t piece = sizeof r->block - r->used;

        if (!piece) {
            next_block(r);
            continue;
        }
        if (piece > size)
            piece = size;
        memcpy(out, r->block + r->used, piece);
        r->used += (unsigned)piece;
        out += piece;
        size -= piece;
    }
}

/* From the first use of a channel on, each block of a stage has random bytes of its own. */
static void random_part(struct notify *n)
{
    if (n->parted || (n->uses && !n->uses(n->uses_owner)))
        return;
    n->parted = true;
    random_init(&n->random, n->seed, n->stream, 0);
}

static uint64_t stream_now(const struct notify *n)
{
    return n->parted ? n->stream : (uint32_t)n->stream;
}

void answer_getrandom(struct notify *n, const struct seccomp_notif *q, struct answer *a)
{
    uint8_t piece[1024];
    uint64_t size = q->data.args[1] < GETRANDOM_ONCE ? q->data.args[1] : GETRANDOM_ONCE;
    uint64_t done = 0;

    if ((uint32_t)q->data.args[2] & ~GETRANDOM_FLAGS) {
        a->error = EINVAL;
        return;
    }
    random_part(n);
    while (done < size) {
        size_t now = size - done < sizeof piece ? (size_t)(size - done) : sizeof piece;

        random_bytes(&n->random, piece, now);
        if (task_write(n, q, q->data.args[0] + done, piece, now) < 0) {
            a->error = EFAULT;
            return;
        }
        done += now;
    }
    a->value = (int64_t)done;
}

/* Write one piece; what does not fit is given back to the stream.  -1: there is no more room. */
static int put(struct random_file *f, size_t size)
{
    uint8_t piece[REFILL_BYTES];
    struct random before = f->random;
    ssize_t sent;

    random_bytes(&f->random, piece, size);
    sent = send(f->fd, piece, size, MSG_DONTWAIT | MSG_NOSIGNAL);
    if (sent == (ssize_t)size)
        return 0;
    f->random = before;
    if (sent > 0)
        random_bytes(&f->random, piece, (size_t)sent);
    else if (errno != EAGAIN && errno != EINTR && errno != ENOBUFS)
        fd_close(&f->fd); /* it has no reader any more; epoll forgets it */
    return -1;
}

static void set_room(int fd, int bytes)
{
    setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &bytes, sizeof bytes);
}

/* Write as many pieces as there is room for. */
static void refill(struct random_file *f)
{
    set_room(f->fd, RANDOM_AHEAD);
    for (int i = 0; i < REFILLS_MAX; i++)
        if (put(f, REFILL_BYTES) < 0)
            return;
}

/* Throw away what the task has written to it, so that the task never waits. */
static void throw_away(const struct random_file *f)
{
    static char waste[65536];

    for (int i = 0; i < REFILLS_MAX && recv(f->fd, waste, sizeof waste, MSG_DONTWAIT) > 0; i++)
        ;
}

static int watch(struct notify *n, struct random_file *f)
{
    struct epoll_event event = {.events = EPOLLIN | EPOLLOUT, .data.u32 = (uint32_t)(f - n->file)};

    if (n->random_epoll < 0)
        n->random_epoll = epoll_create1(EPOLL_CLOEXEC);
    if (n->random_epoll < 0)
        return -1;
    return epoll_ctl(n->random_epoll, EPOLL_CTL_ADD, f->fd, &event);
}

static struct random_file *free_file(struct notify *n)
{
    for (int i = 0; i < NOTIFY_RANDOM_MAX; i++)
        if (n->file[i].fd < 0)
            return &n->file[i];
    return NULL;
}

int random_open(struct notify *n)
{
    struct random_file *f = free_file(n);
    int all = INT_MAX, mark = NOTIFY_MARK_RANDOM;
    int ends[2];

    if (!f) { /* the task may have closed some since we last looked, and whether it did must not be chance */
        random_refill(n);
        f = free_file(n);
    }
    if (!f) {
        errno = EMFILE;
        return -1;
    }
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) < 0)
        return -1;
    f->fd = ends[0];
    if (setsockopt(ends[1], SOL_SOCKET, SO_RCVLOWAT, &all, sizeof all) < 0 ||
        setsockopt(ends[1], SOL_SOCKET, SO_PRIORITY, &mark, sizeof mark) < 0 || watch(n, f) < 0) {
        int sys = errno;

        fd_close(&f->fd);
        close(ends[1]);
        errno = sys;
        return -1;
    }
    random_part(n);
    random_init(&f->random, n->seed, stream_now(n), ++n->random_opened);
    set_room(f->fd, RANDOM_FIRST);
    put(f, FIRST_BYTES);
    return ends[1];
}

void random_refill(struct notify *n)
{
    struct epoll_event event[NOTIFY_RANDOM_MAX];
    int count = n->random_epoll < 0 ? 0 : epoll_wait(n->random_epoll, event, NOTIFY_RANDOM_MAX, 0);

    for (int i = 0; i < count; i++) {
        struct random_file *f = &n->file[event[i].data.u32];

        if (f->fd < 0)
            continue;
        if (event[i].events & (EPOLLHUP | EPOLLERR)) {
            fd_close(&f->fd);
            continue;
        }
        if (event[i].events & EPOLLIN)
            throw_away(f);
        if (event[i].events & EPOLLOUT)
            refill(f);
    }
}

bool random_idle(struct notify *n)
{
    random_refill(n);
    for (int i = 0; i < NOTIFY_RANDOM_MAX; i++)
        if (n->file[i].fd >= 0)
            return false;
    return true;
}

void random_close(struct notify *n)
{
    for (int i = 0; i < NOTIFY_RANDOM_MAX; i++)
        fd_close(&n->file[i].fd);
    fd_close(&n->random_epoll);
}
