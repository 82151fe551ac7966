/* A program of processes and threads at random, which write, look, wait, sleep, signal and end as a seed says.
 *
 *     tangle SEED
 *
 * All that they are told goes to one log in memory that they share, in the order in which they were told it; the first
 * one prints it.  Bare, the same seed gives another log each time.  A thread of the first process reads whatever anybody
 * writes, now and then, so that nobody waits for ever. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/random.h>
#include <sys/select.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define WAYS        5 /* pipes and sockets: what is written to out[i] comes to in[i] */
#define OPS         14
#define DEPTH       3
#define LOG_BYTES   (1 << 20)
#define PIECE_MAX   150000
#define CHILDREN    3
#define WORKERS_MAX 40

static struct shared {
    pthread_mutex_t lock;
    _Atomic unsigned used, workers;
    _Atomic int over;
    char log[LOG_BYTES];
} *shared;

static int in[WAYS], out[WAYS], event;
static _Atomic int threads; /* of this process, besides its first */

struct worker {
    uint64_t random;
    int depth, number;
    pid_t child[CHILDREN];
    int children;
};

static uint64_t next(struct worker *w)
{
    w->random ^= w->random << 13, w->random ^= w->random >> 7, w->random ^= w->random << 17;
    return w->random;
}

static int below(struct worker *w, int n)
{
    return (int)((next(w) >> 20) % (unsigned)n);
}

__attribute__((format(printf, 2, 3))) static void told(const struct worker *w, const char *format, ...)
{
    char text[96];
    int size = snprintf(text, sizeof text, "%d:", w->number);
    va_list args;
    va_start(args, format);
    size += vsnprintf(text + size, sizeof text - (size_t)size - 1, format, args);
    va_end(args);
    size = size < (int)sizeof text - 2 ? size : (int)sizeof text - 2;
    text[size++] = '\n';
    unsigned at = shared->used;
    shared->used = at + (unsigned)size; /* with turns nobody comes between; without, a line may be spoilt */
    if (at + (unsigned)size < LOG_BYTES)
        memcpy(shared->log + at, text, (size_t)size);
}

static void write_some(struct worker *w, bool many)
{
    static char bytes[PIECE_MAX];
    size_t size = (size_t)below(w, below(w, 2) ? 300 : PIECE_MAX) + 1;
    struct iovec v[3] = {{bytes, size / 2}, {bytes, 0}, {bytes, size / 3}};
    int way = below(w, WAYS);
    ssize_t n = many ? writev(out[way], v, 3) : write(out[way], bytes, size);
    told(w, "write %d %zd %d", way, n, n < 0 ? errno : 0);
}

static void read_some(struct worker *w, int way)
{
    static char bytes[PIECE_MAX];
    ssize_t n = recv(in[way], bytes, (size_t)below(w, 60000) + 1, MSG_DONTWAIT);
    if (n < 0 && errno == ENOTSOCK) {
        struct pollfd p = {in[way], POLLIN, 0};
        n = poll(&p, 1, 0) == 1 ? read(in[way], bytes, (size_t)below(w, 60000) + 1) : -2;
    }
    told(w, "read %d %zd", way, n);
}

static void look(struct worker *w)
{
    struct pollfd p[WAYS + 1] = {{event, POLLIN, 0}};
    int found = -1, limit = below(w, 4), count = 1;
    for (int i = 0; i < WAYS; i++)
        if (below(w, 2))
            p[count++] = (struct pollfd){below(w, 4) ? in[i] : out[i], (short)(below(w, 4) ? POLLIN : POLLOUT), 0};
    if (below(w, 2)) {
        found = poll(p, (nfds_t)count, limit);
    } else {
        fd_set set;
        struct timeval t = {0, limit * 1000};
        FD_ZERO(&set);
        for (int i = 0; i < count; i++)
            FD_SET(p[i].fd, &set);
        found = select(64, &set, NULL, NULL, &t);
    }
    told(w, "look %d %d", found, p[0].revents);
}

static void look_by_epoll(struct worker *w)
{
    struct epoll_event e[WAYS] = {{0}};
    int epoll = epoll_create1(0);
    for (int i = 0; i < WAYS; i++) {
        struct epoll_event one = {.events = below(w, 2) ? EPOLLIN : EPOLLIN | EPOLLET, .data.u32 = (uint32_t)i};
        if (below(w, 2))
            epoll_ctl(epoll, EPOLL_CTL_ADD, in[i], &one);
    }
    int found = epoll_wait(epoll, e, WAYS, below(w, 3));
    told(w, "epoll %d %u", found, found > 0 ? e[0].data.u32 : 0);
    close(epoll);
}

static void rest_a_while(struct worker *w)
{
    struct timespec t = {0, below(w, 3000) * 1000l};
    for (volatile int i = below(w, 20000); i > 0; i--)
        ;
    if (below(w, 2))
        nanosleep(&t, NULL);
    else
        sched_yield();
    clock_gettime(CLOCK_MONOTONIC, &t);
    told(w, "time %ld", t.tv_nsec);
}

static void ask(struct worker *w)
{
    uint64_t bytes = 0;
    struct stat s;
    if (getrandom(&bytes, sizeof bytes, 0) < 0 || stat("/tmp", &s) < 0)
        _exit(1);
    told(w, "random %llx", (unsigned long long)bytes);
}

static void count_events(struct worker *w)
{
    eventfd_t value = 0;
    if (below(w, 2))
        eventfd_write(event, (eventfd_t)below(w, 5) + 1);
    else
        eventfd_read(event, &value);
    told(w, "event %llu", (unsigned long long)value);
}

static void lock_a_while(struct worker *w)
{
    struct timespec t = {0, below(w, 500) * 1000l};
    int left = pthread_mutex_lock(&shared->lock); /* the owner was ended while it held the lock */
    if (left)
        pthread_mutex_consistent(&shared->lock);
    told(w, "locked %d", left);
    if (below(w, 3) == 0)
        nanosleep(&t, NULL);
    pthread_mutex_unlock(&shared->lock);
}

static void switch_waiting(struct worker *w)
{
    int fd = below(w, 2) ? in[below(w, WAYS)] : out[below(w, WAYS)];
    int flags = fcntl(fd, F_GETFL);
    fcntl(fd, F_SETFL, below(w, 3) ? flags & ~O_NONBLOCK : flags | O_NONBLOCK);
    told(w, "flags %x", (unsigned)fcntl(fd, F_GETFL));
}

static void *work(void *worker);

static struct worker *another(struct worker *w)
{
    struct worker *o = calloc(1, sizeof *o);
    if (!o)
        _exit(1);
    o->random = next(w) * 0x9e3779b97f4a7c15ull | 1;
    o->depth = w->depth + 1;
    o->number = (int)++shared->workers;
    return o;
}

static void start_process(struct worker *w)
{
    if (w->depth == DEPTH || w->children == CHILDREN || shared->workers >= WORKERS_MAX)
        return;
    struct worker *o = another(w);
    pid_t pid = fork();
    if (pid == 0) {
        threads = 0;
        work(o);
        _exit(below(o, 5));
    }
    told(w, "child %d", pid);
    if (pid > 0)
        w->child[w->children++] = pid;
    free(o);
}

static void *work_beside(void *worker)
{
    work(worker);
    threads--;
    return NULL;
}

static void start_thread(struct worker *w)
{
    pthread_t thread;
    if (w->depth == DEPTH || shared->workers >= WORKERS_MAX)
        return;
    threads++;
    if (pthread_create(&thread, NULL, work_beside, another(w)))
        _exit(1);
    if (below(w, 2))
        told(w, "joined %d", pthread_join(thread, NULL));
    else
        pthread_detach(thread);
}

static void end_child(struct worker *w, bool by_signal)
{
    int status = 0;
    if (!w->children)
        return;
    pid_t pid = w->child[--w->children];
    if (by_signal)
        kill(pid, below(w, 2) ? SIGKILL : SIGTERM);
    pid = waitpid(pid, &status, 0);
    told(w, "ended %d %x", pid, (unsigned)status);
}

static void *work(void *worker)
{
    struct worker *w = worker;
    for (int i = below(w, 25) + 5; i > 0; i--)
        switch (below(w, OPS)) {
        case 0:
            write_some(w, false);
            break;
        case 1:
            write_some(w, true);
            break;
        case 2:
            read_some(w, below(w, WAYS));
            break;
        case 3:
            look(w);
            break;
        case 4:
            look_by_epoll(w);
            break;
        case 5:
            ask(w);
            break;
        case 6:
            count_events(w);
            break;
        case 7:
            lock_a_while(w);
            break;
        case 8:
            switch_waiting(w);
            break;
        case 9:
            start_process(w);
            break;
        case 10:
            start_thread(w);
            break;
        case 11:
            end_child(w, below(w, 4) == 0);
            break;
        default:
            rest_a_while(w);
        }
    while (w->children)
        end_child(w, false);
    return NULL;
}

/* Reads, so that writers can go on. */
static void *drain(void *unused)
{
    static char bytes[PIECE_MAX];
    struct worker w = {.number = -1};
    (void)unused;
    while (!shared->over)
        for (int i = 0; i < WAYS; i++) {
            struct pollfd p = {in[i], POLLIN, 0};
            if (poll(&p, 1, 1) == 1)
                told(&w, "drained %zd", read(in[i], bytes, sizeof bytes));
        }
    return NULL;
}

static int prepare(void)
{
    pthread_mutexattr_t a;
    shared = mmap(NULL, sizeof *shared, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (shared == MAP_FAILED)
        return -1;
    pthread_mutexattr_init(&a);
    pthread_mutexattr_setpshared(&a, PTHREAD_PROCESS_SHARED);
    pthread_mutexattr_setrobust(&a, PTHREAD_MUTEX_ROBUST);
    pthread_mutex_init(&shared->lock, &a);
    event = eventfd(0, EFD_NONBLOCK);
    for (int i = 0; i < WAYS; i++) {
        int pair[2];
        if (i < 3 ? pipe(pair) < 0 : socketpair(AF_UNIX, SOCK_STREAM, 0, pair) < 0)
            return -1;
        in[i] = pair[0];
        out[i] = pair[1];
    }
    return event;
}

int main(int argc, char **argv)
{
    pthread_t drainer;
    struct worker w = {.random = argc > 1 ? strtoull(argv[1], NULL, 10) * 0x9e3779b97f4a7c15ull + 1 : 1};
    if (prepare() < 0 || prctl(PR_SET_CHILD_SUBREAPER, 1) < 0 || pthread_create(&drainer, NULL, drain, NULL))
        return 1;
    work(&w);
    while (threads)
        usleep(1000);
    while (wait(NULL) > 0)
        ;
    shared->over = 1;
    pthread_join(drainer, NULL);
    unsigned used = shared->used;
    fwrite(shared->log, 1, used < LOG_BYTES ? used : LOG_BYTES, stdout);
    return 0;
}
