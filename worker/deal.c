/* See deal.h. */
#include "worker/deal.h"

#include "base/log.h"
#include "base/loop.h"
#include "worker/shuffle.h"

#include <fcntl.h>
#include <stdlib.h>

#define DROP_BYTES (4u << 20) /* at once */

struct deal {
    struct inlet in;         /* the stage's input; the blocks read the partitions from their own inlet */
    struct shuffle *shuffle; /* until all is dealt out */
    struct loop_timer turn;  /* continues in the next turn of the loop */
    bool waits;              /* the timer is set */
    uint64_t dropped;        /* bytes of a spooled input that are gone */
};

static void on_turn(struct loop_timer *w)
{
    struct blocks *b = w->owner;
    b->deal->waits = false;
    blocks_step(b);
}

int deal_open(struct blocks *b, struct err *e)
{
    const struct graph_node *n = &b->t->graph->node[b->stage->author];
    struct key key;
    if (key_parse(n->key, n->key_separator, &key, e) < 0)
        return -1;
    b->deal = calloc(1, sizeof *b->deal);
    if (!b->deal)
        return err_nomem(e);
    b->deal->turn.run = on_turn;
    b->deal->turn.owner = b;
    b->deal->shuffle = shuffle_new(&key, n->into, e);
    b->intake.inlet = &b->deal->in;
    b->state = DEALING;
    return b->deal->shuffle ? 0 : -1;
}

/* Free the space of input that was dealt out, as the partitions have a copy. */
static void drop_input(struct blocks *b, uint64_t upto)
{
    struct deal *d = b->deal;
    inlet_drop(&d->in, upto);
    if (b->intake.spool < 0 || upto == d->dropped)
        return;
    /* A file system without holes keeps the space until the end. */
    fallocate(b->intake.spool, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)d->dropped,
              (off_t)(upto - d->dropped));
    d->dropped = upto;
}

static int finish(struct blocks *b, struct err *e)
{
    const struct graph_node *n = &b->t->graph->node[b->stage->author];
    struct deal *d = b->deal;
    int given = shuffle_give(d->shuffle, &b->in, e);
    if (given < 0)
        return -1;
    shuffle_free(d->shuffle);
    d->shuffle = NULL;
    drop_input(b, d->in.bytes);
    b->state = CUTTING;
    log_info("lines_dealt", "job=%llu node=%u bytes=%llu partitions=%u empty=%u",
             (unsigned long long)b->t->job, b->stage->author, (unsigned long long)b->dealt, n->into,
             n->into - (uint32_t)given);
    return 0;
}

int deal_step(struct blocks *b, struct err *e)
{
    struct deal *d = b->deal;
    if (d->waits)
        return 0;
    int r = shuffle_turn(d->shuffle, &d->in, e);
    uint64_t spent = shuffle_spent(d->shuffle);
    b->dealt = shuffle_at(d->shuffle);
    if (spent - d->dropped >= DROP_BYTES)
        drop_input(b, spent);
    if (r > 0) {
        d->waits = true;
        loop_timer_start(agent_loop(b->t->agent), &d->turn, 0, 0);
        return 0;
    }
    return r == 0 && d->in.ended ? finish(b, e) : r;
}

uint32_t deal_partition(const struct run *r)
{
    return r->to > r->from ? inlet_file(&r->b->in, r->from) + 1 : 1;
}

void deal_free(struct blocks *b)
{
    if (!b->deal)
        return;
    loop_timer_stop(agent_loop(b->t->agent), &b->deal->turn);
    shuffle_free(b->deal->shuffle);
    inlet_clear(&b->deal->in);
    free(b->deal);
}
