/* How input arrives: the driver feeds 20,000 bytes in pieces of random sizes at random times. */
#include "golden/golden.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/select.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

static char room[4096];

/* Reads of so many bytes until the end; what each gave. */
static void say_reads(int fd)
{
    ssize_t n;
    while ((n = read(fd, room, 3000)) != 0) {
        say("%zd ", n < 0 ? -(ssize_t)errno : n);
        if (n < 0 && errno != EAGAIN && errno != EINTR)
            break;
    }
    say("\n");
}

static void show_read(void)
{
    say_reads(0);
}

static void show_readv(void)
{
    struct iovec v[2] = {{room, 1000}, {room + 1000, 1500}};
    ssize_t n;
    while ((n = readv(0, v, 2)) > 0)
        say("%zd ", n);
    say("\n");
}

/* Into memory that ends: what came in one piece, and does not fit, is not read at all.  Then all that is there, so that the
 * next piece has just come, however far ahead its writer was. */
static void show_read_torn(void)
{
    char *page = mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    munmap(page + 4096, 4096);
    for (int i = 0; i < 20; i++) {
        ssize_t n = read(0, page + 4096 - 400, 800);
        say("%zd ", n);
        if (n < 0 && read(0, room, sizeof room) <= 0)
            break;
    }
    say("\n");
}

static void show_recv(void)
{
    ssize_t n;
    while ((n = recv(0, room, 3000, 0)) > 0)
        say("%zd ", n);
    say("%d\n", n < 0 ? errno : 0);
}

static void show_poll(void)
{
    struct pollfd p = {.fd = 0, .events = POLLIN};
    ssize_t n = 1;
    while (n > 0 && poll(&p, 1, -1) > 0) {
        n = read(0, room, 3000);
        say("%zd ", n);
    }
    say("\n");
}

static void show_select(void)
{
    ssize_t n = 1;
    while (n > 0) {
        fd_set set;
        FD_ZERO(&set);
        FD_SET(0, &set);
        select(1, &set, NULL, NULL, NULL);
        n = read(0, room, 3000);
        say("%zd ", n);
    }
    say("\n");
}

static void show_epoll(void)
{
    struct epoll_event e = {.events = EPOLLIN};
    int epoll = epoll_create1(0);
    ssize_t n = 1;
    epoll_ctl(epoll, EPOLL_CTL_ADD, 0, &e);
    while (n > 0 && epoll_wait(epoll, &e, 1, -1) > 0) {
        n = read(0, room, 3000);
        say("%zd ", n);
    }
    say("\n");
}

static void show_nonblock(void)
{
    fcntl(0, F_SETFL, fcntl(0, F_GETFL) | O_NONBLOCK);
    say_reads(0);
}

static void show_fionbio(void)
{
    int on = 1;
    ioctl(0, FIONBIO, &on);
    say_reads(0);
}

static void show_by_name(void)
{
    int fd = open("/dev/stdin", O_RDONLY);
    if (fd < 0)
        say("%d\n", errno);
    say_reads(fd);
}

static void show_peek(void)
{
    for (int i = 0; i < 50; i++)
        say("%zd ", recv(0, room, sizeof room, MSG_PEEK | MSG_DONTWAIT));
    say("\n");
}

static void show_pending(void)
{
    int count = 0;
    for (int i = 0; i < 50; i++) {
        ioctl(0, FIONREAD, &count);
        say("%d ", count);
    }
    say("\n");
}

static void show_ready(void)
{
    struct pollfd p = {.fd = 0, .events = POLLIN};
    long looks = 0;
    while (poll(&p, 1, 0) == 0)
        looks++;
    say("%ld\n", looks);
}

static void handle(int signal)
{
    (void)signal;
}

/* Signals that the program sends itself do not cut reads. */
static void show_signals(void)
{
    signal(SIGUSR1, handle);
    for (int i = 0; i < 6; i++) {
        kill(getpid(), SIGUSR1);
        say("%zd ", read(0, room, 3000));
    }
    say_reads(0);
}

/* How much had come when a stream was shut. */
static void show_shut(void)
{
    ssize_t n, all = read(0, room, 1); /* some has */
    int r = shutdown(0, SHUT_RD);
    while ((n = read(0, room, sizeof room)) > 0)
        all += n;
    say("%d %zd\n", r, all);
}

/* How often only the output was ready. */
static void show_both(void)
{
    struct pollfd p[2] = {{.fd = 0, .events = POLLIN}, {.fd = 1, .events = POLLOUT}};
    int without = 0;
    ssize_t n = 1;
    while (n > 0 && poll(p, 2, -1) > 0)
        if (p[0].revents)
            n = read(0, room, 100);
        else
            without++;
    say("%d %x\n", without, p[1].revents);
}

static void show_selected(void)
{
    int without = 0, ready = 2;
    fd_set in, out;
    FD_ZERO(&out);
    for (ssize_t n = 1; n > 0 && ready > 0;) {
        FD_ZERO(&in);
        FD_SET(0, &in);
        FD_SET(1, &out);
        ready = select(2, &in, &out, NULL, NULL);
        if (FD_ISSET(0, &in))
            n = read(0, room, 100);
        else
            without++;
    }
    say("%d %d\n", without, ready);
}

static void show_watched(void)
{
    struct epoll_event e[2] = {{.events = EPOLLIN}, {.events = EPOLLOUT, .data.fd = 1}};
    int epoll = epoll_create1(0), without = 0, ready = 2;
    epoll_ctl(epoll, EPOLL_CTL_ADD, 0, &e[0]);
    epoll_ctl(epoll, EPOLL_CTL_ADD, 1, &e[1]);
    for (ssize_t n = 1; n > 0 && ready > 0;) {
        ready = epoll_wait(epoll, e, 2, -1);
        if (ready == 2 || (ready == 1 && e[0].data.fd == 0))
            n = read(0, room, 100);
        else
            without++;
    }
    say("%d %d %x\n", without, ready, e[0].events);
}

/* A piece that sendfile puts into a pipe takes a page there, however few bytes are in it. */
static void show_sent(void)
{
    int fd[2];
    if (pipe(fd) < 0)
        return;
    ssize_t n = sendfile(fd[1], 0, NULL, 20000);
    say("%zd %d\n", n, n < 0 ? errno : 0);
    if (n < 0) /* so do all kernels before 5.12 answer, and callers read then */
        say("%zd\n", read(0, room, sizeof room));
}

/* Has its writer ended already? */
static void show_hung_up(void)
{
    struct pollfd p = {.fd = 0, .events = POLLIN};
    int seen[2] = {0};
    ssize_t n = 1;
    while (n > 0 && poll(&p, 1, -1) > 0) {
        seen[!!(p.revents & POLLHUP)]++;
        n = read(0, room, sizeof room);
    }
    say("%d %d\n", seen[0], seen[1]);
}

const struct golden golden_streams[] = {
    {"read", show_read, NULL, NULL},           {"readv", show_readv, NULL, NULL},
    {"read-torn", show_read_torn, NULL, "only a program with a mistake reads so"},
    {"recv", show_recv, NULL, NULL},           {"poll", show_poll, NULL, NULL},
    {"select", show_select, NULL, NULL},       {"epoll", show_epoll, NULL, NULL},
    {"nonblock", show_nonblock, NULL, NULL},   {"fionbio", show_fionbio, NULL, NULL},
    {"by-name", show_by_name, NULL, NULL},     {"peek", show_peek, NULL, NULL},
    {"pending", show_pending, NULL, NULL},     {"ready", show_ready, "the input may be there already", NULL},
    {"signals-read", show_signals, NULL, NULL},
    {"shut", show_shut, NULL, NULL},
    {"both", show_both, NULL, NULL},
    {"selected", show_selected, NULL, NULL},
    {"watched", show_watched, NULL, NULL},
    {"hung-up", show_hung_up, NULL, NULL},
    {"sent", show_sent, NULL, NULL},
    {NULL, NULL, NULL, NULL}};
