/* Limits that only show at the calls that reach them.  The kernel itself refuses memory (RLIMIT_DATA) and descriptors
 * (RLIMIT_NOFILE), in the same way every time, but tells nobody; here we note that it will, so that a program which then
 * fails is reported as having reached a limit.  Processes are refused here, as the kernel counts them per user, not per
 * task, and not at all for root. */
#include "sandbox/notify_task.h"
#include "sandbox/proc.h"
#include "sandbox/box.h"
#include "sandbox/usage.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/sysinfo.h>
#include <unistd.h>

#define SOCKET_BYTES 212992 /* the kernel's default of net.core.wmem_default */
#define COUNT_NS 1000000000ll /* a crowd is counted again after this time, or after so many times what the count took: */
#define COUNT_SHARE 20
#define HEAP_STEP (132u << 10) /* what malloc first asks for, when the end of the heap is not known yet */

void notify_limit(struct notify *n, const struct box_limits *l, pid_t init)
{
    n->init = init;
    n->memory_bytes = l->memory_bytes;
    n->procs = l->procs ? l->procs : NOTIFY_PROCS_MAX;
    n->procs_room = n->procs - 1; /* the program itself is one */
    n->files = l->files;
}

static void hit(struct notify *n, const char *limit)
{
    if (!*n->limit_hit)
        n->limit_hit = limit;
}

/* The private writable memory of a process, as RLIMIT_DATA counts it; -1: the process is gone. */
static int64_t data_of(pid_t pid)
{
    char kib[PROC_LINE_MAX];
    return proc_status(pid, "VmData:", kib) ? strtoll(kib, NULL, 10) * 1024 : -1;
}

/* A process asks for memory.  `room` is what the process that asked last had left when it was measured, less what it has
 * taken since.  It may have given some back, but cannot have taken more; so it is measured again only when it comes near
 * the limit. */
static void grow(struct notify *n, const struct seccomp_notif *q, uint64_t bytes)
{
    struct measured *m = &n->measured;
    bytes = (bytes + 4095) & ~4095ull;
    if (m->pid != q->pid || bytes > m->room) {
        int64_t data = data_of((pid_t)q->pid);
        m->pid = q->pid;
        m->room = data < 0 || (uint64_t)data > n->memory_bytes ? 0 : n->memory_bytes - (uint64_t)data;
    }
    if (bytes > m->room)
        hit(n, "memory");
    else
        m->room -= bytes;
}

static void answer_brk(struct notify *n, const struct seccomp_notif *q)
{
    struct measured *m = &n->measured;
    uint64_t end = q->data.args[0];
    bool known = m->heap && m->heap_pid == q->pid;
    if (end && (!known || end > m->heap))
        grow(n, q, known ? end - m->heap : HEAP_STEP);
    m->heap = end; /* 0: it asks for the heap's end, as each new program does first */
    m->heap_pid = q->pid;
}

/* The most memory that this host grants in one piece: all that it has. */
static uint64_t host_bytes(void)
{
    static uint64_t bytes;
    struct sysinfo s;
    if (!bytes && sysinfo(&s) == 0)
        bytes = ((uint64_t)s.totalram + s.totalswap) * s.mem_unit;
    return bytes;
}

/* Must a request for memory be refused?  A program does not get more memory than it is told that there is: where this host
 * has not enough another one may have it, so the answers would differ.  For memory that is grown or made writable it is not
 * known here whether it counts. */
static bool is_refused(struct notify *n, const struct seccomp_notif *q)
{
    const uint64_t *args = (const uint64_t *)q->data.args;
    uint64_t size = args[q->data.nr == SYS_mremap ? 2 : 1];
    bool map = q->data.nr == SYS_mmap, private = (args[3] & MAP_TYPE) == MAP_PRIVATE;
    bool counts = !map || (!(args[3] & MAP_NORESERVE) && (private ? args[2] & PROT_WRITE : args[3] & MAP_ANONYMOUS));
    if (!counts || size < NOTIFY_LARGE)
        return false;
    if (map && size > NOTIFY_TOLD)
        return true;
    if (size > host_bytes() || size > NOTIFY_TOLD)
        notify_mark(n, "asks for more memory in one piece than every host grants");
    return false;
}

void answer_growing(struct notify *n, const struct seccomp_notif *q, struct answer *a)
{
    const uint64_t *args = (const uint64_t *)q->data.args;
    a->go_on = q->data.nr == SYS_brk || !is_refused(n, q);
    a->error = a->go_on ? 0 : ENOMEM;
    if (!a->go_on)
        return;
    if (!n->memory_bytes)
        return;
    if (q->data.nr == SYS_brk)
        answer_brk(n, q);
    else if (q->data.nr == SYS_mremap && args[2] > args[1])
        grow(n, q, args[2] - args[1]);
    else if (q->data.nr == SYS_mmap && (args[2] & PROT_WRITE) && (args[3] & MAP_TYPE) == MAP_PRIVATE)
        grow(n, q, args[1]);
}

static int64_t now_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1000000000ll + t.tv_nsec;
}

static bool is_crowded(const struct crowd *c)
{
    bool all = c->tid && now_ns() < c->until_ns;
    for (uint32_t i = 0; all && i < c->count; i++)
        all = kill(c->tid[i], 0) == 0 || errno != ESRCH;
    return all;
}

/* Count the task's threads: some may have ended since the last count, and none can have been started.  That takes 15 us for
 * each; a program that tries again and again where there is no room would keep us from all others. */
static void count(struct notify *n)
{
    struct crowd *c = &n->crowd;
    int64_t began_ns = now_ns(), wait_ns;
    free(c->tid);
    c->count = usage_count(n->init, &c->tid);
    n->procs_room = c->count < n->procs ? n->procs - c->count : 0;
    if (n->procs_room) {
        free(c->tid);
        c->tid = NULL;
    }
    wait_ns = (now_ns() - began_ns) * COUNT_SHARE;
    c->until_ns = now_ns() + (wait_ns > COUNT_NS ? wait_ns : COUNT_NS);
}

void answer_forking(struct notify *n, const struct seccomp_notif *q, struct answer *a)
{
    a->go_on = true;
    signals_of_child(n, q);
    n->threads |= q->data.nr == SYS_clone && (q->data.args[0] & (CLONE_VM | CLONE_VFORK)) == CLONE_VM;
    if (!n->procs)
        return;
    if (!n->procs_room && !is_crowded(&n->crowd))
        count(n);
    if (n->procs_room) {
        n->procs_room--;
        return;
    }
    hit(n, "procs");
    a->go_on = false;
    a->error = EAGAIN;
}

static uint32_t held_by(const struct seccomp_notif *q)
{
    char path[64];
    uint32_t held = 0;
    snprintf(path, sizeof path, "/proc/%u/fd", q->pid);
    DIR *d = opendir(path);
    for (struct dirent *entry; d && (entry = readdir(d));)
        held += *entry->d_name != '.';
    if (d)
        closedir(d);
    return held;
}

bool notify_has_room(const struct seccomp_notif *q, uint32_t more)
{
    struct rlimit files;
    return prlimit((pid_t)q->pid, RLIMIT_NOFILE, NULL, &files) < 0 || held_by(q) + more <= files.rlim_cur;
}

/* Descriptors get the lowest free number, so while the highest number is free there is room. */
void notify_hold(struct notify *n, const struct seccomp_notif *q, uint32_t more)
{
    char path[64], link[8];
    if (!n->files)
        return;
    snprintf(path, sizeof path, "/proc/%u/fd/%u", q->pid, n->files - 1);
    if (more == 1 && readlink(path, link, sizeof link) < 0)
        return;
    if (held_by(q) + more > n->files)
        hit(n, "files");
}

/* Is the size of sockets' buffers the kernel's default? */
static bool usual_sockets(void)
{
    static int room;
    socklen_t size = sizeof room;
    int pair[2];
    if (!room && socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) == 0) {
        getsockopt(pair[0], SOL_SOCKET, SO_SNDBUF, &room, &size);
        close(pair[0]);
        close(pair[1]);
    }
    return room == SOCKET_BYTES;
}

void answer_pair(struct notify *n, const struct seccomp_notif *q, struct answer *a)
{
    answer_holding(n, q, a);
    if (!usual_sockets())
        notify_mark(n, "makes sockets, and how much fits into one is set otherwise on this host (net.core.wmem_default)");
}

void answer_holding(struct notify *n, const struct seccomp_notif *q, struct answer *a)
{
    bool two = q->data.nr == SYS_pipe || q->data.nr == SYS_pipe2 || q->data.nr == SYS_socketpair;
    a->go_on = true;
    notify_hold(n, q, two ? 2 : 1);
}
