/* Runs of several files, for a stage that is cut between its files: one program reads them all, as its command reads all of
 * them without zpipe.  In the stage's inlet each of its files is one byte.  See blocks.h. */
#include "worker/blocks_inside.h"

/* A lender gets the one file of a run, so in a cluster only files that are too small for that are read together. */
static bool may_join(const struct blocks *b)
{
    bool lent = b->may_be_lent && agent_data(b->t->agent);
    return b->files_bytes && split_joins_files(blocks_node(b, 0)) && !b->t->graph->split_bytes &&
           (!lent || b->files_bytes / b->in.bytes < 2 * (uint64_t)GRAPH_FILE_MIN);
}

uint64_t files_work(const struct blocks *b, uint64_t at)
{
    return b->t->graph->file[inlet_file(&b->in, at)].size_bytes + GRAPH_FILE_MIN;
}

uint64_t files_end(const struct blocks *b, uint64_t size)
{
    uint64_t to = b->from + 1, work = files_work(b, b->from);
    while (may_join(b) && to < b->in.bytes && to - b->from < GRAPH_FILES_RUN && work + files_work(b, to) <= size)
        work += files_work(b, to++);
    return to;
}

bool run_has_files(const struct run *r)
{
    return r->b->files_bytes && !r->merge.count && r->to - r->from > 1;
}

uint32_t *run_files(const struct run *r, struct arena *a, uint32_t *count)
{
    bool several = run_has_files(r);
    *count = several ? (uint32_t)(r->to - r->from) : 1;
    uint32_t *file = arena_array(a, *count, sizeof *file);
    for (uint32_t i = 0; file && i < *count; i++)
        file[i] = several ? inlet_file(&r->b->in, r->from + i) : r->file;
    return file;
}
