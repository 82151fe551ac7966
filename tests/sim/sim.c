/* The scheduler's core in a made-up world: clients that submit, cancel and die, workers that run, fail, die
 * silently or loudly and come late; messages that are delayed and repeated, and lost with their link.  Time is a
 * number.  Everything follows from the seed, so a failure is a seed:
 *
 *     sim            1,000 seeds
 *     sim SEED       that one, told step by step
 *     sim plants     the bugs planted in the core (CORE_PLANTS) must be found, each
 *
 * What must hold: every accepted job gets exactly one RESULT, unless its client died; no worker is given more
 * than its slots; when nothing moves any more the core holds no job, no slot is taken, and no worker still runs
 * something. */
#include "scheduler/state.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SEEDS        1000
#define PEERS        12
#define JOBS         64
#define RUNS         32 /* at one worker */
#define EVENTS_MAX   200000
#define MS           1000000ull

int core_plant;

struct note { /* a message on its way */
    struct note *next;
    uint64_t at_ns;
    char *first, *bulk;
    size_t first_size, bulk_size;
};

struct run {
    uint64_t job;
    bool stopping, used, endless; /* endless: only STOP ends it, like `tail -f` */
    uint64_t at_ns; /* next step */
    uint32_t node[16], node_count, done;
};

struct actor {
    bool alive, told_dead, joined, worker;
    uint64_t link, join_ns, ping_ns, die_ns, submit_ns;
    uint8_t instance[16];
    struct note *to, *from; /* towards it, from it; in order */
    struct run run[RUNS];
    uint32_t jobs_left;
    uint64_t requests;
};

struct tracked {
    uint64_t client, request, job;
    int results;
    bool accepted, cancelled;
    uint64_t submitted_ns;
};

struct world {
    uint64_t now, random, seed;
    bool talk;
    struct core *core;
    struct actor actor[PEERS];
    uint32_t actors;
    struct tracked job[JOBS];
    uint32_t jobs;
    const char *wrong; /* the invariant that broke */
};

static uint64_t draw(struct world *w, uint64_t below)
{
    uint64_t z = w->random += 0x9e3779b97f4a7c15ull;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9ull;
    z = (z ^ z >> 27) * 0x94d049bb133111ebull;
    return (z ^ z >> 31) % below;
}

static void check(struct world *w, bool holds, const char *what)
{
    if (!holds && !w->wrong)
        w->wrong = what;
}

/* ---- the wire: in order on each link, by a random delay; sometimes a message is repeated */

static void put(struct world *w, struct note **queue, const struct msg *m, struct slice bulk)
{
    struct buf bytes = BUF_INIT(MSG_BYTES_MAX);
    struct err e;
    struct note *n = calloc(1, sizeof *n);
    uint64_t at = w->now + (1 + draw(w, 40)) * MS;
    if (!n || msg_encode(m, &bytes, &e) < 0)
        abort();
    n->first_size = bytes.size;
    n->first = buf_take(&bytes);
    n->bulk = malloc(bulk.size + 1);
    if (bulk.size)
        memcpy(n->bulk, bulk.data, bulk.size);
    n->bulk_size = bulk.size;
    while (*queue) {
        at = at > (*queue)->at_ns ? at : (*queue)->at_ns;
        queue = &(*queue)->next;
    }
    n->at_ns = at;
    *queue = n;
}

static void drop_all(struct note **queue)
{
    while (*queue) {
        struct note *n = *queue;
        *queue = n->next;
        free(n->first);
        free(n->bulk);
        free(n);
    }
}

static void say(struct world *w, struct actor *a, const struct msg *m, struct slice bulk)
{
    put(w, &a->from, m, bulk);
    if (a->worker && draw(w, 10) == 0)
        put(w, &a->from, m, bulk);
}

/* ---- what the actors do */

static void submit(struct world *w, struct actor *a)
{
    static const char *const argv[] = {"stage"};
    struct err e;
    struct graph *g = graph_new(&e);
    uint32_t stages = 1 + (uint32_t)draw(w, 5);
    struct graph_segment in = {.kind = GRAPH_SEGMENT_STDIN, .text = {"", 0}};
    uint32_t last = graph_add_node(g, GRAPH_SOURCE, &e);
    g->node[last].segment = &in;
    g->node[last].segment_count = 1;
    for (uint32_t i = 0; i <= stages; i++) {
        uint32_t n = graph_add_node(g, i < stages ? GRAPH_COMMAND : GRAPH_SINK, &e);
        if (i < stages) {
            g->node[n].argv = argv;
            g->node[n].argc = 1;
            g->node[n].ends = i + 1 == stages;
        }
        uint32_t edge = graph_add_edge(g, last, n, &e);
        graph_set_fd(g, last, 1, edge, &e);
        graph_set_fd(g, n, 0, edge, &e);
        last = n;
    }
    struct buf bytes = BUF_INIT(GRAPH_BYTES_MAX);
    if (graph_encode(g, &bytes, &e) < 0)
        abort();
    struct msg m = {.type = MSG_SUBMIT,
                    .submit = {.request = ++a->requests, .flags = draw(w, 2) ? MSG_SUBMIT_SPREAD : 0, .text = "sim"}};
    if (w->jobs < JOBS)
        w->job[w->jobs++] = (struct tracked){.client = a->link, .request = a->requests, .submitted_ns = w->now};
    say(w, a, &m, (struct slice){bytes.data, bytes.size});
    if (draw(w, 6) == 0) {
        struct msg cancel = {.type = MSG_CANCEL, .cancel = {0, a->requests, "cancelled"}};
        say(w, a, &cancel, (struct slice){"", 0});
    }
    buf_clear(&bytes);
    graph_free(g);
}

static struct run *find_run(struct actor *a, uint64_t job)
{
    for (int i = 0; i < RUNS; i++)
        if (a->run[i].used && a->run[i].job == job)
            return &a->run[i];
    return NULL;
}

static void worker_hears(struct world *w, struct actor *a, const struct msg *m)
{
    if (m->type == MSG_RUN && !find_run(a, m->run.job)) {
        struct run *r = NULL;
        for (int i = 0; i < RUNS && !r; i++)
            r = a->run[i].used ? NULL : &a->run[i];
        check(w, r != NULL, "a worker was given far more than its slots");
        if (!r)
            return;
        *r = (struct run){.used = true, .job = m->run.job, .at_ns = w->now + draw(w, 200) * MS, .endless = draw(w, 8) == 0};
        for (uint32_t i = 0; i < m->run.node_count && i < 16; i++)
            r->node[r->node_count++] = m->run.node[i];
    } else if (m->type == MSG_STOP) {
        struct run *r = find_run(a, m->stop.job);
        if (r) {
            r->stopping = true;
        } else {
            struct msg s = {.type = MSG_STOPPED, .stopped = {m->stop.job, 1}};
            say(w, a, &s, (struct slice){"", 0});
        }
    }
}

/* A client that waited long enough gives up. */
static void give_up(struct world *w, struct actor *a)
{
    for (uint32_t i = 0; i < w->jobs; i++) {
        struct tracked *t = &w->job[i];
        if (t->client != a->link || !t->accepted || t->results || t->cancelled ||
            w->now < t->submitted_ns + 20000 * MS)
            continue;
        struct msg m = {.type = MSG_CANCEL, .cancel = {t->job, 0, "it took too long"}};
        t->cancelled = true;
        say(w, a, &m, (struct slice){"", 0});
    }
}

static void client_hears(struct world *w, struct actor *a, const struct msg *m)
{
    for (uint32_t i = 0; i < w->jobs; i++) {
        struct tracked *t = &w->job[i];
        if (t->client != a->link)
            continue;
        if (m->type == MSG_ACCEPT && t->request == m->accept.request) {
            check(w, !t->accepted, "a job was accepted twice");
            t->accepted = true;
            t->job = m->accept.job;
        } else if (m->type == MSG_RESULT && t->request == m->result.request) {
            t->results++;
            check(w, t->results == 1, "a job had two results");
        }
    }
}

/* One step of a run: a stage ends, or all is over. */
static void run_steps(struct world *w, struct actor *a, struct run *r)
{
    if (r->stopping || (r->done == r->node_count && !r->endless && draw(w, 2))) {
        struct msg s = {.type = MSG_STOPPED, .stopped = {r->job, 1}};
        r->used = false;
        say(w, a, &s, (struct slice){"", 0});
        return;
    }
    r->at_ns = w->now + draw(w, 300) * MS;
    if (r->done == r->node_count)
        return;
    if (draw(w, 40) == 0) {
        struct msg f = {.type = MSG_FAIL, .fail = {r->job, 1, ERR_IO, "disk full"}};
        say(w, a, &f, (struct slice){"", 0});
    }
    struct msg t = {.type = MSG_TASK,
                    .task = {.job = r->job, .attempt = 1, .node = r->node[r->done++], .status = (uint32_t)draw(w, 2)}};
    if (draw(w, 30) == 0)
        t.task.end = MSG_END_LIMIT;
    say(w, a, &t, (struct slice){"", 0});
}

static void join(struct world *w, struct actor *a)
{
    struct msg m = {.type = MSG_HELLO,
                    .hello = {.version = MSG_VERSION,
                              .role = a->worker ? MSG_WORKER : MSG_CLIENT,
                              .name = "sim",
                              .instance = {a->instance, 16},
                              .image = "",
                              .slots = 1 + (uint32_t)draw(w, 4),
                              .data_url = a->worker ? "tcp://sim:1" : "",
                              .data_key = {"", 0}}};
    a->joined = true;
    say(w, a, &m, (struct slice){"", 0});
}

static void step(struct world *w, struct actor *a)
{
    if (!a->joined && w->now >= a->join_ns)
        join(w, a);
    if (!a->joined)
        return;
    if (w->now >= a->die_ns) {
        a->alive = false;
        drop_all(&a->to);
        if (draw(w, 2)) { /* the connection's end is seen; otherwise silence alone tells */
            drop_all(&a->from);
            a->told_dead = true;
            core_lost(w->core, w->now, a->link);
        }
        return;
    }
    if (w->now >= a->ping_ns) {
        struct msg m = {.type = MSG_PING, .ping = {1}};
        a->ping_ns = w->now + 1000 * MS;
        say(w, a, &m, (struct slice){"", 0});
    }
    if (!a->worker && a->jobs_left && w->now >= a->submit_ns) {
        a->jobs_left--;
        a->submit_ns = w->now + draw(w, 800) * MS;
        submit(w, a);
    }
    if (!a->worker)
        give_up(w, a);
    for (int i = 0; a->worker && i < RUNS; i++)
        if (a->run[i].used && w->now >= a->run[i].at_ns)
            run_steps(w, a, &a->run[i]);
}

/* ---- the world turns */

static struct actor *actor_of(struct world *w, uint64_t link)
{
    return &w->actor[link - 1];
}

static void take_actions(struct world *w)
{
    struct core_action a;
    while (core_next_action(w->core, &a)) {
        struct actor *to = actor_of(w, a.link);
        if (w->talk)
            printf("%8.3f  -> %" PRIu64 " %s\n", (double)w->now / 1e9, a.link,
                   a.kind == CORE_DROP ? "(drop)" : msg_name(a.msg.type));
        check(w, !to->told_dead || a.kind == CORE_DROP || a.msg.type == MSG_REFUSE, "a message to a link that had ended");
        if (to->alive && a.kind == CORE_SEND)
            put(w, &to->to, &a.msg, a.bulk);
    }
}

static void deliver_to_core(struct world *w, struct actor *a)
{
    while (a->from && a->from->at_ns <= w->now && !w->wrong) {
        struct note *n = a->from;
        struct arena arena = ARENA_INIT(1 << 24);
        struct msg m;
        struct err e;
        a->from = n->next;
        if (msg_decode(n->first, n->first_size, &arena, &m, &e) < 0)
            abort();
        if (w->talk)
            printf("%8.3f  <- %" PRIu64 " %s\n", (double)w->now / 1e9, a->link, msg_name(m.type));
        core_message(w->core, w->now, a->link, a->worker ? MSG_WORKER : MSG_CLIENT, (struct slice){"", 0}, &m,
                     (struct slice){n->bulk, n->bulk_size});
        take_actions(w);
        arena_clear(&arena);
        free(n->first);
        free(n->bulk);
        free(n);
    }
}

static void deliver_to_actor(struct world *w, struct actor *a)
{
    while (a->to && a->to->at_ns <= w->now) {
        struct note *n = a->to;
        struct arena arena = ARENA_INIT(1 << 24);
        struct msg m;
        struct err e;
        a->to = n->next;
        if (msg_decode(n->first, n->first_size, &arena, &m, &e) < 0)
            abort();
        (a->worker ? worker_hears : client_hears)(w, a, &m);
        arena_clear(&arena);
        free(n->first);
        free(n->bulk);
        free(n);
    }
}

static void invariants(struct world *w)
{
    for (struct peer_state *p = w->core->peers; p; p = p->next)
        check(w, p->used <= p->slots, "a worker was given more than its slots");
}

static void build(struct world *w)
{
    uint32_t clients = 1 + (uint32_t)draw(w, 3), workers = (uint32_t)draw(w, 5);
    struct core_options o = {.seed = w->seed};
    struct err e;
    w->core = core_new(&o, &e);
    w->actors = clients + workers;
    for (uint32_t i = 0; i < w->actors; i++) {
        struct actor *a = &w->actor[i];
        *a = (struct actor){.alive = true, .worker = i >= clients, .link = i + 1};
        a->join_ns = draw(w, 4) ? 0 : draw(w, 15000) * MS;
        a->die_ns = draw(w, 3) ? UINT64_MAX : draw(w, 8000) * MS;
        a->jobs_left = 1 + (uint32_t)draw(w, 8);
        memcpy(a->instance, &a->link, sizeof a->link);
    }
    if (workers && draw(w, 4) == 0) { /* one client and one worker in a process: neither dies alone */
        memcpy(w->actor[0].instance, w->actor[clients].instance, 16);
        w->actor[0].die_ns = w->actor[clients].die_ns = UINT64_MAX;
    }
}

/* When all is quiet: nothing is left, and everybody has an answer. */
static void last_look(struct world *w)
{
    struct core_stats s = core_stats(w->core);
    check(w, s.running == 0, "jobs are left in the core");
    for (struct peer_state *p = w->core->peers; p; p = p->next)
        check(w, p->used == 0, "slots are taken and nothing runs");
    for (uint32_t i = 0; i < w->actors; i++)
        for (int k = 0; k < RUNS && w->actor[i].alive; k++)
            check(w, !w->actor[i].run[k].used, "a worker still runs what nobody waits for");
    for (uint32_t i = 0; i < w->jobs; i++)
        check(w, w->job[i].results == 1 || !actor_of(w, w->job[i].client)->alive, "a job never had a result");
}

static const char *run_seed(uint64_t seed, bool talk)
{
    struct world *w = calloc(1, sizeof *w);
    w->seed = w->random = seed;
    w->talk = talk;
    build(w);
    uint64_t quiet_ns = 0;
    for (int turn = 0; turn < EVENTS_MAX && !w->wrong && w->now < quiet_ns + 100000 * MS; turn++) {
        w->now += (1 + draw(w, 30)) * MS;
        for (uint32_t i = 0; i < w->actors; i++) {
            struct actor *a = &w->actor[i];
            if (a->alive)
                step(w, a);
            take_actions(w);
            deliver_to_core(w, a);
            if (a->alive)
                deliver_to_actor(w, a);
            if (a->alive && !a->worker && a->jobs_left)
                quiet_ns = w->now;
        }
        if (core_next_tick(w->core) <= w->now)
            core_tick(w->core, w->now);
        take_actions(w);
        invariants(w);
    }
    if (!w->wrong)
        last_look(w);
    const char *wrong = w->wrong;
    for (uint32_t i = 0; i < w->actors; i++) {
        drop_all(&w->actor[i].to);
        drop_all(&w->actor[i].from);
    }
    core_free(w->core);
    free(w);
    return wrong;
}

static int run_seeds(uint64_t count, bool quiet)
{
    for (uint64_t seed = 1; seed <= count; seed++) {
        const char *wrong = run_seed(seed, false);
        if (!wrong)
            continue;
        if (!quiet)
            printf("seed %" PRIu64 ": %s\n", seed, wrong);
        else
            printf("planted bug %d: found by seed %" PRIu64 ": %s\n", core_plant, seed, wrong);
        return 1;
    }
    return 0;
}

int main(int argc, char **argv)
{
    if (argc > 1 && !strcmp(argv[1], "plants")) {
        for (core_plant = 1; core_plant <= 3; core_plant++)
            if (!run_seeds(SEEDS, true)) {
                printf("planted bug %d was not found\n", core_plant);
                return 1;
            }
        return 0;
    }
    if (argc > 1) {
        const char *wrong = run_seed(strtoull(argv[1], NULL, 10), true);
        printf("%s\n", wrong ? wrong : "all holds");
        return wrong != NULL;
    }
    int failed = run_seeds(SEEDS, false);
    if (!failed)
        printf("%d seeds: all holds\n", SEEDS);
    return failed;
}
