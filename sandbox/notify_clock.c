/* The logical clock of a task.  It steps a little with each look, jumps by what is slept, and never goes back.
 *
 * A process with a clock page (clock_page.h) reads the clock by itself.  So before a call that has to do with time is
 * answered the page is read, and afterwards it is written.  A process that sleeps tells its parents, which wait for it;
 * others learn of it at their next call.  If a process spoils its page, only its own task's clock is late. */
#include "sandbox/clock_page.h"
#include "sandbox/notify_task.h"
#include "sandbox/proc.h"

#include <stddef.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#define PARENTS_MAX 16

static bool brings_page(const struct seccomp_notif *q)
{
    switch (q->data.nr) {
    case SYS_clock_gettime:
    case SYS_gettimeofday:
        return q->data.args[2] == CLOCK_PAGE_MARK;
    case SYS_time:
        return q->data.args[1] == CLOCK_PAGE_MARK;
    default:
        return false;
    }
}

void clock_meet(struct notify *n)
{
    struct clock_page p;

    if (n->met || !n->asked)
        return;
    n->met = true;
    n->has_page = task_read(n, n->asked, CLOCK_PAGE_AT, &p, sizeof p) == 0 &&
                  (p.mark == CLOCK_PAGE_MARK || brings_page(n->asked));
    if (n->has_page && p.mark == CLOCK_PAGE_MARK && p.now_ns > n->now_ns)
        n->now_ns = p.now_ns < CLOCK_NS_MAX ? p.now_ns : CLOCK_NS_MAX;
}

void clock_part(struct notify *n)
{
    struct clock_page p = {CLOCK_PAGE_MARK, n->now_ns, CLOCK_NS_MAX, n->epoch_s};

    if (!n->met || !n->has_page)
        return;
    for (int i = 0; i < NOTIFY_TIMERS_MAX && n->timers; i++)
        if (n->timer[i].pidfd >= 0 && n->timer[i].due_ns < p.due_ns)
            p.due_ns = n->timer[i].due_ns;
    task_write(n, n->asked, CLOCK_PAGE_AT, &p, sizeof p);
}

static void tell_parents(const struct notify *n)
{
    struct clock_page p;
    struct iovec page = {&p, sizeof p}, there = {(void *)(uintptr_t)CLOCK_PAGE_AT, sizeof p};
    struct iovec now = {(void *)(uintptr_t)&n->now_ns, sizeof n->now_ns};
    struct iovec its_now = {(void *)(uintptr_t)(CLOCK_PAGE_AT + offsetof(struct clock_page, now_ns)), sizeof p.now_ns};
    pid_t pid = n->asked ? (pid_t)n->asked->pid : 0;

    for (int i = 0; i < PARENTS_MAX && pid > 1; i++) {
        pid_t parent = 0;
        proc_state(pid, &parent);
        pid = parent;
        if (pid <= 1 || pid == n->init)
            return; /* a clone's first process shares its template's memory */
        if (process_vm_readv(pid, &page, 1, &there, 1, 0) == (ssize_t)sizeof p && p.mark == CLOCK_PAGE_MARK &&
            p.now_ns < n->now_ns)
            process_vm_writev(pid, &now, 1, &its_now, 1, 0);
    }
}

void clock_pass(struct notify *n, __int128 ns)
{
    uint64_t room;

    clock_meet(n);
    room = CLOCK_NS_MAX - n->now_ns;
    if (ns <= 0)
        return;
    if (ns > room)
        ns = room;
    n->now_ns += (uint64_t)ns;
    n->slept_ns += (uint64_t)ns;
    timers_ring(n);
    n->asking = 0;
    tell_parents(n);
}

void clock_pass_to(struct notify *n, uint64_t ns)
{
    clock_meet(n);
    clock_pass(n, (__int128)ns - n->now_ns);
}

uint64_t clock_look(struct notify *n)
{
    clock_meet(n);
    if (n->now_ns < CLOCK_NS_MAX)
        n->now_ns += CLOCK_STEP_NS;
    timers_ring(n);
    return n->now_ns;
}
