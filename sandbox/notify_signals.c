/* What a program is told with a signal.  Of SIGCHLD that is also how much CPU time the child has used, which the kernel fills in:
 * to whoever takes it with its particulars, by a handler, from a signalfd or by waiting for it.  It cannot be kept from it without
 * stopping the process at each signal, and hardly any program asks; so it is noted. */
#include "sandbox/notify_task.h"

#include <signal.h>

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
    if (task_read(n, q, q->data.args[1], &to, sizeof to) == 0 && to.flags & SA_SIGINFO &&
        to.handler != (uintptr_t)SIG_DFL && to.handler != (uintptr_t)SIG_IGN)
        tells_times(n);
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
