/* See carry.h.  A message that cannot be sent because the link is gone is no failure: the owner of the link is told of its
 * end, and the stream begins again or is given up.  A carry watches its descriptor only while the stream can go on: `out`
 * while there is credit, `in` while bytes wait to be written.  So neither a slow reader nor a slow link costs anything, and
 * at most MSG_CREDIT_BYTES are held. */
#include "proto/carry.h"

#include "base/fds.h"

#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

struct carry {
    struct loop *loop;
    struct stream_name name;
    const struct carry_events *ev;
    void *owner;
    struct loop_fd watch;
    bool ended;
    bool bound;
    bool hold_end, at_end; /* at_end: there is nothing more to read, or no reader any more */
    /* out */
    int *fd; /* owned; out: read in order; in: fd[0] is written */
    size_t fd_count, fd_at;
    struct carry_bytes held; /* read instead of fd[0]; `read` NULL: not used */
    struct stream_sender *sender;
    /* in */
    struct stream_receiver *receiver;
    struct buf wait; /* bytes that are not written yet, from wait_at on */
    size_t wait_at;
    uint64_t expected; /* how many bytes must come; UINT64_MAX: any number */
    bool all_here;
    bool compare; /* it had ended before: what comes again is only compared */
    bool declined;
};

bool stream_name_equal(const struct stream_name *a, const struct stream_name *b)
{
    return a->job == b->job && a->attempt == b->attempt && a->what == b->what &&
           a->index == b->index && a->node == b->node;
}

bool carry_message_name(const struct msg *m, struct stream_name *out)
{
#define NAME_OF(field)                                                                             \
    *out = (struct stream_name){m->field.job, m->field.attempt, m->field.what, m->field.index,     \
                                m->field.node};                                                    \
    return true
    switch (m->type) {
    case MSG_ATTACH:
        NAME_OF(attach);
    case MSG_CREDIT:
        NAME_OF(credit);
    case MSG_DATA:
        NAME_OF(data);
    case MSG_LEAVE:
        NAME_OF(leave);
    default:
        return false;
    }
#undef NAME_OF
}

static void finish(struct carry *c, enum carry_end end, const struct err *why)
{
    if (c->ended)
        return;
    c->ended = true;
    loop_fd_stop(c->loop, &c->watch);
    c->ev->ended(c->owner, c, end, why);
}

/* Judge the result of sending.  0: go on; -1: the carry has failed; 1: the link is gone, and nothing can be done now. */
static int said(struct carry *c, int r, const struct err *e)
{
    if (r == 0 || e->code == ERR_GONE)
        return r == 0 ? 0 : 1;
    finish(c, CARRY_FAILED, e);
    return -1;
}

/* ---- out */

static void out_fail(struct carry *c, struct err *e)
{
    stream_send_end(c->sender, true, NULL);
    finish(c, CARRY_FAILED, e);
}

/* Like read(2), with the error in e. */
static ssize_t out_read(struct carry *c, void *to, size_t size, struct err *e)
{
    if (!c->held.read) {
        ssize_t n = read(c->fd[c->fd_at], to, size);
        return n < 0 ? err_sys(e, "cannot read") : n;
    }
    uint64_t at = stream_sender_bytes(c->sender), left = c->held.size - at;
    size = left < size ? (size_t)left : size;
    return size && c->held.read(c->held.owner, at, to, size, e) < 0 ? -1 : (ssize_t)size;
}

/* The present descriptor has ended; go on to the next. */
static void out_next(struct carry *c)
{
    struct err e;
    loop_fd_stop(c->loop, &c->watch);
    if (c->fd_at + 1 < c->fd_count) {
        fd_close(&c->fd[c->fd_at++]);
        loop_fd_start(c->loop, &c->watch, c->fd[c->fd_at], LOOP_READ);
        return;
    }
    c->at_end = true;
    if (!c->hold_end)
        said(c, stream_send_end(c->sender, false, &e), &e);
}

/* Send a frame.  Its buffer is given to the socket, so the bytes are not copied. */
static void out_readable(struct loop_fd *w, int events)
{
    (void)events;
    struct carry *c = w->owner;
    struct err e;
    uint64_t window = stream_sender_window(c->sender);
    if (!window) {
        loop_fd_stop(c->loop, &c->watch);
        return;
    }
    size_t want = window < MSG_DATA_BYTES ? (size_t)window : MSG_DATA_BYTES;
    char *bytes = malloc(want);
    ssize_t n = bytes ? out_read(c, bytes, want, &e) : err_nomem(&e);
    bool wait = n < 0 && bytes && !c->held.read && (errno == EAGAIN || errno == EINTR);
    if (n >= 0 && c->ev->was_read)
        c->ev->was_read(c->owner, c, c->fd_at, bytes, (size_t)n);
    if (n <= 0)
        free(bytes);
    if (wait)
        return;
    if (n < 0) {
        out_fail(c, &e);
    } else if (n == 0) {
        out_next(c);
    } else {
        char *less = (size_t)n < want ? realloc(bytes, (size_t)n) : NULL;
        if (said(c, stream_give(c->sender, less ? less : bytes, (size_t)n, &e), &e))
            loop_fd_stop(c->loop, &c->watch);
    }
}

void carry_hold_end(struct carry *c)
{
    c->hold_end = true;
}

int carry_allow_end(struct carry *c, struct err *e)
{
    bool held = c->hold_end && c->at_end && !c->ended;
    c->hold_end = false;
    if (held && c->receiver) {
        c->at_end = false;
        loop_fd_start(c->loop, &c->watch, c->fd[0], LOOP_WRITE); /* writing will fail again, and tell */
        return 0;
    }
    int r = held ? stream_send_end(c->sender, false, e) : 0;
    return r < 0 && e->code != ERR_GONE ? -1 : 0;
}

static void out_arrived(void *owner)
{
    finish(owner, CARRY_DONE, NULL);
}

static void out_writable(void *owner)
{
    struct carry *c = owner;
    if (!c->ended && !c->at_end)
        loop_fd_start(c->loop, &c->watch, c->fd[c->fd_at], LOOP_READ);
}

static void out_left(void *owner)
{
    finish(owner, CARRY_LEFT, NULL);
}

/* ---- in */

static void in_progress(struct carry *c)
{
    bool written = c->all_here && c->wait.size == 0;
    c->compare |= written && !stream_receiver_over(c->receiver); /* the stream has begun again meanwhile, and its writer needs credit */
    if (written && !c->compare)
        finish(c, CARRY_DONE, NULL);
    else if (c->wait.size && !c->ended && !c->at_end)
        loop_fd_start(c->loop, &c->watch, c->fd[0], LOOP_WRITE);
    else
        loop_fd_stop(c->loop, &c->watch);
}

/* Write; returns how many bytes were written; -1: the carry has ended. */
static ssize_t in_write(struct carry *c, const char *data, size_t size)
{
    struct err e;
    ssize_t n = write(c->fd[0], data, size);
    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return 0;
    if (n < 0 && (errno == EPIPE || errno == ECONNRESET) && c->hold_end) {
        c->at_end = true;
        loop_fd_stop(c->loop, &c->watch);
        return 0;
    }
    if (n < 0 && (errno == EPIPE || errno == ECONNRESET)) {
        if (said(c, stream_leave(c->receiver, &e), &e) >= 0) /* if it were not told, the writer would write for ever */
            finish(c, CARRY_LEFT, NULL);
        return -1;
    }
    if (n < 0) {
        err_sys(&e, "cannot write");
        stream_leave(c->receiver, NULL);
        finish(c, CARRY_FAILED, &e);
        return -1;
    }
    return c->all_here || said(c, stream_consumed(c->receiver, (size_t)n, &e), &e) >= 0 ? n : -1;
}

static void in_writable(struct loop_fd *w, int events)
{
    (void)events;
    struct carry *c = w->owner;
    ssize_t n = in_write(c, c->wait.data + c->wait_at, c->wait.size - c->wait_at);
    if (n <= 0)
        return;
    c->wait_at += (size_t)n;
    if (c->wait_at > c->wait.size / 2) { /* so that each byte is moved at most once, on average */
        buf_drop(&c->wait, c->wait_at);
        c->wait_at = 0;
    }
    in_progress(c);
}

static void in_data(void *owner, struct slice bytes)
{
    struct carry *c = owner;
    struct err e;
    if (c->ended)
        return;
    if (stream_receiver_bytes(c->receiver) > c->expected) {
        err_set(&e, ERR_PROTO, "a stream has more bytes than were announced");
        finish(c, CARRY_FAILED, &e);
        return;
    }
    if (c->fd[0] < 0) {
        said(c, stream_consumed(c->receiver, bytes.size, &e), &e);
        return;
    }
    ssize_t n = c->wait.size ? 0 : in_write(c, bytes.data, bytes.size); /* what can be written at once is not copied */
    if (n < 0)
        return;
    buf_add(&c->wait, (const char *)bytes.data + n, bytes.size - (size_t)n);
    if (c->wait.failed) {
        err_set(&e, ERR_NOMEM, "no memory for the bytes of a stream");
        finish(c, CARRY_FAILED, &e);
        return;
    }
    in_progress(c);
}

/* The stream ended.  If the other side failed it tells the reason where something can be done about it, so it is not
 * repeated here. */
static void in_end(void *owner, bool failed)
{
    struct carry *c = owner;
    if (failed)
        return;
    struct err e;
    if (c->expected != UINT64_MAX && stream_receiver_bytes(c->receiver) < c->expected) {
        err_set(&e, ERR_PROTO, "a stream has fewer bytes than were announced");
        finish(c, CARRY_FAILED, &e);
        return;
    }
    c->all_here = true;
    in_progress(c);
}

/* ---- both */

static struct carry *carry_new(struct loop *l, const int *fds, size_t count,
                               const struct stream_name *name, const struct carry_events *ev,
                               void *owner, struct err *e)
{
    struct carry *c = calloc(1, sizeof *c);
    int *copy = malloc(count * sizeof *copy + 1);
    if (!c || !copy) {
        free(c);
        free(copy);
        for (size_t i = 0; i < count; i++)
            if (fds[i] >= 0)
                close(fds[i]);
        err_nomem(e);
        return NULL;
    }
    memcpy(copy, fds, count * sizeof *copy);
    *c = (struct carry){.loop = l,
                        .name = *name,
                        .ev = ev,
                        .owner = owner,
                        .fd = copy,
                        .fd_count = count,
                        .expected = UINT64_MAX,
                        .wait = BUF_INIT(2 * MSG_CREDIT_BYTES)};
    c->watch.owner = c;
    return c;
}

struct carry *carry_out(struct loop *l, const int *fds, size_t count,
                        const struct stream_name *name, const struct carry_events *ev, void *owner,
                        struct err *e)
{
    if (!count) {
        err_set(e, ERR_BUG, "nothing to carry");
        return NULL;
    }
    struct carry *c = carry_new(l, fds, count, name, ev, owner, e);
    if (c)
        c->watch.run = out_readable;
    return c;
}

int carry_append(struct carry *c, int fd, struct err *e)
{
    int *grown = realloc(c->fd, (c->fd_count + 1) * sizeof *grown);
    if (!grown) {
        close(fd);
        return err_nomem(e);
    }
    c->fd = grown;
    c->fd[c->fd_count++] = fd;
    if (c->at_end) { /* and that was not told yet */
        c->at_end = false;
        fd_close(&c->fd[c->fd_at++]);
        if (c->bound)
            out_writable(c);
    }
    return 0;
}

struct carry *carry_out_bytes(struct loop *l, int fd, const struct carry_bytes *bytes,
                              const struct stream_name *name, const struct carry_events *ev,
                              void *owner, struct err *e)
{
    struct carry *c = carry_out(l, &fd, 1, name, ev, owner, e);
    if (c)
        c->held = *bytes;
    return c;
}

void carry_decline(struct carry *c)
{
    c->declined = true;
}

void carry_expect(struct carry *c, uint64_t bytes)
{
    c->expected = bytes;
}

struct carry *carry_in(struct loop *l, int fd, const struct stream_name *name,
                       const struct carry_events *ev, void *owner, struct err *e)
{
    struct carry *c = carry_new(l, &fd, 1, name, ev, owner, e);
    if (c)
        c->watch.run = in_writable;
    return c;
}

int carry_bind(struct carry *c, struct peer *p, uint64_t link, struct err *e)
{
    static const struct stream_sender_events sender_events = {out_writable, out_left, out_arrived};
    static const struct stream_receiver_events receiver_events = {in_data, in_end};
    if (c->bound)
        return err_set(e, ERR_PROTO, "a stream was attached twice");
    if (!carry_is_in(c)) {
        c->sender = stream_sender_new(p, link, &c->name, &sender_events, c, e);
        if (!c->sender)
            return -1;
        c->bound = true;
        if (stream_sender_window(c->sender))
            out_writable(c);
        return 0;
    }
    c->receiver = stream_receiver_new(p, link, &c->name, &receiver_events, c, e);
    if (!c->receiver)
        return -1;
    c->bound = true;
    if (!c->declined)
        return stream_receiver_start(c->receiver, e);
    if (stream_leave(c->receiver, e) < 0)
        return -1;
    finish(c, CARRY_LEFT, NULL);
    return 0;
}

static void compared(struct carry *c)
{
    if (c->compare && stream_receiver_over(c->receiver))
        finish(c, CARRY_DONE, NULL);
}

int carry_again(struct carry *c, struct peer *p, uint64_t link, const struct stream_name *name,
                struct err *e)
{
    c->name = *name;
    if (!c->bound)
        return carry_bind(c, p, link, e);
    if (!c->receiver)
        return err_set(e, ERR_BUG, "a stream that was sent was begun anew");
    c->compare |= c->ended;
    c->ended = false;
    if (stream_receiver_again(c->receiver, p, link, name, e) < 0)
        return -1;
    compared(c);
    return 0;
}

bool carry_bound(const struct carry *c)
{
    return c->bound;
}

void carry_cut(struct carry *c)
{
    if (c->sender)
        stream_sender_cut(c->sender);
    if (c->receiver)
        stream_receiver_cut(c->receiver);
}

void carry_message(struct carry *c, const struct msg *m, struct slice bulk)
{
    struct err e;
    if (!c->bound || c->ended)
        return;
    int r = c->sender ? stream_sender_message(c->sender, m, &e)
                      : stream_receiver_message(c->receiver, m, bulk, &e);
    if (r < 0 && e.code != ERR_GONE)
        finish(c, CARRY_FAILED, &e);
    else if (c->receiver)
        compared(c);
}

const struct stream_name *carry_name(const struct carry *c)
{
    return &c->name;
}

uint64_t carry_bytes(const struct carry *c)
{
    return c->sender     ? stream_sender_bytes(c->sender)
           : c->receiver ? stream_receiver_bytes(c->receiver)
                         : 0;
}

bool carry_is_in(const struct carry *c)
{
    return c->watch.run == in_writable;
}

void carry_rest(struct carry *c)
{
    loop_fd_stop(c->loop, &c->watch);
    for (; c->fd_at < c->fd_count; c->fd_at++)
        fd_close(&c->fd[c->fd_at]);
    buf_clear(&c->wait);
}

void carry_free(struct carry *c)
{
    if (!c)
        return;
    carry_rest(c);
    stream_sender_free(c->sender);
    stream_receiver_free(c->receiver);
    free(c->fd);
    free(c);
}
