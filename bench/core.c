/* bench/core [EVENTS]: the scheduler's core by itself: workers of one slot, clients, and the whole life of jobs of a million
 * blocks: SUBMIT, STARTED, WANT, PROGRESS, TASK, STOPPED.  Half as many jobs as slots, so that the others are lent to them, and
 * twice as many, so that half of the jobs wait.  At 10 to 10,000 workers.
 *
 * Prints a table and writes build/bench/core.json.  An event is a call of core_message, with all actions that come of it taken;
 * time is this process's CPU time.  A goal that is missed is said, and is no failure: this is no test. */
#include "scheduler/core.h"
#include "tests/lib/chain.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

#define CLIENTS  16
#define BLOCKS   1000000 /* of a job: it says so in PROGRESS, and wants slots for them */
#define SIZES    4
#define GOAL     500000
#define STEP_NS  1000 /* from event to event, as the core sees it */
#define PING_NS  1000000000u

struct task { /* what a worker is at */
    uint64_t link, job;
    uint32_t attempt, step;
};

struct world {
    struct core *core;
    struct buf graph;
    uint64_t now, events, jobs, requests, lent;
    uint32_t workers;
    struct task *todo; /* a ring */
    uint64_t first, last, room;
};

static _Noreturn void die(const char *what)
{
    fprintf(stderr, "bench/core: %s\n", what);
    exit(1);
}

static double cpu_s(void)
{
    struct timespec t;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static void take_actions(struct world *w);

static void tell(struct world *w, uint64_t link, enum msg_role role, const struct msg *m, struct slice bulk)
{
    w->events++;
    w->now += STEP_NS;
    core_message(w->core, w->now, link, role, (struct slice){"", 0}, m, bulk);
    take_actions(w);
}

static void later(struct world *w, const struct task *t)
{
    if (w->last - w->first == w->room)
        die("a worker was given more than its slots");
    w->todo[w->last++ % w->room] = *t;
}

static void submit(struct world *w, uint64_t link)
{
    struct msg m = {.type = MSG_SUBMIT, .submit = {.request = ++w->requests, .text = "bench"}};
    tell(w, link, MSG_CLIENT, &m, (struct slice){w->graph.data, w->graph.size});
}

/* Answers are given from the main loop, never from within: that would be another depth for each job. */
static void take_actions(struct world *w)
{
    struct core_action x;
    while (core_next_action(w->core, &x)) {
        if (x.kind == CORE_DROP)
            die("the core drops a link");
        if (x.msg.type == MSG_RUN)
            later(w, &(struct task){x.link, x.msg.run.job, x.msg.run.attempt, 0});
        if (x.msg.type == MSG_LEND)
            later(w, &(struct task){x.link, x.msg.lend.job, x.msg.lend.loan, 100});
        if (x.msg.type == MSG_RESULT && x.msg.result.code)
            die(x.msg.result.text);
        if (x.msg.type == MSG_RESULT)
            later(w, &(struct task){x.link, 0, 0, 200});
        w->jobs += x.msg.type == MSG_RESULT;
        w->lent += x.msg.type == MSG_LEND;
    }
}

/* The next thing that happens to it. */
static void step(struct world *w)
{
    struct task t = w->todo[w->first++ % w->room];
    struct msg m[] = {
        {.type = MSG_STARTED, .started = {t.job, t.attempt}},
        {.type = MSG_WANT, .want = {t.job, t.attempt, BLOCKS}},
        {.type = MSG_PROGRESS, .progress = {.job = t.job, .node = 1, .bytes_in = BLOCKS}},
        {.type = MSG_WANT, .want = {t.job, t.attempt, 0}},
        {.type = MSG_TASK, .task = {.job = t.job, .attempt = t.attempt, .node = 1, .text = "", .stderr_tail = "", .cold = ""}},
        {.type = MSG_STOPPED, .stopped = {t.job, t.attempt, t.attempt}},
    };
    struct msg back = {.type = MSG_RETURNED, .returned = {t.job, 1, t.attempt, false}};
    if (t.step == 200) {
        submit(w, t.link);
        return;
    }
    uint32_t next = t.step + 1;
    tell(w, t.link, MSG_WORKER, t.step >= 100 ? &back : &m[t.step], (struct slice){"", 0});
    if (t.step < 100 && next < sizeof m / sizeof *m)
        later(w, &(struct task){t.link, t.job, t.attempt, next});
}

static void join(struct world *w, uint64_t link, enum msg_role role)
{
    char url[64], instance[17];
    snprintf(url, sizeof url, "tcp://bench:%" PRIu64, link);
    snprintf(instance, sizeof instance, "%016" PRIu64, link);
    struct msg m = {.type = MSG_HELLO,
                    .hello = {.version = MSG_VERSION, .role = role, .name = url, .instance = {instance, 16}, .image = "",
                              .slots = role == MSG_WORKER, .data_url = role == MSG_WORKER ? url : "", .data_key = {"", 0}, .shared = ""}};
    tell(w, link, role, &m, (struct slice){"", 0});
}

static void ping_all(struct world *w)
{
    struct msg m = {.type = MSG_PING, .ping = {1}};
    for (uint64_t link = 1; link <= w->workers + CLIENTS; link++)
        tell(w, link, link <= w->workers ? MSG_WORKER : MSG_CLIENT, &m, (struct slice){"", 0});
    core_tick(w->core, w->now);
    take_actions(w);
}

/* Events per second of CPU. */
static double measure(uint32_t workers, uint32_t jobs, uint64_t events, struct world *w)
{
    struct core_options o = {.seed = 1, .url = "bench"};
    struct err e;
    *w = (struct world){.workers = workers, .room = 4 * (uint64_t)workers + jobs, .core = core_new(&o, &e)};
    w->todo = calloc(w->room, sizeof *w->todo);
    w->graph = chain_bytes(&(struct chain){.stages = 1});
    if (!w->core || !w->todo)
        die("no memory");
    for (uint32_t i = 1; i <= workers + CLIENTS; i++)
        join(w, i, i <= workers ? MSG_WORKER : MSG_CLIENT);
    for (uint32_t i = 0; i < jobs; i++)
        submit(w, workers + 1 + i % CLIENTS);
    w->events = 0;
    uint64_t ping_ns = w->now;
    double begun = cpu_s();
    while (w->events < events) {
        if (w->first == w->last)
            die("nothing goes on");
        step(w);
        if (w->now - ping_ns >= PING_NS) {
            ping_ns = w->now;
            ping_all(w);
        }
    }
    double rate = (double)w->events / (cpu_s() - begun);
    core_free(w->core);
    buf_clear(&w->graph);
    free(w->todo);
    return rate;
}

int main(int argc, char **argv)
{
    static const uint32_t sizes[SIZES] = {10, 100, 1000, CORE_PEERS_MAX - CLIENTS};
    long events = argc > 1 ? atol(argv[1]) : 1000000;
    if (events < 1)
        die("how many events?");
    if ((mkdir("build", 0755) < 0 && errno != EEXIST) || (mkdir("build/bench", 0755) < 0 && errno != EEXIST))
        die("cannot make build/bench");
    FILE *json = fopen("build/bench/core.json", "we");
    if (!json)
        die("cannot write build/bench/core.json");
    fprintf(json, "[");
    double first = 0;
    for (size_t i = 0; i < 2 * SIZES; i++) {
        struct world w;
        uint32_t workers = sizes[i % SIZES], jobs = i < SIZES ? workers / 2 : 2 * workers;
        jobs = jobs < CORE_JOBS_MAX ? jobs : CORE_JOBS_MAX;
        double rate = measure(workers, jobs, (uint64_t)events, &w);
        first = i % SIZES ? first : rate;
        printf("%6u workers, %5u jobs at once %9.0f events/s   (%7" PRIu64 " jobs, %7" PRIu64 " loans)   an event takes %4.2f times as "
               "long as with %u   goal >= %d: %s\n",
               workers, jobs, rate, w.jobs, w.lent, first / rate, sizes[0], GOAL, rate >= GOAL ? "met" : "MISSED");
        fprintf(json, "%s\n {\"workers\": %u, \"jobs_at_once\": %u, \"events_s\": %.0f, \"events\": %" PRIu64 ", \"jobs\": %" PRIu64
                ", \"loans\": %" PRIu64 "}", i ? "," : "", workers, jobs, rate, w.events, w.jobs, w.lent);
        fflush(stdout);
    }
    fprintf(json, "\n]\n");
    fclose(json);
    return 0;
}
