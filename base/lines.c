/* See lines.h. */
#include "base/lines.h"

#include "base/fds.h"

#include <errno.h>
#include <stdio.h>
#include <unistd.h>

static void put(struct lines *l, const char *data, size_t size)
{
    struct slice s = {data, size};
    if (l->differs.code || (l->given && given_drop(l->given, &s, &l->differs) < 0))
        return;
    if (l->to >= 0 && s.size)
        fd_write_all(l->to, s.data, s.size); /* a closed stderr is nobody's failure, as in sh */
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

static void finish(struct lines *l)
{
    loop_fd_stop(l->loop, &l->watch);
    fd_close(&l->from);
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
    l->ended(l);
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
    const char *end = memrchr(bytes, '\n', (size_t)n);
    size_t whole = end ? (size_t)(end - bytes) + 1 : 0;
    if (whole) {
        buf_add(&l->part, bytes, whole);
        out(l, l->part.data, l->part.size);
        buf_drop(&l->part, l->part.size);
    }
    if (l->part.size + ((size_t)n - whole) > LINES_LINE_MAX) {
        out(l, l->part.data, l->part.size);
        buf_drop(&l->part, l->part.size);
    }
    buf_add(&l->part, bytes + whole, (size_t)n - whole);
}

void lines_start(struct lines *l, struct loop *loop, int from, int to, void (*ended)(struct lines *),
                 void *owner)
{
    *l = (struct lines){.loop = loop,
                        .from = from,
                        .to = to,
                        .part = BUF_INIT(2 * LINES_LINE_MAX),
                        .tail = BUF_INIT(2 * LINES_TAIL_MAX),
                        .ended = ended,
                        .owner = owner};
    l->watch.run = readable;
    l->watch.owner = l;
    loop_fd_start(loop, &l->watch, from, LOOP_READ);
}

void lines_clear(struct lines *l)
{
    if (!l->loop)
        return;
    loop_fd_stop(l->loop, &l->watch);
    fd_close(&l->from);
    buf_clear(&l->part);
    buf_clear(&l->tail);
    l->loop = NULL;
}
