/* The scheduler's core in a made-up world.  Clients submit, cancel, give up, leave and die; workers run, fail, hang, die
 * and come back.  Links delay, repeat, stall and break, but never reorder: a message arrives after those before it on its
 * link or not at all, as over TCP.  Now and then an actor sends what it should not send, and the scheduler itself stands
 * still.  Time is a number, and everything follows from the seed, so a failure can be repeated by its seed:
 *
 *     sim seeds [COUNT [FIRST]]  10,000 seeds from 1 on, or COUNT seeds from FIRST on
 *     sim SEED [PLANT]           one seed, told step by step
 *     sim plants                 bugs planted on purpose (plants.c): each must be found
 *
 * A job is a chain of stages that pass on units, each made from the unit that was read; a stage that runs again makes the
 * same units.  Readers follow the routes that the core sent: over them come a writer's units from the first on, and units
 * that are there already are dropped.  So if a job commits without the right units, the core forgot to run something again,
 * or to tell somebody.
 *
 * Some clients are keepers.  Other clients ask where to submit; a keeper is told to expect them, says that it holds a job,
 * and submits it, again whenever it or the scheduler was gone.  So a submitted job ends, whatever dies, if its keeper and
 * some worker live; and every question is answered.  The scheduler may die, and begin again without knowing anything.
 *
 * After each event, what check.c says must hold inside the core.  Outside of it this must hold: every accepted job whose
 * client lives has one RESULT, and none before every worker is done with the job; its status follows from those of its
 * stages; slots are lent only while no job waits; nothing is sent over a link that has ended; no actor that speaks is taken
 * for dead; nobody cancels the job of another.  The owner drains workers: these are given nothing more, and are sent away
 * when they have nothing left.  What is said of a job is bounded by its stages and by how often they were begun.  When
 * nothing moves any more, no worker runs or lends anything; and when all have left, nothing is left. */
#include "tests/sim/world.h"

static uint64_t drains_made; /* in all worlds so far */

static void see_answer(struct world *w, struct actor *a, const struct msg_answer *m)
{
    a->answered++;
    if (!a->drain || m->request != a->drain)
        return;
    must(w, m->code || is_owner(w, a), "anybody may drain a worker");
    must(w, m->code != ERR_DENIED || !is_owner(w, a), "the owner may not drain a worker");
    w->drained[a->drain_of] |= !m->code;
}

/* A worker is sent away.  By then it has nothing to do, as far as the worker can have heard, unless it is one that never
 * ends what it was told to. */
static void see_drained(struct world *w, const struct actor *a)
{
    drains_made++;
    must(w, w->may_go[a->link], "a worker is sent away that nobody drained");
    for (int i = 0; i < RUNS_MAX; i++)
        must(w, a->mood != PRESENT || !a->run[i].used || (a->stuck && a->run[i].stopping), "a worker is sent away while it runs something");
}

static void take_actions(struct world *w)
{
    struct core_action x;
    while (core_next_action(w->core, &x)) {
        struct actor *a = x.link < LINKS_MAX ? w->owner[x.link] : NULL;
        if (w->talk && x.kind == CORE_DROP)
            printf("%8.3f  -> %" PRIu64 " (drop)\n", (double)w->now / 1e9, x.link);
        else if (w->talk)
            tell(w, "->", x.link, &x.msg);
        must(w, a && !w->ended[x.link], "something was sent over a link that had ended");
        if (!a || w->wrong)
            continue;
        if (x.kind == CORE_DROP) {
            w->ended[x.link] = true;
            if (a->link == x.link)
                cut(&a->from);
            continue;
        }
        must(w,
             x.msg.type != MSG_REFUSE || x.msg.refuse.code != ERR_GONE || a->stalled || a->stuck ||
                 a->mood != PRESENT,
             "somebody who speaks was taken for dead");
        /* The worst moment for the scheduler to die: a worker's part was begun again elsewhere, and the worker does not
         * know. */
        if (x.msg.type == MSG_REFUSE && x.msg.refuse.code == ERR_GONE && a->worker && !w->actor[0].local && !w->lives && one_in(w, 2))
            w->restart_ns = w->now + draw(w, 500) * MS;
        /* Or: some of the workers that run a job have heard where it was begun again, and some have not. */
        if (x.msg.type == MSG_RUN && x.msg.run.attempt > 1 && !w->actor[0].local && !w->lives && one_in(w, 4))
            w->restart_ns = w->now + draw(w, 100) * MS;
        if (x.msg.type == MSG_RESULT && x.msg.result.job)
            see_result(w, x.link, &x.msg.result);
        else if (x.msg.type == MSG_RESULT)
            see_refused(w, x.link, &x.msg.result);
        if (x.msg.type == MSG_LEND) {
            w->lent++;
            must(w, w->actor[0].local || !core_stats(w->core).waiting,
                 "slots are lent while a job waits");
        }
        if (x.msg.type == MSG_ACCEPT)
            see_accept(w, x.link, &x.msg.accept);
        if (x.msg.type == MSG_ANSWER && a->link == x.link)
            see_answer(w, a, &x.msg.answer);
        see_told(w, &x.msg);
        must(w, !w->drained[x.link] || (x.msg.type != MSG_RUN && x.msg.type != MSG_LEND), "a worker that is drained is given more");
        if (x.msg.type == MSG_DRAINED)
            see_drained(w, a);
        must(w, x.msg.type != MSG_VISIT || a->keeper, "a visitor was sent to somebody who is no keeper");
        if (a->mood == PRESENT && a->link == x.link)
            put(w, a, &a->to, &x.msg, x.bulk);
    }
    const char *wrong = core_check(w->core);
    must(w, !wrong, wrong);
}

static void core_hears(struct world *w, struct actor *a)
{
    struct arena arena = ARENA_INIT(1 << 24);
    struct msg m;
    struct note *n = take_note(w, a, &a->from, "<-", &arena, &m);
    uint64_t of = m.type == MSG_ASK && m.ask.what == MSG_ASK_DRAIN ? strtoull(m.ask.name + 1, NULL, 10) : LINKS_MAX;
    if (of < LINKS_MAX && is_owner(w, a))
        w->may_go[of] = true;
    if (!w->ended[a->link]) /* otherwise nobody listens */
        core_message(w->core, w->now, a->link, a->worker ? MSG_WORKER : a->keeper ? MSG_KEEPER : MSG_CLIENT,
                     is_owner(w, a) ? owner_key : (struct slice){"", 0}, &m, (struct slice){n->bulk, n->bulk_size});
    note_free(n);
    take_actions(w);
    arena_clear(&arena);
}

static void core_hears_end(struct world *w, struct actor *a)
{
    a->from.end_ns = NEVER;
    if (w->ended[a->link])
        return; /* dropped: nobody listens */
    if (w->talk)
        printf("%8.3f  <- %" PRIu64 " (end)\n", (double)w->now / 1e9, a->link);
    w->ended[a->link] = true;
    core_lost(w->core, w->now, a->link);
    take_actions(w);
}

/* The actor loses its scheduler.  What a worker runs goes on, except for runs that have to stop and for lent slots; a
 * client still knows its jobs. */
static void lose_scheduler(struct world *w, struct actor *a)
{
    hang_up(w, a);
    a->mood = LOST;
    a->goes_on = true;
    a->join_ns = w->now + draw(w, 2500) * MS;
    a->loan = 0;
    memset(a->lent, 0, sizeof a->lent);
    for (int i = 0; i < RUNS_MAX; i++) {
        struct run *r = &a->run[i];
        r->used = r->used && !r->stopping && !r->failed;
        r->paused = r->left = true;
    }
}

/* The scheduler dies and begins again.  All that it knows is how often it was started. */
static void restart(struct world *w)
{
    struct core_options o = {.seed = draw(w, UINT64_MAX), .url = "sim", .owner = owner_key, .jobs = ++w->lives * 1000000};
    struct err e;
    if (w->talk)
        printf("%8.3f  the scheduler is killed\n", (double)w->now / 1e9);
    for (uint32_t i = 0; i < w->actors; i++) {
        struct actor *a = &w->actor[i];
        if (a->mood != PRESENT)
            continue;
        w->ended[a->link] = true;
        if (one_in(w, 4))
            leave(w, a, true);
        else
            lose_scheduler(w, a);
    }
    for (uint32_t i = 0; i <= w->links; i++)
        w->ended[i] = true;
    for (uint32_t i = 0; i < w->jobs; i++)
        w->job[i].accepted = false;
    core_free(w->core);
    w->core = core_new(&o, &e);
}

static bool turn(struct world *w)
{
    if (w->now >= w->restart_ns) {
        w->restart_ns = NEVER;
        restart(w);
    }
    uint64_t tick = core_next_tick(w->core), at = NEVER, t;
    if (w->now >= w->sleep_ns) {
        w->sleep_ns = NEVER;
        w->asleep_ns = w->now + draw(w, 20000) * MS;
        befell[SLEPT]++;
    }
    void (*what)(struct world *, struct actor *) = NULL;
    struct actor *who = NULL;
#define NEXT(time, function)                                                                       \
    do {                                                                                           \
        t = (time);                                                                                \
        if (t < at) {                                                                              \
            at = t;                                                                                \
            what = function;                                                                       \
            who = a;                                                                               \
        }                                                                                          \
    } while (0)
    for (uint32_t i = 0; i < w->actors; i++) {
        struct actor *a = &w->actor[i];
        NEXT(actor_wakes(w, a), actor_acts);
        if (a->to.first)
            NEXT(a->to.first->at_ns, actor_hears);
        if (a->from.first)
            NEXT(a->from.first->at_ns > w->asleep_ns ? a->from.first->at_ns : w->asleep_ns,
                 core_hears);
        else if (a->from.end_ns != NEVER)
            NEXT(a->from.end_ns > w->asleep_ns ? a->from.end_ns : w->asleep_ns, core_hears_end);
    }
#undef NEXT
    if (tick != NEVER)
        tick = (tick > w->now ? tick : w->now) + draw(w, 50) * MS;
    if (tick != NEVER && tick < w->asleep_ns)
        tick = w->asleep_ns;
    if (tick == NEVER && at == NEVER)
        return false;
    if (tick <= at) {
        w->now = tick > w->now ? tick : w->now;
        core_tick(w->core, w->now);
        take_actions(w);
    } else {
        w->now = at > w->now ? at : w->now;
        what(w, who);
    }
    return true;
}

static void build(struct world *w, uint64_t seed)
{
    uint32_t clients = 1 + (uint32_t)draw(w, 3), workers = (uint32_t)draw(w, 6);
    struct core_options o = {.seed = seed, .url = "sim", .owner = owner_key};
    struct err e;
    bool local = workers && one_in(w, 4), calm = one_in(w, 4);
    bool keeper = clients > 1 && one_in(w, 2);
    local = local && !keeper; /* a keeper is a process of its own */
    w->core = core_new(&o, &e);
    w->roomy = one_in(w, 2);
    w->images = seed % 3 == 0;
    w->actors = clients + workers;
    for (uint32_t i = 0; i < w->actors; i++) {
        struct actor *a = &w->actor[i];
        *a = (struct actor){.worker = i >= clients,
                            .join_ns = one_in(w, 4) ? draw(w, 15000) * MS : draw(w, 10) * MS,
                            .die_ns = calm || one_in(w, 2) ? NEVER : draw(w, 20000) * MS,
                            .to.end_ns = NEVER,
                            .from.end_ns = NEVER};
        a->stuck = a->worker && one_in(w, 20);
        a->image = (uint32_t)(seed / 3 >> i) % IMAGES;
        a->submits = a->worker ? 0 : 1 + (uint32_t)draw(w, 8);
        a->submit_ns = a->join_ns + draw(w, 1000) * MS;
        a->keeper = !i && keeper;
        if (local && (i == 0 || i == clients)) {
            a->local = true;
            memcpy(a->instance, "one same process", 16);
        }
    }
    w->sleep_ns = one_in(w, 4) ? draw(w, 20000) * MS : NEVER;
    w->restart_ns = !local && one_in(w, 3) ? draw(w, 20000) * MS : NEVER;
}

/* All that is left are submitted jobs that wait for a worker, and there is none: they wait as long as it takes. */
static bool wait_for_nobody(const struct world *w)
{
    for (const struct list *l = w->core->jobs.next; l != &w->core->jobs; l = l->next)
        if (!LIST_OF(l, job, at)->held || LIST_OF(l, job, at)->state != JOB_QUEUED)
            return false;
    return !w->core->fleet.count;
}

static bool at_rest(const struct world *w)
{
    for (uint32_t i = 0; i < w->actors; i++) {
        const struct actor *a = &w->actor[i];
        if (a->mood == ABSENT || a->mood == LOST || (a->mood == PRESENT && (a->submits || a->cut_ns > w->now)))
            return false;
        if (a->mood == PRESENT && !w->ended[a->link] && a->asked > a->answered)
            return false;
        for (int k = 0; k < RUNS_MAX; k++)
            if (a->run[k].used || (k < LOANS_MAX && a->lent[k].used && a->mood == PRESENT))
                return false;
    }
    return core_stats(w->core).running == 0 || wait_for_nobody(w);
}

/* When all is quiet, everybody must have an answer. */
static void look_at_rest(struct world *w)
{
    for (uint32_t i = 0; i < w->jobs; i++) {
        const struct tracked *t = &w->job[i];
        const struct actor *a = w->owner[t->client];
        bool there = a->mood == PRESENT && a->link == t->client && !w->ended[t->client];
        if (w->talk && there && t->results != 1)
            printf("link %" PRIu64 " request %" PRIu64 " job %" PRIu64 ": %u results\n", t->client,
                   t->request, t->number, t->results);
        must(w, !there || t->results == 1 || wait_for_nobody(w), "a job never had a result");
    }
    for (uint32_t i = 0; i < w->submitted_count; i++) {
        const struct submitted *s = &w->submitted[i];
        must(w, s->over || s->keeper->mood != PRESENT || w->ended[s->keeper->link] || !w->core->fleet.count,
             "a submitted job was lost");
    }
    for (uint32_t i = 0; i < w->actors; i++) {
        const struct actor *a = &w->actor[i];
        must(w, a->mood != PRESENT || w->ended[a->link] || a->asked == a->answered, "a question was not answered, or twice");
        must(w, a->mood != PRESENT || w->ended[a->link] || !w->drained[a->link], "a worker that was drained is still there");
    }
}

/* All actors leave.  Those that died without a word are noticed by their silence. */
static void close_world(struct world *w)
{
    w->closing = true;
    for (uint32_t i = 0; i < w->actors; i++)
        if (w->actor[i].mood == PRESENT)
            leave(w, &w->actor[i], false);
    for (uint32_t i = 0; i < EVENTS_MAX && !w->wrong && turn(w); i++)
        ;
    const char *wrong = w->wrong ? NULL : core_check_empty(w->core);
    must(w, !wrong, wrong);
}

static uint64_t loans_made, jobs_submitted, went_on; /* in all worlds so far */

static const char *run_seed(uint64_t seed, bool talk)
{
    struct world *w = calloc(1, sizeof *w);
    w->random = seed;
    w->talk = talk;
    build(w, seed);
    uint64_t busy_ns = 0;
    for (uint32_t i = 0; w->now < busy_ns + QUIET_NS && !w->wrong; i++) {
        bool moved = turn(w), rest = at_rest(w);
        must(w, (moved || rest) && i < EVENTS_MAX && w->now < REST_NS, "it never came to rest");
        if (!moved)
            break;
        if (!rest)
            busy_ns = w->now;
        if (busy_ns < w->asleep_ns)
            busy_ns = w->asleep_ns;
    }
    if (!w->wrong)
        look_at_rest(w);
    if (!w->wrong)
        close_world(w);
    const char *wrong = w->wrong;
    loans_made += w->lent;
    jobs_submitted += w->submitted_count;
    befell[RESTARTED] += w->lives;
    went_on += w->went_on;
    uint64_t never_came = befell[NEVER_CAME]; /* messages that are under way at the end are not counted */
    for (uint32_t i = 0; i < w->actors; i++) {
        cut(&w->actor[i].to);
        cut(&w->actor[i].from);
    }
    for (uint32_t i = 0; i < NODES_MAX * 8; i++)
        buf_clear(&w->graph[i / 8][i % 8]);
    befell[NEVER_CAME] = never_came;
    core_free(w->core);
    free(w);
    return wrong;
}

static bool run_seeds(uint64_t first, uint64_t count)
{
    for (uint64_t seed = first; seed < first + count; seed++) {
        const char *wrong = run_seed(seed, false);
        if (!wrong)
            continue;
        printf("seed %" PRIu64 ": %s (again: sim %" PRIu64 " %d)\n", seed, wrong, seed, plant);
        return false;
    }
    return true;
}

static int run_plants(void)
{
    int missed = 0;
    for (plant = 1; plant <= PLANTS; plant++) {
        printf("planted: %s\n  ", plant_names[plant]);
        if (run_seeds(1, PLANT_SEEDS)) {
            printf("not found in %d seeds\n", PLANT_SEEDS);
            missed++;
        }
    }
    return missed != 0;
}

int main(int argc, char **argv)
{
    bool seeds = argc < 2 || !strcmp(argv[1], "seeds");
    if (!seeds && !strcmp(argv[1], "plants"))
        return run_plants();
    if (!seeds) {
        plant = argc > 2 ? atoi(argv[2]) : 0;
        const char *wrong = run_seed(strtoull(argv[1], NULL, 10), true);
        printf("%s\n", wrong ? wrong : "all holds");
        return wrong != NULL;
    }
    uint64_t count = argc > 2 ? strtoull(argv[2], NULL, 10) : SEEDS;
    bool good = run_seeds(argc > 3 ? strtoull(argv[3], NULL, 10) : 1, count) && loans_made && jobs_submitted && went_on && drains_made;
    for (int i = 0; i < BEFELL; i++)
        good = good && befell[i];
    if (good) {
        printf("messages: %" PRIu64 " late by up to a second, %" PRIu64 " repeated, %" PRIu64 " that never came; links: %" PRIu64
               " held up for up to 8 s (clients 90 s), %" PRIu64 " broken; %" PRIu64 " died in silence, %" PRIu64 " lies; %" PRIu64
               " blocks named that took three workers; schedulers: %" PRIu64 " stood still for up to 20 s, %" PRIu64 " killed\n",
               befell[LATE], befell[REPEATED], befell[NEVER_CAME], befell[HELD_UP], befell[BROKE], befell[DIED], befell[BABBLED], befell[NAMED],
               befell[SLEPT], befell[RESTARTED]);
        printf("%" PRIu64 " seeds, %" PRIu64 " loans, %" PRIu64 " submitted jobs, of all jobs %" PRIu64
               " went on over a restart, %" PRIu64 " workers drained: all holds\n",
               count, loans_made, jobs_submitted, went_on, drains_made);
    }
    return !good;
}
