/* What a program is told with a signal.  With SIGCHLD the kernel also tells how much CPU time the child has used, to a program
 * that takes the signal with its details: by a handler, from a signalfd, or by waiting for it.  That could only be prevented
 * by stopping the process at each signal, so it only makes the result uncertified.  Programs in Go and Ruby have such a handler for every
 * signal: it matters once they have children. */
#include "sandbox/notify_task.h"
#include "sandbox/children.h"
#include "sandbox/proc.h"

#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>

#define QUEUED_FIRST 32 /* the first signal of which several may be pending */

static void tells_times(struct notify *n)
{
    notify_mark(n, "is told how long its children have run");
}

/* The kernel's struct sigaction. */
struct action {
    uint64_t handler, flags;
};

static bool is_child(void *unused, pid_t child)
{
    (void)unused, (void)child;
    return true;
}

/* Is SIGCHLD in this set of the asker's?  If that cannot be read, yes. */
static bool in_set(const struct seccomp_notif *q, const char *name)
{
    char set[PROC_LINE_MAX];

    return !proc_status((pid_t)q->pid, name, set) || strtoull(set, NULL, 16) >> (SIGCHLD - 1) & 1;
}

/* The process handles SIGCHLD with its details: it is told them now if it has children or had one whose signal still waits, otherwise
 * after its next fork. */
static void takes_details(struct notify *n, const struct seccomp_notif *q)
{
    pid_t process = task_process(q);
    int i = 0;

    if (children_each(process, is_child, NULL) || in_set(q, "ShdPnd:"))
        tells_times(n);
    while (i < NOTIFY_TELLERS && n->teller[i] && n->teller[i] != process)
        i++;
    if (i < NOTIFY_TELLERS)
        n->teller[i] = process;
    else
        n->more_tellers = true;
}

/* Does it still?  Its next program does not, unless it says so; of that is only seen whether the signal has a handler. */
static bool has_details(const struct notify *n, const struct seccomp_notif *q)
{
    bool teller = n->more_tellers;
    pid_t process = n->teller[0] ? task_process(q) : 0;

    for (int i = 0; i < NOTIFY_TELLERS && process; i++)
        teller |= n->teller[i] == process;
    return teller && in_set(q, "SigCgt:");
}

void answer_sigaction(struct notify *n, const struct seccomp_notif *q, struct answer *a)
{
    struct action to;

    a->go_on = true;
    if (task_read(n, q, q->data.args[1], &to, sizeof to) < 0 || to.handler == (uintptr_t)SIG_DFL || to.handler == (uintptr_t)SIG_IGN)
        return;
    n->breaks |= !(to.flags & SA_RESTART);
    if (to.flags & SA_SIGINFO)
        takes_details(n, q);
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

/* A child may tell of its end by another signal than SIGCHLD, too. */
void signals_of_child(struct notify *n, const struct seccomp_notif *q)
{
    uint64_t flags = q->data.nr == SYS_clone ? q->data.args[0] : SIGCHLD, by = flags & CSIGNAL;

    if (flags & CLONE_THREAD || !by)
        return;
    if (by != SIGCHLD || has_details(n, q))
        tells_times(n);
    if (by != SIGCHLD)
        signals_sent(n, by);
}

/* Are so many signals pending that there might be no room for one more?  The room is shared by all tasks of this zpipe-box,
 * as they have the same user. */
static bool crowded(const struct seccomp_notif *q)
{
    char queued[PROC_LINE_MAX], *end; /* the number, a slash, and the limit */

    if (!proc_status((pid_t)q->pid, "SigQ:", queued))
        return false;
    uint64_t waiting = strtoull(queued, &end, 10);
    return waiting >= strtoull(end + (*end == '/'), NULL, 10) / 2;
}

/* Does the call ask about the thread of the task's init?  Only some inits have such a thread, so programs are told that
 * none has. */
static bool asks_of_nobody(struct notify *n, const struct seccomp_notif *q)
{
    int32_t head[2]; /* version, number */

    switch (q->data.nr) {
    case SYS_capget:
        return task_read(n, q, q->data.args[0], head, sizeof head) == 0 && head[1] == NOTIFY_NOBODY;
    case SYS_tgkill:
    case SYS_rt_tgsigqueueinfo:
        return (int32_t)q->data.args[1] == NOTIFY_NOBODY;
    default:
        return (int32_t)q->data.args[0] == NOTIFY_NOBODY;
    }
}

/* Except for that, a call that names a process by its number only matters for turns. */
void answer_number(struct notify *n, const struct seccomp_notif *q, struct answer *a)
{
    a->error = asks_of_nobody(n, q) ? ESRCH : 0;
    a->go_on = !a->error;
}

void answer_signal(struct notify *n, const struct seccomp_notif *q, struct answer *a)
{
    bool thread = q->data.nr == SYS_tgkill || q->data.nr == SYS_rt_tgsigqueueinfo;
    int32_t signal = (int32_t)q->data.args[thread ? 2 : 1];

    answer_number(n, q, a);
    signals_sent(n, (uint64_t)(int64_t)signal);
    if (signal >= QUEUED_FIRST && crowded(q))
        notify_mark(n, "has so many signals waiting that others' could leave no room");
}
