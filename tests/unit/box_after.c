/* Regions that begin when another's programs have ended: in this order, each on its own, and not before; and lanes. */
#include "base/fds.h"
#include "lib/boxed.h"
#include "lib/test.h"
#include "sandbox/children.h"
#include "sandbox/proc.h"

#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define REGIONS_MAX 64

static struct {
    bool ended, over;
    enum box_end end;
    int status;
    char kept[64];
} seen[REGIONS_MAX + 1];
static char order[REGIONS_MAX + 1]; /* ids in the order in which their tasks ended */
static uint32_t ended;
static int clones;
static uint32_t expected; /* box_task.expected */
static char cold_why[256]; /* of the last */
static struct box *box;
static uint64_t region;
static unsigned lane;
static bool lost, may_be_lost;

static unsigned number(uint64_t id)
{
    return (unsigned)(id & 0xff);
}

static void on_task(void *owner, uint64_t id, uint32_t task, const struct box_result *r)
{
    (void)owner, (void)task;
    seen[number(id)].ended = true;
    seen[number(id)].end = r->end;
    seen[number(id)].status = r->status;
    clones += !*r->cold_why;
    snprintf(cold_why, sizeof cold_why, "%s", r->cold_why);
    order[ended++] = (char)id;
}

static void on_kept(void *owner, uint64_t id, uint32_t channel, const struct box_kept *k)
{
    (void)owner, (void)channel;
    snprintf(seen[number(id)].kept, sizeof seen[0].kept, "%.*s", (int)k->size, (const char *)k->data);
}

static void on_pump(void *owner, uint64_t id, uint32_t channel, uint64_t bytes, int sys, bool reading)
{
    (void)owner, (void)id, (void)channel, (void)bytes, (void)sys, (void)reading;
}

static void on_region(void *owner, uint64_t id)
{
    (void)owner;
    seen[number(id)].over = true;
}

static void on_lost(void *owner, const struct err *why)
{
    if (!may_be_lost)
        boxed_lost(owner, why);
    lost = true;
}

static int open_box(void **state)
{
    static const struct box_events events = {.task_ended = on_task, .pump_ended = on_pump, .kept = on_kept,
                                             .region_ended = on_region, .lost = on_lost};
    (void)state;
    memset(seen, 0, sizeof seen);
    ended = 0;
    clones = 0;
    expected = 0;
    region = lane = 0;
    lost = may_be_lost = false;
    box = boxed_bare(&events);
    return 0;
}

static int close_box(void **state)
{
    (void)state;
    box_close(box);
    return 0;
}

/* sh -c line, its stdin `in` (-1: nothing), its stdout kept; gives its id. */
static uint64_t start(const char *line, int in, uint64_t after)
{
    const char *const argv[] = {"sh", "-c", line, NULL};
    static const char *const env[] = {"PATH=/usr/bin:/bin", NULL};
    struct box_channel c[] = {{.end = BOX_KEEP, .sink = -1}};
    struct box_port port[] = {{0, false, -1, in, NULL, 0, false}, {1, true, 0, -1, NULL, 0, false}};
    struct box_task task = {.argv = argv, .env = env, .port = port, .port_count = 2, .expected = expected};
    struct box_region r = {.task = &task, .task_count = 1, .channel = c, .channel_count = 1, .after = after};
    struct err e;
    assert_true(region < REGIONS_MAX);
    uint64_t upper = (uint64_t)lane << BOX_LANE_SHIFT;
    r.after = after ? upper | after : 0;
    if (box_run(box, upper | ++region, &r, &e) < 0)
        fail_msg("%s", e.text);
    return region;
}

static void until(const bool *what)
{
    while (!*what) {
        struct pollfd p = {.fd = box_fd(box), .events = POLLIN};
        assert_int_equal(poll(&p, 1, 600000), 1);
        box_dispatch(box);
    }
}

/* Whatever how the one before ends; cold ones and clones. */
static void test_order(void **state)
{
    static const char *const how[] = {"echo $0", "exit 3", "kill -9 $$", "cat; echo x", "(sleep 0.01; echo late) & echo early"};
    (void)state;
    for (uint64_t i = 1; i <= 40; i++)
        start(how[i % 5], -1, i - 1);
    until(&seen[40].over);
    for (uint32_t i = 0; i < 40; i++)
        assert_int_equal(order[i], i + 1);
    for (uint64_t i = 1; i <= 40; i++)
        assert_int_equal(seen[i].end, i % 5 == 2 ? BOX_SIGNALLED : BOX_EXITED);
    assert_string_equal(seen[39].kept, "early\nlate\n");
}

/* Clones of one template behind each other, of which the next but one is asked for before it is known how this one ends. */
static void test_clones(void **state)
{
    static const char line[] = "read x; case $x in plain) echo plain;; three) exit 3;; killed) kill -9 $$;; late) (sleep 0.01; echo late) & echo early;; "
                               "init) kill -TERM 1;; above) exit 126;; file) echo >/tmp/f;; esac";
    static const struct {
        const char *word, *kept;
        enum box_end end;
        int status;
    } way[] = {{"plain", "plain\n", BOX_EXITED, 0}, {"three", "", BOX_EXITED, 3},  {"killed", "", BOX_SIGNALLED, 0},
               {"late", "early\nlate\n", BOX_EXITED, 0}, {"init", "", BOX_EXITED, 0}, {"above", "", BOX_EXITED, 126},
               {"file", "", BOX_EXITED, 0}};
    enum { WAYS = sizeof way / sizeof *way, LAST = REGIONS_MAX - 1 };
    static const int order_of[] = {0, 0, 1, 0, 0, 2, 0, 0, 0, 3, 2, 4, 5, 0, 3, 3, 0, 4, 2, 1, 0, 5, 0};
    int way_of[REGIONS_MAX];
    (void)state;
    expected = BOX_MANY;
    for (uint64_t i = 1; i <= LAST; i++) {
        int w = way_of[i] = i == LAST ? WAYS - 1 : order_of[i % (sizeof order_of / sizeof *order_of)], in[2];
        assert_int_equal(pipe2(in, O_CLOEXEC), 0);
        assert_int_equal(dprintf(in[1], "%s\n", way[w].word), strlen(way[w].word) + 1);
        close(in[1]);
        start(line, in[0], i - 1);
        close(in[0]);
    }
    until(&seen[LAST].over);
    for (uint64_t i = 1; i <= LAST; i++) {
        const int w = way_of[i];
        if (seen[i].end != way[w].end || seen[i].status != way[w].status || strcmp(seen[i].kept, way[w].kept) || order[i - 1] != (char)i)
            fail_msg("%d, %s: end %d, status %d, '%s', %d in its turn", (int)i, way[w].word, seen[i].end, seen[i].status, seen[i].kept, order[i - 1]);
    }
    print_message("%d of %d were clones%s%s\n", clones, (int)LAST, clones ? "" : ": ", clones ? "" : cold_why);
    assert_true(clones > LAST / 8 || strstr(cold_why, "the host refuses"));
}

/* Who waits has not begun while the first goes on, others have; it may be let go, and be stopped. */
static void test_waits(void **state)
{
    int in[2];
    struct err e;
    (void)state;
    assert_int_equal(pipe2(in, O_CLOEXEC), 0);
    uint64_t first = start("cat", in[0], 0), second = start("echo b", -1, first), third = start("echo c", -1, second);
    uint64_t stopped = start("echo d", -1, first), released = start("echo e", -1, third);
    assert_int_equal(box_release(box, (uint64_t)lane << BOX_LANE_SHIFT | released, &e), 0);
    until(&seen[released].over);
    assert_string_equal(seen[released].kept, "e\n");
    assert_int_equal(box_stop(box, (uint64_t)lane << BOX_LANE_SHIFT | stopped, &e), 0);
    until(&seen[stopped].over);
    assert_int_equal(seen[stopped].end, BOX_KILLED);
    uint64_t other = start("echo f", -1, stopped); /* which is gone */
    until(&seen[other].over);
    assert_false(seen[first].ended || seen[second].ended || seen[third].ended);
    assert_int_equal(write(in[1], "a\n", 2), 2);
    close(in[1]);
    until(&seen[third].over);
    close(in[0]);
    assert_string_equal(seen[first].kept, "a\n");
    assert_true(seen[second].ended);
    assert_string_equal(seen[third].kept, "c\n");
}

/* The first is killed: the next begins. */
static void test_first_stopped(void **state)
{
    int in[2];
    struct err e;
    (void)state;
    assert_int_equal(pipe2(in, O_CLOEXEC), 0);
    uint64_t first = start("cat", in[0], 0), second = start("echo b", -1, first);
    assert_int_equal(box_stop(box, first, &e), 0);
    until(&seen[second].over);
    assert_int_equal(seen[first].end, BOX_KILLED);
    assert_string_equal(seen[second].kept, "b\n");
    close(in[0]);
    close(in[1]);
}

/* The box ends while some wait: nothing is left of them (the sanitizer, and its own descriptors, would tell). */
static void test_closed(void **state)
{
    int in[2];
    (void)state;
    assert_int_equal(pipe2(in, O_CLOEXEC), 0);
    uint64_t first = start("cat", in[0], 0);
    for (int i = 0; i < 10; i++)
        start("echo x", -1, first + (uint64_t)i);
    close(in[0]);
    close(in[1]);
}

static int open_lane(void **state)
{
    int r = open_box(state);
    lane = 3;
    return r;
}

static bool is_server(void *owner, pid_t pid)
{
    *(pid_t *)owner = pid;
    return true;
}

/* The child of ours that is the server of a lane; 0: there is none. */
static bool is_lane(void *owner, pid_t pid)
{
    char words[4096];
    if (!proc_read(pid, "cmdline", words, sizeof words))
        return false;
    size_t last = strlen(words) + 1;
    while (words[last + strlen(words + last) + 1])
        last += strlen(words + last) + 1;
    if (!strcmp(words + last, "--lane"))
        *(pid_t *)owner = pid;
    return *(pid_t *)owner;
}

static pid_t lane_server(void)
{
    pid_t pid = 0;
    children_each(getpid(), is_lane, &pid);
    return pid;
}

/* Regions of several lanes run beside each other, and those of one lane are lost with it. */
static void test_lane_lost(void **state)
{
    int in[2];
    struct err e;
    (void)state;
    assert_int_equal(pipe2(in, O_CLOEXEC), 0);
    assert_int_equal(lane_server(), 0);
    uint64_t here = start("cat", in[0], 0);
    lane = 1;
    uint64_t first = start("cat", in[0], 0), beside = start("echo b", -1, 0);
    until(&seen[beside].over);
    pid_t server = lane_server();
    assert_int_not_equal(server, 0);
    lane = BOX_LANES_MAX;
    uint64_t other = start("echo c", -1, 0);
    until(&seen[other].over);
    assert_false(seen[here].ended || seen[first].ended);
    assert_int_equal(box_forget(box, &e), 0);
    assert_int_equal(kill(server, 0), 0); /* not while they are in use */
    may_be_lost = true;
    assert_int_equal(kill(server, SIGKILL), 0);
    until(&lost);
    assert_false(seen[here].ended || seen[first].ended);
    assert_int_equal(box_again(box, &e), 0);
    assert_int_equal(lane_server(), 0); /* the others have gone with it */
    may_be_lost = false;
    uint64_t again = start("echo d", -1, 0);
    until(&seen[again].over);
    assert_string_equal(seen[again].kept, "d\n");
    assert_int_not_equal(lane_server(), 0);
    assert_int_equal(box_forget(box, &e), 0);
    assert_int_equal(lane_server(), 0);
    again = start("echo e", -1, 0);
    until(&seen[again].over);
    assert_string_equal(seen[again].kept, "e\n");
    close(in[0]);
    close(in[1]);
}

static int cpus_of(pid_t pid)
{
    cpu_set_t set;
    assert_int_equal(sched_getaffinity(pid, sizeof set, &set), 0);
    return CPU_COUNT(&set);
}

/* With short tasks the lane stays on one CPU; while one takes long it may use all. */
static void test_lane_stays(void **state)
{
    int in[2], tries = 0;
    (void)state;
    if (cpus_of(0) < 2)
        skip();
    assert_int_equal(pipe2(in, O_CLOEXEC), 0);
    do {
        region = 0;
        memset(seen, 0, sizeof seen);
        ended = 0;
        start("echo x", -1, 0);
        until(&seen[1].over);
    } while (cpus_of(lane_server()) > 1 && ++tries < 2000);
    assert_int_equal(cpus_of(lane_server()), 1);
    region = 0;
    uint64_t slow = start("read x; echo $x", in[0], 0);
    memset(seen, 0, sizeof seen);
    for (int round = 0; round == 0 || cpus_of(lane_server()) == 1; round++) {
        assert_true(round < 3); /* in the first it may not have taken long yet */
        for (tries = 0; cpus_of(lane_server()) == 1 && tries < 10000; tries++)
            poll(NULL, 0, 1); /* for the lane's own timer, which nobody is told of */
        assert_true(cpus_of(lane_server()) > 1);
        region = slow;
        memset(seen + 2, 0, sizeof seen - 2 * sizeof *seen);
        ended = 1;
        for (int i = 0; i < 40; i++) {
            uint64_t next = start("echo y", -1, 0);
            until(&seen[next].over);
        }
    }
    assert_int_equal(write(in[1], "z\n", 2), 2);
    until(&seen[slow].over);
    assert_string_equal(seen[slow].kept, "z\n");
    close(in[0]);
    close(in[1]);
}

/* Any server stays on one CPU while processes of its only task take turns often, and no longer. */
static void test_turns_stay(void **state)
{
    int in[2], tries = 0;
    pid_t server = 0;
    (void)state;
    if (cpus_of(0) < 2)
        skip();
    assert_int_equal(pipe2(in, O_CLOEXEC), 0);
    uint64_t id = start("i=0; while [ $i -lt 400 ]; do /bin/true; i=$((i+1)); done; read x; echo $x", in[0], 0);
    children_each(getpid(), is_server, &server);
    while (cpus_of(server) > 1 && ++tries < 10000)
        poll(NULL, 0, 1);
    assert_int_equal(cpus_of(server), 1);
    for (int calm = 0; calm < 400 && tries < 20000; tries++) { /* it waits for its input now: longer than one is ever held */
        calm = cpus_of(server) == 1 ? 0 : calm + 1;
        poll(NULL, 0, 1);
    }
    assert_true(cpus_of(server) > 1);
    assert_int_equal(write(in[1], "z\n", 2), 2);
    until(&seen[id].over);
    assert_string_equal(seen[id].kept, "z\n");
    close(in[0]);
    close(in[1]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_order, open_box, close_box),
        cmocka_unit_test_setup_teardown(test_clones, open_box, close_box),
        cmocka_unit_test_setup_teardown(test_waits, open_box, close_box),
        cmocka_unit_test_setup_teardown(test_first_stopped, open_box, close_box),
        cmocka_unit_test_setup_teardown(test_closed, open_box, close_box),
        cmocka_unit_test_setup_teardown(test_order, open_lane, close_box),
        cmocka_unit_test_setup_teardown(test_clones, open_lane, close_box),
        cmocka_unit_test_setup_teardown(test_waits, open_lane, close_box),
        cmocka_unit_test_setup_teardown(test_closed, open_lane, close_box),
        cmocka_unit_test_setup_teardown(test_lane_lost, open_box, close_box),
        cmocka_unit_test_setup_teardown(test_lane_stays, open_lane, close_box),
        cmocka_unit_test_setup_teardown(test_turns_stay, open_box, close_box),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
