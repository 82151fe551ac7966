/* What programs write is kept until they have ended: in memory, or in a file when it is much. */
#include "base/fds.h"
#include "lib/boxed.h"
#include "lib/test.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define OUT 0 /* the channels */
#define ERR 1

static struct {
    struct box_result result;
    char limit[32], *bytes[2];
    size_t size[2];
    bool in_file[2], over, ended, late;
    int kept[2], sys;
} seen;
static struct box *box;
static uint64_t region;

static void on_task(void *owner, uint64_t id, uint32_t task, const struct box_result *r)
{
    (void)owner, (void)id, (void)task;
    seen.result = *r;
    snprintf(seen.limit, sizeof seen.limit, "%s", r->limit);
    seen.ended = true;
}

static void on_kept(void *owner, uint64_t id, uint32_t channel, const struct box_kept *k)
{
    (void)owner;
    assert_int_equal(id, region);
    assert_in_range(channel, OUT, ERR);
    seen.kept[channel]++;
    seen.sys = k->sys;
    seen.in_file[channel] = k->fd >= 0;
    seen.late |= seen.ended && k->fd < 0;
    seen.size[channel] = (size_t)k->size;
    seen.bytes[channel] = malloc(k->size + 1);
    if (k->fd < 0)
        memcpy(seen.bytes[channel], k->data, k->size);
    else
        assert_int_equal(pread(k->fd, seen.bytes[channel], k->size + 1, 0), (ssize_t)k->size);
    if (k->fd >= 0)
        close(k->fd);
}

static void on_pump(void *owner, uint64_t id, uint32_t channel, uint64_t bytes, int sys, bool reading)
{
    (void)owner, (void)id, (void)channel, (void)bytes, (void)sys, (void)reading;
    fail_msg("nobody asked for a pump");
}

static void on_region(void *owner, uint64_t id)
{
    (void)owner, (void)id;
    seen.over = true;
}

static int open_box(void **state)
{
    static const struct box_events events = {.task_ended = on_task, .pump_ended = on_pump, .kept = on_kept,
                                             .region_ended = on_region, .lost = boxed_lost};
    (void)state;
    box = boxed_bare(&events);
    return 0;
}

static int close_box(void **state)
{
    (void)state;
    box_close(box);
    return 0;
}

static void forget(void)
{
    free(seen.bytes[OUT]);
    free(seen.bytes[ERR]);
    memset(&seen, 0, sizeof seen);
}

/* sh -c line, its stdout and stderr kept. */
static void run(const char *line, uint64_t limit, bool stop)
{
    const char *const argv[] = {"sh", "-c", line, NULL};
    static const char *const env[] = {"PATH=/usr/bin:/bin", NULL};
    struct box_channel c[2] = {{.end = BOX_KEEP, .sink = -1}, {.end = BOX_KEEP, .sink = -1}};
    struct box_port port[] = {
        {0, false, -1, -1, NULL, 0, false}, {1, true, OUT, -1, NULL, 0, false}, {2, true, ERR, -1, NULL, 0, false}};
    struct box_task task = {.argv = argv, .env = env, .port = port, .port_count = 3, .limit.output_bytes = limit};
    struct err e;
    forget();
    if (box_run(box, ++region, &(struct box_region){.task = &task, .task_count = 1, .channel = c, .channel_count = 2}, &e) < 0)
        fail_msg("%s", e.text);
    if (stop)
        box_stop(box, region, NULL);
    while (!seen.over) {
        struct pollfd p = {.fd = box_fd(box), .events = POLLIN};
        assert_int_equal(poll(&p, 1, 600000), 1);
        box_dispatch(box);
    }
    assert_true(seen.ended);
    assert_false(seen.late); /* what is in memory comes before the task's end */
}

static void check(int channel, const char *want)
{
    assert_int_equal(seen.size[channel], strlen(want));
    assert_true(!*want || !memcmp(seen.bytes[channel], want, strlen(want)));
    assert_int_equal(seen.kept[channel], *want != 0); /* of nothing nothing is told */
}

static void test_little(void **state)
{
    static const struct {
        const char *line, *out, *err;
        int status;
    } rows[] = {
        {"true", "", "", 0},
        {"echo a", "a\n", "", 0},
        {"echo a; echo b >&2; exit 3", "a\n", "b\n", 3},
        {"printf x; printf y >&2; printf z", "xz", "y", 0},
        {"{ cat /dev/stdin; echo late; } & echo early", "early\nlate\n", "", 0},
        {"echo a; exec >&- 2>&-; :", "a\n", "", 0},
        {"test -p /dev/stdout && echo pipe", "pipe\n", "", 0},
    };
    (void)state;
    for (int round = 0; round < 4; round++) /* cold, and from a template */
        for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
            run(rows[i].line, 0, false);
            check(OUT, rows[i].out);
            check(ERR, rows[i].err);
            assert_int_equal(seen.result.status, rows[i].status);
            assert_false(seen.in_file[OUT] || seen.in_file[ERR]);
        }
}

/* Around the ceiling, and what no socket holds. */
static void test_much(void **state)
{
    static const size_t sizes[] = {BOX_KEEP_BYTES_MAX - 1, BOX_KEEP_BYTES_MAX, BOX_KEEP_BYTES_MAX + 1, 150000, 3000000};
    (void)state;
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        char line[128];
        snprintf(line, sizeof line, "seq 1000000 | head -c %zu; echo said >&2", sizes[i]);
        run(line, 0, false);
        assert_int_equal(seen.size[OUT], sizes[i]);
        assert_int_equal(seen.in_file[OUT], sizes[i] > BOX_KEEP_BYTES_MAX);
        check(ERR, "said\n");
        char *at = seen.bytes[OUT], number[16];
        for (int n = 1; at + 8 < seen.bytes[OUT] + sizes[i]; n++) {
            int digits = snprintf(number, sizeof number, "%d\n", n);
            assert_memory_equal(at, number, (size_t)digits);
            at += digits;
        }
    }
}

static void test_limit(void **state)
{
    static const struct {
        const char *line;
        uint64_t limit;
        bool met;
    } rows[] = {
        {"echo 123456789", 10, false},
        {"echo 123456789", 9, true},
        {"seq 1000000", 100, true},
        {"while :; do echo x; done", 1000, true},
        {"head -c 32768 /dev/zero", BOX_KEEP_BYTES_MAX, false},
        {"head -c 32769 /dev/zero", BOX_KEEP_BYTES_MAX, true},
        {"head -c 200000 /dev/zero", 200000, false},
        {"head -c 200000 /dev/zero", 199999, true},
        {"while :; do echo x; done", 200000, true},
    };
    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        run(rows[i].line, rows[i].limit, false);
        if (rows[i].met ? seen.result.end != BOX_LIMIT || strcmp(seen.limit, "output") : seen.result.end != BOX_EXITED)
            fail_msg("%s, %llu: end %d %s", rows[i].line, (unsigned long long)rows[i].limit, seen.result.end, seen.limit);
    }
}

/* Who is ended while he writes leaves nothing behind that would be waited for. */
static void test_stop(void **state)
{
    (void)state;
    for (int i = 0; i < 10; i++) {
        run("while :; do echo xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx; done", 0, true);
        assert_int_equal(seen.result.end, BOX_KILLED);
    }
    run("echo still", 0, false);
    check(OUT, "still\n");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_little),
        cmocka_unit_test(test_much),
        cmocka_unit_test(test_limit),
        cmocka_unit_test(test_stop),
    };
    int r = cmocka_run_group_tests(tests, open_box, close_box);
    forget();
    return r != 0;
}
