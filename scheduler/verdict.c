/* What the ends of a job's stages add up to.
 *
 * As in sh: a statement's status is its last stage's; with pipefail that of the last stage that
 * failed, where one that was ended because its reader had left counts as 0; `!` turns it around.
 * The job's is that of its first statement, in order, whose status is not 0.  A limit of ours or a
 * sandbox that failed is no result of the programs': the job fails. */
#include "scheduler/state.h"

bool node_is_process(const struct graph_node *n)
{
    return n->kind == GRAPH_COMMAND || n->kind == GRAPH_SHELL;
}

/* Nodes [first, last] are the statement's. */
static uint32_t statement_status(const struct job *j, uint32_t first, uint32_t last)
{
    uint32_t status = j->node[last].status;
    for (uint32_t i = last; j->graph->pipefail && status == 0 && i-- > first;) {
        const struct graph_node *n = &j->graph->node[i];
        if (node_is_process(n) && !n->drain && !j->node[i].early_stop)
            status = j->node[i].status;
    }
    return j->graph->node[last].negate ? status == 0 : status;
}

static uint32_t job_status(const struct job *j)
{
    uint32_t first = 0;
    for (uint32_t i = 0; i < j->graph->node_count; i++) {
        const struct graph_node *n = &j->graph->node[i];
        if (!n->ends || !node_is_process(n))
            continue;
        uint32_t status = statement_status(j, first, i);
        if (status)
            return status;
        first = i + 1;
    }
    return 0;
}

static void fail(struct job *j, uint32_t status)
{
    j->failed = true;
    j->status = status;
}

uint32_t verdict(struct job *j)
{
    for (uint32_t i = 0; i < j->graph->node_count && !j->failed; i++) {
        const struct graph_node *g = &j->graph->node[i];
        const struct job_node *n = &j->node[i];
        if (!node_is_process(g))
            continue;
        if (!n->ended) {
            fail(j, 125);
            err_set(&j->why, ERR_BUG, "no worker told how `%.200s` ended", g->label);
        } else if (n->end == MSG_END_LIMIT) {
            fail(j, 124);
            err_set(&j->why, ERR_LIMIT, "`%.200s` reached a limit", g->label);
        } else if (n->end == MSG_END_FAILED || n->end == MSG_END_KILLED) {
            fail(j, 125);
            err_set(&j->why, ERR_IO, "the sandbox of `%.200s` failed", g->label);
        }
    }
    return j->failed ? j->status : job_status(j);
}
