/* See visit.h. */
#include "client/visit.h"

#include "base/fds.h"
#include "proto/stream.h"

#include <string.h>

static void on_message(void *owner, struct peer *p, uint64_t link, enum msg_role role, const struct msg *m, struct slice bulk)
{
    (void)p, (void)link, (void)role;
    struct visit *v = owner;
    struct stream_name name;
    if (v->over)
        return;
    if (m->type == MSG_KEPT && m->kept.job == v->place.job)
        v->ev->kept(v, &m->kept);
    else if (carry_message_name(m, &name) && name.job == v->place.job)
        v->ev->stream(v, m, bulk);
}

static void on_lost(void *owner, struct peer *p, uint64_t link, const struct err *why)
{
    (void)p, (void)link;
    struct visit *v = owner;
    struct err e;
    err_set(&e, why->code, "the keeper is gone (%s)%s", why->text, v->remedy ? v->remedy : "");
    visit_end(v, &e);
}

void visit_end(struct visit *v, const struct err *why)
{
    if (v->over)
        return;
    v->over = true;
    v->why = why ? *why : (struct err){0};
}

int visit_open(struct visit *v, struct zpipe *z, uint32_t what, uint64_t job, struct err *e)
{
    static const struct peer_events events = {on_message, on_lost};
    v->z = z;
    if (z->embedded)
        return err_set(e, ERR_INPUT, "jobs are submitted to a cluster: there is none");
    if (client_ask_place(z, what, job, &v->place, e) < 0)
        return -1;
    v->peer = peer_connect(z->net, v->place.url, (struct slice){v->place.key, v->place.key_size}, MSG_CLIENT, MSG_WORKER, &events,
                           v, e);
    return v->peer ? 0 : -1;
}

struct stream_name visit_stream(const struct visit *v, uint32_t what)
{
    return (struct stream_name){.job = v->place.job, .what = what};
}

int visit_attach(struct visit *v, uint32_t what, struct err *e)
{
    struct msg m = {.type = MSG_ATTACH,
                    .attach = {.job = v->place.job, .token = {v->place.token, sizeof v->place.token}, .what = what}};
    return peer_send(v->peer, 0, &m, (struct slice){0}, e);
}

int visit_say(struct visit *v, const struct msg_kept *m, struct err *e)
{
    struct msg out = {.type = MSG_KEPT, .kept = *m};
    out.kept.job = v->place.job;
    return peer_send(v->peer, 0, &out, (struct slice){0}, e);
}

void visit_keep(struct visit *v, struct stream_receiver *from, int spool, struct slice bytes)
{
    struct err e;
    if (v->over)
        return;
    if (fd_write_all(spool, bytes.data, bytes.size) < 0) {
        err_sys(&e, "cannot keep what the keeper sends");
        visit_end(v, &e);
    } else if (stream_consumed(from, bytes.size, &e) < 0) {
        visit_end(v, &e);
    }
}

int visit_run(struct visit *v, bool (*stop)(void *owner), void *owner, struct err *e)
{
    while (!v->over) {
        if (stop && stop(owner))
            return err_set(e, ERR_CANCELLED, "interrupted");
        loop_turn(v->z->loop, true);
    }
    if (v->why.code)
        *e = v->why;
    return v->why.code ? -1 : 0;
}

void visit_close(struct visit *v)
{
    peer_close(v->peer);
    v->peer = NULL;
}
