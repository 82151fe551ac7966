/* The status of a job from the ends of its stages: graph_status.  A limit of ours, or a sandbox that failed, is no result
 * of the programs: then the job fails. */
#include "scheduler/state.h"

static struct graph_end end_of(const void *owner, uint32_t node)
{
    const struct job *j = owner;
    return (struct graph_end){j->node[node].status, j->node[node].early_stop};
}

static void fail(struct job *j, uint32_t status)
{
    j->failed = true;
    j->status = status;
}

/* Is it a status that is in order for a map?  A map of `grep` that found nothing has not failed. */
static bool is_usual(const struct graph_node *n, uint32_t status)
{
    return n->kind == GRAPH_MAP && status < 32 && n->split.ok_status >> status & 1;
}

uint32_t verdict(struct job *j)
{
    for (uint32_t i = 0; i < j->graph->node_count && !j->failed; i++) {
        const struct graph_node *g = &j->graph->node[i];
        const struct job_node *n = &j->node[i];
        if (!graph_is_stage(g))
            continue;
        if (!n->ended) {
            fail(j, 125);
            err_set(&j->why, ERR_BUG, "no worker told how `%.200s` ended", g->label);
        } else if (n->end == MSG_END_LIMIT && graph_fail_of(g) != GRAPH_FAIL_GO) {
            fail(j, 124);
            err_set(&j->why, ERR_LIMIT, "`%.200s` reached a limit", g->label);
            if (i == j->limit_node)
                j->why = j->limit;
        } else if (n->end == MSG_END_FAILED || n->end == MSG_END_KILLED) {
            fail(j, 125);
            bool task = g->kind == GRAPH_MAP || g->kind == GRAPH_REDUCE; /* one of its tasks was the reason, and was kept: again.c */
            err_set(&j->why, ERR_IO, task ? "a task of `%.200s` takes its workers with it" : "the sandbox of `%.200s` failed", g->label);
        } else if (graph_fail_of(g) == GRAPH_FAIL_STOP && n->status && !n->early_stop && !is_usual(g, n->status)) {
            fail(j, n->status);
            err_set(&j->why, ERR_INPUT, "`%.200s` ended with status %u, and with fail=stop%s so does the job",
                    g->label, n->status, g->set.fail == GRAPH_FAIL_STOP ? "" : ", the default of map and reduce,");
        }
    }
    return j->failed ? j->status : graph_status(j->graph, end_of, j);
}
