/* Timers that ring in logical time: alarm and setitimer(ITIMER_REAL).  A timer is due when the logical clock passes it, by
 * looks at a clock or by a sleep.  SIGALRM is sent before the call that moved the clock is answered, so it arrives at the
 * same point in every run.  A sleep is cut short by a timer of its own process; a pause of a process without children lets
 * time pass up to its timer.
 *
 * A program that waits in another way, or computes without looking at a clock, does not let time pass, so its timer does not
 * ring in logical time.  One that rings once rings after so much CPU time then, or `timeout 9 PROGRAM` would not end a program that
 * computes for ever; at which point of the program is chance, so the result is not certified.  Timers with an interval, which
 * programs set to have their work looked at, never ring so, nor do timers of CPU time ring at all. */
#include "base/fds.h"
#include "sandbox/notify_task.h"
#include "sandbox/proc.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <unistd.h>

#define SECOND_NS 1000000000ull
#define MICRO_NS  1000ull
#define TIME_MAX  (1ull << 60) /* a later time is never reached */
#define GRACE_NS  100000000ull /* of CPU time, so that one who looks at a clock until its timer rings is not taken for one who does not */

static struct timer *find(struct notify *n, pid_t process)
{
    for (int i = 0; i < NOTIFY_TIMERS_MAX; i++)
        if (n->timer[i].pidfd >= 0 && n->timer[i].process == process)
            return &n->timer[i];
    return NULL;
}

/* Would SIGALRM reach the process?  If that cannot be read, yes. */
static bool takes_alarm(pid_t process)
{
    static const char *const rows[] = {"SigBlk:", "SigIgn:"};
    char set[PROC_LINE_MAX];

    for (int i = 0; i < 2; i++)
        if (proc_status(process, rows[i], set) && strtoull(set, NULL, 16) >> (SIGALRM - 1) & 1)
            return false;
    return true;
}

static bool has_children(const struct seccomp_notif *q, pid_t process)
{
    char path[64], byte;
    int fd;
    ssize_t got;

    snprintf(path, sizeof path, "/proc/%d/task/%u/children", (int)process, q->pid);
    fd = open(path, O_RDONLY | O_CLOEXEC);
    got = fd < 0 ? 1 : read(fd, &byte, 1);
    fd_close(&fd);
    return got != 0;
}

void timers_ring(struct notify *n)
{
    for (int i = 0; i < NOTIFY_TIMERS_MAX && n->timers; i++) {
        struct timer *t = &n->timer[i];

        if (t->pidfd < 0 || t->due_ns > n->now_ns)
            continue;
        if (n->asking && n->asking != t->process)
            notify_mark(n, "a timer of one process rings while another goes on");
        if (syscall(SYS_pidfd_send_signal, t->pidfd, SIGALRM, NULL, 0) < 0 || !t->interval_ns) {
            fd_close(&t->pidfd);
            n->timers--;
        } else {
            t->due_ns += ((n->now_ns - t->due_ns) / t->interval_ns + 1) * t->interval_ns;
        }
    }
}

bool timers_cut(struct notify *n, const struct seccomp_notif *q, uint64_t *until_ns)
{
    const struct timer *t = NULL;

    if (!n->timers)
        return false;
    n->asking = task_process(q);
    t = find(n, n->asking);
    if (!t || t->due_ns >= *until_ns || !takes_alarm(t->process))
        return false;
    *until_ns = t->due_ns;
    return true;
}

void timers_close(struct notify *n)
{
    for (int i = 0; i < NOTIFY_TIMERS_MAX; i++)
        fd_close(&n->timer[i].pidfd);
}

static struct itimerval left(const struct notify *n, const struct timer *t)
{
    uint64_t ns = !t ? 0 : t->due_ns > n->now_ns + MICRO_NS ? t->due_ns - n->now_ns : MICRO_NS;
    uint64_t again = t ? t->interval_ns : 0;

    return (struct itimerval){
        .it_value = {(time_t)(ns / SECOND_NS), (suseconds_t)(ns % SECOND_NS / MICRO_NS)},
        .it_interval = {(time_t)(again / SECOND_NS), (suseconds_t)(again % SECOND_NS / MICRO_NS)}};
}

/* Set a process's timer; value_ns 0: remove it. */
static int set(struct notify *n, pid_t process, uint64_t value_ns, uint64_t interval_ns)
{
    struct timer *t = find(n, process);

    if (!value_ns) {
        if (t) {
            fd_close(&t->pidfd);
            n->timers--;
        }
        return 0;
    }
    for (int i = 0; i < NOTIFY_TIMERS_MAX && !t; i++)
        if (n->timer[i].pidfd < 0) {
            n->timer[i].pidfd = (int)syscall(SYS_pidfd_open, process, 0);
            if (n->timer[i].pidfd < 0)
                return -1;
            t = &n->timer[i];
            n->timers++;
        }
    if (!t)
        return -1;
    t->process = process;
    t->due_ns = n->now_ns + value_ns;
    t->interval_ns = interval_ns;
    t->met = false;
    n->alarm_new |= !interval_ns;
    return 0;
}

/* The first to ring of those that ring once, with what it has left; one whose process is gone is removed. */
static struct timer *first_alarm(struct notify *n, uint64_t used_ns, uint64_t *left_ns)
{
    struct timer *first = NULL;

    for (int i = 0; i < NOTIFY_TIMERS_MAX && n->timers; i++) {
        struct timer *t = &n->timer[i];

        if (t->pidfd < 0 || t->interval_ns)
            continue;
        if (syscall(SYS_pidfd_send_signal, t->pidfd, 0, NULL, 0) < 0) {
            fd_close(&t->pidfd);
            n->timers--;
            continue;
        }
        if (!t->met || used_ns < t->met_used_ns) { /* what orphans used is not counted once they are dead */
            t->met = true;
            t->met_used_ns = used_ns;
        }
        uint64_t used = used_ns - t->met_used_ns, has = GRACE_NS + (t->due_ns > n->now_ns ? t->due_ns - n->now_ns : 0);
        uint64_t left = used < has ? has - used : 0;
        if (!first || left < *left_ns) {
            first = t;
            *left_ns = left;
        }
    }
    return first;
}

bool notify_alarm_new(const struct notify *n)
{
    return n->alarm_new;
}

uint64_t notify_alarm(struct notify *n, uint64_t used_ns)
{
    uint64_t left = UINT64_MAX;

    n->alarm_new = false;
    first_alarm(n, used_ns, &left);
    return left;
}

void notify_alarm_ring(struct notify *n, uint64_t used_ns)
{
    uint64_t left;
    const struct timer *t = first_alarm(n, used_ns, &left);

    n->asking = 0;
    if (t)
        clock_pass_to(n, t->due_ns);
}

/* Set the calling process's timer.  If the caller is gone by now the number may be another process's. */
static void set_for(struct notify *n, const struct seccomp_notif *q, pid_t process, uint64_t value_ns,
                    uint64_t interval_ns)
{
    if (set(n, process, value_ns, interval_ns) < 0)
        notify_mark(n, "more timers than are counted");
    if (!task_valid(n, q))
        set(n, process, 0, 0);
}

void answer_alarm(struct notify *n, const struct seccomp_notif *q, struct answer *a)
{
    pid_t process = task_process(q);
    clock_meet(n);
    struct itimerval was = left(n, find(n, process));

    if (!task_valid(n, q))
        return;
    set_for(n, q, process, (uint32_t)q->data.args[0] * SECOND_NS, 0);
    a->value = was.it_value.tv_sec + (was.it_value.tv_usec >= 500000 || (!was.it_value.tv_sec && was.it_value.tv_usec));
}

static bool time_good(const struct timeval *t)
{
    return t->tv_sec >= 0 && t->tv_usec >= 0 && t->tv_usec < 1000000;
}

static uint64_t time_ns(const struct timeval *t)
{
    return (uint64_t)t->tv_sec > TIME_MAX / SECOND_NS ? TIME_MAX
                                                      : (uint64_t)t->tv_sec * SECOND_NS + (uint64_t)t->tv_usec * MICRO_NS;
}

void answer_itimer(struct notify *n, const struct seccomp_notif *q, struct answer *a)
{
    bool setting = q->data.nr == SYS_setitimer, real = (uint32_t)q->data.args[0] == ITIMER_REAL;
    uint64_t old = setting ? q->data.args[2] : q->data.args[1];
    struct itimerval wish = {0}, was;
    pid_t process = task_process(q);

    clock_meet(n);
    if ((uint32_t)q->data.args[0] > ITIMER_PROF) {
        a->error = EINVAL;
        return;
    }
    if (setting && q->data.args[1] && task_read(n, q, q->data.args[1], &wish, sizeof wish) < 0)
        a->error = EFAULT;
    else if (!time_good(&wish.it_value) || !time_good(&wish.it_interval))
        a->error = EINVAL;
    was = left(n, real ? find(n, process) : NULL);
    if (!a->error && old && task_write(n, q, old, &was, sizeof was) < 0)
        a->error = EFAULT;
    if (a->error || !setting || !real || !task_valid(n, q))
        return;
    set_for(n, q, process, time_ns(&wish.it_value), time_ns(&wish.it_interval));
}

/* In a pause nothing happens until a signal comes, so time may pass up to the timer; but not if a child is at work, whose
 * own time would be changed by that. */
void answer_pause(struct notify *n, const struct seccomp_notif *q, struct answer *a)
{
    uint64_t until = UINT64_MAX;

    a->go_on = true;
    clock_meet(n);
    if (n->timers && !has_children(q, task_process(q)) && timers_cut(n, q, &until))
        clock_pass_to(n, until);
}
