/* See attempt.h.  The routes of an attempt's bytes, and the streams that carry them from and to other processes.
 *
 * A lost link is not a failure of the attempt: the scheduler is told, and knows which side is still there.  Until it
 * decides, what reads waits for its writer to begin again elsewhere, and what writes waits to be told to stop. */
#include "worker/attempt.h"

#include "base/spool.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/socket.h>

struct attempt_route *attempt_route_of(struct attempt *t, uint32_t what, uint32_t index, uint32_t node)
{
    for (uint32_t i = 0; i < t->route_count; i++) {
        struct msg_route *r = &t->route[i].r;
        if (r->what == what && r->index == index && (node == GRAPH_NONE || r->node == node))
            return &t->route[i];
    }
    return NULL;
}

struct attempt_route *attempt_stream(struct attempt *t, const struct stream_name *name, bool to_us)
{
    struct attempt_route *route = attempt_route_of(t, name->what, name->index, name->node);
    bool fits = route && t->job == name->job && route->attempt == name->attempt;
    return fits && route->r.via == (to_us ? MSG_VIA_LISTEN : MSG_VIA_CONNECT) ? route : NULL;
}

static struct attempt_route *route_of_carry(struct attempt *t, struct carry *c)
{
    for (uint32_t i = 0; i < t->route_count; i++)
        if (t->route[i].carry == c)
            return &t->route[i];
    return NULL;
}

static void carry_ended(void *owner, struct carry *c, enum carry_end end, const struct err *why)
{
    struct attempt *t = owner;
    struct attempt_route *route = route_of_carry(t, c);
    struct err e;
    route->carry_ended = t->reapable = true;
    t->moving--;
    if (end == CARRY_FAILED && t->state != ATTEMPT_STOPPING) {
        e = *why;
        errno = why->sys;
        if (route->spool >= 0 && why->sys)
            spool_write_failed(&e);
        else if (route->r.what == MSG_EDGE)
            err_wrap(&e, "what `%.200s` writes", t->graph->node[t->graph->edge[route->r.index].from].label);
        else
            err_wrap(&e, "a stream of job %llu", (unsigned long long)t->job);
        attempt_fail(t, &e);
        return;
    }
    /* The reader on another host left: its writers here get SIGPIPE, as in sh. */
    if (end == CARRY_LEFT && route->group && group_runs(route->group))
        box_break(agent_box(t->agent), route->group->watch.id, route->channel, NULL);
    if (t->state == ATTEMPT_FETCHING && route->spool >= 0 && !route->in_place && --t->fetching == 0) {
        attempt_start(t);
        return;
    }
    attempt_settle(t);
}

static const struct carry_events carry_events = {carry_ended, NULL};

static int attach(struct attempt *t, struct attempt_route *route, struct peer **out, struct err *e)
{
    struct peer *p = *out = agent_data_peer(t->agent, route->r.url, route->r.key, e);
    struct msg m = {.type = MSG_ATTACH,
                    .attach = {.job = t->job,
                               .attempt = route->attempt,
                               .token = {t->token, sizeof t->token},
                               .what = route->r.what,
                               .index = route->r.index,
                               .node = route->r.node}};
    return p ? peer_send(p, 0, &m, (struct slice){0}, e) : -1;
}

/* Begin the stream of a route: attach to the other side, or wait for the other side to attach. */
static int begin(struct attempt *t, struct attempt_route *route, struct carry *c, struct err *e)
{
    if (!c)
        return -1;
    route->carry = c;
    route->carry_ended = false;
    t->moving++;
    if (route->r.via == MSG_VIA_LISTEN)
        return agent_claim(t->agent, c, e);
    struct peer *p;
    if (attach(t, route, &p, e) < 0)
        return -1;
    return carry_bind(c, p, 0, e);
}

static struct stream_name name_of(const struct attempt *t, const struct attempt_route *route)
{
    const struct msg_route *r = &route->r;
    return (struct stream_name){t->job, route->attempt, r->what, r->index, r->node};
}

int attempt_carry_files(struct attempt *t, struct attempt_route *route, const int *fd, uint32_t count, struct err *e)
{
    struct stream_name name = name_of(t, route);
    return begin(t, route, carry_out(agent_loop(t->agent), fd, count, &name, &carry_events, t, e), e);
}

int attempt_decline(struct attempt *t, struct attempt_route *route, struct err *e)
{
    struct stream_name name = name_of(t, route);
    struct carry *c = carry_in(agent_loop(t->agent), -1, &name, &carry_events, t, e);
    if (c)
        carry_decline(c);
    return begin(t, route, c, e);
}

/* The node whose bytes go over the route's stream, looking past broadcasts; or the node that reads what comes. */
static uint32_t user_of(const struct attempt *t, const struct attempt_route *route, bool out)
{
    const struct graph *g = t->graph;
    const struct graph_edge *edge = route->r.what == MSG_EDGE ? &g->edge[route->r.index] : NULL;
    if (!out)
        return edge ? edge->to : GRAPH_NONE;
    uint32_t node = edge ? edge->from : route->r.index;
    while (g->node[node].kind == GRAPH_BROADCAST)
        node = g->edge[graph_fd_of(&g->node[node], 0)->edge].from;
    return node;
}

void attempt_allow_ends(struct attempt *t, uint32_t node)
{
    struct err e;
    for (uint32_t i = 0; i < t->route_count; i++) {
        struct attempt_route *route = &t->route[i];
        if (route->carry && !route->outlets && user_of(t, route, !carry_is_in(route->carry)) == node &&
            carry_allow_end(route->carry, &e) < 0)
            attempt_fail(t, &e);
    }
}

int attempt_outlet_pair(struct attempt *t, struct attempt_route *route, int *fd, struct err *e)
{
    if (attempt_carry_pair(t, route, true, fd, e) < 0)
        return -1;
    route->outlets = true;
    carry_hold_end(route->carry);
    return 0;
}

void attempt_end_route(struct attempt *t, struct attempt_route *route)
{
    struct err e;
    if (route && route->carry && t->state != ATTEMPT_STOPPING && carry_allow_end(route->carry, &e) < 0)
        attempt_fail(t, &e);
}

int attempt_carry(struct attempt *t, struct attempt_route *route, int fd, bool out, struct err *e)
{
    struct stream_name name = name_of(t, route);
    fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK); /* the open file is ours alone */
    /* When blocks were spoilt, the command that combines them runs beside the stage run whole, and both write here. */
    if (out && route->carry && !route->carry_ended)
        return carry_append(route->carry, fd, e);
    if (out && attempt_carry_files(t, route, &fd, 1, e) < 0)
        return -1;
    uint32_t writer = out ? user_of(t, route, true) : GRAPH_NONE;
    if (out && t->graph->node[writer].kind != GRAPH_SOURCE && !t->report[writer].ended)
        carry_hold_end(route->carry);
    if (out)
        return 0;
    struct carry *c = carry_in(agent_loop(t->agent), fd, &name, &carry_events, t, e);
    if (c && route->spool < 0)
        carry_hold_end(c);
    return begin(t, route, c, e);
}

int attempt_carry_pair(struct attempt *t, struct attempt_route *route, bool out, int *fd, struct err *e)
{
    int pair[2];
    if (!route)
        return err_set(e, ERR_PROTO, "a stream of the job has no route");
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) < 0)
        return err_sys(e, "cannot make a socket pair");
    *fd = pair[1];
    return attempt_carry(t, route, pair[0], out, e);
}

int attempt_edge_fd(const struct attempt *t, uint32_t edge)
{
    const struct attempt_route *route =
        attempt_route_of((struct attempt *)(uintptr_t)t, MSG_EDGE, edge, GRAPH_NONE);
    return route ? route->r.fd : -1;
}

void attempt_attach(struct attempt *t, struct peer *p, uint64_t link, const struct msg_attach *m)
{
    struct err e;
    struct attempt_route *route = attempt_route_of(t, m->what, m->index, m->node);
    if (!route || !route->carry || route->carry_ended || route->r.via != MSG_VIA_LISTEN)
        return;
    if (carry_bind(route->carry, p, link, &e) < 0)
        attempt_fail(t, &e);
}

void attempt_message(struct attempt_route *route, const struct msg *m, struct slice bulk)
{
    if (route->carry)
        carry_message(route->carry, m, bulk);
}

void attempt_streams_lost(struct attempt *t, const char *url, const char *why)
{
    for (uint32_t i = 0; i < t->route_count; i++) {
        struct attempt_route *route = &t->route[i];
        const struct msg_route *r = &route->r;
        struct msg m = {.type = MSG_LOST, .lost = {t->job, route->attempt, r->what, r->index, r->node, why}};
        if (r->via != MSG_VIA_CONNECT || !route->carry || strcmp(r->url, url))
            continue;
        carry_cut(route->carry);
        route->cut = true;
        attempt_say(t, &m);
    }
}

static int reroute(struct attempt *t, const struct msg_route_list *m, const struct msg_route *r, struct err *e)
{
    struct attempt_route *route = attempt_route_of(t, r->what, r->index, r->node);
    if (!route || r->via != MSG_VIA_CONNECT || route->r.via != MSG_VIA_CONNECT)
        return err_set(e, ERR_PROTO, "the scheduler began a stream anew that there is not");
    if (route->attempt >= m->attempt)
        return 0; /* a new scheduler repeats what an earlier one has told us */
    route->r.url = arena_string(&t->arena, r->url);
    route->r.key = (struct slice){arena_bytes(&t->arena, r->key.data, r->key.size), r->key.size};
    if (!route->r.url || !route->r.key.data)
        return err_nomem(e);
    route->attempt = m->attempt;
    route->cut = false;
    if (!route->carry)
        return 0; /* the stream has not begun yet */
    struct peer *p;
    if (attach(t, route, &p, e) < 0)
        return -1;
    t->moving += route->carry_ended; /* its writer waits until the carry has compared all */
    route->carry_ended = false;
    struct stream_name name = name_of(t, route);
    return carry_again(route->carry, p, 0, &name, e);
}

void attempt_reroute(struct attempt *t, const struct msg_route_list *m)
{
    struct err e;
    if (t->state == ATTEMPT_ENDED)
        return; /* it does not read what that part writes */
    t->heard = m->attempt;
    for (uint32_t i = 0; i < m->route_count && t->state != ATTEMPT_STOPPING; i++)
        if (reroute(t, m, &m->route[i], &e) < 0 && e.code != ERR_GONE)
            attempt_fail(t, &e);
}
