/* See stream.h.  Credit is an absolute offset, so a credit or a piece of data that comes twice
 * changes nothing.  A receiver grants at most MSG_CREDIT_BYTES beyond what it consumed and can have
 * consumed no more than was sent: a larger credit is refused, or a hostile receiver would make the
 * sender queue without end. */
#include "proto/stream.h"

#include "base/digest.h"

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
    bool ended;
};

struct stream_receiver {
    struct peer *peer;
    uint64_t link;
    struct stream_name name;
    const struct stream_receiver_events *ev;
    void *owner;
    struct running_digest *digest;
    uint64_t got, consumed, granted;
    uint32_t ahead;
    bool ended, left;
};

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

int stream_send(struct stream_sender *s, const void *data, size_t size, struct err *e)
{
    if (size > MSG_DATA_BYTES || size > stream_sender_window(s))
        return err_set(e, ERR_BUG, "a stream was sent %zu bytes with a window of %" PRIu64, size,
                       stream_sender_window(s));
    struct msg m = data_message(s);
    if (peer_send(s->peer, s->link, &m, (struct slice){data, size}, e) < 0)
        return -1;
    running_digest_add(s->digest, data, size);
    s->sent += size;
    return 0;
}

int stream_send_end(struct stream_sender *s, bool failed, struct err *e)
{
    uint8_t digest[16];
    struct msg m = data_message(s);
    running_digest_look(s->digest, digest);
    m.data.flags = failed ? MSG_DATA_FAILED : MSG_DATA_END;
    m.data.digest = (struct slice){digest, sizeof digest};
    s->ended = true;
    return peer_send(s->peer, s->link, &m, (struct slice){"", 0}, e);
}

int stream_sender_message(struct stream_sender *s, const struct msg *m, struct err *e)
{
    if (m->type == MSG_LEAVE) {
        if (!s->ended) {
            s->ended = true;
            s->ev->left(s->owner);
        }
        return 0;
    }
    if (m->type != MSG_CREDIT)
        return err_set(e, ERR_PROTO, "the sending side of a stream got %s", msg_name(m->type));
    if (m->credit.upto_bytes > s->sent + MSG_CREDIT_BYTES)
        return err_set(e, ERR_PROTO,
                       "a stream got credit up to byte %" PRIu64 " when %" PRIu64 " were sent",
                       m->credit.upto_bytes, s->sent);
    if (m->credit.upto_bytes > s->upto &&
        !s->ended) { /* an older credit that comes late changes nothing */
        bool dry = s->upto == s->sent;
        s->upto = m->credit.upto_bytes;
        if (dry)
            s->ev->writable(s->owner);
    }
    return 0;
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

static int grant(struct stream_receiver *r, struct err *e)
{
    r->granted = r->consumed + r->ahead;
    struct msg m = {.type = MSG_CREDIT,
                    .credit = {r->name.job, r->name.attempt, r->name.what, r->name.index,
                               r->name.node, r->granted}};
    return peer_send(r->peer, r->link, &m, (struct slice){"", 0}, e);
}

int stream_receiver_start(struct stream_receiver *r, struct err *e)
{
    return grant(r, e);
}

static int take(struct stream_receiver *r, uint64_t offset, struct slice bytes, struct err *e)
{
    if (offset > r->got)
        return err_set(e, ERR_PROTO, "a stream has a gap: byte %" PRIu64 " came after %" PRIu64,
                       offset, r->got);
    if (bytes.size > MSG_DATA_BYTES || bytes.size > r->granted || offset > r->granted - bytes.size)
        return err_set(e, ERR_PROTO, "a stream sent more than its credit");
    uint64_t have = r->got - offset; /* a replayed attempt: drop what is already here */
    if (have >= bytes.size)
        return 0;
    bytes.data = (const char *)bytes.data + have;
    bytes.size -= (size_t)have;
    running_digest_add(r->digest, bytes.data, bytes.size);
    r->got += bytes.size;
    r->ev->data(r->owner, bytes);
    return 0;
}

int stream_receiver_message(struct stream_receiver *r, const struct msg *m, struct slice bulk,
                            struct err *e)
{
    if (m->type != MSG_DATA)
        return err_set(e, ERR_PROTO, "the receiving side of a stream got %s", msg_name(m->type));
    if (r->ended || r->left)
        return 0;
    if (bulk.size && take(r, m->data.offset, bulk, e) < 0)
        return -1;
    if (r->left || !(m->data.flags & (MSG_DATA_END | MSG_DATA_FAILED)))
        return 0;
    bool failed = m->data.flags & MSG_DATA_FAILED;
    uint8_t digest[16];
    running_digest_look(r->digest, digest);
    if (!failed && (m->data.offset + bulk.size != r->got || m->data.digest.size != sizeof digest ||
                    memcmp(m->data.digest.data, digest, sizeof digest) != 0))
        return err_set(e, ERR_PROTO,
                       "a stream's bytes are not those that were sent: %" PRIu64 " of %" PRIu64
                       " arrived",
                       r->got, m->data.offset + bulk.size);
    r->ended = true;
    r->ev->end(r->owner, failed);
    return 0;
}

int stream_consumed(struct stream_receiver *r, size_t size, struct err *e)
{
    r->consumed += size;
    /* Half a window at a time: a credit message per frame would be as many messages as frames. */
    if (!r->ended && !r->left && r->consumed + r->ahead - r->granted >= (r->ahead + 1) / 2)
        return grant(r, e);
    return 0;
}

int stream_leave(struct stream_receiver *r, struct err *e)
{
    if (r->left || r->ended)
        return 0;
    r->left = true;
    struct msg m = {
        .type = MSG_LEAVE,
        .leave = {r->name.job, r->name.attempt, r->name.what, r->name.index, r->name.node, r->got}};
    return peer_send(r->peer, r->link, &m, (struct slice){"", 0}, e);
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
    free(r);
}
