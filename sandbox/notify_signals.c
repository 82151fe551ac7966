/* What a program is told with a signal.  Of SIGCHLD that is also how much CPU time the child has used, which the kernel fills in:
 * to whoever takes it with its particulars, by a handler, from a signalfd or by waiting for it.  It cannot be kept from it without
 * stopping the process at each signal, and hardly any program asks; so it is noted. */
#include "sandbox/notify_task.h"
#include "sandbox/proc.h"

#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>

#define QUEUED_FIRST 32 /* the kernel's first signal of which more than one may wait */

static void tells_times(struct notify *n)
{
    notify_mark(n, "is told how long its children have run");
}

/* The kernel's struct sigaction. */
struct action {
    uint64_t handler, flags;
};

void answer_sigaction(struct notify *n, const struct seccomp_notif *q, struct answer *a)
{
    struct action to;

    a->go_on = true;
    if (task_read(n, q, q->data.args[1], &to, sizeof to) < 0 || to.handler == (uintptr_t)SIG_DFL || to.handler == (uintptr_t)SIG_IGN)
        return;
    n->breaks |= !(to.flags & SA_RESTART);
    if (to.flags & SA_SIGINFO)
        tells_times(n);
}

bool notify_breaks(const struct notify *n)
{
    return n->breaks;
}

void signals_told(struct notify *n, const struct seccomp_notif *q, uint64_t set)
{
    uint64_t bits;

    if (task_read(n, q, set, &bits, sizeof bits) == 0 && bits & 1ull << (SIGCHLD - 1))
        tells_times(n);
}

void answer_signalfd(struct notify *n, const struct seccomp_notif *q, struct answer *a)
{
    a->go_on = true;
    signals_told(n, q, q->data.args[1]);
    notify_hold(n, q, 1);
}

void signals_sent(struct notify *n, uint64_t signal)
{
    if (signal && signal <= 64)
        n->signals |= 1ull << (signal - 1);
}

bool notify_sends(const struct notify *n, int signal)
{
    return n->signals >> (signal - 1) & 1;
}

/* A child may announce its end by another signal, too. */
void signals_of_child(struct notify *n, const struct seccomp_notif *q)
{
    uint64_t flags = q->data.nr == SYS_clone ? q->data.args[0] : SIGCHLD, by = flags & CSIGNAL;

    if (!(flags & CLONE_THREAD) && by && by != SIGCHLD) {
        tells_times(n);
        signals_sent(n, by);
    }
}

/* Do so many wait already that those of the other tasks of this zpipe-box, which are the same user's and share what it is granted,
 * could leave no room for one more? */
static bool crowded(const struct seccomp_notif *q)
{
    char queued[PROC_LINE_MAX], *end; /* how many, a slash, and the limit */

    if (!proc_status((pid_t)q->pid, "SigQ:", queued))
        return false;
    uint64_t waiting = strtoull(queued, &end, 10);
    return waiting >= strtoull(end + (*end == '/'), NULL, 10) / 2;
}

void answer_signal(struct notify *n, const struct seccomp_notif *q, struct answer *a)
{
    bool thread = q->data.nr == SYS_tgkill || q->data.nr == SYS_rt_tgsigqueueinfo;
    int32_t signal = (int32_t)q->data.args[thread ? 2 : 1];

    a->go_on = true;
    signals_sent(n, (uint64_t)(int64_t)signal);
    if (signal >= QUEUED_FIRST && crowded(q))
        notify_mark(n, "has so many signals waiting that others' could leave no room");
}
