/* See lines.h. */
#include "base/lines.h"

#include "base/fds.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

/* Writes what the descriptor takes now; no more is read until it has taken everything.  (It may be a pipe that this process
 * reads itself.)  A closed stderr is not an error, as in sh. */
static void pass_on(struct lines *l)
{
    int to = l->own >= 0 ? l->own : l->to;
    while (l->waiting.size) {
        ssize_t n = fd_write_quietly(to, l->waiting.data, l->waiting.size);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0 && errno == EAGAIN)
            return;
        buf_drop(&l->waiting, n < 0 ? l->waiting.size : (size_t)n);
    }
}

static void put(struct lines *l, const char *data, size_t size)
{
    struct slice s = {data, size};
    if (l->differs.code || (l->given && given_drop(l->given, &s, &l->differs) < 0))
        return;
    if (l->to >= 0 && s.size) {
        buf_add(&l->waiting, s.data, s.size);
        pass_on(l);
    }
    if (l->given && s.size)
        given_add(l->given, s.data, s.size, &l->differs);
}

static void out(struct lines *l, const char *data, size_t size)
{
    uint64_t room = LINES_BYTES_MAX - l->passed;
    size_t pass = size < room ? size : (size_t)room;
    l->passed += pass;
    l->dropped += size - pass;
    if (!pass)
        return;
    put(l, data, pass);
    if (pass > LINES_TAIL_MAX) {
        data += pass - LINES_TAIL_MAX;
        pass = LINES_TAIL_MAX;
    }
    if (l->tail.size + pass > LINES_TAIL_MAX)
        buf_drop(&l->tail, l->tail.size + pass - LINES_TAIL_MAX);
    buf_add(&l->tail, data, pass);
}

static void end(struct lines *l)
{
    fd_close(&l->from);
    fd_close(&l->own);
    l->ended(l);
}

static void has_room(struct loop_fd *w, int events)
{
    (void)events;
    struct lines *l = w->owner;
    pass_on(l);
    if (l->waiting.size)
        return;
    loop_fd_stop(l->loop, &l->room);
    if (l->over)
        end(l);
    else
        loop_fd_start(l->loop, &l->watch, l->from, LOOP_READ);
}

static void wait_for_room(struct lines *l)
{
    loop_fd_stop(l->loop, &l->watch);
    loop_fd_start(l->loop, &l->room, l->own >= 0 ? l->own : l->to, LOOP_WRITE);
}

static void finish(struct lines *l)
{
    loop_fd_stop(l->loop, &l->watch);
    l->over = true;
    if (!l->torn)
        out(l, l->part.data, l->part.size);
    buf_clear(&l->part);
    if (l->dropped && l->to >= 0 && !l->torn) {
        char text[96];
        int n = snprintf(text, sizeof text, "zpipe: %llu more bytes of stderr were left out\n",
                         (unsigned long long)l->dropped);
        put(l, text, (size_t)n);
    }
    if (l->given && !l->torn && !l->differs.code)
        given_end(l->given, &l->differs);
    if (l->waiting.size)
        wait_for_room(l);
    else
        end(l);
}

static void take(struct lines *l, const char *bytes, size_t n)
{
    const char *end = memrchr(bytes, '\n', n);
    size_t whole = end ? (size_t)(end - bytes) + 1 : 0;
    if (whole) {
        buf_add(&l->part, bytes, whole);
        out(l, l->part.data, l->part.size);
        buf_drop(&l->part, l->part.size);
    }
    if (l->part.size + (n - whole) > LINES_LINE_MAX) {
        out(l, l->part.data, l->part.size);
        buf_drop(&l->part, l->part.size);
    }
    buf_add(&l->part, bytes + whole, n - whole);
    if (l->waiting.size)
        wait_for_room(l);
}

void lines_answer(struct lines *l, bool well)
{
    if (!l->held.size)
        return;
    loop_fd_start(l->loop, &l->watch, l->from, LOOP_READ);
    if (well)
        take(l, l->held.data, l->held.size);
    buf_drop(&l->held, l->held.size);
}

static void readable(struct loop_fd *w, int events)
{
    (void)events;
    struct lines *l = w->owner;
    char bytes[16384];
    ssize_t n = read(l->from, bytes, sizeof bytes);
    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    l->fallen |= l->has_fallen && l->has_fallen(l);
    l->torn |= l->fallen;
    if (n <= 0)
        finish(l);
    if (n <= 0 || l->fallen)
        return;
    if (!l->asks || !l->asks(l)) {
        take(l, bytes, (size_t)n);
        return;
    }
    buf_add(&l->held, bytes, (size_t)n);
    loop_fd_stop(l->loop, &l->watch);
}

/* Opens a pipe or a terminal again, so that it can be non-blocking here without changing it for others; -1: it is something
 * else, or we may not open it. */
static int open_anew(int to)
{
    struct stat s;
    bool may = to >= 0 && fstat(to, &s) == 0 && (S_ISFIFO(s.st_mode) || S_ISCHR(s.st_mode));
    return may ? fd_reopen(to, O_WRONLY | O_NONBLOCK | O_NOCTTY) : -1;
}

void lines_start(struct lines *l, struct loop *loop, int from, int to, void (*ended)(struct lines *),
                 void *owner)
{
    *l = (struct lines){.loop = loop,
                        .from = from,
                        .to = to,
                        .own = open_anew(to),
                        .waiting = BUF_INIT(8 * LINES_LINE_MAX),
                        .held = BUF_INIT(LINES_LINE_MAX),
                        .part = BUF_INIT(2 * LINES_LINE_MAX),
                        .tail = BUF_INIT(2 * LINES_TAIL_MAX),
                        .ended = ended,
                        .owner = owner};
    l->watch.run = readable;
    l->watch.owner = l->room.owner = l;
    l->room.run = has_room;
    loop_fd_start(loop, &l->watch, from, LOOP_READ);
}

void lines_clear(struct lines *l)
{
    if (!l->loop)
        return;
    loop_fd_stop(l->loop, &l->watch);
    loop_fd_stop(l->loop, &l->room);
    fd_close(&l->from);
    fd_close(&l->own);
    buf_clear(&l->held);
    buf_clear(&l->part);
    buf_clear(&l->waiting);
    buf_clear(&l->tail);
    l->loop = NULL;
}
