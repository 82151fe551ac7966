/* Timers that ring in logical time: alarm, setitimer(ITIMER_REAL) and timer_create.  A timer is due when the logical clock passes it, by
 * looks at a clock or by a sleep.  Its signal is sent before the call that moved the clock is answered, so it arrives at the
 * same point in every run.  A sleep is cut short by a timer of its own process; a pause of a process without children lets
 * time pass up to its timer.
 *
 * A program that waits in another way, or computes without looking at a clock, does not let time pass, so its timer does not
 * ring in logical time.  One that rings once rings after so much CPU time then, or `timeout 9 PROGRAM` would not end a program that
 * computes for ever; at which point of the program is chance, so the result is not certified.  Timers with an interval, which
 * programs set to have their work looked at, never ring so, nor do timers of CPU time ring at all. */
#include "base/fds.h"
#include "sandbox/clock_page.h"
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
#define TIMER_REAL (-1)       /* the id of alarm's timer */
#define EVENT_NONE 1          /* SIGEV_NONE; SIGEV_SIGNAL is 0 */
#define GRACE_NS  100000000ull /* of CPU time, so that one who looks at a clock until its timer rings is not taken for one who does not */

static struct timer *find(struct notify *n, pid_t process, int id)
{
    for (int i = 0; i < NOTIFY_TIMERS_MAX; i++) {
        struct timer *t = &n->timer[i];

        if ((t->pidfd >= 0 || t->made) && t->process == process && t->id == id)
            return t;
    }
    return NULL;
}

static void unset(struct notify *n, struct timer *t)
{
    if (t->pidfd >= 0)
        n->timers--;
    fd_close(&t->pidfd);
}

/* Would its signal reach the process?  If that cannot be read, yes. */
static bool is_taken(const struct timer *t)
{
    static const char *const rows[] = {"SigBlk:", "SigIgn:"};
    char set[PROC_LINE_MAX];

    for (int i = 0; i < 2; i++)
        if (proc_status(t->process, rows[i], set) && t->signal && strtoull(set, NULL, 16) >> (t->signal - 1) & 1)
            return false;
    return t->signal != 0;
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

/* -1: the process is gone. */
static int send_signal(const struct timer *t)
{
    siginfo_t info;

    if (!t->signal || t->id == TIMER_REAL)
        return (int)syscall(SYS_pidfd_send_signal, t->pidfd, t->signal, NULL, 0);
    memset(&info, 0, sizeof info);
    info.si_signo = t->signal;
    info.si_code = SI_TIMER;
    info.si_timerid = t->id;
    info.si_value.sival_ptr = (void *)(uintptr_t)t->value;
    return (int)syscall(SYS_pidfd_send_signal, t->pidfd, t->signal, &info, 0);
}

void timers_ring(struct notify *n)
{
    for (int i = 0; i < NOTIFY_TIMERS_MAX && n->timers; i++) {
        struct timer *t = &n->timer[i];

        if (t->pidfd < 0 || t->due_ns > n->now_ns)
            continue;
        if (n->asking && n->asking != t->process)
            notify_mark(n, "a timer of one process rings while another goes on");
        bool gone = send_signal(t) < 0;
        if (gone || !t->interval_ns) {
            unset(n, t);
            t->made &= !gone;
        } else {
            t->due_ns += ((n->now_ns - t->due_ns) / t->interval_ns + 1) * t->interval_ns;
        }
    }
}

bool timers_cut(struct notify *n, const struct seccomp_notif *q, uint64_t *until_ns)
{
    bool cut = false;

    if (!n->timers)
        return false;
    n->asking = task_process(q);
    for (int i = 0; i < NOTIFY_TIMERS_MAX; i++) {
        const struct timer *t = &n->timer[i];

        if (t->pidfd < 0 || t->process != n->asking || t->due_ns >= *until_ns || !is_taken(t))
            continue;
        *until_ns = t->due_ns;
        cut = true;
    }
    return cut;
}

void timers_close(struct notify *n)
{
    for (int i = 0; i < NOTIFY_TIMERS_MAX; i++)
        fd_close(&n->timer[i].pidfd);
}

static struct itimerval left(const struct notify *n, const struct timer *t)
{
    uint64_t ns = !t || t->pidfd < 0 ? 0 : t->due_ns > n->now_ns + MICRO_NS ? t->due_ns - n->now_ns : MICRO_NS;
    uint64_t again = t ? t->interval_ns : 0;

    return (struct itimerval){
        .it_value = {(time_t)(ns / SECOND_NS), (suseconds_t)(ns % SECOND_NS / MICRO_NS)},
        .it_interval = {(time_t)(again / SECOND_NS), (suseconds_t)(again % SECOND_NS / MICRO_NS)}};
}

/* A place for a timer; one whose process is gone gives up its own. */
static struct timer *make(struct notify *n, pid_t process, int id, int signal)
{
    for (int look = 0; look < 2; look++)
        for (int i = 0; i < NOTIFY_TIMERS_MAX; i++) {
            struct timer *t = &n->timer[i];

            if (t->pidfd >= 0 || (t->made && (!look || kill(t->process, 0) == 0 || errno != ESRCH)))
                continue;
            *t = (struct timer){.pidfd = -1, .process = process, .id = id, .signal = signal};
            return t;
        }
    return NULL;
}

/* Set a process's timer; value_ns 0: it will not ring. */
static int set(struct notify *n, pid_t process, int id, uint64_t value_ns, uint64_t interval_ns)
{
    struct timer *t = find(n, process, id);

    if (!value_ns) {
        if (t)
            unset(n, t);
        return 0;
    }
    if (!t && id == TIMER_REAL)
        t = make(n, process, id, SIGALRM);
    if (!t)
        return -1;
    if (t->pidfd < 0) {
        t->pidfd = (int)syscall(SYS_pidfd_open, process, 0);
        if (t->pidfd < 0)
            return -1;
        n->timers++;
    }
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
            unset(n, t);
            t->made = false;
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
static void set_for(struct notify *n, const struct seccomp_notif *q, pid_t process, int id, uint64_t value_ns,
                    uint64_t interval_ns)
{
    if (set(n, process, id, value_ns, interval_ns) < 0)
        notify_mark(n, "more timers than are counted");
    if (!task_valid(n, q))
        set(n, process, id, 0, 0);
}

void answer_alarm(struct notify *n, const struct seccomp_notif *q, struct answer *a)
{
    pid_t process = task_process(q);
    clock_meet(n);
    struct itimerval was = left(n, find(n, process, TIMER_REAL));

    if (!task_valid(n, q))
        return;
    set_for(n, q, process, TIMER_REAL, (uint32_t)q->data.args[0] * SECOND_NS, 0);
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
    was = left(n, real ? find(n, process, TIMER_REAL) : NULL);
    if (!a->error && old && task_write(n, q, old, &was, sizeof was) < 0)
        a->error = EFAULT;
    if (a->error || !setting || !real || !task_valid(n, q))
        return;
    set_for(n, q, process, TIMER_REAL, time_ns(&wish.it_value), time_ns(&wish.it_interval));
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

/* --- timer_create --- */

void timers_forget(struct notify *n, const struct seccomp_notif *q)
{
    pid_t process = 0;

    for (int i = 0; i < NOTIFY_TIMERS_MAX; i++) {
        struct timer *t = &n->timer[i];

        if (!t->made)
            continue;
        process = process ? process : task_process(q);
        if (t->process != process)
            continue;
        unset(n, t);
        t->made = false;
    }
}

/* The clocks whose timers ring here, and what they showed when the task began. */
static bool clock_rings(const struct notify *n, int32_t id, int64_t *start_s)
{
    *start_s = id == CLOCK_REALTIME || id == CLOCK_TAI ? n->epoch_s : CLOCK_BOOT_S;
    return id == CLOCK_REALTIME || id == CLOCK_TAI || id == CLOCK_MONOTONIC || id == CLOCK_BOOTTIME;
}

static void create(struct notify *n, const struct seccomp_notif *q, pid_t process, struct answer *a)
{
    struct {
        uint64_t value;
        int32_t signal, kind;
    } event = {.signal = SIGALRM}; /* the kernel's struct sigevent */
    int32_t id = 0;
    int64_t start_s = 0;

    if (q->data.args[1] && task_read(n, q, q->data.args[1], &event, sizeof event) < 0)
        a->error = EFAULT;
    else if (!clock_rings(n, (int32_t)q->data.args[0], &start_s) || (event.kind && event.kind != EVENT_NONE))
        a->error = ENOSYS; /* threads that are told, and CPU time: libraries have something else */
    else if (!event.kind && (event.signal < 1 || event.signal > 64))
        a->error = EINVAL;
    while (find(n, process, id))
        id++;
    if (!a->error && task_write(n, q, q->data.args[2], &id, sizeof id) < 0)
        a->error = EFAULT;
    struct timer *t = a->error ? NULL : make(n, process, id, event.kind ? 0 : event.signal);
    if (!t) {
        a->error = a->error ? a->error : EAGAIN;
        return;
    }
    t->made = true;
    t->value = q->data.args[1] ? event.value : (uint64_t)id;
    t->start_s = start_s;
    signals_sent(n, (uint64_t)t->signal);
}

static bool span_ns(const struct timespec *t, uint64_t *ns)
{
    *ns = (uint64_t)t->tv_sec > TIME_MAX / SECOND_NS ? TIME_MAX : (uint64_t)t->tv_sec * SECOND_NS + (uint64_t)t->tv_nsec;
    return t->tv_sec >= 0 && t->tv_nsec >= 0 && t->tv_nsec < (long)SECOND_NS;
}

static void set_time(struct notify *n, const struct seccomp_notif *q, struct timer *t, struct answer *a)
{
    struct itimerspec wish;
    uint64_t value = 0, interval = 0, passed = (uint64_t)t->start_s * SECOND_NS + n->now_ns;
    pid_t process = t->process;

    if (task_read(n, q, q->data.args[2], &wish, sizeof wish) < 0) {
        a->error = EFAULT;
    } else if (!span_ns(&wish.it_value, &value) || !span_ns(&wish.it_interval, &interval)) {
        a->error = EINVAL;
    } else {
        if (value && (int)q->data.args[1] & TIMER_ABSTIME)
            value = value > passed ? value - passed : 1;
        set_for(n, q, process, t->id, value, interval);
    }
}

void answer_timer(struct notify *n, const struct seccomp_notif *q, struct answer *a)
{
    pid_t process = task_process(q);
    clock_meet(n);
    if (!task_valid(n, q))
        return;
    if (q->data.nr == SYS_timer_create) {
        create(n, q, process, a);
        return;
    }
    int32_t id = (int32_t)q->data.args[0];
    struct timer *t = id < 0 ? NULL : find(n, process, id);
    if (!t) {
        a->error = EINVAL;
        return;
    }
    bool set = t->pidfd >= 0;
    uint64_t ns = !set ? 0 : t->due_ns > n->now_ns ? t->due_ns - n->now_ns : 1, again = set ? t->interval_ns : 0;
    struct itimerspec is = {.it_value = {(time_t)(ns / SECOND_NS), (long)(ns % SECOND_NS)},
                            .it_interval = {(time_t)(again / SECOND_NS), (long)(again % SECOND_NS)}};
    if (q->data.nr == SYS_timer_delete) {
        unset(n, t);
        t->made = false;
    } else if (q->data.nr == SYS_timer_settime) {
        set_time(n, q, t, a);
    }
    uint64_t to = q->data.nr == SYS_timer_gettime ? q->data.args[1] : q->data.nr == SYS_timer_settime ? q->data.args[3] : 0;
    if (!a->error && (to || q->data.nr == SYS_timer_gettime) && task_write(n, q, to, &is, sizeof is) < 0)
        a->error = EFAULT;
}
