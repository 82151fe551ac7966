/* Units on their way from the stage that made them to the reader that gets them. */
#include "tests/sim/world.h"

/* Notes where a stage's input, or the client's output, comes from, as the route says. */
void follow(struct reader *r, const struct msg_route *route, uint32_t attempt)
{
    r->link = strtoull(route->url + strlen("tcp://sim:"), NULL, 10);
    r->attempt = attempt;
    r->seen = 0;
    r->broken = r->through = false;
}

void take_unit(struct reader *r, uint32_t unit)
{
    if ((r->seen >= r->got || plant == 11) && r->got < UNITS_MAX)
        r->unit[r->got++] = unit;
    r->seen++;
}

/* The run that writes what this reader wants; NULL: there is none that can be heard. */
static struct run *writer_of(struct world *w, const struct reader *r, uint64_t job)
{
    struct actor *a = r->link && r->link < LINKS_MAX ? w->owner[r->link] : NULL;
    if (!a || !is_there(a, r->link) || r->broken)
        return NULL;
    return run_of(a, job, r->attempt);
}

/* The reader hears that the connection broke, and its process says so once.  `edge`: the edge that it read. */
static void lose_stream(struct world *w, struct actor *a, struct reader *r, uint64_t job, uint32_t edge)
{
    struct msg m = {.type = MSG_LOST, .lost = {job, r->attempt, MSG_EDGE, edge, GRAPH_NONE, "broken"}};
    r->broken = true;
    say(w, a, &m);
}

/* Moves some more of the units that stage n has made from a run to a reader. */
void pull(struct world *w, struct run *from, uint32_t n, struct reader *r)
{
    for (uint32_t i = 1 + (uint32_t)draw(w, 3); i-- && r->seen < from->in[n].got;)
        take_unit(r, unit_of(n, from->in[n].unit[r->seen]));
    from->taken[n] = r->seen;
    if (!from->ended[n] || r->seen < from->in[n].got)
        return;
    must(w, !r->ended || r->seen == r->got, "a stage that ended got more");
    r->ended = r->through = from->answered[n] = true;
}

/* The same from another process: over a stream, which may break. */
void pull_over(struct world *w, struct actor *a, struct reader *r, uint64_t job, uint32_t n)
{
    struct run *from = writer_of(w, r, job);
    const struct actor *there = r->link && r->link < LINKS_MAX ? w->owner[r->link] : NULL;
    if (r->broken || !r->attempt)
        return;
    if (!there || !is_there(there, r->link) || mishap(w, 200))
        lose_stream(w, a, r, job, n);
    else if (from && !from->stopping && !from->failed)
        pull(w, from, n, r);
}
