/* Jobs as the world knows them: whatever the core says of a job must be true. */
#include "tests/sim/world.h"

struct tracked *tracked(struct world *w, uint64_t number)
{
    for (uint32_t i = 0; i < w->jobs; i++)
        if (w->job[i].accepted && w->job[i].number == number)
            return &w->job[i];
    return NULL;
}

struct tracked *known(struct world *w, uint64_t number)
{
    for (uint32_t i = 0; i < w->jobs; i++)
        if (w->job[i].number == number && number)
            return &w->job[i];
    return NULL;
}

static uint32_t expected_status(const struct tracked *t)
{
    uint32_t status = t->status[t->stages];
    for (uint32_t i = t->stages; t->pipefail && !status && i-- > 1;)
        status = t->early[i] ? 0 : t->status[i];
    return t->negate ? status == 0 : status;
}

struct run *run_of(struct actor *a, uint64_t job, uint32_t attempt)
{
    for (int i = 0; i < RUNS_MAX; i++)
        if (a->run[i].used && a->run[i].job == job && (!attempt || a->run[i].attempt == attempt))
            return &a->run[i];
    return NULL;
}

/* The unit that stage n makes of a unit; stage 0 is the source. */
uint32_t unit_of(uint32_t n, uint32_t from)
{
    return (from ^ n) * 2654435761u + 12345;
}

static bool all_there(const struct tracked *t)
{
    bool same = t->sink.ended && t->sink.got == t->units;
    for (uint32_t i = 0; i < t->units && same; i++) {
        uint32_t unit = i;
        for (uint32_t n = 1; n <= t->stages; n++)
            unit = unit_of(n, unit);
        same = t->sink.unit[i] == unit;
    }
    return same;
}

/* Checks which block the reason of a failure blames, if it names one. */
static void see_named(struct world *w, const char *text)
{
    const char *block = strstr(text, "block ");
    uint64_t number = block ? strtoull(block + strlen("block "), NULL, 10) - 1 : 0;
    if (!block)
        return;
    must(w, number == BLOCK_KILLS || (number >= BLOCK_ELSE && number < BLOCK_ELSE + BLOCKS), "a block is blamed for what another one did");
    befell[NAMED] += number == BLOCK_KILLS;
}

/* Checks a RESULT when the core sends it: by then every worker that the core could still hear is done with the job. */
void see_result(struct world *w, uint64_t link, const struct msg_result *r)
{
    struct tracked *t = tracked(w, r->job);
    must(w, t != NULL, "a result of a job that was never accepted");
    if (!t)
        return;
    must(w, t->client == link && t->request == r->request, "a result for somebody else");
    must(w, ++t->results == 1, "a job had two results");
    must(w, r->code != ERR_CANCELLED || t->cancelled, "a job was cancelled by somebody else");
    must(w, r->code != ERR_BUG, "the core blames itself");
    must(w, r->commit == (r->code == 0), "a job that failed commits, or one that did not does not");
    must(w, !r->commit || all_there(t), "a job commits without its bytes, or with others");
    must(w, r->commit || r->text[0], "a failure without its reason");
    see_named(w, r->text);
    must(w, !t->held || r->code != ERR_AGAIN, "a submitted job gave up waiting");
    must(w, !r->commit || r->status == expected_status(t), "a wrong status");
    must(w, r->commit || r->status == 125 || r->status == 124, "a failure without its status");
    for (uint32_t i = 0; i < w->actors; i++) {
        const struct actor *a = &w->actor[i];
        for (int k = 0; k < RUNS_MAX; k++)
            must(w, a->mood != PRESENT || w->ended[a->link] || !a->run[k].used || a->run[k].left || a->run[k].job != r->job,
                 "a result while a worker still runs the job");
    }
}

/* Checks a RESULT that refuses a job at once, because no worker has the memory for it. */
void see_refused(struct world *w, uint64_t link, const struct msg_result *r)
{
    for (uint32_t i = 0; i < w->jobs; i++) {
        struct tracked *t = &w->job[i];
        if (t->client != link || t->request != r->request || r->code != ERR_LIMIT)
            continue;
        must(w, t->needy && !t->held && !t->accepted, "a job was refused that needs no memory");
        for (size_t k = 0; k < w->core->fleet.count; k++) {
            uint64_t has = w->core->fleet.heap[k]->memory_bytes;
            must(w, has && has < t->stages * STAGE_MEMORY, "a job was refused although a worker has the memory for it");
        }
        t->results++;
    }
}

/* What the core says of a job grows with its stages, and with how often they were begun; never with its input or with time. */
void see_told(struct world *w, const struct msg *m)
{
    uint64_t number = m->type == MSG_RUN     ? m->run.job
                      : m->type == MSG_STOP  ? m->stop.job
                      : m->type == MSG_ROUTE ? m->route.job
                                             : 0;
    struct tracked *t = number ? tracked(w, number) : NULL;
    if (!t)
        return;
    t->runs += m->type == MSG_RUN;
    t->told++;
    must(w, t->runs <= t->stages * most_attempts(w, t), "a job's parts are begun without end");
    /* for each part that is begun: RUN, its STOP and that of the part before, ROUTE to the client and to its reader */
    must(w, t->told <= 5 * (t->runs + 1), "the scheduler says more of a job than its parts need");
}

void see_accept(struct world *w, uint64_t link, const struct msg_accept *m)
{
    for (uint32_t i = 0; i < w->jobs; i++) {
        struct tracked *t = &w->job[i];
        if (t->client != link || t->request != m->request)
            continue;
        must(w, !t->accepted, "a job was accepted twice");
        t->accepted = true;
        if (t->number == m->job) {
            w->went_on++;
            return;
        }
        t->number = m->job; /* the job begins, or begins again */
        t->sink.attempt = t->source = t->source_lost = t->runs = t->told = 0;
    }
}
