/* Runs that wait in the box for another's end.  A task of a microsecond's work would cost a way to the box and back during
 * which its slot is idle: so while a stage's tasks are short, some blocks are given to the box at once, each to begin when the one
 * before it has ended, in that one's slot.  Each is a region as ever, with its own sandboxes, limits, end and
 * result; only its beginning is nobody's to wait for.
 *
 * What must stay true: a queue is short in time, whatever turns out to be in its blocks; where a slot is free and nothing can be cut
 * for it, it takes the first that waits. */
#include "worker/blocks_inside.h"

#define QUEUE_MAX 16
#define QUEUE_NS  10000000u /* all that wait behind one, going by those that have ended */

/* Those of which each has a slot. */
uint32_t queue_slots(const struct blocks *b)
{
    return b->running - b->resting - b->queued;
}

/* It got a slot of its own: so many may wait behind it. */
void queue_open(struct run *r)
{
    struct blocks *b = r->b;
    b->queue_end = r;
    b->queue_room = b->t->deaths || !b->way->queues || !b->way->queues(r) || !b->task_ns ? 0
                    : QUEUE_NS / b->task_ns < QUEUE_MAX                  ? (uint32_t)(QUEUE_NS / b->task_ns)
                                                                         : QUEUE_MAX;
}

bool queue_has_room(const struct blocks *b)
{
    return b->queue_end && b->queue_room;
}

/* The run that is about to start waits for the last one. */
void queue_add(struct run *r)
{
    struct blocks *b = r->b;
    r->behind = b->queue_end;
    r->behind->follower = r;
    b->queue_end = r;
    b->queue_room--;
    b->queued++;
}

/* Its region has ended, or could not be started: who waits for it has its slot, if it had one. */
void queue_leave(struct run *r)
{
    struct blocks *b = r->b;
    if (b->queue_end == r) {
        b->queue_end = NULL;
        b->queue_room = 0;
    }
    if (r->behind)
        r->behind->follower = r->follower;
    if (r->follower)
        r->follower->behind = r->behind;
    if (r->behind || r->follower)
        b->queued--;
    else if (!r->rests)
        agent_end_run(b->t->agent, b->run_memory);
    r->behind = r->follower = NULL;
}

/* How long it took bears on how many wait behind the next ones. */
void queue_note(struct run *r)
{
    struct blocks *b = r->b;
    uint64_t ns = 1;
    for (uint32_t i = 0; i < run_program_count(r); i++)
        if (run_result(r, i)->wall_ns > ns)
            ns = run_result(r, i)->wall_ns;
    b->task_ns = b->task_ns ? (7 * b->task_ns + ns) / 8 + 1 : ns;
}

/* Slots that are free take the first that wait. */
int queue_release(struct blocks *b, struct err *e)
{
    for (struct run *r = b->run; r && b->queued; r = r->next) {
        if (!r->behind)
            continue;
        if (!agent_begin_run(b->t->agent, queue_slots(b), b->t->graph->width, b->run_memory))
            return 0;
        r->behind->follower = NULL;
        r->behind = NULL;
        b->queued--;
        if (box_release(agent_box(b->t->agent), r->watch.id, e) < 0)
            return -1;
    }
    return 0;
}
