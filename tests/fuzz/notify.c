/* Any questions of a hostile task: answered without reading a byte of its memory twice in one question, and
 * without leaving the rails.  The way into the task (sandbox/notify.c) is replaced: its memory is a window
 * of the input, which changes under every read, as another thread would change it; a descriptor of its is
 * its own file, or one that was given to it for reading, or none.
 *
 * Input: questions; each is a call's number (2 bytes), a variant, and six arguments: a kind, a number (8 bytes), a
 * count, and so many bytes of what it points to. */
#include "sandbox/notify_task.h"
#include "base/fds.h"
#include "sandbox/syscalls.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#define WINDOW        8192
#define PART          (WINDOW / 6)
#define OBJECT_MAX    256 /* what one argument points to */
#define BASE          0x7f0000000f00ull /* in the middle of a page */
#define QUESTIONS_MAX 64
#define CLOCK_LIMIT   (1ull << 61)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static uint8_t memory[WINDOW];
static bool was_read[WINDOW];
static bool gone, given_file;
static struct stat given_before;
static int given = -1, own = -1;

static void check(bool good)
{
    if (!good)
        abort();
}

static bool inside(uint64_t address, size_t size)
{
    return address >= BASE && address - BASE <= WINDOW && size <= WINDOW - (address - BASE);
}

int task_read(struct notify *n, const struct seccomp_notif *q, uint64_t address, void *data, size_t size)
{
    (void)n;
    (void)q;
    if (gone || !inside(address, size))
        return -1;
    uint64_t at = address - BASE;
    memcpy(data, memory + at, size);
    for (size_t i = 0; i < size; i++) {
        check(!was_read[at + i]);
        was_read[at + i] = true;
        memory[at + i] ^= 0x5a;
    }
    return 0;
}

int task_write(struct notify *n, const struct seccomp_notif *q, uint64_t address, const void *data, size_t size)
{
    (void)n;
    (void)q;
    if (gone || (size && !inside(address, size)))
        return -1;
    if (size)
        memcpy(memory + (address - BASE), data, size);
    return 0;
}

bool task_valid(const struct notify *n, const struct seccomp_notif *q)
{
    (void)n;
    (void)q;
    return !gone;
}

int task_text(struct notify *n, const struct seccomp_notif *q, uint64_t address, char *text, size_t size)
{
    for (size_t i = 0; i < size; i++) {
        if (task_read(n, q, address + i, text + i, 1) < 0)
            return -1;
        if (!text[i])
            return 0;
    }
    return -1;
}

/* Timers ring, by any signal, for a child that only waits, and may have died of one. */
pid_t task_process(const struct seccomp_notif *q)
{
    static pid_t child;
    (void)q;
    if (!child && (child = fork()) == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        for (;;)
            pause();
    }
    return child;
}

int task_fd(struct notify *n, const struct seccomp_notif *q, int number)
{
    (void)n;
    (void)q;
    given_file = number % 3 == 1;
    if (gone || number < 0 || number > 1023 || number % 3 == 0) {
        errno = number % 2 ? ENOENT : ESRCH;
        return -1;
    }
    return fcntl(given_file ? given : own, F_DUPFD_CLOEXEC, 0);
}

int task_add_fd(struct notify *n, const struct seccomp_notif *q, int fd, bool cloexec)
{
    (void)n;
    (void)q;
    (void)cloexec;
    check(fcntl(fd, F_GETFD) >= 0);
    return gone ? -1 : fd;
}

void task_give_fd(struct notify *n, const struct seccomp_notif *q, int fd, bool cloexec, struct answer *a)
{
    (void)n;
    (void)q;
    (void)cloexec;
    check(fcntl(fd, F_GETFD) >= 0);
    a->go_on = false;
    a->sent = true;
}

void notify_lacks(struct notify *n)
{
    (void)n;
}

void notify_mark(struct notify *n, const char *why)
{
    check(*why != '\0');
    n->uncertified_why = why;
}

static int take(const uint8_t **data, size_t *size, void *to, size_t wanted)
{
    if (*size < wanted)
        return -1;
    memcpy(to, *data, wanted);
    *data += wanted;
    *size -= wanted;
    return 0;
}

static int numbers(int *nr)
{
    int count = 0;
    for (int i = 0; i < NOTIFY_NR_MAX; i++)
        if (notify_handler_of(i))
            nr[count++] = i;
    return count;
}

/* An argument: a number as it is, an address in or near its own part of the window (what two arguments point
 * to would be read twice by right), or small. */
static uint64_t argument(int i, uint8_t kind, uint64_t number)
{
    switch (kind % 4) {
    case 0:
        return number >= BASE - WINDOW && number <= BASE + WINDOW ? 0 : number;
    case 1:
        return BASE + (uint64_t)i * PART + (i == 5 ? number % (PART + 64) : number % (PART - OBJECT_MAX)) -
               (i == 0 ? 32 : 0);
    case 2:
        return number % 8;
    default:
        return (uint64_t)-(int64_t)(number % 200); /* AT_FDCWD and its like */
    }
}

static int question(struct seccomp_notif *q, const uint8_t **data, size_t *size)
{
    int nr[NOTIFY_NR_MAX], count = numbers(nr);
    uint8_t variant;
    uint16_t call;
    if (take(data, size, &call, 2) < 0 || take(data, size, &variant, 1) < 0)
        return -1;
    memset(q, 0, sizeof *q);
    q->id = 1;
    q->data.nr = call < NOTIFY_NR_MAX && notify_handler_of(call) ? call : nr[call % count];
    q->pid = q->data.nr == SYS_execve || q->data.nr == SYS_execveat ? 0 : (uint32_t)getpid(); /* no file of the host's */
    gone = variant % 16 == 15;
    memset(memory, 0, sizeof memory);
    memset(was_read, 0, sizeof was_read);
    for (int i = 0; i < 6; i++) {
        uint8_t kind, count_bytes;
        uint64_t number;
        if (take(data, size, &kind, 1) < 0 || take(data, size, &number, 8) < 0 || take(data, size, &count_bytes, 1) < 0)
            return -1;
        uint64_t at = q->data.args[i] = argument(i, kind, number);
        uint8_t rest[UINT8_MAX];
        if (take(data, size, rest, count_bytes) < 0)
            return -1;
        if (inside(at, count_bytes))
            memcpy(memory + (at - BASE), rest, count_bytes);
    }
    return 0;
}

static void ask(struct notify *n, const struct seccomp_notif *q)
{
    struct answer a = {0};
    struct stat s;
    uint64_t before = n->now_ns;
    notify_handler_of(q->data.nr)(n, q, &a);
    check(a.error >= 0 && a.error < 4096);
    check(!(a.go_on && (a.sent || a.error)));
    check(n->now_ns >= before && n->now_ns <= CLOCK_LIMIT && n->slept_ns <= n->now_ns);
    check(fstat(given, &s) == 0 && s.st_mode == given_before.st_mode && s.st_size == given_before.st_size &&
          s.st_mtim.tv_sec == given_before.st_mtim.tv_sec &&
          s.st_mtim.tv_nsec == given_before.st_mtim.tv_nsec);
}

static void start(struct notify *n)
{
    struct err e;
    memset(n, 0, sizeof *n);
    n->listener = n->random_epoll = -1;
    n->epoch_s = 946684800;
    n->uncertified_why = "";
    for (int i = 0; i < NOTIFY_RANDOM_MAX; i++)
        n->file[i].fd = -1;
    for (int i = 0; i < NOTIFY_TIMERS_MAX; i++)
        n->timer[i].pidfd = -1;
    random_init(&n->random, 1, 2, 0);
    if (given < 0) {
        int file = memfd_create("given", MFD_CLOEXEC);
        own = memfd_create("own", MFD_CLOEXEC);
        check(file >= 0 && own >= 0 && write(file, "given", 5) == 5);
        given = fd_reopen(file, O_RDONLY);
        close(file);
        check(given >= 0 && fstat(given, &given_before) == 0);
    }
    check(notify_give(n, &given, 1, &e) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct notify n;
    struct seccomp_notif q;
    start(&n);
    for (int i = 0; i < QUESTIONS_MAX && question(&q, &data, &size) == 0; i++)
        ask(&n, &q);
    random_close(&n);
    timers_close(&n);
    free(n.given);
    return 0;
}
