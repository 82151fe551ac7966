/* Runs a stage whose blocks were spoilt as a whole: the chain runs once, on all input that has come and will come.  Output
 * that blocks gave away before is compared and dropped.  See blocks.h. */
#include "worker/blocks_inside.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>

/* Duplicate a descriptor for a callee that closes it. */
int blocks_dup(int fd, struct err *e)
{
    int other = fcntl(fd, F_DUPFD_CLOEXEC, 3);
    return other < 0 ? err_sys(e, "cannot duplicate a descriptor") : other;
}

/* Pass on the output beyond the bytes that blocks have given away, after checking that those are the same. */
static int whole_take(struct blocks *b, bool all, struct err *e)
{
    struct spooled *s = &b->whole_out;
    uint8_t was[16], is[16];
    if (s->taken < b->given_bytes) {
        uint64_t upto = s->bytes < b->given_bytes ? s->bytes : b->given_bytes;
        if (blocks_digest(b->again, s->fd, s->taken, upto - s->taken, e) < 0)
            return -1;
        s->taken = upto;
        running_digest_look(b->given, was);
        running_digest_look(b->again, is);
        if ((s->taken < b->given_bytes && all) ||
            (s->taken == b->given_bytes && memcmp(was, is, sizeof was) != 0))
            return err_set(e, ERR_BUG,
                           "`%.200s` wrote other bytes as a whole than in blocks, and some of these are out "
                           "already; run it with --split=never",
                           blocks_node(b, 0)->label);
    }
    if (s->bytes <= s->taken || (!all && s->bytes - s->taken < PUT_BYTES_MIN))
        return 0;
    int fd = blocks_dup(s->fd, e);
    uint64_t from = s->taken, size = s->bytes - s->taken;
    s->taken = s->bytes;
    return fd < 0 ? -1 : outlet_put(&b->out, fd, from, size, e);
}

static void whole_moved(struct group *g, uint32_t channel, uint64_t bytes, uint64_t sources)
{
    struct blocks *b = g->owner;
    struct err e;
    (void)sources;
    if (b->state == WHOLE && g->region.plan.channel[channel].end == BOX_FEED) {
        b->whole_used = bytes;
        intake_hold(&b->intake, bytes);
    }
    if (b->state != WHOLE || g->region.plan.channel[channel].end != BOX_DRAIN)
        return;
    b->whole_out.bytes = bytes;
    if (b->unread && bytes)
        blocks_leave(b);
    else if (whole_take(b, false, &e) < 0)
        blocks_fail(b, &e);
}

static bool whole_pump_ended(struct group *g, uint32_t channel, int sys, bool reading)
{
    struct blocks *b = g->owner;
    struct err e;
    if (g->region.plan.channel[channel].end == BOX_FEED && !sys) {
        intake_stop(&b->intake);
        return true;
    }
    if (pump_broke(sys, reading) && b->state == WHOLE) {
        errno = sys;
        if (reading)
            err_sys(&e, "cannot read an input");
        else
            spool_write_failed(&e);
        blocks_fail(b, &e);
    }
    return true;
}

static void whole_ended(struct group *g)
{
    struct blocks *b = g->owner;
    struct err e;
    if (b->state != WHOLE)
        return;
    if (b->whole_out.fd >= 0 &&
        (blocks_size_of(b->whole_out.fd, &b->whole_out.bytes, &e) < 0 || whole_take(b, true, &e) < 0)) {
        blocks_fail(b, &e);
        return;
    }
    if (b->state == WHOLE)
        blocks_end(b);
}

/* Pass on input that has come since the last call. */
void whole_feed(struct blocks *b)
{
    static struct box_source source[SOURCES_MAX];
    struct err e;
    uint64_t id = b->whole.watch.id;
    if (b->whole_fed == UINT64_MAX || !id || b->stage->in_edge == GRAPH_NONE)
        return;
    int count = inlet_sources(&b->in, b->whole_fed, b->in.bytes, source, SOURCES_MAX), r = 0;
    if (count < 0)
        r = err_set(&e, ERR_LIMIT, "the input is in more than %d pieces", SOURCES_MAX);
    for (int i = 0; r == 0 && i < count; i += BOX_SOURCES_MAX) {
        int part = count - i < BOX_SOURCES_MAX ? count - i : BOX_SOURCES_MAX;
        r = box_feed(agent_box(b->t->agent), id, 0, source + i, (uint32_t)part, &e);
    }
    b->whole_fed = b->in.bytes;
    if (r == 0 && b->in.ended) {
        r = box_feed_end(agent_box(b->t->agent), id, 0, &e);
        b->whole_fed = UINT64_MAX;
    }
    if (r < 0)
        blocks_fail(b, &e);
}

/* The reader left: its programs get SIGPIPE, as in sh, and its input ends, as nobody needs it any more. */
void whole_left(struct blocks *b)
{
    struct box *box = agent_box(b->t->agent);
    uint64_t id = b->whole.watch.id;
    b->whole_out.taken = UINT64_MAX;
    box_break(box, id, b->whole_drain, NULL);
    if (b->stage->in_edge != GRAPH_NONE && b->whole_fed != UINT64_MAX)
        box_feed_end(box, id, 0, NULL);
    b->whole_fed = UINT64_MAX;
}

int whole_start(struct blocks *b, struct err *e)
{
    struct region_end end[2];
    uint32_t ends = 0;
    if (b->stage->in_edge != GRAPH_NONE)
        end[ends++] = (struct region_end){.how = REGION_FEED, .edge = GRAPH_NONE, .node = b->node[0],
                                          .more = true, .channel = GRAPH_NONE};
    if (b->stage->out_edge != GRAPH_NONE) {
        b->whole_out.fd = spool_open(e);
        if (b->whole_out.fd < 0)
            return -1;
        end[ends++] = (struct region_end){.how = REGION_DRAIN, .edge = b->stage->out_edge,
                                          .fd = b->whole_out.fd, .channel = GRAPH_NONE};
    }
    b->again = running_digest_new();
    if (!b->again)
        return err_nomem(e);
    b->whole.moved = whole_moved;
    b->whole.pump_ended = whole_pump_ended;
    b->whole.ended = whole_ended;
    b->whole.owner = b;
    struct region_scope scope = {.node = b->node, .count = b->stage->count, .end = end, .end_count = ends};
    if (group_run(&b->whole, b->t, &scope, e) < 0)
        return -1;
    b->whole_drain = b->stage->out_edge != GRAPH_NONE ? end[ends - 1].channel : GRAPH_NONE;
    whole_feed(b);
    return 0;
}

