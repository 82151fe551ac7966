/* What a task's processes and threads find on pipes, sockets and eventfds of their own when they look and do not wait,
 * or not for ever: all of these must be certified. */
#include "golden/golden.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <stdbool.h>
#include <stdio.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/select.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

#define PIECES 300

static unsigned worked;

static void work(int rounds)
{
    for (volatile int i = 0; i < rounds; i++)
        worked += (unsigned)i;
}

/* A child that writes pieces, with some work and now and then a yield between them. */
static void feed(int fd)
{
    static const char piece[32] = "abcdefghijklmnopqrstuvwxyz";
    fflush(stdout);
    if (fork())
        return;
    for (int i = 0; i < PIECES; i++) {
        if (write(fd, piece, (size_t)(i % 32) + 1) < 0)
            _exit(1);
        work(i % 7 * 500);
        if (i % 5 == 0)
            sched_yield();
    }
    _exit(0);
}

/* What each read gives, and how often there was nothing. */
static void say_looks(int fd)
{
    char room[100];
    int nothing = 0;
    ssize_t n;
    while ((n = read(fd, room, sizeof room)) != 0) {
        if (n < 0 && errno != EAGAIN)
            break;
        if (n > 0)
            say("%zd ", n);
        else if (++nothing)
            sched_yield();
    }
    say("nothing %d times, %d\n", nothing, n < 0 ? errno : 0);
    wait(NULL);
}

static void show_nonblock(void)
{
    int fd[2];
    if (pipe(fd) < 0)
        return;
    feed(fd[1]);
    close(fd[1]);
    fcntl(fd[0], F_SETFL, fcntl(fd[0], F_GETFL) | O_NONBLOCK);
    say("%x\n", (unsigned)fcntl(fd[0], F_GETFL));
    say_looks(fd[0]);
}

static void show_fionbio(void)
{
    int fd[2], on = 1;
    if (socketpair(AF_UNIX, SOCK_STREAM, 0, fd) < 0)
        return;
    feed(fd[1]);
    close(fd[1]);
    ioctl(fd[0], FIONBIO, &on);
    say_looks(fd[0]);
}

/* More than there is room for. */
static void show_full(void)
{
    static char bytes[3000];
    int fd[2], count = 0;
    if (pipe2(fd, O_NONBLOCK) < 0)
        return;
    while (write(fd[1], bytes, sizeof bytes) > 0)
        count++;
    say("%d writes, then %d\n", count, errno);
    fcntl(fd[0], F_SETFL, 0);
    feed(fd[1]);
    while (read(fd[0], bytes, 1000) == 1000)
        ;
    say("%u\n", (unsigned)(unsigned char)bytes[0]);
    wait(NULL);
}

enum how { POLL, SELECT, EPOLL };

/* > 0: there is something. */
static int wait_for(enum how how, int fd, int epoll, int limit_ms)
{
    struct pollfd p = {.fd = fd, .events = POLLIN};
    struct timeval t = {0, limit_ms * 1000};
    struct epoll_event e;
    fd_set set;
    switch (how) {
    case POLL:
        return poll(&p, 1, limit_ms);
    case SELECT:
        FD_ZERO(&set);
        FD_SET(fd, &set);
        return select(fd + 1, &set, NULL, NULL, &t) - (FD_ISSET(fd, &set) ? 0 : 10);
    default:
        return epoll_wait(epoll, &e, 1, limit_ms);
    }
}

/* The child sleeps for longer and longer. */
static void say_waits(enum how how, int limit_ms)
{
    struct epoll_event e = {.events = EPOLLIN};
    int fd[2], epoll = epoll_create1(0), late = 0;
    char room[8];
    if (pipe(fd) < 0)
        return;
    fflush(stdout);
    if (fork() == 0) {
        for (int i = 0; i < 12; i++) {
            usleep((unsigned)i * 200);
            work(20000);
            if (write(fd[1], "x", 1) != 1)
                _exit(1);
        }
        _exit(0);
    }
    close(fd[1]);
    epoll_ctl(epoll, EPOLL_CTL_ADD, fd[0], &e);
    for (;;) {
        if (wait_for(how, fd[0], epoll, limit_ms) <= 0) {
            late++;
            continue;
        }
        ssize_t n = read(fd[0], room, sizeof room);
        say("%d:%zd ", late, n);
        if (n <= 0)
            break;
    }
    say("\n");
    wait(NULL);
}

static void show_poll(void)
{
    say_waits(POLL, 1);
}

static void show_select(void)
{
    say_waits(SELECT, 1);
}

static void show_epoll(void)
{
    say_waits(EPOLL, 1);
}

static void show_look(void)
{
    say_waits(POLL, 0);
}

/* What the kernel writes back of a limit of time when something is there at once. */
static void show_rest(void)
{
    int fd = eventfd(1, 0);
    for (int i = 0; i < 60; i++) {
        struct timeval tv = {3, 0};
        struct timespec ts[2] = {{3, 0}, {3, 0}};
        struct pollfd p = {.fd = fd, .events = POLLIN};
        fd_set set;
        FD_ZERO(&set);
        FD_SET(fd, &set);
        int n = select(fd + 1, &set, NULL, NULL, &tv);
        n += (int)syscall(SYS_pselect6, fd + 1, &set, NULL, NULL, &ts[0], NULL);
        n += (int)syscall(SYS_ppoll, &p, 1, &ts[1], NULL, 8);
        say("%d %ld %ld %ld\n", n, (long)tv.tv_usec, ts[0].tv_nsec, ts[1].tv_nsec);
    }
}

static int event;

static void *count_up(void *unused)
{
    (void)unused;
    for (int i = 0; i < PIECES; i++) {
        work(i % 11 * 300);
        eventfd_write(event, 1);
        if (i % 9 == 0)
            sched_yield();
    }
    eventfd_write(event, 1000000);
    return NULL;
}

static void show_eventfd(void)
{
    pthread_t thread;
    eventfd_t value = 0;
    event = eventfd(0, EFD_NONBLOCK);
    pthread_create(&thread, NULL, count_up, NULL);
    while (value < 1000000) {
        struct pollfd p = {.fd = event, .events = POLLIN};
        say("%d ", poll(&p, 1, 2));
        if (eventfd_read(event, &value) == 0)
            say("%llu ", (unsigned long long)value);
    }
    pthread_join(thread, NULL);
    say("\n");
}

/* Streams of more than there is room for: every call writes all of it, and the bytes keep their order. */
enum writing { WRITE, WRITEV, WRITEV2, SEND };

static ssize_t write_as(enum writing how, int fd, char *bytes, size_t size)
{
    struct iovec v[3] = {{bytes, size / 3}, {bytes + size / 3, 0}, {bytes + size / 3, size - size / 3}};
    return how == WRITE     ? write(fd, bytes, size)
           : how == WRITEV  ? writev(fd, v, 3)
           : how == WRITEV2 ? pwritev2(fd, v, 3, -1, 0)
                            : send(fd, bytes, size, 0);
}

static ssize_t read_as(enum writing how, int fd, char *bytes, size_t size)
{
    struct iovec v = {bytes, size};
    return how == WRITEV2 ? preadv2(fd, &v, 1, -1, 0) : read(fd, bytes, size);
}

static char pattern(size_t at)
{
    return (char)(at * 2654435761u >> 13);
}

static void stream_to(enum writing how, int fd)
{
    static char bytes[250000];
    size_t at = 0;
    for (int i = 0; i < 12; i++) {
        size_t size = (size_t)(i * 37 % 12) * 20000 + 7;
        for (size_t k = 0; k < size; k++)
            bytes[k] = pattern(at + k);
        if (write_as(how, fd, bytes, size) != (ssize_t)size)
            _exit(1);
        at += size;
    }
    _exit(0);
}

static void say_stream(enum writing how, bool reader_works)
{
    static char room[50000];
    size_t at = 0, wrong = 0;
    int fd[2], status;
    ssize_t n;
    if (how == SEND ? socketpair(AF_UNIX, SOCK_STREAM, 0, fd) < 0 : pipe(fd) < 0)
        return;
    fflush(stdout);
    if (fork() == 0)
        stream_to(how, fd[1]);
    close(fd[1]);
    while ((n = read_as(how, fd[0], room, sizeof room - at % 777)) > 0) {
        say("%zd ", n);
        for (ssize_t k = 0; k < n; k++)
            wrong += room[k] != pattern(at + (size_t)k);
        at += (size_t)n;
        work(reader_works ? (int)(at % 13) * 2000 : 0);
    }
    wait(&status);
    say("\n%zu bytes, %zu wrong, %d\n", at, wrong, status);
}

static void show_stream_write(void)
{
    say_stream(WRITE, true);
}

static void show_stream_writev(void)
{
    say_stream(WRITEV, false);
}

static void show_stream_writev2(void)
{
    say_stream(WRITEV2, true);
}

static void show_stream_send(void)
{
    say_stream(SEND, true);
}

static void *stream_thread(void *fd)
{
    static char bytes[200000];
    for (int i = 0; i < 3; i++)
        if (write((int)(intptr_t)fd, bytes, sizeof bytes) != sizeof bytes)
            say("short ");
    close((int)(intptr_t)fd);
    return NULL;
}

static void show_stream_threads(void)
{
    static char room[30000];
    pthread_t thread[2];
    int fd[2][2];
    ssize_t n[2] = {1, 1};
    for (int i = 0; i < 2; i++)
        if (pipe(fd[i]) < 0 || pthread_create(&thread[i], NULL, stream_thread, (void *)(intptr_t)fd[i][1]))
            return;
    while (n[0] > 0 || n[1] > 0)
        for (int i = 0; i < 2; i++)
            if (n[i] > 0)
                say("%zd ", n[i] = read(fd[i][0], room, sizeof room));
    for (int i = 0; i < 2; i++)
        pthread_join(thread[i], NULL);
    say("\n");
}

static void run_bash(const char *text)
{
    fflush(stdout);
    execl("/bin/bash", "bash", "-c", text, (char *)NULL);
}

/* Whose reader leaves. */
static void show_stream_left(void)
{
    run_bash("yes | head -n 1; echo ${PIPESTATUS[@]}; seq 300000 | tee copy | head -c 100000 | tail -n 1; echo ${PIPESTATUS[@]};"
             "wc -c < copy; rm copy; (trap '' PIPE; yes; echo $?) 2>&1 | head -n 3; awk 'BEGIN { while (1) print n++ }' | head -n 2;"
             "echo ${PIPESTATUS[@]}");
}

static void show_stream_shell(void)
{
    run_bash("seq 1 100000 | sort | tail -n 1; yes | head -c 1M | md5sum; seq 60000 | tee >(md5sum > a) >(wc -c > b) | gzip -c | gzip -dc |"
             "tail -n 1; while [ ! -s a ] || [ ! -s b ]; do sleep 0.01; done; cat a b; rm a b");
}

static void show_python_asyncio(void)
{
    fflush(stdout);
    execl("/usr/bin/python3", "python3", "-c",
          "import asyncio, time\n"
          "said = []\n"
          "def work(n):\n"
          "    for i in range(3):\n"
          "        said.append((n, i, round(time.monotonic(), 6)))\n"
          "        time.sleep(0.0001)\n"
          "    return n\n"
          "async def tick():\n"
          "    for i in range(5):\n"
          "        await asyncio.sleep(0.0002)\n"
          "        said.append(i)\n"
          "async def main():\n"
          "    r, w = await asyncio.open_connection(sock=pair[0])\n"
          "    print(await asyncio.gather(tick(), *[asyncio.to_thread(work, n) for n in range(4)]))\n"
          "    p = await asyncio.create_subprocess_exec('sh', '-c', 'echo a; sleep 1; echo b', stdout=-1)\n"
          "    print(await p.communicate(), p.returncode)\n"
          "    w.write(b'x' * 300000)\n"
          "    print(len(await asyncio.get_running_loop().run_in_executor(None, take)), said)\n"
          "def take():\n"
          "    got = b''\n"
          "    while len(got) < 300000:\n"
          "        got += pair[1].recv(300000)\n"
          "    return got\n"
          "import socket\n"
          "pair = socket.socketpair()\n"
          "asyncio.run(main())\n",
          (char *)NULL);
}

const struct golden golden_own[] = {
    {"own-nonblock", show_nonblock, NULL, NULL},
    {"own-fionbio", show_fionbio, NULL, NULL},
    {"own-full", show_full, NULL, NULL},
    {"own-poll", show_poll, NULL, NULL},
    {"own-select", show_select, NULL, NULL},
    {"own-epoll", show_epoll, NULL, NULL},
    {"own-look", show_look, NULL, NULL},
    {"own-rest", show_rest, NULL, NULL},
    {"own-eventfd", show_eventfd, NULL, NULL},
    {"stream-write", show_stream_write, NULL, NULL},
    {"stream-writev", show_stream_writev, NULL, NULL},
    {"stream-writev2", show_stream_writev2, NULL, NULL},
    {"stream-send", show_stream_send, NULL, NULL},
    {"stream-threads", show_stream_threads, NULL, NULL},
    {"stream-left", show_stream_left, NULL, NULL},
    {"stream-shell", show_stream_shell, "its output is the same in any order", NULL},
    {"python-asyncio", show_python_asyncio, NULL, NULL},
    {NULL, NULL, NULL, NULL}};
