/* Workers were lost while they ran a stage of this attempt, and perhaps one of its blocks was the reason.  If this worker
 * is lost as well, nobody is left to say which one.  So only one block of a stage runs here at a time, and the scheduler is
 * told which before it begins.  If a task of a map or reduce is found to be the reason, its input must be kept so that it
 * can be run again alone, and only the worker that has the stage has that input.  So the next worker is told not to run
 * that task, and ends the stage with it, as with a task with which lenders were lost (lent_back).  See scheduler/again.c. */
#include "worker/blocks_inside.h"

#include <string.h>

static bool is_careful(const struct blocks *b)
{
    return b->t->deaths && agent_data(b->t->agent) && !b->t->elsewhere;
}

bool careful_slot(struct blocks *b)
{
    if (agent_begin_run(b->t->agent, queue_slots(b), is_careful(b) ? 1 : b->t->graph->width, b->run_memory))
        return true;
    copies_yield(b);
    return false;
}

void careful_begin(struct run *r)
{
    const struct blocks *b = r->b;
    struct err e = {.text = ""};
    bool author = b->stage->author != GRAPH_NONE;
    if (!is_careful(b) || r->merge.count)
        return;
    if (!author)
        blocks_alone(r, &e);
    else if (r->file != GRAPH_NONE)
        err_name(b->t->graph->file[r->file].name, e.text);
    struct msg m = {.type = MSG_BEGINS,
                    .begins = {b->t->job, b->t->number, author ? b->stage->author : b->node[0], r->number, e.text}};
    attempt_say(b->t, &m);
}

bool careful_shuns(const struct run *r)
{
    const struct blocks *b = r->b;
    return b->t->bad && b->stage->author == b->t->bad - 1 && r->number == b->t->bad_number && b->way->gave_up;
}

int careful_give_up(struct run *r, struct err *e)
{
    struct blocks *b = r->b;
    err_set(e, ERR_GONE, "%s", b->t->bad_why);
    b->away++; /* counted like a run with which a lender was lost */
    return b->way->gave_up(r, e) ? 1 : -1;
}
