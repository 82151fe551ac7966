/* Copies without a program, sources that come one by one, and news of how far a pump is. */
#include "base/fds.h"
#include "lib/boxed.h"
#include "lib/test.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#define SIZE 3000000u

static struct {
    bool over, pump_over;
    uint64_t bytes, sources, told_bytes;
    int sys, status;
    bool reading;
} seen;
static struct box *box;
static uint64_t region;
static char data[SIZE];

static void on_task(void *owner, uint64_t id, uint32_t task, const struct box_result *r)
{
    (void)owner, (void)id, (void)task;
    seen.status = r->end == BOX_SIGNALLED ? 128 + r->signal : r->status;
}

static void on_pump(void *owner, uint64_t id, uint32_t channel, uint64_t bytes, int sys, bool reading)
{
    (void)owner, (void)id, (void)channel;
    seen.pump_over = true;
    seen.bytes = bytes;
    seen.sys = sys;
    seen.reading = reading;
}

static void on_moved(void *owner, uint64_t id, uint32_t channel, uint64_t bytes, uint64_t sources)
{
    (void)owner, (void)id, (void)channel;
    assert_true(bytes >= seen.told_bytes && sources >= seen.sources);
    seen.told_bytes = bytes;
    seen.sources = sources;
}

static void on_region(void *owner, uint64_t id)
{
    (void)owner, (void)id;
    seen.over = true;
}

static void turn(void)
{
    struct pollfd p = {.fd = box_fd(box), .events = POLLIN};
    assert_int_equal(poll(&p, 1, 600000), 1);
    box_dispatch(box);
}

static void run(struct box_region *r)
{
    struct err e;
    memset(&seen, 0, sizeof seen);
    if (box_run(box, ++region, r, &e) < 0)
        fail_msg("%s", e.text);
}

static int file_of(size_t size)
{
    int fd = memfd_create("in", MFD_CLOEXEC);
    assert_int_equal(fd_write_all(fd, data, size), 0);
    return fd;
}

static void compare(int out, size_t from, const char *want, size_t size)
{
    char *got = malloc(size + 1);
    assert_int_equal(pread(out, got, size, (off_t)from), (ssize_t)size);
    assert_memory_equal(got, want, size);
    free(got);
}

/* Ranges of one file, out of order, then a pipe to its end. */
static void test_copy(void **state)
{
    int in = file_of(SIZE), out = memfd_create("out", MFD_CLOEXEC), ends[2];
    (void)state;
    assert_int_equal(pipe(ends), 0);
    assert_int_equal(write(ends[1], "tail", 4), 4);
    close(ends[1]);
    struct box_source s[] = {{in, 1000000, 2000000}, {in, 0, 10}, {in, 5, 0}, {ends[0], BOX_ALL, 0}};
    struct box_channel c = {.end = BOX_COPY, .source = s, .source_count = 4, .sink = out, .tell = true};
    run(&(struct box_region){.channel = &c, .channel_count = 1});
    while (!seen.over)
        turn();
    assert_int_equal(seen.sys, 0);
    assert_int_equal(seen.bytes, 2000014);
    assert_int_equal(seen.sources, 4);
    compare(out, 0, data + 1000000, 2000000);
    compare(out, 2000000, data, 10);
    compare(out, 2000010, "tail", 4);
    close(in);
    close(out);
    close(ends[0]);
}

static void test_short_source(void **state)
{
    int in = file_of(100), out = memfd_create("out", MFD_CLOEXEC);
    struct box_source s = {in, 50, 51};
    struct box_channel c = {.end = BOX_COPY, .source = &s, .source_count = 1, .sink = out};
    (void)state;
    run(&(struct box_region){.channel = &c, .channel_count = 1});
    while (!seen.over)
        turn();
    assert_int_equal(seen.sys, ESTALE);
    assert_true(seen.reading);
    close(in);
    close(out);
}

/* It looks after each byte for another, which is not there yet. */
static _Noreturn void look_between(int to, int from)
{
    char byte = 'x';
    for (int i = 0; i < 300; i++) {
        struct pollfd p = {.fd = from, .events = POLLIN};
        if (write(to, &byte, 1) != 1 || poll(&p, 1, -1) != 1 || read(from, &byte, 1) != 1 || read(from, &byte, 1) != -1 ||
            errno != EAGAIN)
            _exit(1);
    }
    _exit(0);
}

/* A pump that waits for bytes holds no lock of the pipe that it will write them to: nobody who reads that has to wait, too. */
static void test_waits_alone(void **state)
{
    int in[2], out[2], status = -1;
    (void)state;
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, in), 0);
    assert_int_equal(pipe2(out, O_CLOEXEC), 0);
    assert_int_equal(fcntl(out[0], F_SETFL, O_NONBLOCK), 0); /* not the pump's end */
    struct box_source s = {in[0], BOX_ALL, 0};
    struct box_channel c = {.end = BOX_COPY, .source = &s, .source_count = 1, .sink = out[1], .tell = true};
    run(&(struct box_region){.channel = &c, .channel_count = 1});
    pid_t pid = fork();
    if (pid == 0)
        look_between(in[1], out[0]);
    struct pollfd over = {.fd = (int)syscall(SYS_pidfd_open, pid, 0), .events = POLLIN};
    int ended = poll(&over, 1, 60000);
    shutdown(in[1], SHUT_RDWR); /* whoever stands still goes on */
    waitpid(pid, &status, 0);
    assert_int_equal(ended, 1);
    assert_int_equal(status, 0);
    while (!seen.over)
        turn();
    assert_int_equal(seen.bytes, 300);
    int fds[] = {in[0], in[1], out[0], out[1], over.fd};
    for (size_t i = 0; i < sizeof fds / sizeof *fds; i++)
        close(fds[i]);
}

/* A program whose input comes in a thousand pieces; it is told when each is done with. */
static void test_feed(void **state)
{
    static const char *const argv[] = {"cat", NULL}, *const env[] = {"PATH=/usr/bin:/bin", NULL};
    int in = file_of(SIZE), out = memfd_create("out", MFD_CLOEXEC);
    struct box_channel c = {.end = BOX_FEED, .more = true, .sink = -1};
    struct box_port port[] = {{0, false, 0, -1, NULL, 0, false}, {1, true, -1, out, NULL, 0, false}, {2, true, -1, -1, NULL, 0, false}};
    struct box_task task = {.argv = argv, .env = env, .port = port, .port_count = 3};
    struct err e;
    uint64_t fed = 0;
    (void)state;
    run(&(struct box_region){.task = &task, .task_count = 1, .channel = &c, .channel_count = 1});
    while (fed < 1000) {
        struct box_source s[2] = {{in, fed * 3000, 1500}, {in, fed * 3000 + 1500, 1500}};
        assert_int_equal(box_feed(box, region, 0, s, 2, &e), 0);
        fed++;
        while (2 * fed - seen.sources > 100)
            turn();
    }
    assert_int_equal(box_feed_end(box, region, 0, &e), 0);
    while (!seen.over)
        turn();
    assert_int_equal(seen.status, 0);
    assert_int_equal(seen.sys, 0);
    assert_int_equal(seen.bytes, SIZE);
    compare(out, 0, data, SIZE);
    close(in);
    close(out);
}

/* The reader leaves while more is to come: the pump ends, and says so. */
static void test_feed_left(void **state)
{
    static const char *const argv[] = {"head", "-c", "1", NULL}, *const env[] = {"PATH=/usr/bin:/bin", NULL};
    int in = file_of(SIZE);
    struct box_source s = {in, 0, SIZE};
    struct box_channel c = {.end = BOX_FEED, .more = true, .source = &s, .source_count = 1, .sink = -1};
    struct box_port port[] = {{0, false, 0, -1, NULL, 0, false}, {1, true, -1, -1, NULL, 0, false}, {2, true, -1, -1, NULL, 0, false}};
    struct box_task task = {.argv = argv, .env = env, .port = port, .port_count = 3};
    struct err e;
    (void)state;
    run(&(struct box_region){.task = &task, .task_count = 1, .channel = &c, .channel_count = 1});
    assert_int_equal(box_feed(box, region, 0, &s, 1, &e), 0);
    while (!seen.over)
        turn();
    assert_true(seen.pump_over);
    assert_int_equal(seen.sys, 0);
    /* too late, and harmless */
    assert_int_equal(box_feed(box, region, 0, &s, 1, &e), 0);
    assert_int_equal(box_feed_end(box, region, 0, &e), 0);
    close(in);
}

/* Whoever takes what a program drains wants no more of it. */
static void test_break_drain(void **state)
{
    static const char *const argv[] = {"yes", NULL}, *const env[] = {"PATH=/usr/bin:/bin", NULL};
    int out = memfd_create("out", MFD_CLOEXEC);
    struct box_channel c = {.end = BOX_DRAIN, .sink = out, .tell = true};
    struct box_port port[] = {{0, false, -1, -1, NULL, 0, false}, {1, true, 0, -1, NULL, 0, false}, {2, true, -1, -1, NULL, 0, false}};
    struct box_task task = {.argv = argv, .env = env, .port = port, .port_count = 3};
    struct err e;
    (void)state;
    run(&(struct box_region){.task = &task, .task_count = 1, .channel = &c, .channel_count = 1});
    while (seen.told_bytes < 1000000)
        turn();
    assert_int_equal(box_hold(box, region, 0, true, &e), 0);
    assert_int_equal(box_hold(box, region, 0, false, &e), 0);
    for (uint64_t before = seen.told_bytes; seen.told_bytes == before;)
        turn();
    assert_int_equal(box_hold(box, region, 0, true, &e), 0); /* one that waits can be ended */
    assert_int_equal(box_break(box, region, 0, &e), 0);
    while (!seen.over)
        turn();
    assert_int_equal(seen.status, 141);
    close(out);
}

static int setup(void **state)
{
    static const struct box_events events = {.task_ended = on_task, .pump_ended = on_pump, .moved = on_moved,
                                             .region_ended = on_region, .lost = boxed_lost};
    (void)state;
    for (size_t i = 0; i < SIZE; i++)
        data[i] = (char)(i * 2654435761u >> 16);
    box = boxed_bare(&events);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    box_close(box);
    return 0;
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_copy),      cmocka_unit_test(test_short_source), cmocka_unit_test(test_waits_alone), cmocka_unit_test(test_feed),
        cmocka_unit_test(test_feed_left), cmocka_unit_test(test_break_drain),
    };
    return cmocka_run_group_tests(tests, setup, teardown) != 0;
}
