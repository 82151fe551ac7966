/* Polls: a look at descriptors, or a wait for them with a limit of time.
 *
 * If all descriptors are the task's own, nothing can come on them while one thread is at work: what it finds now follows
 * from what was done before.  So a look is answered with that.  If it finds nothing, other threads get the turn; otherwise
 * a loop of looks would keep them from doing what it looks for.  A wait is over when another thread has made something
 * ready or, in logical time, when no other thread can go on.  If one of the descriptors is a channel, the call is left to
 * the kernel, and so to chance. */
#include "sandbox/turns_member.h"

#include <errno.h>
#include <sys/syscall.h>

/* With a signal mask, other signals may end the call; such calls are not looked at. */
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
