/* A look at descriptors, or a wait for them with a limit of time.
 *
 * Where all of them are the task's own, nothing can come while the one at work is at work: what it finds now follows
 * from what was done before.  So a look is answered with that, and lets others go on when there was nothing, or a
 * loop of looks would keep them from what it looks for; a wait is over when one of the others has made something
 * ready, or, in logical time, when nobody else can go on.  A channel among them leaves it to the kernel, and to
 * chance. */
#include "sandbox/turns_member.h"

#include <errno.h>
#include <sys/syscall.h>

/* Other signals than usual may end it; so they are not looked for. */
static bool has_mask(const struct seccomp_notif *q)
{
    const __u64 *arg = q->data.args;
    uint64_t mask = 1;
    switch (q->data.nr) {
    case SYS_ppoll:
        return arg[3];
    case SYS_epoll_pwait:
        return arg[4];
    case SYS_pselect6:
        return arg[5] && (!turns_read_memory((pid_t)q->pid, arg[5], &mask, sizeof mask) || mask);
    default:
        return false;
    }
}

bool turns_poll(struct member *m, const struct seccomp_notif *q, struct notify_reply *r)
{
    const struct turns *ts = m->turns;
    struct notify_reply nothing = {.id = r->id, .timed = true, .due_ns = r->due_ns};
    bool look = r->due_ns <= notify_now(ts->task->notify);
    m->call = turns_call_of(q);
    if (!turns_own_wait(m, &m->call))
        return false;
    if (turns_wait_over(m)) {
        r->timed = false;
        return false;
    }
    if (has_mask(q))
        return false;
    if (!look && ts->many && turns_keep(m, q, r, WAITS_POLL))
        return true;
    if (ts->lost)
        return false;
    nothing.error = turns_found_nothing(m) < 0 ? EFAULT : 0;
    *r = nothing;
    return look && turns_idle(m, q, r);
}
