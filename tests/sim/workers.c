/* What workers do, and how they take the messages that they get. */
#include "tests/sim/world.h"

uint64_t memory_at_work(const struct actor *a)
{
    uint64_t bytes = 0;
    for (int i = 0; i < RUNS_MAX; i++)
        bytes += a->run[i].used ? a->run[i].memory : 0;
    for (int i = 0; i < LOANS_MAX; i++)
        bytes += a->lent[i].used ? a->lent[i].memory : 0;
    return bytes;
}

static void see_memory(struct world *w, const struct actor *a)
{
    must(w, !a->memory || memory_at_work(a) <= a->memory, "a worker has been given more than it has memory for");
}

static void run_begin(struct world *w, struct actor *a, const struct msg_run *m)
{
    struct run *r = NULL;
    struct tracked *t = tracked(w, m->job);
    for (int i = 0; i < RUNS_MAX && !r; i++)
        r = a->run[i].used ? NULL : &a->run[i];
    must(w, r && t, "a worker was given what nobody submitted, or far more than its slots");
    if (!r || !t)
        return;
    t->ran = true;
    must(w, m->attempt <= most_attempts(w, t), "a job is begun again without end");
    *r = (struct run){.used = true,
                      .job = m->job,
                      .attempt = m->attempt,
                      .heard = m->attempt,
                      .at_ns = w->now + (1 + draw(w, 200)) * MS};
    memcpy(r->token, m->token.data, sizeof r->token);
    for (uint32_t i = 0; i < m->node_count; i++)
        if (m->node[i] && m->node[i] <= t->stages) /* not for the source or the sink */
            r->here[m->node[i]] = true;
    for (uint32_t i = 1; i < NODES_MAX; i++)
        r->memory += r->here[i] && t->needy ? STAGE_MEMORY : 0;
    see_memory(w, a);
    for (uint32_t i = 0; i < m->route_count; i++) {
        r->local |= m->route[i].via == MSG_VIA_FD;
        if (m->route[i].what == MSG_EDGE && m->route[i].via == MSG_VIA_CONNECT)
            follow(&r->in[m->route[i].index + 1], &m->route[i], m->attempt);
    }
    r->tells = m->deaths;
    struct msg s = {.type = MSG_STARTED, .started = {m->job, m->attempt}};
    say(w, a, &s);
    if (!w->roomy && one_in(w, 2)) {
        s = (struct msg){.type = MSG_WANT, .want = {m->job, m->attempt, UINT32_MAX}};
        say(w, a, &s);
    }
}

static void run_reroute(struct world *w, struct actor *a, const struct msg_route_list *m)
{
    struct run *r = run_of(a, m->job, m->reader);
    if (r)
        r->heard = m->attempt;
    for (uint32_t i = 0; r && i < m->route_count; i++) {
        must(w, r->here[m->route[i].index + 1], "a worker is told of a stream that is not its own");
        if (r->in[m->route[i].index + 1].attempt < m->attempt)
            follow(&r->in[m->route[i].index + 1], &m->route[i], m->attempt);
    }
}

/* Says how many more slots the run's stages in blocks could use: now more, now less. */
void want(struct world *w, struct actor *a, const struct run *r)
{
    uint32_t slots = one_in(w, 3) ? 0 : one_in(w, 3) ? UINT32_MAX : (uint32_t)draw(w, 8);
    struct msg m = {.type = MSG_WANT, .want = {r->job, r->attempt, slots}};
    if (!w->roomy && one_in(w, 3) && !r->paused)
        say(w, a, &m);
}

static struct lent *lent_of(struct actor *a, uint32_t loan)
{
    for (int i = 0; i < LOANS_MAX; i++)
        if (a->lent[i].used && a->lent[i].what.loan == loan)
            return &a->lent[i];
    return NULL;
}

/* The memory that the lent slots need: for the last stage, which runs in blocks, if the owner has it. */
static uint64_t lent_memory(const struct world *w, const struct msg_lend *m, const struct tracked *t)
{
    uint64_t address = strtoull(strrchr(m->url, ':') + 1, NULL, 10);
    const struct run *r = t && t->needy ? run_of(w->owner[address], m->job, m->attempt) : NULL;
    return r && r->here[t->stages] ? m->slots * STAGE_MEMORY : 0;
}

static void lend_begin(struct world *w, struct actor *a, const struct msg_lend *m)
{
    struct lent *l = NULL;
    const struct tracked *t = tracked(w, m->job);
    uint32_t slots = m->slots;
    for (int i = 0; i < LOANS_MAX; i++) {
        slots += a->lent[i].used ? a->lent[i].slots : 0;
        l = a->lent[i].used || l ? l : &a->lent[i];
    }
    if (m->loan <= a->loan)
        return; /* a repeated LEND changes nothing */
    a->loan = m->loan;
    must(w, l && m->slots && slots <= a->slots, "a worker lent more slots than it has");
    if (!l)
        return;
    *l = (struct lent){.used = true,
                       .what = {m->job, m->attempt, m->loan, one_in(w, 10)},
                       .slots = m->slots,
                       .memory = lent_memory(w, m, t),
                       .at_ns = one_in(w, 3) ? w->now + draw(w, 3000) * MS : NEVER};
    see_memory(w, a);
}

void give_back(struct world *w, struct actor *a, struct lent *l)
{
    struct msg m = {.type = MSG_RETURNED, .returned = l->what};
    l->used = false;
    say(w, a, &m);
}

static void recalled(struct world *w, struct actor *a, const struct msg_recall *m)
{
    struct lent *l = lent_of(a, m->loan);
    if (l && !(m->now && a->stuck))
        l->at_ns = earlier(l->at_ns, w->now + draw(w, m->now ? 100 : 3000) * MS);
}

static void say_stopped(struct world *w, struct actor *a, uint64_t job, uint32_t attempt, uint32_t heard)
{
    struct msg s = {.type = MSG_STOPPED, .stopped = {job, attempt, heard}};
    say(w, a, &s);
}

static void say_task(struct world *w, struct actor *a, const struct run *r, uint32_t n, uint32_t end, uint32_t status, bool early);

bool is_there(const struct actor *a, uint64_t address)
{
    return a->address == address && (a->mood == PRESENT || (a->mood == LOST && a->goes_on));
}

void tell_remains(struct world *w, struct actor *a)
{
    for (int i = 0; i < RUNS_MAX; i++) {
        const struct run *r = &a->run[i];
        uint32_t node[NODES_MAX], count = 0;
        for (uint32_t n = 0; n < NODES_MAX; n++)
            if (r->here[n])
                node[count++] = n;
        struct msg m = {.type = MSG_REMAINS,
                        .remains = {r->job, r->attempt, {(const char *)r->token, sizeof r->token}, node, count}};
        if (r->used)
            say(w, a, &m);
    }
}

/* A scheduler knows the run again: everything that was to be said of it is said. */
static void run_goes_on(struct world *w, struct actor *a, struct run *r)
{
    const struct tracked *t = r ? known(w, r->job) : NULL;
    if (!t || !r->paused)
        return;
    r->paused = r->left = false;
    struct msg s = {.type = MSG_STARTED, .started = {r->job, r->attempt}};
    say(w, a, &s);
    for (uint32_t n = 1; n <= t->stages; n++) {
        if (r->ended[n])
            say_task(w, a, r, n, r->end[n], t->status[n], t->early[n]);
        if (r->here[n] && r->in[n].broken) {
            s = (struct msg){.type = MSG_LOST, .lost = {r->job, r->in[n].attempt, MSG_EDGE, n - 1, GRAPH_NONE, "broken"}};
            say(w, a, &s);
        }
    }
}

void worker_hears(struct world *w, struct actor *a, const struct msg *m)
{
    if (m->type == MSG_RUN && !run_of(a, m->run.job, m->run.attempt)) {
        run_begin(w, a, &m->run);
    } else if (m->type == MSG_ROUTE) {
        run_reroute(w, a, &m->route);
    } else if (m->type == MSG_LEND) {
        lend_begin(w, a, &m->lend);
    } else if (m->type == MSG_RECALL) {
        recalled(w, a, &m->recall);
    } else if (m->type == MSG_GO_ON) {
        run_goes_on(w, a, run_of(a, m->go_on.job, m->go_on.attempt));
    } else if (m->type == MSG_STOP) {
        struct run *r = run_of(a, m->stop.job, m->stop.attempt);
        if (r) {
            r->paused = false;
            r->stopping = true;
            r->at_ns = earlier(r->at_ns, w->now + (1 + draw(w, 100)) * MS);
        } else {
            say_stopped(w, a, m->stop.job, m->stop.attempt, m->stop.attempt);
        }
    }
}

/* What stage n reads: the client's input, what a neighbour in the same run made, or a stream. */
static void node_reads(struct world *w, struct actor *a, struct run *r, struct tracked *t, uint32_t n)
{
    struct reader *in = &r->in[n];
    if (!r->ended[n] && in->seen >= in->got && in->got >= r->taken[n] + AHEAD)
        return; /* the stage's own reader is slow */
    if (n > 1 && r->here[n - 1]) {
        pull(w, r, n - 1, in);
    } else if (n > 1) {
        pull_over(w, a, in, r->job, n - 1);
    } else if (r->local || t->source == r->attempt) {
        for (uint32_t i = 1 + (uint32_t)draw(w, 3); i-- && in->got < t->units;)
            take_unit(in, in->got);
        in->ended = in->got == t->units && !t->endless;
    }
}

static void say_task(struct world *w, struct actor *a, const struct run *r, uint32_t n, uint32_t end,
                     uint32_t status, bool early)
{
    struct msg m = {.type = MSG_TASK,
                    .task = {.job = r->job,
                             .attempt = r->attempt,
                             .node = n,
                             .end = end,
                             .status = status,
                             .early_stop = early,
                             .text = "",
                             .stderr_tail = ""}};
    if (!r->paused)
        say(w, a, &m);
}

/* The run is killed, and some of its programs are reported as if they had ended. */
static void run_dies(struct world *w, struct actor *a, struct run *r)
{
    for (uint32_t n = 1; n < NODES_MAX; n++)
        if (r->here[n] && !r->ended[n] && one_in(w, 2))
            say_task(w, a, r, n, MSG_END_EXITED, 77, false);
    r->used = false;
    say_stopped(w, a, r->job, r->attempt, r->heard);
}

static void run_fails(struct world *w, struct actor *a, struct run *r)
{
    struct msg m = {.type = MSG_FAIL, .fail = {r->job, r->attempt, ERR_IO, "disk full", false}};
    r->stopping = true;
    say(w, a, &m);
}

static bool run_done(const struct run *r, const struct tracked *t)
{
    for (uint32_t n = 1; n <= t->stages; n++)
        if (r->here[n] && (!r->ended[n] || !r->answered[n] || (n > 1 && !r->in[n].through)))
            return false;
    return true;
}

/* Tells which blocks begin.  The one that takes the worker with it comes first: blocks beside it are never told without it. */
static void say_blocks(struct world *w, struct actor *a, struct run *r, const struct tracked *t)
{
    bool kills = t->cursed && r->here[1];
    for (uint32_t n = 1; n <= t->stages; n++) {
        uint64_t number = kills && n == 1 ? BLOCK_KILLS : (kills ? BLOCK_BESIDE : BLOCK_ELSE) + draw(w, BLOCKS);
        struct msg m = {.type = MSG_BEGINS, .begins = {r->job, r->attempt, n, number, ""}};
        if (r->here[n] && !r->ended[n])
            say(w, a, &m);
    }
    r->tells = false;
}

/* One step of a run: units move, stages end, or all is over. */
void run_step(struct world *w, struct actor *a, struct run *r)
{
    struct tracked *t = known(w, r->job);
    r->at_ns = w->now + (1 + draw(w, 300)) * MS;
    if (r->stopping && a->stuck) {
        r->at_ns = w->now + 1000 * MS;
    } else if (r->stopping) {
        run_dies(w, a, r);
    } else if (!t) { /* the job runs under another number by now: the run waits for STOP */
        must(w, r->paused, "a run of no job");
    } else if (r->failed) {
        want(w, a, r);
    } else if (r->tells && !r->paused) {
        say_blocks(w, a, r, t);
    } else if (t->cursed && r->here[1] && !a->local && !r->paused) {
        if (one_in(w, 2))
            run_fails(w, a, r);
        else
            leave(w, a, true);
    } else if (run_done(r, t) && r->paused) {
        r->at_ns = w->now + 100 * MS;
    } else if (run_done(r, t)) {
        r->used = false;
        say_stopped(w, a, r->job, r->attempt, r->heard);
    } else if (!r->paused && mishap(w, 300)) {
        run_fails(w, a, r);
    } else {
        want(w, a, r);
        for (uint32_t n = t->stages; n >= 1; n--) {
            if (!r->here[n])
                continue;
            node_reads(w, a, r, t, n); /* a stage that has ended may get the units once more that it has */
            if (!r->in[n].ended || r->ended[n])
                continue;
            uint32_t end = mishap(w, 250)                 ? MSG_END_LIMIT
                           : !r->paused && mishap(w, 250) ? MSG_END_FAILED
                                                          : MSG_END_EXITED;
            r->end[n] = end;
            r->failed |= end == MSG_END_FAILED;
            r->ended[n] = end != MSG_END_FAILED;
            say_task(w, a, r, n, end, t->status[n], t->early[n]);
        }
        if (r->local && r->here[t->stages])
            pull(w, r, t->stages, &t->sink);
        struct msg moved = {.type = MSG_PROGRESS, .progress = {.job = r->job, .node = t->stages}};
        if (one_in(w, 8) && !r->paused)
            say(w, a, &moved);
    }
}
