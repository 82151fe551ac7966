/* The memory of workers, and what a job's stages need of it.  A stage needs what its commands declare (`with memory=`).
 * Stages that stream need all of it, for as long as their part exists.  A stage in blocks needs as much as one run takes,
 * for without one run it could not go on; it begins as many more runs as its worker has room for (worker/agent.c).  Runs
 * that are lent take memory at the lender, for each slot.  A stage that declares nothing needs nothing.
 *
 * What must stay true: what is taken of a worker's memory is what its parts and loans need, and never more than it gives.
 * How much is needed by parts from an earlier scheduler is not known at first; until it is, nothing that needs memory is
 * placed there.  A job that needs more than is free lets jobs go first that need less, but not for ever: after PATIENCE_NS
 * no other job that needs memory is started before it.
 *
 * A worker that names no amount, like the one in the client's own process, has no bound here. */
#include "scheduler/state.h"

#include "proto/stages.h"

#include <stdio.h>

#define STAGES_ARENA_MAX (16u << 20)

static void note(struct job *j, uint32_t node, uint64_t bytes, bool runs)
{
    j->node[node].memory_bytes = bytes;
    j->node[node].run_bytes = runs ? bytes : 0;
    j->memory_bytes = graph_add_memory(j->memory_bytes, bytes);
}

static void note_all(struct job *j, const struct graph_stages *s)
{
    const struct graph *g = j->graph;
    for (uint32_t i = 0; i < g->node_count; i++)
        if (s->of_node[i] == GRAPH_NONE && graph_is_stage(&g->node[i]))
            note(j, i, g->node[i].set.memory_bytes, false);
    for (uint32_t i = 0; i < s->count; i++) {
        const struct graph_stage *one = &s->stage[i];
        note(j, one->author != GRAPH_NONE ? one->author : s->node[one->first], stage_run_memory(g, s, one), true);
    }
}

int memory_measure(struct job *j, struct err *e)
{
    struct arena a = ARENA_INIT(STAGES_ARENA_MAX);
    struct graph_stages stages;
    bool declared = false;
    for (uint32_t i = 0; i < j->graph->node_count; i++)
        declared |= j->graph->node[i].set.memory_bytes != 0;
    if (!declared)
        return 0;
    int r = graph_stages(j->graph, &a, &stages, e);
    if (r == 0)
        note_all(j, &stages);
    arena_clear(&a);
    return r;
}

/* The memory that all stages to be placed need. */
static uint64_t need_of(const struct job *j)
{
    uint64_t bytes = 0;
    for (uint32_t i = 0; j->memory_bytes && i < j->graph->node_count; i++) {
        uint32_t part = j->node[i].part;
        if (part == NOWHERE || (part < j->part_count && j->part[part].again))
            bytes = graph_add_memory(bytes, j->node[i].memory_bytes);
    }
    return bytes;
}

uint64_t memory_of_part(const struct job *j, uint32_t part, uint64_t *run_bytes)
{
    uint64_t bytes = 0;
    *run_bytes = 0;
    for (uint32_t i = 0; j->memory_bytes && i < j->graph->node_count; i++) {
        if (j->node[i].part != part)
            continue;
        bytes = graph_add_memory(bytes, j->node[i].memory_bytes);
        if (j->node[i].run_bytes > *run_bytes)
            *run_bytes = j->node[i].run_bytes;
    }
    return bytes;
}

static uint64_t memory_free(const struct peer_state *w)
{
    return !w->memory_bytes ? UINT64_MAX : remains_any(w) ? 0 : w->memory_bytes - w->memory_used;
}

bool memory_fits(const struct job *j, const struct peer_state *w)
{
    return !j->memory_bytes || need_of(j) <= memory_free(w);
}

bool memory_could_fit(const struct job *j, const struct peer_state *w)
{
    return !w->memory_bytes || j->memory_bytes <= w->memory_bytes;
}

uint32_t memory_runs(const struct peer_state *w, uint64_t run_bytes, uint32_t slots)
{
    uint64_t runs = run_bytes ? memory_free(w) / run_bytes : slots;
    return runs < slots ? (uint32_t)runs : slots;
}

/* ---- in words */

static const char *size_text(char *text, size_t room, uint64_t bytes)
{
    static const char *const units[] = {"B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"};
    double v = (double)bytes;
    size_t u = 0;
    for (; v >= 1024 && u < 6; u++)
        v /= 1024;
    snprintf(text, room, v == (double)(uint64_t)v ? "%.0f %s" : "%.1f %s", v, units[u]);
    return text;
}

bool memory_say_too_much(const struct core *c, const struct job *j, struct err *e)
{
    const struct peer_state *largest = NULL;
    uint32_t most = 0, stages = 0;
    char all[32], one[32], has[32];
    for (size_t i = 0; i < c->fleet.count; i++) {
        const struct peer_state *w = c->fleet.heap[i];
        if (!job_may_have(j, w))
            continue;
        if (memory_could_fit(j, w))
            return false;
        if (!largest || w->memory_bytes > largest->memory_bytes || (w->memory_bytes == largest->memory_bytes && w->link < largest->link))
            largest = w;
    }
    if (!largest)
        return false;
    for (uint32_t i = 0; i < j->graph->node_count; i++) {
        stages += j->node[i].memory_bytes != 0;
        most = j->node[i].memory_bytes > j->node[most].memory_bytes ? i : most;
    }
    size_text(all, sizeof all, j->memory_bytes);
    size_text(one, sizeof one, j->node[most].memory_bytes);
    size_text(has, sizeof has, largest->memory_bytes);
    if (stages == 1)
        err_set(e, ERR_LIMIT,
                "`%.200s` needs %s of memory, and the largest worker, '%s', gives %s: declare less with `memory=`, or start a worker with "
                "a larger --memory",
                j->graph->node[most].label, one, largest->name, has);
    else
        err_set(e, ERR_LIMIT,
                "the job's stages need %s of memory together, `%.200s` alone %s, and the largest worker, '%s', gives %s: declare less with "
                "`memory=`, or start a worker with a larger --memory",
                all, j->graph->node[most].label, one, largest->name, has);
    return true;
}
