/* The last merge of a stage, on all slots: its runs are cut at ranges of keys, each range is merged in a sandbox
 * of its own, and goes to the outlet when those before it did.  Where that cannot be done the tree of
 * blocks_runs.c merges what is left.  See blocks.h and ranges.h. */
#include "worker/blocks_inside.h"
#include "worker/ranges.h"

#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

#define RANGES_PER_SLOT 4
#define RANGE_BYTES_MIN (1u << 20) /* smaller ones are not worth a sandbox */
#define RANGE_BYTES_MAX (32u << 20)
#define RANGES_MAX      64

struct keys {
    struct run *sorted; /* the runs, owned */
    uint32_t count;
    int *fd;
    uint64_t *size;
    struct ranges *ranges;
    bool known;
    uint32_t next; /* range to be started */
};

static void list_free(struct run *r)
{
    while (r) {
        struct run *next = r->next;
        run_free(r);
        r = next;
    }
}

void keys_drop(struct blocks *b)
{
    struct keys *k = b->keys;
    if (!k)
        return;
    b->keys = NULL;
    list_free(k->sorted);
    ranges_free(k->ranges);
    free(k->fd);
    free(k->size);
    free(k);
}

/* The runs are as they were, for the tree. */
static int give_up(struct blocks *b, struct err *e)
{
    struct keys *k = b->keys;
    b->run = k->sorted;
    b->held = k->count;
    for (b->run_last = b->run; b->run_last->next;)
        b->run_last = b->run_last->next;
    k->sorted = NULL;
    keys_drop(b);
    b->keys_lost = true;
    return runs_merge(b, e);
}

/* ---- finding the ranges */

/* How many. */
static uint64_t wanted(const struct blocks *b, uint64_t bytes)
{
    uint64_t count = RANGES_PER_SLOT * (uint64_t)agent_width(b->t->agent, b->t->graph->width);
    if (bytes / RANGE_BYTES_MAX > count)
        count = bytes / RANGE_BYTES_MAX;
    if (bytes / RANGE_BYTES_MIN < count && !b->rule.split_bytes)
        count = bytes / RANGE_BYTES_MIN;
    return count < RANGES_MAX ? count : RANGES_MAX;
}

int keys_begin(struct blocks *b, struct err *e)
{
    uint64_t bytes = 0;
    uint32_t i = 0;
    if (!b->tail->order_argc || b->keys_lost || b->held > MERGE_FAN || b->stage->out_edge == GRAPH_NONE)
        return 0;
    struct keys *k = b->keys = calloc(1, sizeof *k);
    if (!k)
        return err_nomem(e);
    k->fd = calloc(b->held, sizeof *k->fd);
    k->size = calloc(b->held, sizeof *k->size);
    if (!k->fd || !k->size)
        return err_nomem(e);
    for (struct run *r = b->run; r; r = r->next, i++) {
        k->fd[i] = r->out;
        if (blocks_size_of(r->out, &k->size[i], e) < 0)
            return -1;
        bytes += k->size[i];
    }
    uint64_t ranges = wanted(b, bytes);
    if (ranges < 2 || !bytes) {
        keys_drop(b);
        return 0;
    }
    char end = b->tail->cut == GRAPH_CUT_NULS ? '\0' : '\n';
    k->ranges = ranges_new(k->fd, k->size, b->held, end, (uint32_t)ranges, e);
    if (!k->ranges)
        return -1;
    k->sorted = b->run;
    k->count = b->held;
    b->run = b->run_last = NULL;
    b->held = 0;
    return 1;
}

static struct run *new_merge(struct blocks *b, const char *const *argv, uint32_t argc, struct err *e)
{
    struct run *r = run_new(b, e);
    if (r) {
        r->number = b->number++;
        r->merge = (struct region_words){argv, argc};
    }
    return r;
}

/* Takes r, also on failure.  1, or -1. */
static int start(struct blocks *b, struct run *r, const struct box_source *piece, uint32_t count, struct err *e)
{
    if (run_start_merge(b, r, piece, count, e) < 0) {
        agent_end_run(b->t->agent);
        run_free(r);
        return -1;
    }
    b->running++;
    runs_add(b, r);
    return 1;
}

/* The next round's question.  1: it was put; 0: it cannot be. */
static int ask(struct blocks *b, struct err *e)
{
    struct keys *k = b->keys;
    struct box_source piece[MERGE_FAN + 2];
    uint32_t count = 0;
    int r = ranges_ask(k->ranges, e);
    for (uint32_t i = 0; r > 0 && i < ranges_lists(k->ranges); i++) {
        struct slice list = ranges_list(k->ranges, i);
        int fd = list.size ? spool_of(list, e) : -1;
        if (fd >= 0)
            piece[count++] = (struct box_source){.fd = fd};
        else if (list.size)
            r = -1;
    }
    if (r > 0) {
        struct run *run = new_merge(b, b->tail->order_argv, b->tail->order_argc, e);
        agent_begin_run(b->t->agent, 0, UINT32_MAX); /* it is short, and everybody waits for it */
        r = run ? start(b, run, piece, count, e) : (agent_end_run(b->t->agent), -1);
    }
    for (uint32_t i = 0; i < count; i++)
        close(piece[i].fd);
    return r;
}

static int read_all(int fd, struct buf *out, struct err *e)
{
    uint64_t size;
    if (blocks_size_of(fd, &size, e) < 0)
        return -1;
    void *to = size && size <= out->max ? buf_reserve(out, (size_t)size) : NULL;
    ssize_t n = to ? pread(fd, to, (size_t)size, 0) : 0;
    if (n < 0 || (to && (uint64_t)n != size))
        return err_sys(e, "cannot read a temporary file");
    buf_grew(out, (size_t)n);
    return 0;
}

/* The answer to the last round; and its run is gone. */
static int hear(struct blocks *b, enum ranges_state *state, struct err *e)
{
    struct buf merged = BUF_INIT(3 * (size_t)RANGES_BYTES_MAX);
    int r = read_all(b->run->out, &merged, e);
    *state = r < 0 ? RANGES_LOST : ranges_answer(b->keys->ranges, (struct slice){merged.data, merged.size});
    buf_clear(&merged);
    runs_pop(b);
    return r;
}

/* ---- merging them */

/* 1: it was started, or needs no merge. */
static int start_range(struct blocks *b, struct err *e)
{
    struct keys *k = b->keys;
    uint32_t i = k->next, count = 0;
    if (!agent_begin_run(b->t->agent, b->running - b->resting, b->t->graph->width))
        return 0;
    struct run *r = new_merge(b, b->tail->combine_argv, b->tail->combine_argc, e);
    struct box_source *piece = r ? arena_array(&r->arena, k->count, sizeof *piece) : NULL;
    if (!piece) {
        agent_end_run(b->t->agent);
        if (r)
            run_free(r);
        return r ? err_nomem(e) : -1;
    }
    for (uint32_t f = 0; f < k->count; f++) {
        uint64_t from = ranges_cut(k->ranges, i, f), to = ranges_cut(k->ranges, i + 1, f);
        if (from < to)
            piece[count++] = (struct box_source){k->fd[f], from, to - from};
    }
    k->next++;
    if (count > 1 && !ranges_equals(k->ranges, i))
        return start(b, r, piece, count, e);
    agent_end_run(b->t->agent);
    r->piece = piece;
    r->piece_count = count;
    r->ended = true;
    runs_add(b, r);
    return 1;
}

static int step_merging(struct blocks *b, struct err *e)
{
    uint32_t ranges = ranges_count(b->keys->ranges);
    int r = 1;
    while (r > 0) {
        if (blocks_give_all(b, e) < 0)
            return -1;
        if (b->state != COMBINING || b->unread || b->keys->next == ranges || !blocks_room_for_more(b))
            break;
        r = start_range(b, e);
    }
    if (r < 0 || b->state != COMBINING)
        return r < 0 ? -1 : 0;
    if (b->unread || (b->keys->next == ranges && !b->run)) {
        runs_drop(b);
        blocks_end(b);
    }
    return 0;
}

int keys_step(struct blocks *b, struct err *e)
{
    struct keys *k = b->keys;
    enum ranges_state state = RANGES_MORE;
    if (k->known)
        return step_merging(b, e);
    if (b->run && !b->run->ended)
        return 0;
    if (b->run && hear(b, &state, e) < 0)
        return -1;
    if (state == RANGES_KNOWN) {
        k->known = true;
        return step_merging(b, e);
    }
    int r = state == RANGES_MORE ? ask(b, e) : 0;
    return r < 0 ? -1 : r == 0 ? give_up(b, e) : 0;
}
