/* The scheduler's core in a made-up world.  Clients submit, cancel, give up, leave and die; workers
 * run, fail, hang, die and come back; links delay, repeat, stall and break, though never reorder: a
 * message arrives after those before it on its link or not at all, as over TCP.  Now and then
 * somebody says what is not theirs to say, and the scheduler itself stands still.  Time is a
 * number, and everything follows from the seed, so a failure is a seed:
 *
 *     sim                  10,000 seeds
 *     sim SEED [PLANT]     that one, told step by step
 *     sim plants           bugs planted on purpose (plants.c) must be found, each
 *
 * A job is a chain of stages that pass on units, each made from the unit it read; a stage that runs again
 * makes the same.  Who reads follows the routes that the core sent: over them come a writer's units
 * from the first on, and what is there already is dropped.  So a job that commits has the right
 * units, or the core forgot to run something again, or to tell somebody.
 *
 * Some clients are keepers: others ask where to submit, a keeper is told to expect them, says that it holds a job, and submits it,
 * again when it or the scheduler was gone.  So a submitted job ends, whoever dies, if its keeper and some worker live; and
 * every question is answered.  The scheduler may die, and begin anew knowing nothing.
 *
 * What must hold after each event: check.c inside the core, and out here: one RESULT for every
 * accepted job whose client lives, and none before every worker is done with it; the status that
 * the stages had; slots are lent only while no job waits; nothing is sent over a link that ended;
 * nobody who speaks is taken for dead; nobody cancels what is not theirs.  When nothing moves any
 * more no worker runs anything or lends, and when all have left nothing is left. */
#include "tests/lib/chain.h"
#include "tests/sim/check.h"
#include "tests/sim/plants.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SEEDS      10000
#define ACTORS     10
#define LINKS_MAX  512 /* over a world's life */
#define JOBS_MAX   256
#define HELDS_MAX  32 /* submitted jobs */
#define RUNS_MAX   32 /* at one worker: more than its slots can ever be */
#define LOANS_MAX  16 /* likewise */
#define NODES_MAX  8
#define UNITS_MAX  24 /* of a job's input */
#define AHEAD      4  /* a writer waits when its reader has so many less */
#define EVENTS_MAX 100000
#define MS         1000000ull
#define NEVER      UINT64_MAX
#define QUIET_NS   (15000 * MS)  /* no message is on its way for so long */
#define CALM_NS    (30000 * MS)  /* from then on nothing breaks, */
#define REST_NS    (400000 * MS) /* and by then all has come to rest */

struct note { /* a message on its way */
    struct note *next;
    uint64_t at_ns;
    char *first, *bulk;
    size_t first_size, bulk_size;
};

/* Notes in order, and what tells that the link ended behind them. */
struct wire {
    struct note *first;
    uint64_t end_ns; /* NEVER: it has not ended */
};

/* What reads from a stage: its next stage, or the client. */
struct reader {
    uint32_t got, unit[UNITS_MAX];
    bool ended;
    /* of the writer now: */
    uint64_t link; /* 0: in the same process; else the worker's */
    uint32_t attempt, seen;
    bool broken, through; /* through: with all of it */
};

struct run {
    bool used, stopping, failed; /* failed: it waits for STOP */
    bool local;                  /* in the client's process: source and sink too */
    uint64_t job, at_ns;
    uint32_t attempt, heard;
    bool here[NODES_MAX], ended[NODES_MAX];
    bool answered[NODES_MAX]; /* the reader elsewhere has all */
    uint32_t taken[NODES_MAX]; /* units that the reader has, of this attempt */
    struct reader in[NODES_MAX];
};

struct lent { /* slots of a worker; it keeps them until they are recalled, or for some time */
    bool used;
    struct msg_returned what;
    uint32_t slots;
    uint64_t at_ns; /* when they go back; NEVER */
};

enum mood { ABSENT, PRESENT, LOST /* its side of the link ended; it comes back */, DEAD };

struct actor {
    bool worker, local, keeper, stuck; /* stuck: it never ends what it is told to stop */
    enum mood mood;
    uint64_t link; /* the one now */
    uint8_t instance[16];
    struct wire to, from; /* towards it, from it */
    uint64_t join_ns, ping_ns, submit_ns, die_ns, stall_ns;
    uint64_t cut_ns; /* messages made since are kept back until then */
    bool stalled;    /* it has been, on this link: it may have been taken for dead */
    struct run run[RUNS_MAX];
    struct lent lent[LOANS_MAX];
    uint32_t submits, slots;
    uint32_t loan; /* the last it was told of */
    uint64_t requests;
    uint32_t asked, answered; /* of a client, on this link */
};

struct submitted { /* as its keeper knows it */
    uint64_t number, request; /* request: on the keeper's link now; 0: it is to be submitted */
    struct actor *keeper;
    bool over;
};

struct tracked {                      /* a job as the world knows it */
    uint64_t client, request, number; /* client: its link */
    bool accepted, ran, cancelled, pipefail, negate;
    bool held; /* submitted: its client is a keeper */
    bool endless; /* its input does not end, like `tail -f`, until the client has had enough */
    bool cursed;  /* its first stage takes the worker with it, or fails there, each time */
    uint32_t results, stages, units;
    uint32_t status[NODES_MAX];
    bool early[NODES_MAX];
    uint32_t source;    /* the attempt to which the client gives its input */
    struct reader sink; /* the client's */
    uint64_t pull_ns;
};

struct world {
    uint64_t now, random;
    uint64_t sleep_ns, asleep_ns; /* the scheduler stands still from, until */
    bool talk, closing;
    bool roomy; /* many slots, and nobody wants to borrow any: what goes on has room to */
    struct core *core;
    struct actor actor[ACTORS];
    uint32_t actors;
    uint64_t links;
    struct actor *owner[LINKS_MAX];
    bool ended[LINKS_MAX]; /* as far as the core can know */
    uint32_t lent;         /* loans made */
    struct tracked job[JOBS_MAX];
    uint32_t jobs;
    struct submitted submitted[HELDS_MAX];
    uint32_t submitted_count;
    uint64_t restart_ns; /* the scheduler dies; NEVER */
    uint64_t lives;
    struct buf graph[NODES_MAX][4]; /* by stages; pipefail and negate */
    const char *wrong;
};

static uint64_t draw(struct world *w, uint64_t below)
{
    uint64_t z = w->random += 0x9e3779b97f4a7c15ull;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9ull;
    z = (z ^ z >> 27) * 0x94d049bb133111ebull;
    return (z ^ z >> 31) % below;
}

static bool one_in(struct world *w, uint64_t n)
{
    return draw(w, n) == 0;
}

/* Bad luck; not for ever, or it would help those who are stuck. */
static bool mishap(struct world *w, uint64_t n)
{
    return w->now < CALM_NS && one_in(w, n);
}

static void must(struct world *w, bool holds, const char *what)
{
    if (!holds && !w->wrong)
        w->wrong = what;
}

static uint64_t earlier(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

/* ---- wires */

static void note_free(struct note *n)
{
    free(n->first);
    free(n->bulk);
    free(n);
}

static void cut(struct wire *x)
{
    while (x->first) {
        struct note *n = x->first;
        x->first = n->next;
        note_free(n);
    }
    x->end_ns = NEVER;
}

static void put_once(struct world *w, struct actor *a, struct wire *x, uint64_t delay_ns,
                     const struct msg *m, struct slice bulk)
{
    struct note *n = calloc(1, sizeof *n), **last = &x->first;
    struct buf bytes = BUF_INIT(MSG_BYTES_MAX);
    struct err e;
    if (x->end_ns != NEVER)
        goto nowhere;
    if (!n || msg_encode(m, &bytes, &e) < 0)
        abort();
    n->first_size = bytes.size;
    n->first = buf_take(&bytes);
    n->bulk = malloc(bulk.size + 1);
    if (bulk.size)
        memcpy(n->bulk, bulk.data, bulk.size);
    n->bulk_size = bulk.size;
    n->at_ns = w->now + delay_ns > a->cut_ns ? w->now + delay_ns : a->cut_ns;
    for (; *last; last = &(*last)->next)
        n->at_ns = n->at_ns > (*last)->at_ns ? n->at_ns : (*last)->at_ns;
    *last = n;
    return;
nowhere:
    free(n);
}

static void put(struct world *w, struct actor *a, struct wire *x, const struct msg *m,
                struct slice bulk)
{
    uint64_t delay = (1 + draw(w, one_in(w, 50) ? 3000 : 40)) * MS;
    put_once(w, a, x, delay, m, bulk);
    if (one_in(w, 12))
        put_once(w, a, x, delay, m, bulk);
}

static void say(struct world *w, struct actor *a, const struct msg *m)
{
    put(w, a, &a->from, m, (struct slice){"", 0});
}

/* The connection breaks: what is on its way may arrive, and then the end does. */
static void hang_up(struct world *w, struct actor *a)
{
    if (one_in(w, 2))
        cut(&a->from);
    a->from.end_ns = w->now + draw(w, 200) * MS;
    for (const struct note *n = a->from.first; n; n = n->next)
        a->from.end_ns = a->from.end_ns > n->at_ns ? a->from.end_ns : n->at_ns;
    cut(&a->to);
}

/* ---- jobs as the world knows them */

static struct tracked *tracked(struct world *w, uint64_t number)
{
    for (uint32_t i = 0; i < w->jobs; i++)
        if (w->job[i].accepted && w->job[i].number == number)
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

static struct run *run_of(struct actor *a, uint64_t job, uint32_t attempt)
{
    for (int i = 0; i < RUNS_MAX; i++)
        if (a->run[i].used && a->run[i].job == job && (!attempt || a->run[i].attempt == attempt))
            return &a->run[i];
    return NULL;
}

/* What stage n makes of a unit; of the source's, n is 0. */
static uint32_t unit_of(uint32_t n, uint32_t from)
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

/* As the core sends it: by then every worker that it could still hear is done. */
static void see_result(struct world *w, uint64_t link, const struct msg_result *r)
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
    must(w, !t->held || r->code != ERR_AGAIN, "a submitted job gave up waiting");
    must(w, !r->commit || r->status == expected_status(t), "a wrong status");
    must(w, r->commit || r->status == 125 || r->status == 124, "a failure without its status");
    for (uint32_t i = 0; i < w->actors; i++) {
        struct actor *a = &w->actor[i];
        must(w, a->mood != PRESENT || w->ended[a->link] || !run_of(a, r->job, 0),
             "a result while a worker still runs the job");
    }
}

static void see_accept(struct world *w, uint64_t link, const struct msg_accept *m)
{
    for (uint32_t i = 0; i < w->jobs; i++) {
        struct tracked *t = &w->job[i];
        if (t->client != link || t->request != m->request)
            continue;
        must(w, !t->accepted, "a job was accepted twice");
        t->accepted = true;
        t->number = m->job;
    }
}

/* ---- what the actors do */

/* held: at a keeper. */
static void submit(struct world *w, struct actor *a, uint64_t held)
{
    uint32_t stages = 1 + (uint32_t)draw(w, 5), kind = (uint32_t)draw(w, 4);
    struct buf *g = &w->graph[stages][kind];
    struct msg m = {.type = MSG_SUBMIT,
                    .submit = {.request = ++a->requests,
                               .flags = one_in(w, 2) ? MSG_SUBMIT_SPREAD : 0,
                               .text = "sim",
                               .held = held}};
    if (!g->size)
        *g = chain_bytes(
            &(struct chain){.stages = stages, .pipefail = kind & 1, .negate = kind & 2});
    if (w->jobs == JOBS_MAX)
        return;
    struct tracked *t = &w->job[w->jobs++];
    *t = (struct tracked){.client = a->link,
                          .request = a->requests,
                          .stages = stages,
                          .held = held != 0,
                          .units = (uint32_t)draw(w, UNITS_MAX + 1),
                          .endless = one_in(w, 8),
                          .cursed = one_in(w, 30),
                          .pull_ns = NEVER,
                          .pipefail = kind & 1,
                          .negate = kind & 2};
    for (uint32_t n = 1; n <= stages; n++) {
        t->status[n] = (uint32_t)draw(w, 3);
        t->early[n] = one_in(w, 4);
    }
    /* Once: a second one that comes when the first has had its answer is another job. */
    put_once(w, a, &a->from, (1 + draw(w, 40)) * MS, &m, (struct slice){g->data, g->size});
    if (!held && one_in(w, 6)) {
        struct msg cancel = {.type = MSG_CANCEL, .cancel = {0, a->requests, "cancelled"}};
        t->cancelled = true;
        say(w, a, &cancel);
    }
}

static void tell_held(struct world *w, struct actor *a, const struct submitted *s, bool gone)
{
    struct msg m = {.type = MSG_HELD,
                    .held = {.job = s->number, .key = {"", 0}, .state = s->over ? "over" : "waits", .text = "sim", .gone = gone}};
    put_once(w, a, &a->from, (1 + draw(w, 40)) * MS, &m, (struct slice){"", 0});
}

/* Each time that it has a scheduler: what it holds, and what of that is not over once more. */
static void keeper_joins(struct world *w, struct actor *a)
{
    for (uint32_t i = 0; i < w->submitted_count; i++) {
        struct submitted *s = &w->submitted[i];
        if (s->keeper != a)
            continue;
        tell_held(w, a, s, false);
        if (!s->over) {
            submit(w, a, s->number);
            s->request = a->requests;
        }
    }
}

static void keeper_hears(struct world *w, struct actor *a, const struct msg *m)
{
    if (m->type == MSG_RESULT) {
        for (uint32_t i = 0; i < w->submitted_count; i++) {
            struct submitted *s = &w->submitted[i];
            if (s->keeper != a || s->over || s->request != m->result.request)
                continue;
            s->over = true;
            tell_held(w, a, s, false);
        }
    } else if (m->type == MSG_VISIT) {
        struct msg yes = {.type = MSG_VISITED,
                          .visited = {.link = m->visit.link, .request = m->visit.request, .job = m->visit.job, .text = "", .receipt = ""}};
        bool known = false;
        for (uint32_t i = 0; i < w->submitted_count; i++)
            known |= w->submitted[i].number == m->visit.job; /* it came twice */
        if (m->visit.what == MSG_ASK_KEEP && !known && w->submitted_count < HELDS_MAX) {
            struct submitted *s = &w->submitted[w->submitted_count++];
            *s = (struct submitted){.number = m->visit.job, .keeper = a};
            tell_held(w, a, s, false);
            submit(w, a, s->number);
            s->request = a->requests;
        }
        put_once(w, a, &a->from, (1 + draw(w, 40)) * MS, &yes, (struct slice){"", 0});
    }
}

/* A place for a job; or about one of anybody's. */
static void ask(struct world *w, struct actor *a)
{
    const uint32_t what[] = {MSG_ASK_KEEP, MSG_ASK_KEEP, MSG_ASK_TAKE, MSG_ASK_LOGS, MSG_ASK_STATUS, MSG_ASK_CANCEL};
    uint64_t job = w->submitted_count ? w->submitted[draw(w, w->submitted_count)].number : 1000000;
    struct msg m = {.type = MSG_ASK, .ask = {++a->requests, what[draw(w, 6)], one_in(w, 8) ? 1000000 : job, ""}};
    a->asked++;
    put_once(w, a, &a->from, (1 + draw(w, 40)) * MS, &m, (struct slice){"", 0});
}

/* Something that is not theirs to say, or makes no sense.  Never that a run of its own has stopped:
 * that lie cannot be seen through. */
static void babble(struct world *w, struct actor *a)
{
    uint64_t job = 1 + draw(w, 20);
    const struct tracked *t = tracked(w, job);
    if (a->worker && (!t || !t->ran))
        job += 1000; /* or the answer, STOP, could meet the RUN on its way: the same lie */
    uint32_t node = (uint32_t)draw(w, 9), other = one_in(w, 2) ? 1000 : 1;
    struct msg worker[] = {
        {.type = MSG_STARTED, .started = {job, other}},
        {.type = MSG_TASK,
         .task =
             {.job = job + 1000, .attempt = other, .node = node, .text = "", .stderr_tail = ""}},
        {.type = MSG_TASK,
         .task = {.job = job, .attempt = 1, .node = 100, .text = "", .stderr_tail = ""}},
        {.type = MSG_PROGRESS, .progress = {.job = job, .node = node}},
        {.type = MSG_FAIL, .fail = {job + 1000, other, ERR_NONE, "no"}},
        {.type = MSG_STOPPED, .stopped = {job, 1000, 1000}},
        {.type = MSG_LOST, .lost = {job, other, MSG_EDGE, node, GRAPH_NONE, "no"}},
        {.type = MSG_WANT, .want = {job, other, UINT32_MAX}},
        {.type = MSG_RETURNED, .returned = {job, 1, node + 10000, false}},
        {.type = MSG_CANCEL, .cancel = {job, 0, "I am a worker"}},
    };
    struct msg client[] = {
        {.type = MSG_CANCEL, .cancel = {job, 0, "not mine"}},
        {.type = MSG_CANCEL, .cancel = {0, job + 1000, "never submitted"}},
        {.type = MSG_SUBMIT, .submit = {.request = 5000, .text = ""}}, /* without a graph */
        {.type = MSG_STOPPED, .stopped = {job, 1, 1}},
        {.type = MSG_HELD, .held = {.job = job + 1000, .state = "", .text = "", .gone = true}},
        {.type = MSG_VISITED, .visited = {.link = job, .request = 1, .text = "", .receipt = ""}},
        {.type = MSG_LOST, .lost = {job + 1000, 1, MSG_EDGE, node, GRAPH_NONE, "not mine"}},
    };
    size_t i = draw(w, a->worker ? sizeof worker / sizeof *worker : sizeof client / sizeof *client);
    if (!a->worker && i == 0 && (!t || t->client == a->link))
        return; /* it might be theirs by the time it arrives */
    say(w, a, a->worker ? &worker[i] : &client[i]);
}

/* Where a stage's input comes from, or the client's output: as the route says. */
static void follow(struct reader *r, const struct msg_route *route, uint32_t attempt)
{
    r->link = strtoull(route->url + strlen("tcp://sim:"), NULL, 10);
    r->attempt = attempt;
    r->seen = 0;
    r->broken = r->through = false;
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
    must(w, m->attempt <= 1 + 4 * t->stages, "a job is begun again without end");
    *r = (struct run){.used = true,
                      .job = m->job,
                      .attempt = m->attempt,
                      .heard = m->attempt,
                      .at_ns = w->now + (1 + draw(w, 200)) * MS};
    for (uint32_t i = 0; i < m->node_count; i++)
        if (m->node[i] && m->node[i] <= t->stages) /* not the source, the sink */
            r->here[m->node[i]] = true;
    for (uint32_t i = 0; i < m->route_count; i++) {
        r->local |= m->route[i].via == MSG_VIA_FD;
        if (m->route[i].what == MSG_EDGE && m->route[i].via == MSG_VIA_CONNECT)
            follow(&r->in[m->route[i].index + 1], &m->route[i], m->attempt);
    }
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

/* What its stages in blocks could use besides: more and less as they go. */
static void want(struct world *w, struct actor *a, const struct run *r)
{
    uint32_t slots = one_in(w, 3) ? 0 : one_in(w, 3) ? UINT32_MAX : (uint32_t)draw(w, 8);
    struct msg m = {.type = MSG_WANT, .want = {r->job, r->attempt, slots}};
    if (!w->roomy && one_in(w, 3))
        say(w, a, &m);
}

static struct lent *lent_of(struct actor *a, uint32_t loan)
{
    for (int i = 0; i < LOANS_MAX; i++)
        if (a->lent[i].used && a->lent[i].what.loan == loan)
            return &a->lent[i];
    return NULL;
}

static void lend_begin(struct world *w, struct actor *a, const struct msg_lend *m)
{
    struct lent *l = NULL;
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
                       .at_ns = one_in(w, 3) ? w->now + draw(w, 3000) * MS : NEVER};
}

static void give_back(struct world *w, struct actor *a, struct lent *l)
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

static void client_hears(struct world *w, struct actor *a, const struct msg *m)
{
    struct tracked *t = m->type == MSG_ROUTE ? tracked(w, m->route.job) : NULL;
    if (!t || t->client != a->link)
        return;
    for (uint32_t i = 0; i < m->route.route_count; i++) {
        const struct msg_route *r = &m->route.route[i];
        if (r->what == MSG_EDGE && r->index == 0)
            t->source = m->route.attempt;
        else if (r->what == MSG_EDGE && t->sink.attempt < m->route.attempt)
            follow(&t->sink, r, m->route.attempt);
    }
    t->pull_ns = earlier(t->pull_ns, w->now);
}

static void worker_hears(struct world *w, struct actor *a, const struct msg *m)
{
    if (m->type == MSG_RUN && !run_of(a, m->run.job, m->run.attempt)) {
        run_begin(w, a, &m->run);
    } else if (m->type == MSG_ROUTE) {
        run_reroute(w, a, &m->route);
    } else if (m->type == MSG_LEND) {
        lend_begin(w, a, &m->lend);
    } else if (m->type == MSG_RECALL) {
        recalled(w, a, &m->recall);
    } else if (m->type == MSG_STOP) {
        struct run *r = run_of(a, m->stop.job, m->stop.attempt);
        if (r) {
            r->stopping = true;
            r->at_ns = earlier(r->at_ns, w->now + (1 + draw(w, 100)) * MS);
        } else {
            say_stopped(w, a, m->stop.job, m->stop.attempt, m->stop.attempt);
        }
    }
}

/* ---- units */

static void take_unit(struct reader *r, uint32_t unit)
{
    if ((r->seen >= r->got || plant == 11) && r->got < UNITS_MAX)
        r->unit[r->got++] = unit;
    r->seen++;
}

/* The run that writes what this reader wants; NULL: it cannot be heard. */
static struct run *writer_of(struct world *w, const struct reader *r, uint64_t job)
{
    struct actor *a = r->link && r->link < LINKS_MAX ? w->owner[r->link] : NULL;
    if (!a || a->mood != PRESENT || a->link != r->link || r->broken)
        return NULL;
    return run_of(a, job, r->attempt);
}

/* It hears that the connection broke, and says so once.  `edge`: what it read. */
static void lose_stream(struct world *w, struct actor *a, struct reader *r, uint64_t job, uint32_t edge)
{
    struct msg m = {.type = MSG_LOST, .lost = {job, r->attempt, MSG_EDGE, edge, GRAPH_NONE, "broken"}};
    r->broken = true;
    say(w, a, &m);
}

/* Some units more of what stage n has made, from a run to a reader. */
static void pull(struct world *w, struct run *from, uint32_t n, struct reader *r)
{
    for (uint32_t i = 1 + (uint32_t)draw(w, 3); i-- && r->seen < from->in[n].got;)
        take_unit(r, unit_of(n, from->in[n].unit[r->seen]));
    from->taken[n] = r->seen;
    if (!from->ended[n] || r->seen < from->in[n].got)
        return;
    must(w, !r->ended || r->seen == r->got, "a stage that ended got more");
    r->ended = r->through = from->answered[n] = true;
}

/* From another process: over a stream, which may break. */
static void pull_over(struct world *w, struct actor *a, struct reader *r, uint64_t job, uint32_t n)
{
    struct run *from = writer_of(w, r, job);
    const struct actor *there = r->link && r->link < LINKS_MAX ? w->owner[r->link] : NULL;
    if (r->broken || !r->attempt)
        return;
    if (!there || there->mood != PRESENT || there->link != r->link || mishap(w, 200))
        lose_stream(w, a, r, job, n);
    else if (from && !from->stopping && !from->failed)
        pull(w, from, n, r);
}

static void lose_source(struct world *w, struct actor *a, struct tracked *t)
{
    struct msg m = {.type = MSG_LOST, .lost = {t->number, t->source, MSG_EDGE, 0, GRAPH_NONE, "broken"}};
    t->source = 0;
    say(w, a, &m);
}

static void client_pulls(struct world *w, struct actor *a, struct tracked *t)
{
    t->pull_ns = w->now + (1 + draw(w, 200)) * MS;
    if (t->results || t->sink.ended)
        t->pull_ns = w->now + 1000 * MS; /* for a writer that runs again */
    if (t->results)
        t->pull_ns = NEVER;
    else if (t->source && mishap(w, 400))
        lose_source(w, a, t);
    else
        pull_over(w, a, &t->sink, t->number, t->stages);
}

/* What stage n reads: the client's input, what a neighbour in the same run made, or a stream. */
static void node_reads(struct world *w, struct actor *a, struct run *r, struct tracked *t, uint32_t n)
{
    struct reader *in = &r->in[n];
    if (!r->ended[n] && in->seen >= in->got && in->got >= r->taken[n] + AHEAD)
        return; /* its own reader is slow */
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

/* ---- what a run does */

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
    say(w, a, &m);
}

/* Killed, and some of its programs are told of as if they had ended. */
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
    struct msg m = {.type = MSG_FAIL, .fail = {r->job, r->attempt, ERR_IO, "disk full"}};
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

static void leave(struct world *w, struct actor *a, bool comes_back);

/* One step of a run: units move, stages end, or all is over. */
static void run_step(struct world *w, struct actor *a, struct run *r)
{
    struct tracked *t = tracked(w, r->job);
    r->at_ns = w->now + (1 + draw(w, 300)) * MS;
    if (r->stopping && a->stuck) {
        r->at_ns = w->now + 1000 * MS;
    } else if (r->stopping) {
        run_dies(w, a, r);
    } else if (r->failed) {
        want(w, a, r);
    } else if (t->cursed && r->here[1] && !a->local) {
        if (one_in(w, 2))
            run_fails(w, a, r);
        else
            leave(w, a, true);
    } else if (run_done(r, t)) {
        r->used = false;
        say_stopped(w, a, r->job, r->attempt, r->heard);
    } else if (mishap(w, 300)) {
        run_fails(w, a, r);
    } else {
        want(w, a, r);
        for (uint32_t n = t->stages; n >= 1; n--) {
            if (!r->here[n])
                continue;
            node_reads(w, a, r, t, n); /* one that ended may be given once more what it has */
            if (!r->in[n].ended || r->ended[n])
                continue;
            uint32_t end = mishap(w, 250)   ? MSG_END_LIMIT
                           : mishap(w, 250) ? MSG_END_FAILED
                                            : MSG_END_EXITED;
            r->failed |= end == MSG_END_FAILED;
            r->ended[n] = end != MSG_END_FAILED;
            say_task(w, a, r, n, end, t->status[n], t->early[n]);
        }
        if (r->local && r->here[t->stages])
            pull(w, r, t->stages, &t->sink);
        struct msg moved = {.type = MSG_PROGRESS, .progress = {.job = r->job, .node = t->stages}};
        if (one_in(w, 8))
            say(w, a, &moved);
    }
}

/* A client that has waited long enough ends what is endless, or gives it up.  All else must come to an end by
 * itself. */
static void give_up(struct world *w, struct actor *a)
{
    for (uint32_t i = 0; i < w->jobs; i++) {
        struct tracked *t = &w->job[i];
        if (t->client != a->link || !t->endless || !t->ran || t->results || t->cancelled || !one_in(w, 12))
            continue;
        t->endless = false; /* its input ends */
        if (one_in(w, 2))
            continue;
        struct msg m = {.type = MSG_CANCEL, .cancel = {t->number, 0, "it took too long"}};
        t->cancelled = true;
        say(w, a, &m);
    }
}

static void forget_work(struct actor *a)
{
    a->loan = 0;
    memset(a->run, 0, sizeof a->run);
    memset(a->lent, 0, sizeof a->lent);
}

static void join(struct world *w, struct actor *a)
{
    must(w, ++w->links < LINKS_MAX, "far too many links");
    if (w->wrong)
        return;
    a->link = w->links;
    w->owner[a->link] = a;
    a->mood = PRESENT;
    a->stalled = false;
    a->cut_ns = 0;
    cut(&a->to);
    cut(&a->from);
    forget_work(a);
    if (!a->local) /* a new process */
        memcpy(a->instance, &a->link, sizeof a->link);
    a->slots = (uint32_t)draw(w, w->roomy ? 9 : 5);
    char url[64];
    snprintf(url, sizeof url, "tcp://sim:%" PRIu64, a->link);
    struct msg m = {.type = MSG_HELLO,
                    .hello = {.version = MSG_VERSION,
                              .role = a->worker ? MSG_WORKER : a->keeper ? MSG_KEEPER : MSG_CLIENT,
                              .name = "sim",
                              .instance = {a->instance, 16},
                              .image = "",
                              .slots = a->slots,
                              .data_url = (a->worker && !a->local) || a->keeper ? url : "",
                              .data_key = {"", 0}}};
    a->ping_ns = w->now + 1000 * MS;
    a->asked = a->answered = 0;
    say(w, a, &m);
    if (a->keeper)
        keeper_joins(w, a);
}

static void leave(struct world *w, struct actor *a, bool comes_back)
{
    struct msg bye = {.type = MSG_BYE, .bye = {"bye"}};
    if (one_in(w, 3))
        say(w, a, &bye);
    hang_up(w, a);
    a->mood = comes_back ? LOST : DEAD;
    a->join_ns = comes_back ? w->now + (1000 + draw(w, 8000)) * MS : NEVER;
    forget_work(a);
}

/* It dies, and only its silence tells; or its connection breaks; or it is cut off for a while. */
static void misfortune(struct world *w, struct actor *a)
{
    a->die_ns = w->now + draw(w, 60000) * MS;
    if (w->now > CALM_NS) {
        a->die_ns = NEVER;
        return;
    }
    switch (draw(w, a->local ? 1 : 4)) {
    case 0:
        a->cut_ns = w->now + draw(w, 8000) * MS;
        a->stalled = true;
        break;
    case 1:
        cut(&a->from);
        cut(&a->to);
        a->mood = DEAD;
        forget_work(a);
        break;
    default:
        leave(w, a, one_in(w, 2));
    }
}

static uint64_t actor_wakes(const struct world *w, const struct actor *a)
{
    uint64_t at = NEVER;
    if (a->mood == ABSENT || a->mood == LOST)
        return a->join_ns;
    if (a->mood != PRESENT)
        return NEVER;
    at = earlier(earlier(a->ping_ns, a->die_ns), a->submits ? a->submit_ns : NEVER);
    for (int i = 0; a->worker && i < RUNS_MAX; i++)
        if (a->run[i].used)
            at = earlier(at, a->run[i].at_ns);
    for (int i = 0; a->worker && i < LOANS_MAX; i++)
        if (a->lent[i].used)
            at = earlier(at, a->lent[i].at_ns);
    for (uint32_t i = 0; !a->worker && i < w->jobs; i++)
        if (w->job[i].client == a->link)
            at = earlier(at, w->job[i].pull_ns);
    return at;
}

static void actor_acts(struct world *w, struct actor *a)
{
    if (a->mood != PRESENT) {
        if (a->from.end_ns == NEVER && !a->from.first)
            join(w, a);
        else
            a->join_ns = w->now + 100 * MS; /* the old link's end comes first */
        return;
    }
    for (int i = 0; i < RUNS_MAX; i++) {
        if (a->run[i].used && w->now >= a->run[i].at_ns) {
            run_step(w, a, &a->run[i]);
            return;
        }
    }
    for (int i = 0; i < LOANS_MAX; i++) {
        if (a->lent[i].used && w->now >= a->lent[i].at_ns) {
            give_back(w, a, &a->lent[i]);
            return;
        }
    }
    for (uint32_t i = 0; !a->worker && i < w->jobs; i++) {
        if (w->job[i].client == a->link && w->now >= w->job[i].pull_ns) {
            client_pulls(w, a, &w->job[i]);
            return;
        }
    }
    if (w->now >= a->ping_ns) {
        struct msg m = {.type = MSG_PING, .ping = {1}};
        a->ping_ns = w->now + 1000 * MS;
        say(w, a, &m);
        if (!a->worker)
            give_up(w, a);
        if (!w->closing && one_in(w, 30))
            babble(w, a);
    } else if (a->submits && w->now >= a->submit_ns) {
        a->submits--;
        a->submit_ns = w->now + draw(w, one_in(w, 5) ? 20000 : 800) * MS;
        if (w->actor[0].keeper && !a->keeper && one_in(w, 2))
            ask(w, a);
        else
            submit(w, a, 0);
    } else if (w->now >= a->die_ns) {
        misfortune(w, a);
    }
}

/* ---- the core's side */

static void take_actions(struct world *w)
{
    struct core_action x;
    while (core_next_action(w->core, &x)) {
        struct actor *a = x.link < LINKS_MAX ? w->owner[x.link] : NULL;
        if (w->talk)
            printf("%8.3f  -> %" PRIu64 " %s\n", (double)w->now / 1e9, x.link,
                   x.kind == CORE_DROP ? "(drop)" : msg_name(x.msg.type));
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
        if (x.msg.type == MSG_RESULT && x.msg.result.job)
            see_result(w, x.link, &x.msg.result);
        if (x.msg.type == MSG_LEND) {
            w->lent++;
            must(w, w->actor[0].local || !core_stats(w->core).waiting,
                 "slots are lent while a job waits");
        }
        if (x.msg.type == MSG_ACCEPT)
            see_accept(w, x.link, &x.msg.accept);
        a->answered += x.msg.type == MSG_ANSWER && a->link == x.link;
        must(w, x.msg.type != MSG_VISIT || a->keeper, "a visitor was sent to somebody who is no keeper");
        if (a->mood == PRESENT && a->link == x.link)
            put(w, a, &a->to, &x.msg, x.bulk);
    }
    const char *wrong = core_check(w->core);
    must(w, !wrong, wrong);
}

static struct note *take_note(struct world *w, struct actor *a, struct wire *x, const char *arrow,
                              struct arena *arena, struct msg *m)
{
    struct note *n = x->first;
    struct err e;
    x->first = n->next;
    if (msg_decode(n->first, n->first_size, arena, m, &e) < 0)
        abort();
    if (w->talk && arrow)
        printf("%8.3f  %s %" PRIu64 " %s\n", (double)w->now / 1e9, arrow, a->link,
               msg_name(m->type));
    return n;
}

static void core_hears(struct world *w, struct actor *a)
{
    struct arena arena = ARENA_INIT(1 << 24);
    struct msg m;
    struct note *n = take_note(w, a, &a->from, "<-", &arena, &m);
    if (!w->ended[a->link]) /* else nobody listens */
        core_message(w->core, w->now, a->link, a->worker ? MSG_WORKER : a->keeper ? MSG_KEEPER : MSG_CLIENT,
                     (struct slice){"", 0}, &m, (struct slice){n->bulk, n->bulk_size});
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

static void actor_hears(struct world *w, struct actor *a)
{
    struct arena arena = ARENA_INIT(1 << 24);
    struct msg m;
    struct note *n = take_note(w, a, &a->to, NULL, &arena, &m);
    if (m.type == MSG_REFUSE) /* as agent.c: it ends, and is started again */
        leave(w, a, true);
    else if (m.type == MSG_VISIT || (a->keeper && m.type == MSG_RESULT))
        keeper_hears(w, a, &m);
    else if (a->worker)
        worker_hears(w, a, &m);
    else
        client_hears(w, a, &m);
    note_free(n);
    arena_clear(&arena);
}

/* ---- the world turns: whatever is next */

/* It dies and begins anew.  All it knows is how often it was started. */
static void restart(struct world *w)
{
    struct core_options o = {.seed = draw(w, UINT64_MAX), .url = "sim", .jobs = ++w->lives * 1000000};
    struct err e;
    if (w->talk)
        printf("%8.3f  the scheduler is killed\n", (double)w->now / 1e9);
    for (uint32_t i = 0; i < w->actors; i++) {
        struct actor *a = &w->actor[i];
        if (a->mood != PRESENT)
            continue;
        w->ended[a->link] = true;
        leave(w, a, true);
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
    struct core_options o = {.seed = seed, .url = "sim"};
    struct err e;
    bool local = workers && one_in(w, 4), calm = one_in(w, 4);
    bool keeper = clients > 1 && one_in(w, 2);
    local = local && !keeper; /* a keeper is a process of its own */
    w->core = core_new(&o, &e);
    w->roomy = one_in(w, 2);
    w->actors = clients + workers;
    for (uint32_t i = 0; i < w->actors; i++) {
        struct actor *a = &w->actor[i];
        *a = (struct actor){.worker = i >= clients,
                            .join_ns = one_in(w, 4) ? draw(w, 15000) * MS : draw(w, 10) * MS,
                            .die_ns = calm || one_in(w, 2) ? NEVER : draw(w, 20000) * MS,
                            .to.end_ns = NEVER,
                            .from.end_ns = NEVER};
        a->stuck = a->worker && one_in(w, 20);
        a->submits = a->worker ? 0 : 1 + (uint32_t)draw(w, 8);
        a->submit_ns = a->join_ns + draw(w, 1000) * MS;
        a->keeper = !i && keeper;
        if (local && (i == 0 || i == clients)) {
            a->local = true;
            memcpy(a->instance, "one same process", 16);
        }
    }
    w->sleep_ns = one_in(w, 4) ? draw(w, 20000) * MS : NEVER;
    w->restart_ns = w->actor[0].keeper && one_in(w, 2) ? draw(w, 20000) * MS : NEVER;
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
        if (a->mood == ABSENT || a->mood == LOST || (a->mood == PRESENT && a->submits))
            return false;
        if (a->mood == PRESENT && !w->ended[a->link] && a->asked > a->answered)
            return false;
        for (int k = 0; k < RUNS_MAX; k++)
            if (a->run[k].used || (k < LOANS_MAX && a->lent[k].used && a->mood == PRESENT))
                return false;
    }
    return core_stats(w->core).running == 0 || wait_for_nobody(w);
}

/* When all is quiet: everybody has an answer. */
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
    }
}

/* All leave.  Those that died unheard are noticed by their silence. */
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

static uint64_t loans_made, jobs_submitted, restarts_made; /* in all worlds so far */

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
    restarts_made += w->lives;
    for (uint32_t i = 0; i < w->actors; i++) {
        cut(&w->actor[i].to);
        cut(&w->actor[i].from);
    }
    for (uint32_t i = 0; i < NODES_MAX * 4; i++)
        buf_clear(&w->graph[i / 4][i % 4]);
    core_free(w->core);
    free(w);
    return wrong;
}

static bool run_seeds(void)
{
    for (uint64_t seed = 1; seed <= SEEDS; seed++) {
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
        if (run_seeds()) {
            printf("not found in %d seeds\n", SEEDS);
            missed++;
        }
    }
    return missed != 0;
}

int main(int argc, char **argv)
{
    if (argc > 1 && !strcmp(argv[1], "plants"))
        return run_plants();
    if (argc > 1) {
        plant = argc > 2 ? atoi(argv[2]) : 0;
        const char *wrong = run_seed(strtoull(argv[1], NULL, 10), true);
        printf("%s\n", wrong ? wrong : "all holds");
        return wrong != NULL;
    }
    bool good = run_seeds() && loans_made && jobs_submitted && restarts_made;
    if (good)
        printf("%d seeds, %" PRIu64 " loans, %" PRIu64 " submitted jobs, %" PRIu64 " restarts: all holds\n", SEEDS, loans_made, jobs_submitted,
               restarts_made);
    return !good;
}
