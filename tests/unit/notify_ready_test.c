/* What an epoll of a task's is ready for.  The way into the task is replaced: its descriptors are ours, and how often they are taken is
 * counted, as each wait takes all of them. */
#include "base/fds.h"
#include "lib/test.h"
#include "sandbox/notify_task.h"

#include <fcntl.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/syscall.h>
#include <unistd.h>

#define WATCHED 50
#define ROOM    64

static int pipe_fd[WATCHED][2], epoll = -1;
static ino_t channel; /* the pipe that counts as a channel; 0: none */
static unsigned taken;
static struct epoll_event told[ROOM];

int task_fd(struct notify *n, const struct seccomp_notif *q, int number)
{
    (void)n, (void)q;
    taken++;
    return fcntl(number, F_DUPFD_CLOEXEC, 0);
}

bool notify_is_its_own(const struct notify *n, int fd)
{
    struct stat s;
    (void)n;
    assert_int_equal(fstat(fd, &s), 0);
    return s.st_ino != channel;
}

int task_read(struct notify *n, const struct seccomp_notif *q, uint64_t address, void *data, size_t size)
{
    (void)n, (void)q, (void)address, (void)data, (void)size;
    fail();
    return -1;
}

int task_write(struct notify *n, const struct seccomp_notif *q, uint64_t address, const void *data, size_t size)
{
    (void)n, (void)q, (void)address;
    assert_true(size <= sizeof told);
    memcpy(told, data, size);
    return 0;
}

void notify_mark(struct notify *n, const char *why)
{
    n->uncertified_why = why;
}

static int open_epoll(void **state)
{
    (void)state;
    epoll = epoll_create1(EPOLL_CLOEXEC);
    for (int i = 0; i < WATCHED; i++) {
        struct epoll_event e = {.events = EPOLLIN, .data.u64 = (uint64_t)i};
        if (pipe(pipe_fd[i]) < 0 || epoll_ctl(epoll, EPOLL_CTL_ADD, pipe_fd[i][0], &e) < 0)
            return -1;
    }
    channel = 0;
    taken = 0;
    return 0;
}

static int close_epoll(void **state)
{
    (void)state;
    for (int i = 0; i < WATCHED; i++)
        for (int k = 0; k < 2; k++)
            fd_close(&pipe_fd[i][k]);
    fd_close(&epoll);
    return 0;
}

/* The program waits, for up to `most` descriptors. */
static struct answer wait_for(struct notify *n, int most)
{
    struct seccomp_notif q = {.pid = (uint32_t)getpid(), .data = {.nr = SYS_epoll_wait, .args = {(uint64_t)epoll, 0, (uint64_t)most}}};
    struct answer a = {0};
    *n = (struct notify){.uncertified_why = ""};
    memset(told, 0, sizeof told);
    ready_epoll(n, &q, &a);
    return a;
}

static void be_channel(int i)
{
    struct stat s;
    assert_int_equal(fstat(pipe_fd[i][0], &s), 0);
    channel = s.st_ino;
}

static void test_own(void **state)
{
    struct notify n;
    (void)state;
    assert_true(wait_for(&n, ROOM).go_on);
    assert_string_equal(n.uncertified_why, "");
    assert_int_equal(taken, WATCHED);
}

/* A channel is always ready, and comes first; then what the kernel finds. */
static void test_channel(void **state)
{
    struct notify n;
    (void)state;
    be_channel(9);
    assert_int_equal(write(pipe_fd[4][1], "x", 1), 1);
    struct answer a = wait_for(&n, ROOM);
    assert_false(a.go_on || a.error);
    assert_string_equal(n.uncertified_why, "");
    assert_int_equal(a.value, 2);
    assert_int_equal(told[0].data.u64, 9);
    assert_int_equal(told[0].events, EPOLLIN);
    assert_int_equal(told[1].data.u64, 4);
    assert_int_equal(taken, WATCHED + 1); /* and the epoll */
    assert_int_equal(wait_for(&n, 1).value, 1);
    assert_int_equal(told[0].data.u64, 9);
}

/* The epoll watches a file whose number has gone to another one, or to none. */
static void test_exchanged(void **state)
{
    struct notify n;
    int kept = dup(pipe_fd[7][0]);
    (void)state;
    assert_true(kept >= 0 && dup2(pipe_fd[8][0], pipe_fd[7][0]) >= 0);
    assert_true(wait_for(&n, ROOM).go_on);
    assert_string_equal(n.uncertified_why, "waits for a channel to change");
    fd_close(&pipe_fd[7][0]);
    assert_true(wait_for(&n, ROOM).go_on);
    assert_string_equal(n.uncertified_why, "waits for a channel to change");
    fd_close(&kept);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_own, open_epoll, close_epoll),
        cmocka_unit_test_setup_teardown(test_channel, open_epoll, close_epoll),
        cmocka_unit_test_setup_teardown(test_exchanged, open_epoll, close_epoll),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
