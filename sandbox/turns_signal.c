/* Signals between the processes of a task.
 *
 * One that ends its receiver takes a while to do so, and what shows of that (its parent's wait, the end of a pipe, a
 * sleep that nobody sleeps any more) would come beside whoever is at work.  So it is sent for its sender, which has its
 * answer when the receiver is gone.  Whoever waits for a child would wake beside the one at work, too, at any other
 * signal. */
#include "sandbox/turns_member.h"

#include <signal.h>
#include <sys/syscall.h>
#include <unistd.h>

/* Is the signal that q sends for m? */
static bool is_sent_to(struct member *m, const struct seccomp_notif *q)
{
    bool group = q->data.nr == SYS_tgkill || q->data.nr == SYS_rt_tgsigqueueinfo;
    int32_t to = (int32_t)q->data.args[group];
    struct member *first = turns_find(m->turns, m->process);
    if (group || q->data.nr == SYS_tkill)
        return turns_inner(m) == to;
    return to <= 0 || (first && turns_inner(first) == to);
}

/* Does the kernel end it at once?  Not by a signal with a core, nor whoever is traced, except by SIGKILL. */
static bool ends(const struct member *m, int32_t signal)
{
    if (signal == SIGKILL)
        return true;
    switch (signal) {
    case SIGHUP:
    case SIGINT:
    case SIGTERM:
    case SIGPIPE:
    case SIGALRM:
    case SIGUSR1:
    case SIGUSR2:
        return m->state == STATE_RUNS && !m->stopped && !m->interrupted && turns_takes_end(m->pid, signal);
    default:
        return false;
    }
}

/* The other process that it would end; NULL: none, or more than that. */
static struct member *ended_by(struct member *m, const struct seccomp_notif *q)
{
    if (q->data.nr != SYS_kill || (int32_t)q->data.args[0] <= 0)
        return NULL;
    for (struct member *o = m->turns->member; o; o = o->next)
        if (o->pid == o->process && o->process != m->process && is_sent_to(o, q))
            return ends(o, (int32_t)q->data.args[1]) ? o : NULL;
    return NULL;
}

bool turns_signal(struct member *m, const struct seccomp_notif *q, struct notify_reply *r)
{
    struct turns *ts = m->turns;
    struct member *o = ended_by(m, q);
    if (o && syscall(SYS_pidfd_send_signal, o->watch.fd, (int32_t)q->data.args[1], NULL, 0) == 0) {
        m->kills = o->pid;
        m->kept = true;
        m->reply = (struct notify_reply){.id = r->id};
        return true;
    }
    ts->signals = true;
    for (o = ts->member; o; o = o->next)
        if ((o->waits == WAITS_CHILD || o->waits == WAITS_SIGNAL) && is_sent_to(o, q)) {
            turns_lose(ts, "a process gets a signal from another");
            break;
        }
    return false;
}

void turns_signal_done(struct turns *ts, pid_t pid)
{
    struct member *m = ts->lost ? NULL : ts->at_work;
    if (!m || m->kills != pid)
        return;
    m->kills = 0;
    m->kept = false;
    notify_send(ts->task->notify, &m->reply);
}
