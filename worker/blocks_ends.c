/* Where a stage in blocks gets its input from, if that is files, and where it meets the programs that stream.  See
 * blocks.h. */
#include "worker/blocks_inside.h"

#include <string.h>

bool ends_come(const struct blocks *b, uint64_t to)
{
    return !b->file_at || b->intake.bytes >= b->file_at[to];
}

/* Everything that a body reads from outside must have come before its first task begins. */
bool ends_outside_came(const struct blocks *b)
{
    const struct graph *g = b->t->graph;
    for (uint32_t i = 0; b->stage->author != GRAPH_NONE && i < b->stage->count; i++) {
        const struct graph_node *n = &g->node[b->node[i]];
        for (uint32_t k = 0; k < n->fd_count; k++) {
            uint32_t edge = n->fd[k].edge;
            if (g->node[g->edge[edge].from].parent == GRAPH_NONE && !b->t->joint[edge].reader->inlet->ended)
                return false;
        }
    }
    return true;
}

uint64_t ends_used(const struct blocks *b)
{
    if (b->deal)
        return b->dealt;
    return b->state == WHOLE ? b->whole_used : b->file_at ? b->file_at[b->from] : b->from;
}

/* Tasks per file of a streamed input: all files come into one spool, end to end; note where each one's bytes will be. */
static int expect_files(struct blocks *b, const struct graph_node *source, struct err *e)
{
    b->file_at = arena_array(&b->t->arena, (size_t)source->segment_count + 1, sizeof *b->file_at);
    if (!b->file_at)
        return err_nomem(e);
    for (uint32_t i = 0; i < source->segment_count; i++)
        b->file_at[i + 1] = b->file_at[i] + b->t->graph->file[source->segment[i].file].size_bytes;
    b->intake.aside = true;
    b->intake.aside_bytes = b->file_at[source->segment_count];
    return 0;
}

/* Tasks per file of files here: each file, even an empty one, counts as 1 byte of the input, since none is opened before
 * its task begins. */
static int add_files(struct blocks *b, const struct graph_node *source, struct err *e)
{
    b->in.apart = b->in.ended = true;
    for (uint32_t i = 0; i < source->segment_count; i++)
        if (inlet_add(&b->in, -1, 0, 1, source->segment[i].file, e) < 0)
            return -1;
    return 0;
}

/* Which files do the programs of a run need besides what the run is of?  With all of them in each sandbox, 1,000 files would be
 * mounted 1,000,000 times. */
static int find_beside(struct blocks *b, struct err *e)
{
    const struct graph *g = b->t->graph;
    const struct graph_node *n = &g->node[b->node[0]];
    bool *input = arena_array(&b->t->arena, (size_t)g->file_count + 1, sizeof *input);
    b->beside = arena_array(&b->t->arena, (size_t)n->file_count + 1, sizeof *b->beside);
    if (!input || !b->beside)
        return err_nomem(e);
    for (uint32_t i = 0; i < b->head->file_count; i++)
        input[b->head->file[i]] = true;
    for (uint32_t i = 0; i < n->file_count; i++)
        if (!input[n->file[i]])
            b->beside[b->beside_count++] = n->file[i];
    return 0;
}

/* May blocks of lines span files?  Wherever they are cut, their outputs make the same whole, so it is enough that each file ends
 * with its last line, and that no word names the file. */
static bool joins_lines(const struct graph_split *s)
{
    bool named = false;
    for (uint32_t i = 0; i < s->block_argc; i++)
        named |= strchr(s->block_argv[i], GRAPH_HOLE) != NULL;
    return s->cut == GRAPH_CUT_LINES && s->cut_step == 1 && s->run == GRAPH_RUN_EACH && !s->seam.size && !named;
}

/* The files that the stage's words name. */
static int open_files(struct blocks *b, struct err *e)
{
    const struct graph_split *s = b->head;
    bool joins = joins_lines(s);
    if (find_beside(b, e) < 0)
        return -1;
    b->in.apart = true;
    for (uint32_t i = 0; i < s->file_count; i++) {
        const struct graph_file *f = &b->t->graph->file[s->file[i]];
        struct attempt_route *route = attempt_route_of(b->t, MSG_FILE, s->file[i], b->node[0]);
        if (!route)
            return err_set(e, ERR_PROTO, "the input '%s' has no route", f->name);
        if (s->cut == GRAPH_CUT_FILES) { /* its programs open the file themselves; an empty one counts, too */
            if (inlet_add(&b->in, -1, 0, 1, s->file[i], e) < 0)
                return -1;
            b->files_bytes += f->size_bytes + GRAPH_FILE_MIN;
            continue;
        }
        int fd = route->r.via == MSG_VIA_PATH ? region_open_file(b->t, f, e) : spool_reader(route->spool, e);
        if (fd < 0 || inlet_add(&b->in, fd, 0, f->size_bytes, s->file[i], e) < 0)
            return -1;
        if (joins)
            inlet_join(&b->in);
        if (route->in_place)
            inlet_in_place(&b->in, s->file[i]);
    }
    b->in.ended = true;
    return 0;
}

int ends_open_input(struct blocks *b, struct err *e)
{
    const struct graph *g = b->t->graph;
    uint32_t edge = b->stage->in_edge;
    if (edge == GRAPH_NONE)
        return open_files(b, e);
    const struct graph_node *from = &g->node[g->edge[edge].from];
    if (!blocks_per_file(b))
        return intake_open(&b->intake, e);
    if (add_files(b, from, e) < 0)
        return -1;
    if (b->t->here[g->edge[edge].from])
        return 0;
    return expect_files(b, from, e) < 0 ? -1 : intake_open(&b->intake, e);
}

bool blocks_main_runs(const struct attempt *t, uint32_t node)
{
    const struct graph_node *n = &t->graph->node[node];
    if (!t->here[node] || (n->kind != GRAPH_COMMAND && n->kind != GRAPH_SHELL))
        return false;
    for (uint32_t i = 0; i < t->blocks_count; i++) {
        const struct blocks *b = t->blocks[i];
        for (uint32_t k = 0; k < b->stage->count + b->stage->merge_count; k++)
            if (b->node[k] == node && b->stage->author != GRAPH_NONE)
                return false;
            else if (b->node[k] == node)
                return k + 1 == b->stage->count && blocks_rerun(b).count;
    }
    return true;
}

bool blocks_reruns(const struct attempt *t, uint32_t node)
{
    for (uint32_t i = 0; i < t->blocks_count; i++)
        if (blocks_last_node(t->blocks[i]) == node && blocks_rerun(t->blocks[i]).count)
            return true;
    return false;
}

int blocks_meet_main(struct blocks *b, struct region_end *end, uint32_t *count, struct err *e)
{
    const struct graph *g = b->t->graph;
    uint32_t out = b->stage->out_edge, to;
    if (intake_meet_main(&b->intake, end, count, e) < 0)
        return -1;
    if (blocks_rerun(b).count)
        to = blocks_last_node(b);
    else
        to = out == GRAPH_NONE || b->t->joint[out].reader ? GRAPH_NONE : g->edge[out].to;
    if (to == GRAPH_NONE || !blocks_main_runs(b->t, to))
        return 0;
    b->out.main = &end[*count];
    /* `head` is to end as soon as it has its lines, not only when a read is full. */
    end[(*count)++] = (struct region_end){.how = REGION_FEED,
                                          .edge = blocks_rerun(b).count ? GRAPH_NONE : out,
                                          .node = to,
                                          .more = true,
                                          .lines = b->last->stops_early || region_wants_lines(g, out), .channel = GRAPH_NONE};
    return 0;
}

bool blocks_moved(struct blocks *b, uint32_t channel, uint64_t bytes, uint64_t sources)
{
    return intake_moved(&b->intake, channel, bytes) || outlet_main_moved(&b->out, channel, bytes, sources);
}

bool blocks_pump_ended(struct blocks *b, uint32_t channel, int sys, bool reading)
{
    return intake_pump_ended(&b->intake, channel, sys, reading) ||
           outlet_main_ended(&b->out, channel, sys, reading);
}
