/* Whose turn it is, and what each user may have, among those who submit to one keeper: a user with a hundred jobs delays
 * one with three by one job at a time.  And which worker gets a job that begins again. */
#include "tests/lib/test.h"

#include "scheduler/core.h"
#include "tests/lib/chain.h"

#include <stdio.h>
#include <string.h>

enum { WORKER = 1, KEEPER = 2, HOLDER = 3, MANY = 100, FEW = 3, JOBS = MANY + FEW };
enum { A = 'a', B = 'b' };

static struct core *core;
static uint64_t now, job_of[JOBS + 1]; /* by request */
static char owner_of[JOBS + 1];        /* likewise: each brings its jobs in the order of their numbers */
static struct msg_run runs;            /* the RUN of the job that the worker has; job 0: it has none */
static uint64_t order[JOBS];           /* requests, as they were run */
static uint32_t done;
static uint64_t ran_at; /* link of the worker that was last told to run something */
static uint32_t blocks; /* how many blocks clients were told of */

static uint64_t request_of(uint64_t job)
{
    uint64_t request = JOBS;
    while (request && job_of[request] != job)
        request--;
    return request;
}

static void take_actions(void)
{
    struct core_action a;
    while (core_next_action(core, &a)) {
        if (a.kind != CORE_SEND)
            fail_msg("link %d was dropped", (int)a.link);
        if (a.msg.type == MSG_ACCEPT)
            job_of[a.msg.accept.request] = a.msg.accept.job;
        blocks += a.msg.type == MSG_BLOCK;
        if (a.msg.type == MSG_RUN) {
            assert_int_equal(runs.job, 0); /* the worker gets one job at a time */
            ran_at = a.link;
            runs.job = a.msg.run.job;
            runs.attempt = a.msg.run.attempt;
        }
    }
}

static void say(uint64_t link, enum msg_role role, const struct msg *m, struct slice bulk)
{
    now += 1000000;
    core_message(core, now, link, role, (struct slice){"", 0}, m, bulk);
    take_actions();
}

static void join(uint64_t link, enum msg_role role)
{
    static const char *const instance[] = {[WORKER] = "0123456789abcdef", [KEEPER] = "fedcba9876543210", [HOLDER] = "0123456789ABCDEF"};
    struct msg m = {.type = MSG_HELLO,
                    .hello = {.version = MSG_VERSION, .role = role, .name = "x", .instance = {instance[link], 16},
                              .image = "", .slots = role == MSG_WORKER, .data_url = "tcp://x:1", .data_key = {"", 0}, .shared = ""}};
    say(link, role, &m, (struct slice){"", 0});
}

static void submit_as(uint64_t request, char owner, uint32_t flags)
{
    char key[MSG_KEY_BYTES];
    struct buf graph = chain_bytes(&(struct chain){.stages = 1});
    struct msg held = {.type = MSG_HELD, .held = {.job = 1000 + request, .key = {key, sizeof key}, .state = "waits", .text = ""}};
    struct msg m = {.type = MSG_SUBMIT, .submit = {.request = request, .flags = flags, .text = "", .held = 1000 + request}};
    memset(key, owner, sizeof key);
    owner_of[request] = owner;
    say(KEEPER, MSG_KEEPER, &held, (struct slice){"", 0});
    say(KEEPER, MSG_KEEPER, &m, (struct slice){graph.data, graph.size});
    buf_clear(&graph);
}

static void submit(uint64_t request, char owner)
{
    submit_as(request, owner, 0);
}

/* The job that the worker has ends. */
static void end_one(void)
{
    struct msg_run r = runs;
    struct msg task = {
        .type = MSG_TASK,
        .task = {.job = r.job, .attempt = r.attempt, .node = 1, .end = MSG_END_EXITED, .certified = true, .text = "", .stderr_tail = "", .cold = ""}};
    struct msg stopped = {.type = MSG_STOPPED, .stopped = {r.job, r.attempt, r.attempt}};
    assert_true(r.job);
    order[done++] = request_of(r.job);
    runs.job = 0;
    say(ran_at, MSG_WORKER, &task, (struct slice){"", 0});
    say(ran_at, MSG_WORKER, &stopped, (struct slice){"", 0});
}

static void begin(void)
{
    struct err e;
    core = core_new(&(struct core_options){.seed = 1, .url = ""}, &e);
    assert_non_null(core);
    now = 1;
    done = 0;
    memset(job_of, 0, sizeof job_of);
    memset(&runs, 0, sizeof runs);
    join(WORKER, MSG_WORKER);
    join(KEEPER, MSG_KEEPER);
}

static void many_do_not_hold_up_few(void **state)
{
    (void)state;
    begin();
    for (uint64_t i = 1; i <= MANY; i++)
        submit(i, A);
    for (uint64_t i = MANY + 1; i <= JOBS; i++)
        submit(i, B);
    while (done < JOBS)
        end_one();
    uint32_t few = 0;
    uint64_t last[256] = {0};
    for (uint32_t i = 0; i < JOBS; i++) {
        unsigned char owner = (unsigned char)owner_of[order[i]];
        assert_true(order[i] > last[owner]); /* the jobs of each user are in the order in which they came */
        last[owner] = order[i];
        if (owner == B)
            assert_true(i <= 2 * ++few); /* between two jobs of these users there is at most one of the others', besides one that ran already */
    }
    assert_int_equal(few, FEW);
    assert_int_equal(core_stats(core).jobs_done, JOBS);
    core_free(core);
}

/* A user who comes again and again does not get before one who waits. */
static void who_waits_gets_its_turn(void **state)
{
    (void)state;
    begin();
    submit(1, A);
    submit(2, A);
    submit(3, B);
    for (uint64_t i = 4; i <= JOBS; i++) {
        end_one();
        submit(i, A);
        if (owner_of[order[done - 1]] == B)
            break;
    }
    assert_in_range(done, 2, 4);
    core_free(core);
}

/* A client believes a worker about which programs a block was of, so the scheduler must check that these exist. */
static void blocks_of_programs_that_are_none_are_refused(void **state)
{
    (void)state;
    begin();
    submit(1, A);
    blocks = 0;
    for (uint32_t bad = 0; bad <= 2; bad++) {
        struct msg m = {
            .type = MSG_BLOCK,
            .block = {
                .job = runs.job, .attempt = runs.attempt, .node = bad == 1 ? UINT32_MAX : 1, .last = bad == 2 ? UINT32_MAX : 1, .worker = "", .cold = ""}};
        say(WORKER, MSG_WORKER, &m, (struct slice){"", 0});
        assert_int_equal(core_stats(core).refused, bad);
    }
    assert_int_equal(blocks, 1);
    core_free(core);
}

static void hold(uint64_t held, uint32_t count)
{
    struct msg m = {.type = MSG_HOLDS, .holds = {held, count}};
    say(HOLDER, MSG_WORKER, &m, (struct slice){"", 0});
}

static void tick_after(uint64_t ns)
{
    now += ns;
    core_tick(core, now);
    take_actions();
}

static void heartbeats(uint64_t seconds)
{
    static const struct {
        uint64_t link;
        enum msg_role role;
    } all[] = {{WORKER, MSG_WORKER}, {HOLDER, MSG_WORKER}, {KEEPER, MSG_KEEPER}};
    struct msg m = {.type = MSG_PING, .ping = {1}};
    while (seconds--) {
        tick_after(1000000000);
        for (size_t i = 0; i < sizeof all / sizeof *all; i++)
            say(all[i].link, all[i].role, &m, (struct slice){"", 0});
    }
}

/* A job goes to the worker that has results of it, even if another worker came first.  If that worker is busy the job
 * waits, for 10 s at most.  A new job goes to the first worker.  And when the scheduler has just begun, workers may not
 * have told of results yet. */
static void who_has_results_gets_the_job(void **state)
{
    (void)state;
    begin();
    join(HOLDER, MSG_WORKER);
    submit_as(1, A, MSG_SUBMIT_AGAIN);
    assert_int_equal(runs.job, 0);
    hold(1001, 5);
    assert_int_equal(ran_at, HOLDER);
    end_one();
    submit(2, A);
    assert_int_equal(ran_at, WORKER);
    end_one();
    hold(1003, 1);
    submit(3, A); /* a new job, not one that is submitted again */
    assert_int_equal(ran_at, WORKER);
    end_one();
    heartbeats(4);
    hold(1004, 1);
    hold(1004, 0);
    submit_as(4, A, MSG_SUBMIT_AGAIN);
    assert_int_equal(ran_at, WORKER);
    end_one();
    hold(1005, 1);
    hold(1006, 1);
    submit_as(5, A, MSG_SUBMIT_AGAIN);
    assert_int_equal(ran_at, HOLDER);
    uint64_t first = runs.job;
    runs.job = 0;
    submit_as(6, A, MSG_SUBMIT_AGAIN);
    heartbeats(8);
    assert_int_equal(runs.job, 0);
    heartbeats(3);
    assert_int_not_equal(runs.job, 0);
    assert_int_not_equal(runs.job, first);
    assert_int_equal(ran_at, WORKER);
    core_free(core);
}

/* The clients of one key, with a thousand jobs each, leave places for those of another; and so do one key's jobs at a
 * keeper. */
static char refused[ERR_TEXT_MAX];
static uint64_t accepted, welcomed, dropped;

static void say_as(uint64_t link, enum msg_role role, char owner, const struct msg *m, struct slice bulk)
{
    char key[MSG_KEY_BYTES];
    struct core_action a;
    memset(key, owner, sizeof key);
    core_message(core, now += 1000, link, role, (struct slice){key, sizeof key}, m, bulk);
    while (core_next_action(core, &a)) {
        welcomed += a.msg.type == MSG_WELCOME;
        accepted += a.msg.type == MSG_ACCEPT;
        dropped += a.kind == CORE_DROP;
        if (a.msg.type == MSG_RESULT)
            snprintf(refused, sizeof refused, "%s", a.msg.result.text);
    }
}

static void come(uint64_t link, enum msg_role role, char owner)
{
    struct msg m = {
        .type = MSG_HELLO,
        .hello = {
            .version = MSG_VERSION, .role = role, .name = "x", .instance = {"", 0}, .image = "", .data_url = "tcp://x:1", .data_key = {"", 0}, .shared = ""}};
    say_as(link, role, owner, &m, (struct slice){"", 0});
}

static void bring(uint64_t link, enum msg_role role, char owner, uint64_t request, uint64_t held, struct slice graph)
{
    struct msg m = {.type = MSG_SUBMIT, .submit = {.request = request, .text = "", .held = held}};
    say_as(link, role, owner, &m, graph);
}

static void a_key_has_a_share(void **state)
{
    (void)state;
    struct err e;
    struct buf bytes = chain_bytes(&(struct chain){.stages = 1});
    struct slice graph = {bytes.data, bytes.size};
    core = core_new(&(struct core_options){.seed = 1, .url = ""}, &e);
    assert_non_null(core);
    now = 1;
    welcomed = dropped = accepted = 0;
    for (uint64_t i = 1; i <= CORE_CLIENTS_PER_KEY_MAX + 3; i++)
        come(i, MSG_CLIENT, A);
    assert_int_equal(welcomed, CORE_CLIENTS_PER_KEY_MAX);
    assert_int_equal(dropped, 3);
    for (uint64_t i = 0; i < CORE_JOBS_PER_KEY_MAX + 5; i++)
        bring(1 + i / 900, MSG_CLIENT, A, i + 1, 0, graph);
    assert_int_equal(accepted, CORE_JOBS_PER_KEY_MAX);
    assert_non_null(strstr(refused, "CORE_JOBS_PER_KEY_MAX"));
    come(9000, MSG_CLIENT, B);
    come(9001, MSG_KEEPER, 'k');
    assert_int_equal(welcomed, CORE_CLIENTS_PER_KEY_MAX + 2);
    bring(9000, MSG_CLIENT, B, 1, 0, graph);
    assert_int_equal(accepted, CORE_JOBS_PER_KEY_MAX + 1);
    for (uint64_t i = 0; i < 2; i++) { /* at the keeper, A's counts, B's has room */
        char key[MSG_KEY_BYTES];
        memset(key, i ? B : A, sizeof key);
        struct msg held = {.type = MSG_HELD, .held = {.job = 1000000 + i, .key = {key, sizeof key}, .state = "waits", .text = ""}};
        say_as(9001, MSG_KEEPER, 'k', &held, (struct slice){"", 0});
        bring(9001, MSG_KEEPER, 'k', 1 + i, 1000000 + i, graph);
        assert_int_equal(accepted, CORE_JOBS_PER_KEY_MAX + 1 + i);
    }
    core_lost(core, now, 1); /* a client with 900 of the jobs */
    come(9002, MSG_CLIENT, A);
    bring(9002, MSG_CLIENT, A, 1, 0, graph);
    assert_int_equal(accepted, CORE_JOBS_PER_KEY_MAX + 3);
    core_free(core);
    buf_clear(&bytes);
}

/* A worker with another image is given the job, and leaves before anything of it has begun: then any image will do for the
 * job. */
static void who_only_took_it_binds_nobody(void **state)
{
    (void)state;
    for (int begins = 0; begins < 2; begins++) {
        begin();
        submit(1, A);
        uint64_t job = runs.job;
        struct msg hello = {.type = MSG_HELLO,
                            .hello = {.version = MSG_VERSION, .role = MSG_WORKER, .name = "y", .instance = {"0123456789ABCDEF", 16},
                                      .image = "another", .slots = 1, .data_url = "tcp://y:1", .data_key = {"", 0}, .shared = ""}};
        struct msg started = {.type = MSG_STARTED, .started = {job, runs.attempt}};
        say(HOLDER, MSG_WORKER, &hello, (struct slice){"", 0});
        if (begins)
            say(WORKER, MSG_WORKER, &started, (struct slice){"", 0});
        runs.job = 0;
        core_lost(core, now, WORKER);
        take_actions();
        assert_int_equal(runs.job, begins ? 0 : job);
        core_free(core);
    }
}

/* A job without a worker fails after 10 s in which its client was heard.  Time in which nobody was does not count: then it may
 * be the scheduler's host that is cut off. */
static void who_is_cut_off_fails_nothing(void **state)
{
    (void)state;
    struct err e;
    struct buf bytes = chain_bytes(&(struct chain){.stages = 1});
    struct msg ping = {.type = MSG_PING, .ping = {1}};
    core = core_new(&(struct core_options){.seed = 1, .url = ""}, &e);
    assert_non_null(core);
    now = 1;
    refused[0] = '\0';
    come(1, MSG_CLIENT, A);
    bring(1, MSG_CLIENT, A, 1, 0, (struct slice){bytes.data, bytes.size});
    for (int s = 0; s < 40; s++)
        tick_after(1000000000);
    for (int s = 0; s < 12 && !refused[0]; s++) {
        say_as(1, MSG_CLIENT, A, &ping, (struct slice){"", 0});
        assert_string_equal(refused, "");
        now += 1000000000;
        core_tick(core, now);
        if (s >= 9)
            say_as(1, MSG_CLIENT, A, &ping, (struct slice){"", 0});
    }
    assert_non_null(strstr(refused, "no worker"));
    buf_clear(&bytes);
    core_free(core);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(many_do_not_hold_up_few), cmocka_unit_test(blocks_of_programs_that_are_none_are_refused),
                                       cmocka_unit_test(who_waits_gets_its_turn),
                                       cmocka_unit_test(who_has_results_gets_the_job), cmocka_unit_test(a_key_has_a_share),
                                       cmocka_unit_test(who_only_took_it_binds_nobody), cmocka_unit_test(who_is_cut_off_fails_nothing)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
