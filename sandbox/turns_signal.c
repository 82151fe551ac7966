/* Signals between the processes of a task.
 *
 * A signal that ends a process takes a while to do so, and what others see of that (a parent's wait, the end of a pipe, a
 * sleeper that is gone) would happen beside the thread at work.  So zpipe-box sends the signal for its sender, to each
 * process that it ends.  When these are gone the sender gets its answer, or the kernel sends the signal to the others.  A
 * thread that waits for a child would wake beside the one at work at any other signal, too.
 *
 * A process that has ended keeps its number until its parent has waited for it.  If the parent is the task's init, we wait
 * until it has done so, as only the number shows that the process is still there. */
#include "sandbox/turns_member.h"

#include <signal.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#define REAP_LOOK_NS 50000 /* short, as the task's init has nothing else to do */
#define REAP_LOOKS   2000

struct sent {
    int32_t to, signal;
    bool thread; /* sent to a thread, not to a process */
};

static struct sent sent_by(const struct seccomp_notif *q)
{
    bool group = q->data.nr == SYS_tgkill || q->data.nr == SYS_rt_tgsigqueueinfo;
    return (struct sent){(int32_t)q->data.args[group], (int32_t)q->data.args[group ? 2 : 1], group || q->data.nr == SYS_tkill};
}

static bool is_sent_to(struct member *m, struct member *by, const struct sent *s)
{
    struct member *first = turns_find(m->turns, m->process);
    if (s->thread)
        return turns_inner(m) == s->to;
    if (s->to > 0 || !first)
        return first && turns_inner(first) == s->to;
    if (s->to == -1)
        return m->process != by->process;
    return turns_group(m->process) == (s->to ? -s->to : turns_group(by->process));
}

/* Fatal signals that dump no core; the others are handled when the process has its turn. */
static bool is_fatal(int32_t signal)
{
    switch (signal) {
    case SIGHUP:
    case SIGINT:
    case SIGTERM:
    case SIGPIPE:
    case SIGALRM:
    case SIGVTALRM:
    case SIGPROF:
    case SIGUSR1:
    case SIGUSR2:
    case SIGIO:
    case SIGPWR:
    case SIGSTKFLT:
        return true;
    default:
        return signal >= __SIGRTMIN && signal <= SIGRTMAX;
    }
}

static bool is_idle(const struct member *m)
{
    return m->state == STATE_RUNS && !m->stopped && !m->interrupted;
}

/* Does the signal end the process at once?  Not if its first thread is traced, except for SIGKILL. */
static bool ends(const struct member *first, int32_t signal)
{
    if (signal == SIGKILL)
        return true;
    if (!is_fatal(signal) || !is_idle(first))
        return false;
    for (const struct member *o = first->turns->member; o; o = o->next)
        if (o->process == first->process && is_idle(o) && turns_takes_end(o->pid, signal))
            return true;
    return false;
}

/* Would the kernel let it be sent?  If not, the kernel will report why. */
static bool is_allowed(const struct seccomp_notif *q, struct member *to)
{
    bool group = q->data.nr == SYS_tgkill || q->data.nr == SYS_rt_tgsigqueueinfo;
    bool told = q->data.nr == SYS_rt_sigqueueinfo || q->data.nr == SYS_rt_tgsigqueueinfo;
    int32_t info[3]; /* the kernel's siginfo_t: number, errno, code */
    if (group && turns_inner(to) != (int32_t)q->data.args[0])
        return false;
    return !told || (turns_read_memory((pid_t)q->pid, q->data.args[group ? 3 : 2], info, sizeof info) && info[2] < 0 &&
                     info[2] != SI_TKILL);
}

/* Send the signal to the processes that it ends.  True: it also goes to others. */
static bool send_to_ended(struct member *m, const struct seccomp_notif *q, const struct sent *s)
{
    struct turns *ts = m->turns;
    bool others = false;
    for (struct member *o = ts->member; o; o = o->next) {
        struct member *first = turns_find(ts, o->process);
        if ((!s->thread && o != first) || !is_sent_to(o, m, s))
            continue;
        if (first && first->process != m->process && is_allowed(q, first) && ends(first, s->signal) &&
            syscall(SYS_pidfd_send_signal, first->watch.fd, s->signal, NULL, 0) == 0) {
            first->killed = true;
            ts->kills++;
        } else {
            others = true;
        }
    }
    return others;
}

/* Does the signal go to a thread that the kernel chooses?  A signal for a process goes to its first thread if that takes
 * it, else to any thread, depending on how far each has come. */
static bool is_anybodys(struct member *first, struct member *by, const struct sent *s)
{
    bool several = false;
    for (const struct member *o = first->turns->member; o; o = o->next)
        several |= o->process == first->process && o != first;
    return several && !s->thread && s->signal > 0 && s->signal <= SIGRTMAX && first->pid == first->process && !first->killed && is_sent_to(first, by, s) &&
           turns_blocks(first->pid, s->signal);
}

bool turns_signal(struct member *m, const struct seccomp_notif *q, struct notify_reply *r)
{
    struct turns *ts = m->turns;
    struct sent s = sent_by(q);
    bool others = send_to_ended(m, q, &s), kills = ts->kills;
    if (kills) {
        m->kept = true;
        m->reply = (struct notify_reply){.id = r->id, .go_on = others};
    }
    ts->signals = true;
    for (struct member *o = ts->member; o; o = o->next) {
        if (is_anybodys(o, m, &s)) {
            turns_lose(ts, "a process of several threads gets a signal that its first one blocks");
            break;
        }
        if ((o->waits == WAITS_CHILD || o->waits == WAITS_SIGNAL) && is_sent_to(o, m, &s)) {
            const struct member *first = turns_find(ts, o->process);
            if (first && first->killed)
                continue;
            turns_lose(ts, "a process gets a signal from another");
            break;
        }
    }
    return kills;
}

void turns_signal_done(struct turns *ts)
{
    struct member *m = ts->lost ? NULL : ts->at_work;
    if (!m || !ts->kills || --ts->kills)
        return;
    m->kept = false;
    notify_send(ts->task->notify, &m->reply);
}

void turns_reaped(struct turns *ts)
{
    pid_t init = ts->task->init;
    if (!ts->ended)
        return;
    ts->ended = false;
    for (int i = 0; turns_any_has_ended_child(init); i++) {
        if (i == REAP_LOOKS) {
            notify_uncertified(ts->task->notify, "a process that has ended and nobody waits for does not go");
            return;
        }
        nanosleep(&(struct timespec){.tv_nsec = REAP_LOOK_NS}, NULL);
    }
}
