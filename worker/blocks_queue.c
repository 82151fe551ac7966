/* Runs that wait inside the box for another run to end.  For tasks of microseconds, the message to the box and back would
 * leave the slot idle most of the time.  So while a stage's tasks are short, several runs are handed to the box at once,
 * each to begin when the one before it has ended, in that one's slot.  Each is a region like any other, with its own
 * sandboxes, limits, end and result; only its start needs no message.
 *
 * What must stay true: a queue takes little time, whatever its blocks turn out to hold; and a free slot for which nothing
 * can be cut takes the first run that waits. */
#include "worker/blocks_inside.h"

#define QUEUE_MAX  16
#define LANE_AFTER 128       /* runs of a stage that have ended before others run in lanes */
#define LANE_NS    20000000u /* runs that take longer do not: the box would not keep them on a CPU */
#define QUEUE_NS   10000000u /* the time for all that wait behind one run, judging by those that have ended */

/* The runs that have a slot of their own. */
uint32_t queue_slots(const struct blocks *b)
{
    return b->running - b->resting - b->queued;
}

/* The run got a slot of its own: decide how many may wait behind it. */
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

/* The run that is about to start waits for the last one started. */
void queue_add(struct run *r)
{
    struct blocks *b = r->b;
    r->behind = b->queue_end;
    r->behind->follower = r;
    b->queue_end = r;
    b->queue_room--;
    b->queued++;
}

/* The run's region has ended, or could not be started: its slot, if it had one, goes to the run that waits for it. */
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

/* Note how long the run took: it decides how many may wait behind the next ones, and whether they run in lanes.  These are worth
 * the start of their servers, and of a template in each, if the stage has many runs: if many have ended. */
void queue_note(struct run *r)
{
    struct blocks *b = r->b;
    uint64_t ns = 1;
    for (uint32_t i = 0; i < run_program_count(r); i++)
        if (run_result(r, i)->wall_ns > ns)
            ns = run_result(r, i)->wall_ns;
    if (r->worker && ns > loop_clock_ns() - r->began_ns)
        ns = loop_clock_ns() - r->began_ns; /* a lender may say anything */
    b->task_ns = b->task_ns ? (7 * b->task_ns + ns) / 8 + 1 : ns;
    b->noted++;
}

bool queue_is_brief(const struct blocks *b)
{
    return b->noted >= LANE_AFTER && b->task_ns < LANE_NS &&
           agent_width(b->t->agent, b->t->graph->width) <= agent_lanes(b->t->agent);
}

/* Give free slots to the first runs that wait. */
int queue_release(struct blocks *b, struct err *e)
{
    for (struct run *r = b->run; r && b->queued; r = r->next) {
        if (!r->behind)
            continue;
        if (!careful_slot(b))
            return 0;
        r->behind->follower = NULL;
        r->behind = NULL;
        b->queued--;
        if (box_release(agent_box(b->t->agent), r->watch.id, e) < 0)
            return -1;
    }
    return 0;
}
