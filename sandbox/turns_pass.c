/* Passing the turn: which thread is next, and how it is noticed that the one at work waits.
 *
 * New threads come first; then threads whose wait is over, in the order in which it ended; then those for which something
 * has come on a descriptor; then those that only yielded, or looked for something in vain.  If none of these is left the
 * logical time moves on to the earliest time that a thread waits for.  All of this follows from what the threads did. */
#include "sandbox/turns_member.h"
#include "base/fds.h"
#include "sandbox/clock_page.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <sys/ptrace.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/timerfd.h>
#include <unistd.h>

#define NS            1000000000ull
#define TURN_CPU_NS   (20 * NS)    /* CPU time of one turn, while others wait for theirs */
#define BLOCKED_NS    (60 * NS)    /* that a thread may be at work without doing anything, while others wait */
#define LOOK_FIRST_NS 20000ull     /* nothing tells that a process reads from an empty pipe: look again after this time, */
#define LOOK_LAST_NS  4000000ull   /* which grows up to this */
#define RESTART       512          /* ERESTARTSYS: the kernel makes the call again after the signal */

static const char nobody_reads[] = "programs of its wait for each other";

/* --- which thread is next --- */

/* The first new thread that is held: the child that m waits for, else any child of m, else any. */
static struct member *next_held(const struct turns *ts, const struct member *m)
{
    struct member *any = NULL, *own = NULL;
    for (struct member *h = ts->member; h; h = h->next) {
        if (h->state != STATE_HELD)
            continue;
        any = any ? any : h;
        if (!m || h->parent != m->process || h->process != h->pid)
            continue;
        if (m->waits == WAITS_CHILD && m->child > 0 && turns_inner(h) == m->child)
            return h;
        own = own ? own : h;
    }
    return own ? own : any;
}

static bool earlier(const struct member *a, const struct member *b)
{
    return !b || a->reply.due_ns < b->reply.due_ns || (a->reply.due_ns == b->reply.due_ns && a->place < b->place);
}

static bool waits_for_time(const struct member *m)
{
    return (m->waits == WAITS_SLEEP || m->waits == WAITS_FUTEX || m->waits == WAITS_POLL) && m->reply.timed;
}

static struct member *next_timed(const struct turns *ts)
{
    struct member *r = NULL;
    for (struct member *o = ts->member; o; o = o->next)
        if (waits_for_time(o) && earlier(o, r))
            r = o;
    return r;
}

static struct member *next_in_place(const struct turns *ts, bool idle)
{
    struct member *r = NULL;
    for (struct member *o = ts->member; o; o = o->next)
        if (o->waits == WAITS_TURN && o->idles == idle && (!r || o->place < r->place))
            r = o;
    return r;
}

static struct member *next_served(const struct turns *ts)
{
    struct member *r = NULL;
    for (struct member *o = ts->member; o; o = o->next)
        if ((o->waits == WAITS_PIPE || o->waits == WAITS_POLL) && (!r || o->place < r->place) && turns_wait_over(o))
            r = o;
    return r;
}

void turns_ready(struct member *m, int error)
{
    m->reply.go_on = m->reply.timed = false;
    m->reply.error = error;
    m->reply.value = 0;
    m->waits = WAITS_TURN;
    m->place = ++m->turns->places;
    if (m->turns->at_work && !m->turns->looking)
        turns_look_begin(m->turns); /* until now nobody waited for the one at work */
}

/* Wake threads whose wait is ended by a signal.  A signal for a process goes to its first thread, unless that blocks it. */
static void wake_signalled(struct turns *ts)
{
    if (!ts->signals)
        return;
    ts->signals = false;
    for (struct member *o = ts->member; o; o = o->next)
        if ((o->waits == WAITS_FUTEX || o->waits == WAITS_PIPE || o->waits == WAITS_POLL) &&
            turns_has_signal(o->pid, o->pid == o->process))
            turns_ready(o, o->reply.timed ? EINTR : RESTART);
}

/* The time that it waited for has come. */
static void time_over(struct member *m)
{
    if (m->waits == WAITS_POLL)
        turns_ready(m, turns_found_nothing(m) < 0 ? EFAULT : 0);
    else
        turns_ready(m, m->waits == WAITS_FUTEX ? ETIMEDOUT : m->reply.error);
}

/* Wake threads whose time has come while others were at work. */
static void wake_due(struct turns *ts)
{
    struct member *o;
    while ((o = next_timed(ts)) && o->reply.due_ns <= notify_now(ts->task->notify))
        time_over(o);
}

static struct member *choose(struct turns *ts, const struct member *m)
{
    struct member *r = next_held(ts, m);
    wake_signalled(ts);
    wake_due(ts);
    r = r ? r : next_in_place(ts, false);
    r = r ? r : next_served(ts);
    r = r ? r : next_in_place(ts, true);
    return r ? r : next_timed(ts);
}

struct member *turns_next(struct turns *ts, const struct member *m)
{
    for (;;) {
        struct member *r = choose(ts, m);
        if (!r || r == m || r->pid == r->process || !turns_has_ended(r))
            return r; /* a process that was killed passes the turn on to the one that waits for its end */
        turns_ended(r);
        if (ts->lost)
            return NULL;
    }
}

/* A thread that waits to write gets the turn only if there is room now. */
static struct member *written_on(struct member *m)
{
    struct turns *ts = m->turns;
    for (int i = 0; m && m->written; i++) {
        if (i == TURNS_MEMBERS_MAX)
            return NULL; /* others outside read from it */
        if (m->waits != WAITS_PIPE)
            turns_write_end(m); /* a signal ends the write */
        else if (!turns_write_on(m)) {
            m->place = ++ts->places;
            m = turns_next(ts, NULL);
        }
    }
    return m;
}

void turns_give(struct member *m, struct member *from)
{
    struct turns *ts = m->turns;
    m = written_on(m);
    if (!m) {
        ts->at_work = NULL;
        turns_lose(ts, nobody_reads);
        return;
    }
    if (m->waits == WAITS_POLL && turns_wait_over(m)) {
        m->reply.timed = false; /* the kernel will find that it is ready */
    } else if (waits_for_time(m)) {
        uint64_t due_ns = m->reply.due_ns;
        time_over(m);
        notify_pass_to(ts->task->notify, &m->asked, due_ns);
    } else if (m->waits == WAITS_TURN && m->idles) {
        notify_pass_to(ts->task->notify, &m->asked, notify_now(ts->task->notify) + CLOCK_STEP_NS);
    }
    m->idles = false;
    m->waits = WAITS_NOT;
    ts->kills = 0;
    if (m->state == STATE_HELD) {
        m->state = STATE_RUNS;
        m->from = from;
    }
    ts->at_work = m;
    lane_passed(ts->task->region->server);
    turns_look_begin(ts);
    if (m->kept)
        notify_send(ts->task->notify, &m->reply);
    m->kept = false;
    turns_let_go(m);
}

bool turns_hand_over(struct member *m, enum waits waits)
{
    struct turns *ts = m->turns;
    m->waits = waits;
    m->place = ++ts->places;
    struct member *r = turns_next(ts, m);
    if (r && r != m) {
        turns_give(r, m);
        return true;
    }
    if (!ts->lost)
        m->waits = WAITS_NOT;
    return false;
}

bool turns_keep(struct member *m, const struct seccomp_notif *q, const struct notify_reply *r, enum waits waits)
{
    const struct turns *ts = m->turns;
    m->reply = *r;
    m->asked = *q;
    m->kept = true;
    bool kept = turns_hand_over(m, waits);
    if (!kept && !ts->lost)
        m->kept = false;
    return kept;
}

/* A thread that yields or looks again and again sees time pass; otherwise those that sleep would never wake. */
bool turns_idle(struct member *m, const struct seccomp_notif *q, struct notify_reply *reply)
{
    const struct turns *ts = m->turns;
    m->idles = true;
    if (ts->many && turns_keep(m, q, reply, WAITS_TURN))
        return true;
    if (ts->lost)
        return false;
    m->idles = false;
    reply->timed = true;
    reply->due_ns = notify_now(ts->task->notify) + CLOCK_STEP_NS;
    return false;
}

/* --- noticing that the one at work waits --- */

static void look_event(struct watch *w, uint32_t events);

int turns_look_open(struct turns *ts)
{
    int fd = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
    ts->look_watch = (struct watch){-1, look_event, ts};
    if (fd >= 0 && watch_start(ts->task->region->server, &ts->look_watch, fd, EPOLLIN) == 0)
        return 0;
    fd_close(&fd);
    return -1;
}

void turns_look_close(struct turns *ts)
{
    int fd = ts->look_watch.fd;
    watch_stop(ts->task->region->server, &ts->look_watch);
    fd_close(&fd);
}

/* Does any thread wait for the turn? */
static bool others_wait(const struct turns *ts)
{
    for (const struct member *o = ts->member; o; o = o->next)
        if (o != ts->at_work && (o->state == STATE_HELD || o->waits == WAITS_TURN || o->waits == WAITS_PIPE || waits_for_time(o)))
            return true;
    return false;
}

static void look_again(struct turns *ts)
{
    struct itimerspec when = {.it_value = {(time_t)(ts->look_ns / NS), (long)(ts->look_ns % NS)}};
    ts->looking = timerfd_settime(ts->look_watch.fd, 0, &when, NULL) == 0;
}

static void look_later(struct turns *ts)
{
    ts->look_ns = ts->look_ns * 2 < LOOK_LAST_NS ? ts->look_ns * 2 : LOOK_LAST_NS;
    look_again(ts);
}

static void stop_looking(struct turns *ts)
{
    static const struct itimerspec never;
    if (ts->looking)
        timerfd_settime(ts->look_watch.fd, 0, &never, NULL);
    ts->looking = false;
}

/* If nobody waits for the turn nothing need be known about the one at work; a thread that waits later starts this
 * (turns_ready). */
void turns_look_begin(struct turns *ts)
{
    ts->look_ns = LOOK_FIRST_NS;
    ts->blocked_ns = ts->cpu_ns = 0;
    if (others_wait(ts) || (ts->at_work && ts->at_work->place_fd >= 0))
        look_again(ts);
    else
        stop_looking(ts);
}

/* No call of the task waits for our answer. */
static bool asks_nothing(const struct turns *ts)
{
    struct pollfd p = {.fd = notify_fd(ts->task->notify), .events = POLLIN};
    return poll(&p, 1, 0) == 0;
}

/* What the thread at work waits for may come when another has had its turn, so stop its call.  A call that reads or polls
 * begins again without the program noticing. */
static void stop_waiting(struct member *m, const struct call *c)
{
    struct turns *ts = m->turns;
    struct member *r = turns_next(ts, m);
    if (ts->lost)
        return;
    if (!r)
        turns_lose(ts, nobody_reads);
    else if ((ptrace(PTRACE_SEIZE, m->pid, NULL, NULL) == 0 || errno == EPERM) && /* freeze.c may trace it already */
             ptrace(PTRACE_INTERRUPT, m->pid, NULL, NULL) == 0) {
        m->interrupted = true;
        m->call = *c;
    }
}

static const char waits_for_others[] = "a process waits in a way that its others may end";

/* Is it a read that must not be stopped?  One with MSG_WAITALL would return with what has come so far; and one of signals
 * ends only by others sending them. */
static bool reads_on(const struct member *m, const struct call *c)
{
    bool all = (c->nr == SYS_recvfrom && c->arg[3] & MSG_WAITALL) || (c->nr == SYS_recvmsg && c->arg[2] & MSG_WAITALL);
    return all ? turns_own_wait(m, c) : turns_reads_signals(m, c);
}

static void look_at_call(struct member *m, const struct call *c)
{
    struct turns *ts = m->turns;
    switch (c->nr) {
    case SYS_read:
    case SYS_readv:
    case SYS_preadv2: /* reads at the present offset */
    case SYS_recvfrom:
    case SYS_recvmsg:
        if (reads_on(m, c))
            turns_lose(ts, waits_for_others);
        else if (turns_own_wait(m, c))
            stop_waiting(m, c);
        break;
    case SYS_write:
    case SYS_writev:
    case SYS_pwritev2:
    case SYS_sendto:
    case SYS_sendfile:
        if (turns_own_wait(m, c))
            stop_waiting(m, c);
        break;
    case SYS_poll:
    case SYS_ppoll:
    case SYS_select:
    case SYS_pselect6:
    case SYS_epoll_wait:
    case SYS_epoll_pwait:
        if (turns_own_wait(m, c))
            stop_waiting(m, c);
        else
            turns_lose(ts, waits_for_others);
        break;
    case SYS_wait4:
    case SYS_waitid:
        m->child = CHILD_UNSURE;
        m->call = *c;
        turns_hand_over(m, WAITS_CHILD);
        break;
    case SYS_pause:
    case SYS_rt_sigsuspend:
    case SYS_rt_sigtimedwait:
        m->call = *c;
        turns_hand_over(m, WAITS_SIGNAL);
        break;
    case SYS_futex:
    case SYS_open: /* opening a named pipe waits */
    case SYS_openat:
    case SYS_flock:
    case SYS_fcntl:
        turns_lose(ts, waits_for_others);
        break;
    default:
        break;
    }
}

/* The first thread of a process has ended while others of it go on. */
static void first_thread_ended(struct member *m)
{
    struct turns *ts = m->turns;
    for (struct member *o = ts->member; o; o = o->next)
        if (o != m && o->process == m->process && !turns_dying(o)) {
            turns_futex_ended(ts, m->process, m->clear_tid);
            turns_hand_over(m, WAITS_END);
            return;
        }
}

/* Look whether the one at work waits for something that another thread must do. */
static void look_at(struct turns *ts, uint64_t waited)
{
    struct member *m = ts->at_work;
    struct call c;
    if (m->state == STATE_SHARES || m->interrupted)
        return;
    char state = proc_state(m->pid, NULL);
    if (state == 'Z' && m->pid == m->process)
        first_thread_ended(m);
    if (state == 'R' || state == 'Z')
        return;
    if (state == 'T') { /* it was stopped by a signal, and only another process can continue it */
        turns_lose(ts, "a process is stopped by a signal");
        return;
    }
    ts->blocked_ns += waited;
    if (state == 'S' && turns_call(m->pid, &c) && asks_nothing(ts))
        look_at_call(m, &c);
}

static bool too_long(struct turns *ts)
{
    uint64_t cpu_ns = turns_cpu_ns(ts->at_work->pid);
    if (!ts->cpu_ns)
        ts->cpu_ns = cpu_ns ? cpu_ns : 1;
    return cpu_ns > ts->cpu_ns + TURN_CPU_NS || ts->blocked_ns > BLOCKED_NS;
}

/* Could another thread go on if it got the turn?  Not one that waits for bytes that the one at work has not written yet. */
static bool others_could(const struct turns *ts)
{
    for (const struct member *o = ts->member; o; o = o->next)
        if (o != ts->at_work && (o->state == STATE_HELD || o->waits == WAITS_TURN || waits_for_time(o) ||
                                 (o->waits == WAITS_PIPE && turns_wait_over(o))))
            return true;
    return false;
}

static void look_event(struct watch *w, uint32_t events)
{
    struct turns *ts = w->owner;
    uint64_t count, waited = ts->look_ns;
    (void)events;
    if (read(w->fd, &count, sizeof count) <= 0)
        return;
    ts->looking = false;
    turns_catch_up(ts, 0);
    if (ts->lost || !ts->at_work)
        return;
    if (!others_wait(ts)) {
        if (!ts->looking && ts->at_work->place_fd >= 0) {
            look_later(ts);
            ts->looking = false; /* we look only for its end; if somebody waits, looking starts again */
        }
        return;
    }
    if (!ts->looking) { /* otherwise another turn has begun */
        if (too_long(ts) && others_could(ts))
            turns_lose(ts, "one of its threads is at work for long while others wait for their turn");
        else
            look_at(ts, waited);
    }
    if (ts->lost || ts->looking)
        return;
    look_later(ts);
}
