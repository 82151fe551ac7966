/* See stream.h.  Credit is an absolute offset, so a credit or a piece of data that comes twice changes nothing.  A receiver
 * grants at most MSG_CREDIT_BYTES beyond what it consumed, and cannot have consumed more than was sent.  A larger credit is
 * refused; otherwise a hostile receiver could make the sender queue without end. */
#include "proto/stream.h"

#include "base/digest.h"
#include "base/given.h"

#include <inttypes.h>
#include <stdlib.h>

struct stream_sender {
    struct peer *peer;
    uint64_t link;
    struct stream_name name;
    const struct stream_sender_events *ev;
    void *owner;
    struct running_digest *digest;
    uint64_t sent, upto;
    bool ended, told;
};

struct stream_receiver {
    struct peer *peer;
    uint64_t link;
    struct stream_name name;
    const struct stream_receiver_events *ev;
    void *owner;
    struct running_digest *digest; /* of the bytes that the owner got */
    uint64_t got, consumed, granted;
    uint32_t ahead;
    bool ended, left;
    /* About the present sender, which may be a later one than the first: */
    struct running_digest *again; /* the digest of bytes that are dropped because they are here already; NULL: none are */
    uint64_t seen;
    bool over; /* nothing more is expected of the sender */
};

static int gone(struct err *e)
{
    return err_set(e, ERR_GONE, "the link is gone");
}

static int post(struct peer *p, uint64_t link, const struct msg *m, struct slice bulk, struct err *e)
{
    return p ? peer_send(p, link, m, bulk, e) : gone(e);
}

struct stream_sender *stream_sender_new(struct peer *p, uint64_t link,
                                        const struct stream_name *name,
                                        const struct stream_sender_events *ev, void *owner,
                                        struct err *e)
{
    struct stream_sender *s = calloc(1, sizeof *s);
    struct running_digest *d = running_digest_new();
    if (!s || !d) {
        free(s);
        running_digest_free(d);
        err_nomem(e);
        return NULL;
    }
    *s = (struct stream_sender){
        .peer = p, .link = link, .name = *name, .ev = ev, .owner = owner, .digest = d};
    return s;
}

uint64_t stream_sender_window(const struct stream_sender *s)
{
    return s->ended ? 0 : s->upto - s->sent;
}

static struct msg data_message(const struct stream_sender *s)
{
    return (struct msg){.type = MSG_DATA,
                        .data = {.job = s->name.job,
                                 .attempt = s->name.attempt,
                                 .what = s->name.what,
                                 .index = s->name.index,
                                 .node = s->name.node,
                                 .offset = s->sent,
                                 .digest = {"", 0}}};
}

/* Begin a frame.  Its bytes are added to the digest before they are sent, as the library may have freed them afterwards.
 * If a frame cannot be sent the stream ends with it. */
static int begin_frame(struct stream_sender *s, const void *data, size_t size, struct msg *m, struct err *e)
{
    if (size > MSG_DATA_BYTES || size > stream_sender_window(s))
        return err_set(e, ERR_BUG, "a stream was sent %zu bytes with a window of %" PRIu64, size,
                       stream_sender_window(s));
    *m = data_message(s);
    running_digest_add(s->digest, data, size);
    s->sent += size;
    return 0;
}

int stream_send(struct stream_sender *s, const void *data, size_t size, struct err *e)
{
    struct msg m;
    if (begin_frame(s, data, size, &m, e) < 0)
        return -1;
    return post(s->peer, s->link, &m, (struct slice){data, size}, e);
}

int stream_give(struct stream_sender *s, void *data, size_t size, struct err *e)
{
    struct msg m;
    if (begin_frame(s, data, size, &m, e) == 0 && s->peer)
        return peer_give(s->peer, s->link, &m, data, size, e);
    free(data);
    return s->peer ? -1 : gone(e);
}

int stream_send_end(struct stream_sender *s, bool failed, struct err *e)
{
    uint8_t digest[16];
    struct msg m = data_message(s);
    running_digest_look(s->digest, digest);
    m.data.flags = failed ? MSG_DATA_FAILED : MSG_DATA_END;
    m.data.digest = (struct slice){digest, sizeof digest};
    s->ended = true;
    return post(s->peer, s->link, &m, (struct slice){"", 0}, e);
}

int stream_sender_message(struct stream_sender *s, const struct msg *m, struct err *e)
{
    if (m->type == MSG_LEAVE) {
        void (*what)(void *owner) = s->ended ? s->ev->arrived : s->ev->left;
        bool first = !s->told;
        s->ended = s->told = true;
        if (first && what)
            what(s->owner);
        return 0;
    }
    if (m->type != MSG_CREDIT)
        return err_set(e, ERR_PROTO, "the sending side of a stream got %s", msg_name(m->type));
    if (m->credit.upto_bytes > s->sent + MSG_CREDIT_BYTES)
        return err_set(e, ERR_PROTO,
                       "a stream got credit up to byte %" PRIu64 " when %" PRIu64 " were sent",
                       m->credit.upto_bytes, s->sent);
    if (m->credit.upto_bytes > s->upto &&
        !s->ended) { /* an older credit may come late; it changes nothing */
        bool dry = s->upto == s->sent;
        s->upto = m->credit.upto_bytes;
        if (dry)
            s->ev->writable(s->owner);
    }
    return 0;
}

void stream_sender_cut(struct stream_sender *s)
{
    s->peer = NULL;
}

uint64_t stream_sender_bytes(const struct stream_sender *s)
{
    return s->sent;
}

void stream_sender_free(struct stream_sender *s)
{
    if (!s)
        return;
    running_digest_free(s->digest);
    free(s);
}

struct stream_receiver *stream_receiver_new(struct peer *p, uint64_t link,
                                            const struct stream_name *name,
                                            const struct stream_receiver_events *ev, void *owner,
                                            struct err *e)
{
    struct stream_receiver *r = calloc(1, sizeof *r);
    struct running_digest *d = running_digest_new();
    if (!r || !d) {
        free(r);
        running_digest_free(d);
        err_nomem(e);
        return NULL;
    }
    *r = (struct stream_receiver){.peer = p,
                                  .link = link,
                                  .name = *name,
                                  .ev = ev,
                                  .owner = owner,
                                  .digest = d,
                                  .ahead = MSG_CREDIT_BYTES};
    return r;
}

void stream_receiver_ahead(struct stream_receiver *r, uint32_t bytes)
{
    r->ahead = bytes < 1 ? 1 : bytes < MSG_CREDIT_BYTES ? bytes : MSG_CREDIT_BYTES;
}

/* The offset up to which the sender may send.  Bytes that will only be dropped need no room: for them the credit runs ahead
 * of what has come; for others, ahead of what was consumed. */
static uint64_t limit(const struct stream_receiver *r)
{
    uint64_t most = (r->ended ? r->got : r->consumed) + r->ahead;
    if (!r->again)
        return most;
    most = most > r->got ? most : r->got;
    return r->seen + r->ahead < most ? r->seen + r->ahead : most;
}

static int grant(struct stream_receiver *r, struct err *e)
{
    r->granted = limit(r);
    struct msg m = {.type = MSG_CREDIT,
                    .credit = {r->name.job, r->name.attempt, r->name.what, r->name.index,
                               r->name.node, r->granted}};
    return post(r->peer, r->link, &m, (struct slice){"", 0}, e);
}

/* Grant half a window at a time, or there would be as many credit messages as frames. */
static int grant_more(struct stream_receiver *r, struct err *e)
{
    uint64_t upto = limit(r);
    if (r->over || upto <= r->granted || upto - r->granted < (r->ahead + 1) / 2)
        return 0;
    return grant(r, e);
}

static int say_leave(struct stream_receiver *r, struct err *e)
{
    r->over = true;
    struct msg m = {
        .type = MSG_LEAVE,
        .leave = {r->name.job, r->name.attempt, r->name.what, r->name.index, r->name.node, r->got}};
    return post(r->peer, r->link, &m, (struct slice){"", 0}, e);
}

int stream_receiver_start(struct stream_receiver *r, struct err *e)
{
    return r->left && !r->again ? say_leave(r, e) : grant(r, e);
}

int stream_receiver_again(struct stream_receiver *r, struct peer *p, uint64_t link,
                          const struct stream_name *name, struct err *e)
{
    running_digest_free(r->again);
    r->again = NULL;
    if (r->got && !(r->again = running_digest_new()))
        return err_nomem(e);
    r->peer = p;
    r->link = link;
    r->name = *name;
    r->seen = r->granted = 0;
    r->over = false;
    return stream_receiver_start(r, e);
}

static int differs(const struct stream_receiver *r, struct err *e)
{
    return err_set(e, ERR_PROTO,
                   "what it wrote the second time is not the %" PRIu64 " bytes that it had written before, which were given away: " GIVEN_DIFFERS,
                   r->got);
}

static struct slice behind(struct slice bytes, size_t count)
{
    return (struct slice){(const char *)bytes.data + count, bytes.size - count};
}

static bool same_digest(const struct running_digest *a, const struct running_digest *b)
{
    uint8_t x[16], y[16];
    running_digest_look(a, x);
    running_digest_look(b, y);
    return !memcmp(x, y, sizeof x);
}

/* Compare and drop the bytes that are here already; new ones stay in `bytes`. */
static int drop(struct stream_receiver *r, struct slice *bytes, struct err *e)
{
    uint64_t left = r->got - r->seen;
    size_t size = bytes->size < left ? bytes->size : (size_t)left;
    running_digest_add(r->again, bytes->data, size);
    r->seen += size;
    *bytes = behind(*bytes, size);
    if (r->seen == r->got) {
        bool same = same_digest(r->again, r->digest);
        running_digest_free(r->again);
        r->again = NULL;
        if (!same)
            return differs(r, e);
        if (r->left)
            return say_leave(r, e);
    }
    return grant_more(r, e);
}

static int take(struct stream_receiver *r, uint64_t offset, struct slice bytes, struct err *e)
{
    if (offset > r->seen)
        return err_set(e, ERR_PROTO, "a stream has a gap: byte %" PRIu64 " came after %" PRIu64,
                       offset, r->seen);
    if (bytes.size > MSG_DATA_BYTES || bytes.size > r->granted || offset > r->granted - bytes.size)
        return err_set(e, ERR_PROTO, "a stream sent more than its credit");
    if (r->seen - offset >= bytes.size)
        return 0; /* it came a second time */
    bytes = behind(bytes, (size_t)(r->seen - offset));
    if (r->again && drop(r, &bytes, e) < 0)
        return -1;
    if (!bytes.size || r->over)
        return 0;
    if (r->ended)
        return differs(r, e);
    running_digest_add(r->digest, bytes.data, bytes.size);
    r->seen += bytes.size;
    r->got += bytes.size;
    r->ev->data(r->owner, bytes);
    return 0;
}

static int take_end(struct stream_receiver *r, uint64_t size, struct slice digest, struct err *e)
{
    uint8_t own[16];
    if (r->again && r->seen < r->got)
        return differs(r, e);
    running_digest_look(r->digest, own);
    if (size != r->got || digest.size != sizeof own || memcmp(digest.data, own, sizeof own) != 0)
        return err_set(e, ERR_PROTO,
                       "a stream's bytes are not those that were sent: %" PRIu64 " of %" PRIu64
                       " arrived",
                       r->got, size);
    return say_leave(r, e);
}

int stream_receiver_message(struct stream_receiver *r, const struct msg *m, struct slice bulk,
                            struct err *e)
{
    struct err gone;
    if (m->type != MSG_DATA)
        return err_set(e, ERR_PROTO, "the receiving side of a stream got %s", msg_name(m->type));
    if (r->over)
        return 0;
    if (bulk.size && take(r, m->data.offset, bulk, e) < 0)
        return -1;
    if (r->over || !(m->data.flags & (MSG_DATA_END | MSG_DATA_FAILED)))
        return 0;
    bool failed = m->data.flags & MSG_DATA_FAILED, before = r->ended;
    if (!failed && take_end(r, m->data.offset + bulk.size, m->data.digest, &gone) < 0 &&
        gone.code != ERR_GONE) { /* all has come, even if the other side is not there to be told */
        *e = gone;
        return -1;
    }
    r->over = true;
    r->ended |= !failed;
    if (!before)
        r->ev->end(r->owner, failed);
    return 0;
}

int stream_consumed(struct stream_receiver *r, size_t size, struct err *e)
{
    r->consumed += size;
    return grant_more(r, e);
}

int stream_leave(struct stream_receiver *r, struct err *e)
{
    if (r->left || r->ended)
        return 0;
    r->left = true;
    return r->again ? 0 : say_leave(r, e); /* leave at the same byte as before, so that the writer ends as it did */
}

void stream_receiver_cut(struct stream_receiver *r)
{
    r->peer = NULL;
}

bool stream_receiver_over(const struct stream_receiver *r)
{
    return r->over;
}

uint64_t stream_receiver_bytes(const struct stream_receiver *r)
{
    return r->got;
}

void stream_receiver_free(struct stream_receiver *r)
{
    if (!r)
        return;
    running_digest_free(r->digest);
    running_digest_free(r->again);
    free(r);
}
