/* A region of some hundred programs in a row: all start, all bytes arrive, though only a few are set up
 * at a time and the descriptors under way are counted by the kernel. */
#include "base/fds.h"
#include "lib/test.h"
#include "sandbox/box.h"

#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#define TASKS 300

static struct {
    uint32_t well, ended;
    bool over;
    char wrong[ERR_TEXT_MAX + 64];
} seen;

static void on_task(void *owner, uint64_t region, uint32_t task, const struct box_result *r)
{
    (void)owner;
    (void)region;
    seen.ended++;
    if (r->end == BOX_EXITED && r->status == 0)
        seen.well++;
    else if (!*seen.wrong)
        snprintf(seen.wrong, sizeof seen.wrong, "task %u: end %d: %s", task, r->end, r->text);
}

static void on_pump(void *owner, uint64_t region, uint32_t channel, uint64_t bytes, int sys, bool reading)
{
    (void)owner;
    (void)region;
    (void)channel;
    (void)bytes;
    (void)sys;
    (void)reading;
}

static void on_region(void *owner, uint64_t region)
{
    (void)owner;
    (void)region;
    seen.over = true;
}

static void on_lost(void *owner, const struct err *why)
{
    (void)owner;
    snprintf(seen.wrong, sizeof seen.wrong, "lost: %s", why->text);
    seen.over = true;
}

static void test_wide(void **state)
{
    static const struct box_events events = {
        .task_ended = on_task, .pump_ended = on_pump, .region_ended = on_region, .lost = on_lost};
    static const char *const seq[] = {"seq", "1", "100000", NULL}, *const cat[] = {"cat", NULL};
    static const char *const env[] = {"PATH=/usr/bin:/bin", NULL};
    static struct box_task task[TASKS];
    static struct box_port port[TASKS][3];
    static struct box_channel channel[TASKS - 1];
    struct box_options options = {.program = getenv("ZPIPE_BOX")};
    struct box_region r = {.task = task, .task_count = TASKS, .channel = channel, .channel_count = TASKS - 1};
    struct stat s;
    struct err e;
    (void)state;
    int memory = memfd_create("out", MFD_CLOEXEC);
    int out = fd_reopen(memory, O_WRONLY);
    for (int i = 0; i < TASKS; i++) {
        bool last = i + 1 == TASKS;
        task[i] = (struct box_task){.argv = i ? cat : seq, .env = env, .port = port[i], .port_count = 3};
        port[i][0] = (struct box_port){.fd = 0, .channel = i - 1, .file = -1};
        port[i][1] = (struct box_port){.fd = 1, .write = true, .channel = last ? -1 : i, .file = last ? out : -1};
        port[i][2] = (struct box_port){.fd = 2, .write = true, .channel = -1, .file = -1};
    }
    struct box *b = box_open(&options, &events, NULL, &e);
    assert_non_null(b);
    assert_int_equal(box_run(b, 1, &r, &e), 0);
    while (!seen.over) {
        struct pollfd p = {.fd = box_fd(b), .events = POLLIN};
        assert_int_equal(poll(&p, 1, 600000), 1);
        box_dispatch(b);
    }
    box_close(b);
    if (seen.well != TASKS)
        fail_msg("%u of %u ended well; %s", seen.well, seen.ended, seen.wrong);
    assert_int_equal(fstat(memory, &s), 0);
    assert_int_equal(s.st_size, 588895);
    close(out);
    close(memory);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {cmocka_unit_test(test_wide)};
    return cmocka_run_group_tests(tests, NULL, NULL) != 0;
}
