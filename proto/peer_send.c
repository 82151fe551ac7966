/* Sends messages, each as a whole.  Bytes for links that do not read are counted, and messages of a session are kept. */
#include "proto/peer_inside.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define UNREAD_FRAME_MIN 256 /* smaller frames are not counted: PEER_QUEUE_MAX bounds them */

struct crate { /* the bytes of a frame, counted until they are sent */
    struct unread *of;
    size_t size;
    char data[];
};

struct unread *unread_new(struct unread *all)
{
    struct unread *u = calloc(1, sizeof *u);
    if (u) {
        u->users = 1;
        u->all = all;
        if (all)
            all->users++;
    }
    return u;
}

void unread_leave(struct unread *u)
{
    while (u && --u->users == 0) {
        struct unread *all = u->all;
        free(u);
        u = all;
    }
}

/* Called by the library's thread when it has sent the frame, or given it up. */
static void crate_sent(void *data, void *hint)
{
    (void)data;
    struct crate *c = hint;
    struct unread *of = c->of;
    of->bytes -= c->size;
    of->all->bytes -= c->size;
    free(c);
    unread_leave(of);
}

static struct crate *crate_new(struct unread *of, const void *data, size_t size)
{
    struct crate *c = malloc(sizeof *c + size);
    if (!c)
        return NULL;
    c->of = of;
    c->size = size;
    memcpy(c->data, data, size);
    of->users++;
    of->bytes += size;
    of->all->bytes += size;
    return c;
}

/* A message to be sent, without the routing id. */
struct parcel {
    zmq_msg_t frame[2];
    int count;
};

/* Add a frame with a copy of the data; `of` NULL: its bytes are not counted. */
static int parcel_add(struct parcel *c, const void *data, size_t size, struct unread *of)
{
    struct crate *crate = of && size >= UNREAD_FRAME_MIN ? crate_new(of, data, size) : NULL;
    if (crate && zmq_msg_init_data(&c->frame[c->count], crate->data, size, crate_sent, crate) < 0) {
        crate_sent(crate->data, crate);
        return -1;
    }
    if (crate) {
        c->count++;
        return 0;
    }
    if (of && size >= UNREAD_FRAME_MIN)
        return -1;
    if (zmq_msg_init_size(&c->frame[c->count], size) < 0)
        return -1;
    if (size)
        memcpy(zmq_msg_data(&c->frame[c->count]), data, size);
    c->count++;
    return 0;
}

/* All frames exist before the first is sent, so a message is sent whole or not at all: if the library takes the first frame
 * it takes the rest. */
static int parcel_send(struct parcel *c, const struct peer *p, uint64_t route)
{
    uint8_t id[ROUTING_SIZE] = {0, (uint8_t)(route >> 24), (uint8_t)(route >> 16), (uint8_t)(route >> 8), (uint8_t)route};
    if (p->server && zmq_send(p->socket, id, sizeof id, ZMQ_DONTWAIT | ZMQ_SNDMORE) < 0)
        return -1;
    int at = 0;
    while (at < c->count && zmq_msg_send(&c->frame[at], p->socket,
                                         ZMQ_DONTWAIT | (at + 1 < c->count ? ZMQ_SNDMORE : 0)) >= 0)
        at++;
    return at == c->count ? 0 : -1;
}

static void parcel_close(struct parcel *c)
{
    for (int i = 0; i < c->count; i++)
        zmq_msg_close(&c->frame[i]); /* frames that were sent are empty now */
}

static void release(void *data, void *hint)
{
    (void)hint;
    free(data);
}

/* Add a frame with the data itself, which the library's thread frees. */
static int parcel_give(struct parcel *c, void *data, size_t size)
{
    if (zmq_msg_init_data(&c->frame[c->count], data, size, release, NULL) < 0) {
        free(data);
        return -1;
    }
    c->count++;
    return 0;
}

static int parcel_fill(struct parcel *c, const struct msg *m, struct unread *of, struct err *e)
{
    struct buf first = BUF_INIT(MSG_BYTES_MAX);
    int r = msg_encode(m, &first, e);
    if (r == 0 && parcel_add(c, first.data, first.size, of) < 0)
        r = err_nomem(e);
    buf_clear(&first);
    return r;
}

void peer_send_now(struct peer *p, uint64_t route, const struct msg *m)
{
    struct parcel c = {.count = 0};
    if (parcel_fill(&c, m, NULL, NULL) == 0)
        parcel_send(&c, p, route);
    parcel_close(&c);
}

void peer_send_kept(struct peer *p, struct link *l)
{
    int count;
    zmq_msg_t *kept;
    for (uint32_t at = 0; (kept = session_kept(l->session, at, &count)); at++) {
        struct parcel c = {.count = count};
        for (int i = 0; i < count; i++) {
            zmq_msg_init(&c.frame[i]);
            zmq_msg_copy(&c.frame[i], &kept[i]);
        }
        int r = parcel_send(&c, p, l->route - 1);
        parcel_close(&c);
        if (r < 0)
            return; /* the connection has ended again: all this is sent over the next one */
    }
}

/* May a kept message that the library did not take be sent later?  Yes, if there will be another connection. */
static bool comes_later(const struct peer *p, const struct link *l)
{
    return l->session && (errno == EHOSTUNREACH || !p->server);
}

/* The other side may have refused our key before the first message is given to the library, which then cannot take it.  The
 * message is as lost as those that it took, and on_lost tells why once the monitor is read. */
static bool refused_early(const struct peer *p)
{
    return p->monitor && !p->server && !p->through;
}

static int may_send(const struct peer *p, const struct link *l, size_t size, struct err *e)
{
    if (p->closed || p->lost || !l->id || l->dead)
        return err_set(e, ERR_GONE, "%s: the link is gone", p->url);
    if (size > p->bulk_max)
        return err_set(e, ERR_LIMIT, "%zu bulk bytes are more than a message may have (%zu)", size, p->bulk_max);
    size_t waits = l->unread ? l->unread->bytes : 0;
    if (waits > PEER_UNREAD_MAX || (waits > PEER_UNREAD_FEW && p->unread->bytes > PEER_UNREAD_ALL_MAX))
        return err_set(e, ERR_AGAIN, "%s: it does not read what it is sent: %zu bytes wait for it", p->url, waits);
    return 0;
}

/* Send a message.  Its bulk bytes are a copy of `bulk`, or `given` itself, which is taken. */
static int post(struct peer *p, uint64_t link, const struct msg *m, struct slice bulk, void *given, struct err *e)
{
    struct link *l = peer_slot(p, link);
    struct parcel c = {.count = 0};
    bool may = may_send(p, l, bulk.size, e) == 0;
    if (may && p->unread && !l->unread && !(l->unread = unread_new(p->unread)))
        may = err_nomem(e) == 0;
    if (!may || parcel_fill(&c, m, l->unread, e) < 0) {
        free(given);
        parcel_close(&c);
        return -1;
    }
    int r = 0;
    if (given ? parcel_give(&c, given, bulk.size) < 0 : bulk.size && parcel_add(&c, bulk.data, bulk.size, l->unread) < 0)
        r = err_nomem(e);
    if (r == 0 && l->session)
        r = session_keep(l->session, c.frame, c.count, e);
    peer_print("out", p, link, m);
    bool connected = p->server ? !l->session || l->route : !l->away_ns;
    if (r == 0 && connected && parcel_send(&c, p, l->session ? l->route - 1 : link) < 0 && !(errno == EAGAIN && refused_early(p)) &&
        !comes_later(p, l))
        r = err_set(e, errno == EAGAIN ? ERR_AGAIN : ERR_GONE, "%s: cannot send: %s", p->url,
                    zmq_strerror(errno));
    parcel_close(&c);
    if (r < 0)
        return -1;
    p->stats.sent++;
    if (m->type == MSG_WELCOME)
        l->welcomed = true;
    return 0;
}

int peer_send(struct peer *p, uint64_t link, const struct msg *m, struct slice bulk, struct err *e)
{
    return post(p, link, m, bulk, NULL, e);
}

int peer_give(struct peer *p, uint64_t link, const struct msg *m, void *bulk, size_t size, struct err *e)
{
    return post(p, link, m, (struct slice){bulk, size}, bulk, e);
}
