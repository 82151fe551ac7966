/* See outlet.h. */
#include "worker/outlet.h"

#include "base/fds.h"
#include "base/grow.h"
#include "base/spool.h"
#include "worker/attempt.h"
#include "worker/intake.h"
#include "worker/local.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/stat.h>

static void finish(struct outlet *o)
{
    if (o->over)
        return;
    o->over = true;
    o->events->ended(o->owner);
}

static void drop_waiting(struct outlet *o)
{
    while (o->first < o->count)
        fd_close(&o->waiting[o->first++].fd);
    o->first = o->count = 0;
    buf_clear(&o->gathered);
    if (o->agent)
        loop_timer_stop(agent_loop(o->agent), &o->gather);
}

static int wait_turn(struct outlet *o, struct stretch s, struct err *e)
{
    if (!grow(&o->waiting, &o->room, o->count, INLET_STRETCHES_MAX, sizeof *o->waiting)) {
        close(s.fd);
        return err_nomem(e);
    }
    o->waiting[o->count++] = s;
    return 0;
}

/* Make one stretch of what was gathered. */
static int gathered_wait(struct outlet *o, struct err *e)
{
    struct slice bytes = {o->gathered.data, o->gathered.size};
    if (!bytes.size)
        return 0;
    int fd = spool_of(bytes, e);
    buf_drop(&o->gathered, bytes.size);
    loop_timer_stop(agent_loop(o->agent), &o->gather);
    return fd < 0 ? -1 : wait_turn(o, (struct stretch){.fd = fd, .size = bytes.size}, e);
}

static const struct region_watch *target(const struct outlet *o)
{
    return o->region ? o->region : &o->copy;
}

/* Give the pump as many stretches as it may have. */
static int send_more(struct outlet *o, struct err *e)
{
    struct box_source s[BOX_SOURCES_MAX];
    int fd[BOX_SOURCES_MAX];
    struct box *b = agent_box(o->agent);
    uint64_t id = target(o)->id;
    if (o->closed && gathered_wait(o, e) < 0)
        return -1;
    while (!o->left && o->first < o->count && o->sent - o->done < OUTLET_AHEAD) {
        uint32_t n = 0;
        while (n < BOX_SOURCES_MAX && o->first < o->count && o->sent + n - o->done < OUTLET_AHEAD) {
            const struct stretch *w = &o->waiting[o->first++];
            s[n] = (struct box_source){w->fd, w->offset, w->size};
            fd[n++] = w->fd;
        }
        int r = box_feed(b, id, o->channel, s, n, e);
        for (uint32_t i = 0; i < n; i++)
            close(fd[i]);
        if (r < 0)
            return -1;
        o->sent += n;
    }
    if (o->first == o->count)
        o->first = o->count = 0;
    if (!o->closed || o->count || o->end_sent || o->left)
        return 0;
    o->end_sent = true;
    return box_feed_end(b, id, o->channel, e);
}

static void gathered_long(struct loop_timer *w)
{
    struct outlet *o = w->owner;
    struct err e;
    if (gathered_wait(o, &e) < 0 || send_more(o, &e) < 0)
        o->events->failed(o->owner, &e);
}

static void moved(struct outlet *o, uint64_t bytes, uint64_t sources)
{
    struct err e;
    if (o->over)
        return;
    o->moved = bytes;
    o->done = sources;
    if (send_more(o, &e) < 0) {
        o->events->failed(o->owner, &e);
        return;
    }
    o->events->moved(o->owner);
}

void outlet_leave(struct outlet *o)
{
    if (o->left || o->over)
        return;
    o->left = true;
    drop_waiting(o);
    o->events->left(o->owner);
    if (o->inlet)
        finish(o);
}

static void pump_ended(struct outlet *o, int sys, bool reading)
{
    struct err e;
    if (sys && sys != EPIPE) {
        errno = sys;
        if (reading)
            err_sys(&e, "cannot read an input");
        else
            graph_write_failed(o->of ? o->of->graph : NULL, o->of ? o->edge : GRAPH_NONE, &e);
        o->events->failed(o->owner, &e);
    }
    if (sys || !o->end_sent)
        outlet_leave(o);
    else if (o->remote) /* a pump that was killed also reports its end */
        attempt_end_route(o->of, o->remote);
    if (o->region)
        finish(o);
}

/* ---- a copy of our own */

static void copy_moved(void *owner, uint32_t channel, uint64_t bytes, uint64_t sources)
{
    (void)channel;
    moved(owner, bytes, sources);
}

static void copy_pump_ended(void *owner, uint32_t channel, int sys, bool reading)
{
    (void)channel;
    pump_ended(owner, sys, reading);
}

/* All was copied to the sink; if there is a relay, the reader has it, or has left. */
static void sink_over(struct outlet *o)
{
    if (!o->copied || o->relayed)
        return;
    if (o->unread)
        outlet_leave(o);
    finish(o);
}

static void copy_ended(void *owner)
{
    struct outlet *o = owner;
    o->copied = true;
    sink_over(o);
}

/* If the pump has more to write, it will find out by itself that the reader has left. */
static void relay_passed(void *owner, bool left)
{
    struct outlet *o = owner;
    o->relayed = false;
    o->unread = left;
    sink_over(o);
}

int outlet_to_fd(struct outlet *o, int fd, struct err *e)
{
    static const struct region_events events = {
        .moved = copy_moved, .pump_ended = copy_pump_ended, .ended = copy_ended};
    struct box_channel c = {.end = BOX_COPY, .more = true, .tell = true, .sink = fd};
    o->copy.events = &events;
    o->copy.owner = o;
    return agent_run_region(o->agent, &o->copy, &(struct box_region){.channel = &c, .channel_count = 1}, e);
}

int outlet_to_route(struct outlet *o, struct attempt *t, struct attempt_route *route, struct err *e)
{
    int fd = -1;
    int r = attempt_outlet_pair(t, route, &fd, e);
    if (r == 0)
        r = outlet_to_fd(o, fd, e);
    fd_close(&fd);
    if (r < 0)
        return -1;
    o->of = t;
    o->remote = route;
    return 0;
}

/* ---- what the stage sees */

void outlet_init(struct outlet *o, struct agent *a, const struct outlet_events *ev, void *owner)
{
    *o = (struct outlet){.agent = a, .events = ev, .owner = owner, .edge = GRAPH_NONE, .gathered = BUF_INIT(2 * OUTLET_GATHER_MAX)};
    o->gather = (struct loop_timer){.run = gathered_long, .owner = o};
}

bool outlet_main_moved(struct outlet *o, uint32_t channel, uint64_t bytes, uint64_t sources)
{
    bool ours = o->main && o->main->channel == channel;
    if (ours)
        moved(o, bytes, sources);
    return ours;
}

bool outlet_main_ended(struct outlet *o, uint32_t channel, int sys, bool reading)
{
    bool ours = o->main && o->main->channel == channel;
    if (ours)
        pump_ended(o, sys, reading);
    return ours;
}

/* Connect the outlet to a sink in this process. */
static int to_sink(struct outlet *o, struct attempt *t, uint32_t edge, struct err *e)
{
    struct stat s;
    struct attempt_route *route = attempt_route_of(t, MSG_EDGE, edge, GRAPH_NONE);
    int fd, own;
    if (local_sink(t, route, &fd, &own, e) < 0)
        return -1;
    o->of = t;
    o->edge = edge;
    o->nowhere = fd < 0 || fstat(fd, &s) < 0;
    int r = o->nowhere ? 0 : outlet_to_fd(o, fd, e);
    o->relayed = r == 0 && !o->nowhere && local_when_passed(t, route, relay_passed, o);
    fd_close(&own);
    return r;
}

int outlet_open(struct outlet *o, struct attempt *t, uint32_t edge, struct err *e)
{
    const struct intake *in = edge == GRAPH_NONE ? NULL : t->joint[edge].reader;
    if (o->main) {
        o->region = &t->main.watch;
        o->channel = o->main->channel;
        return 0;
    }
    if (in) {
        o->inlet = in->inlet;
        o->grown = in->grown;
        o->reader = in->owner;
        return 0;
    }
    if (edge != GRAPH_NONE && !t->here[t->graph->edge[edge].to])
        return outlet_to_route(o, t, attempt_route_of(t, MSG_EDGE, edge, GRAPH_NONE), e);
    return to_sink(o, t, edge, e);
}

int outlet_put(struct outlet *o, int fd, uint64_t offset, uint64_t size, struct err *e)
{
    o->bytes += size;
    bool dropped = o->nowhere || o->left || o->over;
    if (dropped)
        o->moved = o->bytes;
    if (dropped || !size) {
        fd_close(&fd);
        return 0;
    }
    if (o->inlet) {
        o->moved = o->bytes;
        if (inlet_add(o->inlet, fd, offset, size, GRAPH_NONE, e) < 0)
            return -1;
        o->inlet->stretch[o->inlet->count - 1].goes_on = o->inside;
        o->inside = true;
        o->grown(o->reader);
        return 0;
    }
    if (gathered_wait(o, e) < 0) {
        close(fd);
        return -1;
    }
    if (wait_turn(o, (struct stretch){.fd = fd, .offset = offset, .size = size}, e) < 0)
        return -1;
    return send_more(o, e);
}

void outlet_piece_ended(struct outlet *o)
{
    if (!o->inlet || !o->inside || o->over || o->left)
        return;
    o->inside = false;
    o->inlet->whole = o->inlet->bytes;
    o->grown(o->reader);
}

int outlet_put_bytes(struct outlet *o, struct slice bytes, struct err *e)
{
    if (o->inlet || o->nowhere || o->left || o->over || !bytes.size) {
        int fd = bytes.size && o->inlet ? spool_of(bytes, e) : -1;
        return bytes.size && o->inlet && fd < 0 ? -1 : outlet_put(o, fd, 0, bytes.size, e);
    }
    o->bytes += bytes.size;
    if (!o->gathered.size)
        loop_timer_start(agent_loop(o->agent), &o->gather, OUTLET_GATHER_NS, 0);
    buf_add(&o->gathered, bytes.data, bytes.size);
    if (o->gathered.failed)
        return err_nomem(e);
    return o->gathered.size < OUTLET_GATHER_MAX ? 0 : gathered_wait(o, e) < 0 ? -1 : send_more(o, e);
}

int outlet_close(struct outlet *o, struct err *e)
{
    if (o->closed || o->over)
        return 0;
    o->closed = true;
    if (o->inlet) {
        o->inlet->ended = true;
        o->grown(o->reader);
        finish(o);
        return 0;
    }
    if (o->nowhere)
        return finish(o), 0;
    return send_more(o, e);
}

uint64_t outlet_backlog(const struct outlet *o)
{
    return o->bytes - o->moved;
}

uint32_t outlet_waiting(const struct outlet *o)
{
    return o->count - o->first;
}

void outlet_stop(struct outlet *o)
{
    o->left = true;
    o->relayed = false;
    drop_waiting(o);
    if (o->copy.id)
        agent_stop_region(o->agent, &o->copy);
    else
        finish(o);
}

void outlet_clear(struct outlet *o)
{
    drop_waiting(o);
    free(o->waiting);
    o->waiting = NULL;
}
