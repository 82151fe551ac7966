/* The scheduler's core in a made-up world.  Clients submit, cancel, give up, leave and die; workers
 * run, fail, hang, die and come back; links delay, repeat, stall and break, though never reorder: a
 * message arrives after those before it on its link or not at all, as over TCP.  Now and then
 * somebody says what is not theirs to say, and the scheduler itself stands still.  Time is a
 * number, and everything follows from the seed, so a failure is a seed:
 *
 *     sim                  1,000 seeds
 *     sim SEED [PLANT]     that one, told step by step
 *     sim plants           bugs planted on purpose (plants.c) must be found, each
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

#define SEEDS      1000
#define ACTORS     10
#define LINKS_MAX  512 /* over a world's life */
#define JOBS_MAX   64
#define RUNS_MAX   32 /* at one worker: more than its slots can ever be */
#define LOANS_MAX  16 /* likewise */
#define NODES_MAX  8
#define EVENTS_MAX 100000
#define MS         1000000ull
#define NEVER      UINT64_MAX
#define QUIET_NS   (15000 * MS)  /* no message is on its way for so long */
#define REST_NS    (400000 * MS) /* by then all has come to rest */

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

struct run {
    bool used, stopping, endless; /* endless: only STOP ends it, like `tail -f` */
    uint64_t job, at_ns;
    uint32_t node[NODES_MAX], node_count, done;
};

struct lent { /* slots of a worker; it keeps them until they are recalled, or for some time */
    bool used;
    struct msg_returned what;
    uint32_t slots;
    uint64_t at_ns; /* when they go back; NEVER */
};

enum mood { ABSENT, PRESENT, LOST /* its side of the link ended; it comes back */, DEAD };

struct actor {
    bool worker, local, stuck; /* stuck: it never ends what it is told to stop */
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
};

struct tracked {                      /* a job as the world knows it */
    uint64_t client, request, number; /* client: its link */
    bool accepted, ran, cancelled, pipefail, negate;
    uint32_t results, stages, ended;
    uint32_t status[NODES_MAX];
    bool early[NODES_MAX], assigned[NODES_MAX];
};

struct world {
    uint64_t now, random;
    uint64_t sleep_ns, asleep_ns; /* the scheduler stands still from, until */
    bool talk, closing;
    struct core *core;
    struct actor actor[ACTORS];
    uint32_t actors;
    uint64_t links;
    struct actor *owner[LINKS_MAX];
    bool ended[LINKS_MAX]; /* as far as the core can know */
    uint32_t lent;         /* loans made */
    struct tracked job[JOBS_MAX];
    uint32_t jobs;
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

static struct run *run_of(struct actor *a, uint64_t job)
{
    for (int i = 0; i < RUNS_MAX; i++)
        if (a->run[i].used && a->run[i].job == job)
            return &a->run[i];
    return NULL;
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
    must(w, !r->commit || t->ended == t->stages, "a job commits before every stage has ended");
    must(w, !r->commit || r->status == expected_status(t), "a wrong status");
    must(w, r->commit || r->status == 125 || r->status == 124, "a failure without its status");
    for (uint32_t i = 0; i < w->actors; i++) {
        struct actor *a = &w->actor[i];
        must(w, a->mood != PRESENT || w->ended[a->link] || !run_of(a, r->job),
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

static void submit(struct world *w, struct actor *a)
{
    uint32_t stages = 1 + (uint32_t)draw(w, 5), kind = (uint32_t)draw(w, 4);
    struct buf *g = &w->graph[stages][kind];
    struct msg m = {.type = MSG_SUBMIT,
                    .submit = {.request = ++a->requests,
                               .flags = one_in(w, 2) ? MSG_SUBMIT_SPREAD : 0,
                               .text = "sim"}};
    if (!g->size)
        *g = chain_bytes(
            &(struct chain){.stages = stages, .pipefail = kind & 1, .negate = kind & 2});
    if (w->jobs == JOBS_MAX)
        return;
    struct tracked *t = &w->job[w->jobs++];
    *t = (struct tracked){.client = a->link,
                          .request = a->requests,
                          .stages = stages,
                          .pipefail = kind & 1,
                          .negate = kind & 2};
    put(w, a, &a->from, &m, (struct slice){g->data, g->size});
    if (one_in(w, 6)) {
        struct msg cancel = {.type = MSG_CANCEL, .cancel = {0, a->requests, "cancelled"}};
        t->cancelled = true;
        say(w, a, &cancel);
    }
}

/* Something that is not theirs to say, or makes no sense.  Never that a run of its own has stopped:
 * that lie cannot be seen through. */
static void babble(struct world *w, struct actor *a)
{
    uint64_t job = 1 + draw(w, 20);
    const struct tracked *t = tracked(w, job);
    if (a->worker && (!t || !t->ran))
        job += 1000; /* or the answer, STOP, could meet the RUN on its way: the same lie */
    uint32_t node = (uint32_t)draw(w, 9), other = one_in(w, 2) ? JOB_ATTEMPT + 1 : JOB_ATTEMPT;
    struct msg worker[] = {
        {.type = MSG_STARTED, .started = {job, other}},
        {.type = MSG_TASK,
         .task =
             {.job = job + 1000, .attempt = other, .node = node, .text = "", .stderr_tail = ""}},
        {.type = MSG_TASK,
         .task = {.job = job, .attempt = JOB_ATTEMPT, .node = 100, .text = "", .stderr_tail = ""}},
        {.type = MSG_PROGRESS, .progress = {.job = job, .node = node}},
        {.type = MSG_FAIL, .fail = {job + 1000, other, ERR_NONE, "no"}},
        {.type = MSG_STOPPED, .stopped = {job, JOB_ATTEMPT + 1}},
        {.type = MSG_WANT, .want = {job, other, UINT32_MAX}},
        {.type = MSG_RETURNED, .returned = {job, JOB_ATTEMPT, node + 10000, false}},
        {.type = MSG_CANCEL, .cancel = {job, 0, "I am a worker"}},
    };
    struct msg client[] = {
        {.type = MSG_CANCEL, .cancel = {job, 0, "not mine"}},
        {.type = MSG_CANCEL, .cancel = {0, job + 1000, "never submitted"}},
        {.type = MSG_SUBMIT, .submit = {.request = 5000, .text = ""}}, /* without a graph */
        {.type = MSG_STOPPED, .stopped = {job, JOB_ATTEMPT}},
    };
    size_t i = draw(w, a->worker ? sizeof worker / sizeof *worker : sizeof client / sizeof *client);
    if (!a->worker && i == 0 && (!t || t->client == a->link))
        return; /* it might be theirs by the time it arrives */
    say(w, a, a->worker ? &worker[i] : &client[i]);
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
    *r = (struct run){.used = true,
                      .job = m->job,
                      .at_ns = w->now + (1 + draw(w, 200)) * MS,
                      .endless = one_in(w, 8)};
    for (uint32_t i = 0; i < m->node_count; i++) {
        uint32_t n = m->node[i];
        if (n == 0 || n > t->stages)
            continue; /* the source, the sink */
        must(w, !t->assigned[n], "a stage was given to two workers");
        t->assigned[n] = true;
        r->node[r->node_count++] = n;
    }
    struct msg s = {.type = MSG_STARTED, .started = {m->job, m->attempt}};
    say(w, a, &s);
    if (one_in(w, 2)) {
        s = (struct msg){.type = MSG_WANT, .want = {m->job, m->attempt, UINT32_MAX}};
        say(w, a, &s);
    }
}

/* What its stages in blocks could use besides: more and less as they go. */
static void want(struct world *w, struct actor *a, uint64_t job)
{
    uint32_t slots = one_in(w, 3) ? 0 : one_in(w, 3) ? UINT32_MAX : (uint32_t)draw(w, 8);
    struct msg m = {.type = MSG_WANT, .want = {job, JOB_ATTEMPT, slots}};
    if (one_in(w, 3))
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

static void say_stopped(struct world *w, struct actor *a, uint64_t job, uint32_t attempt)
{
    struct msg s = {.type = MSG_STOPPED, .stopped = {job, attempt}};
    say(w, a, &s);
}

static void worker_hears(struct world *w, struct actor *a, const struct msg *m)
{
    if (m->type == MSG_RUN && !run_of(a, m->run.job)) {
        run_begin(w, a, &m->run);
    } else if (m->type == MSG_LEND) {
        lend_begin(w, a, &m->lend);
    } else if (m->type == MSG_RECALL) {
        recalled(w, a, &m->recall);
    } else if (m->type == MSG_STOP) {
        struct run *r = m->stop.attempt == JOB_ATTEMPT ? run_of(a, m->stop.job) : NULL;
        if (r) {
            r->stopping = true;
            r->at_ns = earlier(r->at_ns, w->now + (1 + draw(w, 100)) * MS);
        } else {
            say_stopped(w, a, m->stop.job, m->stop.attempt);
        }
    }
}

/* One step of a run: a stage ends, or all is over. */
static void run_step(struct world *w, struct actor *a, struct run *r)
{
    struct tracked *t = tracked(w, r->job);
    if (r->stopping && a->stuck) {
        r->at_ns = w->now + 1000 * MS;
        return;
    }
    if (r->stopping || (r->done == r->node_count && !r->endless)) {
        r->used = false;
        say_stopped(w, a, r->job, JOB_ATTEMPT);
        return;
    }
    r->at_ns = w->now + (1 + draw(w, 300)) * MS;
    want(w, a, r->job);
    if (r->done == r->node_count)
        return;
    uint32_t n = r->node[r->done++];
    struct msg task = {.type = MSG_TASK,
                       .task = {.job = r->job,
                                .attempt = JOB_ATTEMPT,
                                .node = n,
                                .status = (uint32_t)draw(w, 3),
                                .early_stop = one_in(w, 4),
                                .text = "",
                                .stderr_tail = ""}};
    if (one_in(w, 60))
        task.task.end = one_in(w, 2) ? MSG_END_LIMIT : MSG_END_FAILED;
    t->ended++;
    t->status[n] = task.task.status;
    t->early[n] = task.task.early_stop;
    say(w, a, &task);
    struct msg fail = {.type = MSG_FAIL, .fail = {r->job, JOB_ATTEMPT, ERR_NONE, "disk full"}};
    struct msg moved = {.type = MSG_PROGRESS, .progress = {.job = r->job, .node = n}};
    if (one_in(w, 60))
        say(w, a, &fail);
    else if (one_in(w, 4))
        say(w, a, &moved);
}

/* A client that has waited long enough gives up what runs, which also ends what is endless.  What
 * waits must come to an end by itself. */
static void give_up(struct world *w, struct actor *a)
{
    for (uint32_t i = 0; i < w->jobs; i++) {
        struct tracked *t = &w->job[i];
        if (t->client != a->link || !t->ran || t->results || t->cancelled || !one_in(w, 12))
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
    a->slots = (uint32_t)draw(w, 5);
    struct msg m = {.type = MSG_HELLO,
                    .hello = {.version = MSG_VERSION,
                              .role = a->worker ? MSG_WORKER : MSG_CLIENT,
                              .name = "sim",
                              .instance = {a->instance, 16},
                              .image = "",
                              .slots = a->slots,
                              .data_url = a->worker && !a->local ? "tcp://sim:1" : "",
                              .data_key = {"", 0}}};
    a->ping_ns = w->now + 1000 * MS;
    say(w, a, &m);
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

static uint64_t actor_wakes(const struct actor *a)
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
        submit(w, a);
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
        core_message(w->core, w->now, a->link, a->worker ? MSG_WORKER : MSG_CLIENT,
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
    else if (a->worker)
        worker_hears(w, a, &m);
    note_free(n);
    arena_clear(&arena);
}

/* ---- the world turns: whatever is next */

static bool turn(struct world *w)
{
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
        NEXT(actor_wakes(a), actor_acts);
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
    w->core = core_new(&o, &e);
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
        if (local && (i == 0 || i == clients)) {
            a->local = true;
            memcpy(a->instance, "one same process", 16);
        }
    }
    w->sleep_ns = one_in(w, 4) ? draw(w, 20000) * MS : NEVER;
}

static bool at_rest(const struct world *w)
{
    for (uint32_t i = 0; i < w->actors; i++) {
        const struct actor *a = &w->actor[i];
        if (a->mood == ABSENT || a->mood == LOST || (a->mood == PRESENT && a->submits))
            return false;
        for (int k = 0; k < RUNS_MAX; k++)
            if (a->run[k].used || (k < LOANS_MAX && a->lent[k].used && a->mood == PRESENT))
                return false;
    }
    return core_stats(w->core).running == 0;
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
        must(w, !there || t->results == 1, "a job never had a result");
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

static uint64_t loans_made; /* in all worlds so far */

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
    bool good = run_seeds() && loans_made;
    if (good)
        printf("%d seeds, %" PRIu64 " loans: all holds\n", SEEDS, loans_made);
    return !good;
}
