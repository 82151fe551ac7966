/* See session.h. */
#include "proto/session.h"

#include <stdlib.h>

#define ROOM_FIRST 16

struct kept_message {
    zmq_msg_t frame[2];
    int count;
};

struct session {
    struct kept_message *ring; /* of room: a power of two */
    uint32_t room, first, count;
    uint64_t forgotten; /* how many messages came before the first that is kept */
    uint64_t got, told;
    size_t untold_bytes;
};

struct session *session_new(struct err *e)
{
    struct session *s = calloc(1, sizeof *s);
    if (!s)
        err_nomem(e);
    return s;
}

static struct kept_message *place(struct session *s, uint32_t at)
{
    return &s->ring[(s->first + at) & (s->room - 1)];
}

static void drop_first(struct session *s)
{
    struct kept_message *k = place(s, 0);
    for (int i = 0; i < k->count; i++)
        zmq_msg_close(&k->frame[i]);
    s->first = (s->first + 1) & (s->room - 1);
    s->count--;
    s->forgotten++;
}

void session_free(struct session *s)
{
    if (!s)
        return;
    while (s->count)
        drop_first(s);
    free(s->ring);
    free(s);
}

/* Enlarge the ring.  The library's messages may not be moved by copying their bytes. */
static int grow(struct session *s)
{
    uint32_t room = s->room ? 2 * s->room : ROOM_FIRST;
    struct kept_message *bigger = calloc(room, sizeof *bigger);
    if (!bigger)
        return -1;
    for (uint32_t i = 0; i < s->count; i++) {
        struct kept_message *k = place(s, i);
        bigger[i].count = k->count;
        for (int f = 0; f < k->count; f++) {
            zmq_msg_init(&bigger[i].frame[f]);
            zmq_msg_move(&bigger[i].frame[f], &k->frame[f]);
            zmq_msg_close(&k->frame[f]);
        }
    }
    free(s->ring);
    s->ring = bigger;
    s->room = room;
    s->first = 0;
    return 0;
}

int session_keep(struct session *s, zmq_msg_t *frame, int count, struct err *e)
{
    if (s->count == SESSION_KEPT_MAX)
        return err_set(e, ERR_AGAIN, "%u messages wait for the other side, which is not there or stands still (SESSION_KEPT_MAX)",
                       s->count);
    if (s->count == s->room && grow(s) < 0)
        return err_nomem(e);
    struct kept_message *k = place(s, s->count++);
    k->count = count;
    for (int i = 0; i < count; i++) {
        zmq_msg_init(&k->frame[i]);
        zmq_msg_copy(&k->frame[i], &frame[i]);
    }
    return 0;
}

int session_forget(struct session *s, uint64_t got, struct err *e)
{
    if (got < s->forgotten || got - s->forgotten > s->count)
        return err_set(e, ERR_PROTO, "a link's other side has other messages than were sent");
    while (s->forgotten < got)
        drop_first(s);
    return 0;
}

zmq_msg_t *session_kept(struct session *s, uint32_t at, int *count)
{
    if (at >= s->count)
        return NULL;
    *count = place(s, at)->count;
    return place(s, at)->frame;
}

bool session_came(struct session *s, size_t bytes)
{
    s->got++;
    s->untold_bytes += bytes;
    return s->got - s->told >= SESSION_GOT_COUNT || s->untold_bytes >= SESSION_GOT_BYTES;
}

uint64_t session_got(struct session *s)
{
    s->told = s->got;
    s->untold_bytes = 0;
    return s->got;
}
