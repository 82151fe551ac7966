/* The last merge of a stage, spread over all slots, our own and lent ones: the runs' outputs are cut at ranges of keys,
 * each range is merged in a sandbox of its own, and is passed to the outlet after those before it.  Where that cannot be
 * done, the tree of merges in blocks_runs.c does what is left.  See blocks.h and ranges.h. */
#include "worker/blocks_inside.h"
#include "worker/ranges.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define RANGES_PER_SLOT 4
#define RANGE_BYTES_MIN (1u << 20) /* a smaller range is not worth a sandbox */
#define RANGE_BYTES_MAX (32u << 20)
#define RANGES_MAX      64

struct keys {
    struct run *sorted; /* owned: the runs whose outputs are merged */
    uint32_t count;
    int *fd;
    uint64_t *size;
    struct ranges *ranges;
    uint32_t wanted; /* ranges */
    bool known;
    uint32_t next; /* the next range to start */
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

/* Give the runs back unchanged, for the tree of merges. */
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

/* How many ranges there should be. */
static uint64_t wanted(const struct blocks *b, uint64_t bytes)
{
    uint64_t count = RANGES_PER_SLOT * ((uint64_t)agent_width(b->t->agent, b->t->graph->width) + borrowed_slots(b->t));
    if (bytes / RANGE_BYTES_MAX > count)
        count = bytes / RANGE_BYTES_MAX;
    if (bytes / RANGE_BYTES_MIN < count && !b->rule.split_bytes)
        count = bytes / RANGE_BYTES_MIN;
    return count < RANGES_MAX ? count : RANGES_MAX;
}

bool keys_come(const struct blocks *b)
{
    return b->tail->order_argc && !b->keys_lost && b->held <= MERGE_FAN && b->stage->out_edge != GRAPH_NONE;
}

uint32_t keys_left(const struct blocks *b)
{
    const struct keys *k = b->keys;
    return !k ? 0 : k->known ? ranges_count(k->ranges) - k->next : k->wanted;
}

int keys_begin(struct blocks *b, struct err *e)
{
    uint64_t bytes = 0;
    uint32_t i = 0;
    if (!keys_come(b))
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
    k->wanted = (uint32_t)ranges;
    k->ranges = ranges_new(k->fd, k->size, b->held, end, k->wanted, e);
    if (!k->ranges)
        return -1;
    k->sorted = b->run;
    k->count = b->held;
    b->run = b->run_last = NULL;
    b->held = 0;
    return 1;
}

/* Add a run at the end of the list. */
static struct run *new_run(struct blocks *b, struct err *e)
{
    struct run *r = run_new(b, e);
    if (r) {
        r->number = b->number++;
        runs_add(b, r);
    }
    return r;
}

/* Start a merge, for which a slot was taken.  1, or -1. */
static int start(struct blocks *b, struct region_words by, const struct box_source *piece, uint32_t count,
                 enum where where, struct err *e)
{
    struct run *r = new_run(b, e);
    if (r && run_merges(r, by, piece, count, e) == 0)
        return lent_start(b, r, where, e) < 0 ? -1 : 1;
    if (where == HERE)
        agent_end_run(b->t->agent, b->run_memory);
    return -1;
}

/* Ask the next question about where ranges lie, by a small merge.  1: it was started; 0: it cannot be. */
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
        struct region_words by = {b->tail->order_argv, b->tail->order_argc};
        agent_begin_run(b->t->agent, 0, UINT32_MAX, b->run_memory); /* it is short and all others wait for it, so it gets a slot in any case */
        r = start(b, by, piece, count, HERE, e);
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

/* Take the answer to the last question, and free its run. */
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

/* The pieces of the files that belong to the next range. */
static uint32_t pieces_of_next(const struct keys *k, struct box_source *piece, uint64_t *bytes)
{
    uint32_t count = 0;
    *bytes = 0;
    for (uint32_t f = 0; f < k->count; f++) {
        uint64_t from = ranges_cut(k->ranges, k->next, f), to = ranges_cut(k->ranges, k->next + 1, f);
        if (from < to)
            piece[count++] = (struct box_source){k->fd[f], from, to - from};
        *bytes += to - from;
    }
    return count;
}

/* The range lies in order in the files already: pass it on without a merge. */
static int pass_on(struct blocks *b, const struct box_source *piece, uint32_t count, struct err *e)
{
    struct run *r = new_run(b, e);
    if (!r)
        return -1;
    r->piece = arena_array(&r->arena, count, sizeof *r->piece);
    if (!r->piece)
        return err_nomem(e);
    memcpy(r->piece, piece, count * sizeof *piece);
    r->piece_count = count;
    r->ended = true;
    return 1;
}

/* Begin the next range.  1: it was started, or needs no merge; 0: there is no slot. */
static int start_range(struct blocks *b, struct err *e)
{
    struct keys *k = b->keys;
    struct box_source piece[MERGE_FAN];
    struct region_words by = {b->tail->combine_argv, b->tail->combine_argc};
    enum where where;
    uint64_t bytes;
    uint32_t count = pieces_of_next(k, piece, &bytes);
    bool whole = count < 2 || ranges_equals(k->ranges, k->next);
    if (!whole && !lent_slot(b, bytes, false, &where))
        return 0;
    k->next++;
    return whole ? pass_on(b, piece, count, e) : start(b, by, piece, count, where, e);
}

static int step_merging(struct blocks *b, struct err *e)
{
    int r = 1;
    while (r > 0) {
        if (blocks_give_all(b, e) < 0)
            return -1;
        if (b->state != COMBINING || b->unread || !(b->waiting || (keys_left(b) && blocks_room_for_more(b))))
            break;
        r = b->waiting ? lent_again(b, e) : start_range(b, e);
    }
    if (r < 0 || b->state != COMBINING)
        return r < 0 ? -1 : 0;
    if (b->unread || (!keys_left(b) && !b->run)) {
        runs_drop(b);
        blocks_end(b);
        return 0;
    }
    return twice_hasten(b, e);
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
