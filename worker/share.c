/* See share.h. */
#include "worker/share.h"

#include "base/fds.h"
#include "proto/flow.h"
#include "worker/blocks.h"
#include "worker/intake.h"
#include "worker/outlet.h"

#include <fcntl.h>
#include <stdlib.h>

#define AHEAD_BYTES   (8u << 20)  /* bytes that a reader's pump may have ahead */
#define PUT_BYTES_MIN (256u << 10) /* passed on at a time, of a stream that still grows */
#define RELEASE_BYTES (16u << 20) /* given back to the file system at a time */

struct reader {
    struct share *share;
    struct outlet out;
    uint32_t edge;
    uint64_t given; /* bytes that were put into its outlet */
    bool left, ended;
};

struct share {
    struct attempt *t;
    struct inlet in;
    struct intake intake;
    struct reader *reader; /* owned */
    uint32_t reader_count;
    uint64_t released;
    bool endless; /* the writer must never be made to wait */
};

/* ---- giving on */

static int put(struct reader *r, struct err *e)
{
    const struct inlet *in = &r->share->in;
    while (!r->left && r->given < in->bytes && outlet_backlog(&r->out) < AHEAD_BYTES) {
        uint64_t size = in->bytes - r->given;
        if (size < PUT_BYTES_MIN && !in->ended)
            return 0;
        struct box_source s = inlet_piece(in, r->given, AHEAD_BYTES);
        int fd = fcntl(s.fd, F_DUPFD_CLOEXEC, 3);
        if (fd < 0)
            return err_sys(e, "cannot duplicate a descriptor");
        r->given += s.size;
        if (outlet_put(&r->out, fd, s.offset, s.size, e) < 0)
            return -1;
    }
    return 0;
}

static int serve(struct reader *r, struct err *e)
{
    const struct inlet *in = &r->share->in;
    if (r->left || r->out.closed)
        return 0;
    if (r->out.inlet) {
        if (inlet_follow(r->out.inlet, in, e) < 0)
            return -1;
        r->given = in->bytes;
        if (!in->ended)
            r->out.grown(r->out.reader);
    } else if (put(r, e) < 0) {
        return -1;
    }
    return in->ended && r->given == in->bytes && !r->left ? outlet_close(&r->out, e) : 0;
}

/* How far the slowest reader is that streams; a reader that keeps the files itself is never slow. */
static uint64_t least_read(const struct share *s, bool *kept)
{
    uint64_t least = s->in.bytes;
    for (uint32_t i = 0; i < s->reader_count; i++) {
        const struct reader *r = &s->reader[i];
        if (r->out.inlet)
            *kept = true;
        else if (!r->left && r->out.moved < least)
            least = r->out.moved;
    }
    return least;
}

/* Give space back to the file system; pages that a pump still reads stay valid for it. */
static void release(struct share *s, uint64_t upto)
{
    if (s->intake.spool < 0 || upto < s->released + RELEASE_BYTES)
        return;
    upto -= upto % PUT_BYTES_MIN;
    fallocate(s->intake.spool, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)s->released,
              (off_t)(upto - s->released)); /* not all file systems can do it */
    s->released = upto;
}

static void step(void *owner)
{
    struct share *s = owner;
    struct err e;
    bool kept = false;
    for (uint32_t i = 0; !s->reader_count && s->in.ended && i < s->t->blocks_count; i++)
        blocks_step(s->t->blocks[i]); /* its tasks read the share */
    for (uint32_t i = 0; i < s->reader_count; i++)
        if (serve(&s->reader[i], &e) < 0) {
            attempt_fail(s->t, &e);
            return;
        }
    uint64_t least = least_read(s, &kept);
    if (!kept)
        release(s, least);
    if (!s->endless)
        intake_hold(&s->intake, least);
}

/* ---- what readers do */

static void reader_moved(void *owner)
{
    step(((struct reader *)owner)->share);
}

static void reader_left(void *owner)
{
    struct reader *r = owner;
    struct share *s = r->share;
    bool all = true;
    r->left = true;
    for (uint32_t i = 0; i < s->reader_count; i++)
        all &= s->reader[i].left;
    if (all)
        intake_stop(&s->intake);
    else
        step(s); /* the writer may have waited for this reader */
}

static void reader_ended(void *owner)
{
    struct reader *r = owner;
    r->ended = true;
    attempt_settle(r->share->t);
}

static void reader_failed(void *owner, const struct err *why)
{
    attempt_fail(((struct reader *)owner)->share->t, why);
}

/* ---- where it meets others */

uint32_t share_ends(const struct share *s)
{
    return 1 + s->reader_count;
}

int share_meet_main(struct share *s, struct region_end *end, uint32_t *count, struct err *e)
{
    const struct graph *g = s->t->graph;
    if (intake_meet_main(&s->intake, end, count, e) < 0)
        return -1;
    for (uint32_t i = 0; i < s->reader_count; i++) {
        struct reader *r = &s->reader[i];
        const struct intake *other = s->t->joint[r->edge].reader;
        if ((other && other != &s->intake) || !blocks_main_runs(s->t, g->edge[r->edge].to))
            continue;
        r->out.main = &end[*count];
        end[(*count)++] = (struct region_end){.how = REGION_FEED, .edge = r->edge, .more = true,
                                              .channel = GRAPH_NONE};
    }
    return 0;
}

bool share_moved(struct share *s, uint32_t channel, uint64_t bytes, uint64_t sources)
{
    bool ours = intake_moved(&s->intake, channel, bytes);
    for (uint32_t i = 0; !ours && i < s->reader_count; i++)
        ours = outlet_main_moved(&s->reader[i].out, channel, bytes, sources);
    return ours;
}

bool share_pump_ended(struct share *s, uint32_t channel, int sys, bool reading)
{
    bool ours = intake_pump_ended(&s->intake, channel, sys, reading);
    for (uint32_t i = 0; !ours && i < s->reader_count; i++)
        ours = outlet_main_ended(&s->reader[i].out, channel, sys, reading);
    return ours;
}

/* ---- life */

static struct share *share_new(struct attempt *t, uint32_t in, uint32_t readers, struct err *e)
{
    struct share *s = calloc(1, sizeof *s);
    if (s)
        s->reader = calloc((size_t)readers + 1, sizeof *s->reader);
    if (!s || !s->reader) {
        free(s);
        err_nomem(e);
        return NULL;
    }
    s->t = t;
    intake_init(&s->intake, t, in, &s->in, step, s);
    t->shares[t->share_count++] = s;
    return s;
}

static struct reader *add_reader(struct share *s, uint32_t edge)
{
    static const struct outlet_events events = {reader_moved, reader_left, reader_ended, reader_failed};
    struct reader *r = &s->reader[s->reader_count++];
    *r = (struct reader){.share = s, .edge = edge};
    outlet_init(&r->out, s->t->agent, &events, r);
    return r;
}

static int make_broadcast(struct attempt *t, const struct graph_flow *f, uint32_t node, struct err *e)
{
    const struct graph_node *n = &t->graph->node[node];
    struct share *s = share_new(t, graph_fd_of(n, 0)->edge, n->fd_count - 1, e);
    if (!s)
        return -1;
    for (uint32_t i = 0; i < n->fd_count; i++) {
        uint32_t edge = n->fd[i].edge;
        if (n->fd[i].fd == 0)
            continue;
        t->joint[edge].writer = &add_reader(s, edge)->out;
        s->endless |= f->spool[edge];
    }
    return 0;
}

/* Make the share for an edge that must be a spool.  It is made where the reader is, if that is a program here: a reader
 * that keeps its input needs none, and what comes from a BROADCAST is kept already. */
static int make_spool(struct attempt *t, uint32_t edge, struct err *e)
{
    const struct graph_edge *d = &t->graph->edge[edge];
    if (t->joint[edge].reader || !blocks_main_runs(t, d->to) || t->graph->node[d->from].kind == GRAPH_BROADCAST)
        return 0;
    struct share *s = share_new(t, edge, 1, e);
    if (!s)
        return -1;
    s->endless = true;
    add_reader(s, edge);
    return 0;
}

int shares_make(struct attempt *t, struct err *e)
{
    struct graph_flow f;
    const struct graph *g = t->graph;
    if (graph_flow(g, &t->arena, &f, e) < 0)
        return -1;
    t->shares = arena_array(&t->arena, (size_t)g->node_count + g->edge_count + 1, sizeof *t->shares);
    if (!t->shares)
        return err_nomem(e);
    for (uint32_t i = 0; i < g->node_count; i++)
        if (t->here[i] && g->node[i].kind == GRAPH_BROADCAST && make_broadcast(t, &f, i, e) < 0)
            return -1;
    for (uint32_t i = 0; i < g->edge_count; i++) {
        bool inwards = g->node[g->edge[i].to].parent != g->node[g->edge[i].from].parent;
        if (inwards && t->here[g->edge[i].to] && !share_new(t, i, 0, e))
            return -1;
        if (!f.spool[i])
            continue;
        if (make_spool(t, i, e) < 0)
            return -1;
        if (t->joint[i].reader)
            t->joint[i].reader->endless = true;
    }
    return 0;
}

int share_start(struct share *s, struct err *e)
{
    for (uint32_t i = 0; i < s->reader_count; i++)
        if (outlet_open(&s->reader[i].out, s->t, s->reader[i].edge, e) < 0)
            return -1;
    if (intake_open(&s->intake, e) < 0)
        return -1;
    step(s);
    return 0;
}

void share_stop(struct share *s)
{
    for (uint32_t i = 0; i < s->reader_count; i++) {
        s->reader[i].left = true;
        outlet_stop(&s->reader[i].out);
    }
    if (!intake_over(&s->intake))
        agent_stop_region(s->t->agent, &s->intake.copy);
}

bool share_over(const struct share *s)
{
    bool over = intake_over(&s->intake);
    for (uint32_t i = 0; i < s->reader_count; i++)
        over &= s->reader[i].ended;
    return over;
}

void share_free(struct share *s)
{
    for (uint32_t i = 0; i < s->reader_count; i++)
        outlet_clear(&s->reader[i].out);
    intake_clear(&s->intake);
    inlet_clear(&s->in);
    free(s->reader);
    free(s);
}
