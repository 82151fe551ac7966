/* Whose turn it is among the processes of a task.
 *
 * A new process is held before its first instruction (one that shares its parent's memory: before its
 * program's), and lies in a queue.  The one at work goes on until it waits for a child, sleeps, or reads from an
 * empty pipe of the task's own; then it is the next one's turn, which is at work until it has ended or waits
 * itself.  So everything that one process does lies before or after everything that another does between
 * two such points, and these are the same every time: they follow from what the processes do, never from
 * how long it takes.  What comes from outside (a channel, the disk) is waited for by the one at work, and
 * nobody uses the time.
 *
 * Nothing of it needs a right or a special scheduler.  A real-time one on a single processor would not do:
 * while one process waits for the disk or for a channel it lets another go on.
 *
 * It does not go on for ever.  Programs that stream into each other through a pipe of the task's own, threads,
 * and whatever waits for several things at once cannot take turns this way, and a turn may be long.  Then
 * all are let go, side by side as on any host, and the result is not certified.
 *
 * What must stay true: one that is at work has nobody beside it, so what it is found waiting for cannot come
 * from the others, and stays so until another is given the turn.  Whoever could be woken by two things (a signal
 * while it waits for a child) is not left to chance: then all are let go. */
#include "sandbox/turns.h"
#include "base/fds.h"
#include "sandbox/server.h"
#include "sandbox/turns_member.h"

#include <linux/seccomp.h>
#include <poll.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/timerfd.h>
#include <sys/wait.h>
#include <unistd.h>

#define NS            1000000000ull
#define MEMBERS_MAX   64           /* processes of one task that take turns; more run side by side */
#define TURN_NS       (5 * NS)     /* of one process, while others are held */
#define LOOK_FIRST_NS 100000ull    /* nothing tells that a process reads from an empty pipe: look again after */
#define LOOK_LAST_NS  100000000ull /* so long at first, and at most so long */

static void member_ended(struct member *m);

static struct server *server_of(const struct turns *ts)
{
    return ts->task->region->server;
}

static struct member *find(const struct turns *ts, pid_t pid)
{
    struct member *m = ts->member;
    while (m && m->pid != pid)
        m = m->next;
    return m;
}

/* --- members --- */

static void ended_event(struct watch *w, uint32_t events)
{
    (void)events;
    member_ended(w->owner);
}

static int watch_end(struct member *m)
{
    int fd = (int)syscall(SYS_pidfd_open, m->pid, 0);
    if (fd >= 0 && watch_start(server_of(m->turns), &m->watch, fd, EPOLLIN) == 0)
        return 0;
    fd_close(&fd);
    return -1;
}

static struct member *member_add(struct turns *ts, pid_t pid, pid_t parent, enum state state)
{
    struct member **at = &ts->member, *m;
    uint32_t count = 0;
    for (; *at; at = &(*at)->next)
        count++;
    if (count >= MEMBERS_MAX || !(m = calloc(1, sizeof *m)))
        return NULL;
    *m = (struct member){.turns = ts, .pid = pid, .parent = parent, .state = state};
    m->watch = (struct watch){-1, ended_event, m};
    if (watch_end(m) < 0) {
        free(m);
        return NULL;
    }
    *at = m;
    return m;
}

static void member_free(struct member *m)
{
    int fd = m->watch.fd;
    watch_stop(server_of(m->turns), &m->watch);
    fd_close(&fd);
    free(m);
}

static void let_go(struct member *m)
{
    if (m->stopped)
        ptrace(PTRACE_DETACH, m->pid, NULL, NULL);
    m->stopped = false;
}

static void look_stop(struct turns *ts)
{
    int fd = ts->look_watch.fd;
    watch_stop(server_of(ts), &ts->look_watch);
    fd_close(&fd);
}

/* From now on they run side by side.  What of theirs stops later is let go by whoever gets it. */
static void lose(struct turns *ts, const char *why)
{
    struct notify *n = ts->task->notify;
    if (ts->lost)
        return;
    ts->lost = true;
    notify_uncertified(n, why);
    look_stop(ts);
    for (struct member *m = ts->member, *next; m; m = next) {
        next = m->next;
        if (m->waits == WAITS_SLEEP)
            notify_send(n, &m->reply);
        let_go(m);
        member_free(m);
    }
    ts->member = ts->at_work = NULL;
}

/* --- passing the turn --- */

static void look_event(struct watch *w, uint32_t events);

static int look_open(struct turns *ts)
{
    int fd = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
    if (fd >= 0 && watch_start(server_of(ts), &ts->look_watch, fd, EPOLLIN) == 0)
        return 0;
    fd_close(&fd);
    return -1;
}

static void look_again(struct turns *ts)
{
    struct itimerspec when = {.it_value = {(time_t)(ts->look_ns / NS), (long)(ts->look_ns % NS)}};
    timerfd_settime(ts->look_watch.fd, 0, &when, NULL);
}

/* Since a turn has begun, or another process is held during it. */
static void look_begin(struct turns *ts)
{
    ts->look_ns = LOOK_FIRST_NS;
    ts->turn_ns = 0;
    look_again(ts);
}

/* The first that is held: the child that m waits for, or any child of its, or any at all. */
static struct member *next_held(const struct turns *ts, const struct member *m)
{
    struct member *any = NULL, *own = NULL;
    for (struct member *h = ts->member; h; h = h->next) {
        if (h->state != STATE_HELD)
            continue;
        any = any ? any : h;
        if (!m || h->parent != m->pid)
            continue;
        if (m->waits == WAITS_CHILD && m->child > 0 && turns_inner(h) == m->child)
            return h;
        own = own ? own : h;
    }
    return own ? own : any;
}

/* Or one that sleeps, or reads from a pipe in which there may be something by now. */
static struct member *next_ready(const struct turns *ts, const struct member *m)
{
    struct member *r = next_held(ts, m);
    for (struct member *o = ts->member; o && !r; o = o->next)
        if (o != m && (o->waits == WAITS_PIPE || o->waits == WAITS_SLEEP))
            r = o;
    return r;
}

/* It is at work from now on. */
static void give(struct member *m, struct member *from)
{
    struct turns *ts = m->turns;
    if (m->waits == WAITS_SLEEP)
        notify_send(ts->task->notify, &m->reply);
    m->waits = WAITS_NOT;
    if (m->state == STATE_HELD) {
        m->state = STATE_RUNS;
        m->from = from;
    }
    let_go(m);
    ts->at_work = m;
    look_begin(ts);
}

/* m waits, and passes the turn on, if there is somebody to take it. */
static bool hand_over(struct member *m, enum waits waits)
{
    struct turns *ts = m->turns;
    m->waits = waits;
    struct member *r = waits == WAITS_PIPE ? next_held(ts, m) : next_ready(ts, m);
    if (r)
        give(r, m);
    else
        m->waits = WAITS_NOT;
    return r != NULL;
}

/* Does the end of its child m wake p? */
static bool wakes(const struct member *p, struct member *m)
{
    return p->waits == WAITS_SIGNAL || (p->waits == WAITS_CHILD && (p->child <= 0 || m->inner == p->child));
}

static void forget(struct member *m)
{
    struct turns *ts = m->turns;
    struct member **at = &ts->member;
    while (*at != m)
        at = &(*at)->next;
    *at = m->next;
    for (struct member *o = ts->member; o; o = o->next)
        if (o->from == m)
            o->from = m->from;
    if (ts->at_work == m)
        ts->at_work = NULL;
    member_free(m);
}

static void member_ended(struct member *m)
{
    struct turns *ts = m->turns;
    struct member *parent = find(ts, m->parent), *from = m->from;
    bool at_work = ts->at_work == m, woken = parent && wakes(parent, m);
    bool shares = m->state == STATE_SHARES;
    forget(m);
    if (!at_work && !woken)
        return; /* killed by the one at work */
    if (!at_work && ts->at_work) {
        lose(ts, "a process is woken while another is at work");
        return;
    }
    struct member *next = parent && (woken || shares) ? parent : from && from->waits == WAITS_PIPE ? from : next_ready(ts, from);
    if (!woken && parent && parent->waits == WAITS_CHILD && turns_takes_child_signal(parent->pid))
        lose(ts, "a process is told of one child while it waits for another");
    else if (next)
        give(next, from);
    else if (from && from->waits == WAITS_SLEEP)
        give(from, NULL);
    else if (ts->member)
        lose(ts, "processes wait for each other");
}

/* Its parent goes on as soon as it has a program of its own. */
static void has_program(struct member *m)
{
    struct member *parent = find(m->turns, m->parent);
    m->state = STATE_HELD;
    if (parent && m->turns->at_work == m)
        give(parent, NULL);
}

/* What we have not heard of yet, though the one who asks has. */
static void catch_up(struct turns *ts, pid_t asks)
{
    while (ts->at_work && ts->at_work->pid != asks) {
        struct member *m = ts->at_work;
        struct pollfd p = {.fd = m->watch.fd, .events = POLLIN};
        if (poll(&p, 1, 0) > 0)
            member_ended(m);
        else if (m->state == STATE_SHARES && m->parent == asks)
            has_program(m);
        else
            return;
    }
}

/* --- what they do --- */

static const char side_by_side[] = "its processes run side by side";

static void fork_ahead(struct turns *ts, const struct seccomp_notif *q)
{
    uint64_t flags = q->data.nr == SYS_clone ? q->data.args[0] : q->data.nr == SYS_vfork ? CLONE_VM | CLONE_VFORK : 0;
    int options = PTRACE_O_TRACEFORK | PTRACE_O_TRACEVFORK | PTRACE_O_TRACECLONE;
    pid_t pid = (pid_t)q->pid;
    ts->many = true;
    if (flags & CLONE_THREAD)
        lose(ts, "threads");
    else if (flags & (CLONE_UNTRACED | CLONE_PARENT) || (flags & CLONE_VM && !(flags & CLONE_VFORK)))
        lose(ts, "a process shares more with its child than a fork does");
    else if (ptrace(PTRACE_SEIZE, pid, NULL, options) < 0 && ts->forking != pid)
        lose(ts, "a process's child cannot be held");
    ts->forking = pid;
    ts->shares = flags & CLONE_VFORK;
}

static void wait_ahead(struct member *m, const struct seccomp_notif *q)
{
    bool id = q->data.nr == SYS_waitid, there = false;
    uint32_t options = (uint32_t)q->data.args[id ? 3 : 2], kind = (uint32_t)q->data.args[0];
    int32_t number = (int32_t)q->data.args[id];
    if (id)
        number = kind == P_PID ? number : kind == P_ALL ? -1 : CHILD_UNSURE;
    m->child = number > 0 || number == -1 ? number : CHILD_UNSURE;
    for (struct member *o = m->turns->member; o; o = o->next)
        there |= o->parent == m->pid && (m->child < 0 || turns_inner(o) == m->child);
    if (!there || options & WNOHANG || m->child == CHILD_UNSURE || turns_has_ended_child(m->pid, m->child))
        return; /* it will not wait; or we see that it does */
    hand_over(m, WAITS_CHILD);
}

/* Whoever waits for a child would wake beside the one at work. */
static void signal_ahead(struct turns *ts, const struct seccomp_notif *q)
{
    int32_t to = (int32_t)q->data.args[0];
    for (struct member *m = ts->member; m; m = m->next)
        if ((m->waits == WAITS_CHILD || m->waits == WAITS_SIGNAL) && (to <= 0 || turns_inner(m) == to)) {
            lose(ts, "a process gets a signal from another");
            return;
        }
}

static bool on_turn(void *owner, enum notify_turn what, const struct seccomp_notif *q, const struct notify_reply *reply)
{
    struct turns *ts = owner;
    pid_t pid = (pid_t)q->pid;
    if (ts->lost || (!ts->many && what != NOTIFY_FORKS))
        return false;
    if (!ts->many) {
        ts->at_work = look_open(ts) < 0 ? NULL : member_add(ts, pid, 0, STATE_RUNS);
        if (ts->at_work)
            ts->at_work->inner = turns_inner_number(pid);
    }
    catch_up(ts, pid);
    struct member *m = ts->at_work;
    if (ts->lost)
        return false;
    if (!m || m->pid != pid)
        lose(ts, side_by_side);
    else if (what == NOTIFY_FORKS)
        fork_ahead(ts, q);
    else if (what == NOTIFY_WAITS)
        wait_ahead(m, q);
    else if (what == NOTIFY_SIGNALS)
        signal_ahead(ts, q);
    else {
        m->reply = *reply;
        return hand_over(m, WAITS_SLEEP);
    }
    return false;
}

/* No call of its waits for our answer. */
static bool asks_nothing(const struct turns *ts)
{
    struct pollfd p = {.fd = notify_fd(ts->task->notify), .events = POLLIN};
    return poll(&p, 1, 0) == 0;
}

/* What it waits for may come when another has had its turn.  A call that reads or polls begins again without
 * its noticing. */
static void stop_waiting(struct member *m)
{
    struct turns *ts = m->turns;
    if (!next_held(ts, m))
        lose(ts, "programs of its wait for each other");
    else if (ptrace(PTRACE_SEIZE, m->pid, NULL, NULL) == 0 && ptrace(PTRACE_INTERRUPT, m->pid, NULL, NULL) == 0)
        m->interrupted = true;
}

static const char waits_for_others[] = "a process waits in a way that its others may end";

/* Does the one at work do nothing, so that somebody else must? */
static void look_at(struct turns *ts)
{
    struct member *m = ts->at_work;
    char text[256];
    unsigned long nr, arg[4];
    if (!m || m->state == STATE_SHARES || m->interrupted || turns_state(m->pid, NULL) != 'S' ||
        !turns_read_proc(m->pid, "syscall", text, sizeof text) || sscanf(text, "%lu 0x%lx 0x%lx 0x%lx 0x%lx", &nr, &arg[0], &arg[1], &arg[2], &arg[3]) != 5 ||
        !asks_nothing(ts))
        return;
    switch (nr) {
    case SYS_read:
    case SYS_readv:
        if (turns_own_pipe(ts, m->pid, (int)arg[0]))
            stop_waiting(m);
        break;
    case SYS_write:
    case SYS_writev:
        if (turns_own_pipe(ts, m->pid, (int)arg[0])) /* part of it may have been written, and is told if it is stopped */
            lose(ts, "programs of its stream into each other");
        break;
    case SYS_poll:
    case SYS_ppoll:
        if (turns_polls_own(m, arg))
            stop_waiting(m);
        else
            lose(ts, waits_for_others);
        break;
    case SYS_select:
    case SYS_pselect6:
        if (turns_selects_own(m, arg))
            stop_waiting(m);
        else
            lose(ts, waits_for_others);
        break;
    case SYS_wait4:
    case SYS_waitid:
        m->child = CHILD_UNSURE;
        hand_over(m, WAITS_CHILD);
        break;
    case SYS_pause:
    case SYS_rt_sigsuspend:
        hand_over(m, WAITS_SIGNAL);
        break;
    case SYS_futex:
    case SYS_epoll_wait:
    case SYS_epoll_pwait:
    case SYS_open: /* of a named pipe */
    case SYS_openat:
    case SYS_flock:
    case SYS_fcntl:
        lose(ts, waits_for_others);
        break;
    default:
        break;
    }
}

static void look_event(struct watch *w, uint32_t events)
{
    struct turns *ts = w->owner;
    uint64_t count, waited = ts->look_ns;
    (void)events;
    if (read(w->fd, &count, sizeof count) <= 0)
        return;
    catch_up(ts, 0);
    if (ts->lost || !ts->at_work || !next_ready(ts, ts->at_work))
        return; /* nobody is kept from anything */
    if (waited == ts->look_ns) {
        ts->turn_ns += waited;
        if (ts->turn_ns > TURN_NS)
            lose(ts, "one of its processes is at work for long while others are held");
        else
            look_at(ts);
    }
    if (ts->lost)
        return;
    ts->look_ns = ts->look_ns * 2 < LOOK_LAST_NS ? ts->look_ns * 2 : LOOK_LAST_NS;
    look_again(ts);
}

/* --- what they are stopped for --- */

static void child_there(struct turns *ts, pid_t pid)
{
    struct member *parent = find(ts, ts->forking);
    if (find(ts, pid))
        return;
    struct member *m = parent ? member_add(ts, pid, parent->pid, ts->shares ? STATE_SHARES : STATE_HELD) : NULL;
    if (!m)
        lose(ts, "too many processes");
    else if (m->state == STATE_HELD)
        look_begin(ts);
    else {
        parent->waits = WAITS_MEMORY;
        m->from = parent;
        ts->at_work = m;
    }
}

/* It is stopped at its beginning. */
static void begins(struct member *m)
{
    if (m->state == STATE_SHARES) {
        ptrace(PTRACE_SETOPTIONS, m->pid, NULL, PTRACE_O_TRACEEXEC);
        ptrace(PTRACE_CONT, m->pid, NULL, NULL);
        return;
    }
    m->stopped = true;
    if (m->state == STATE_RUNS) /* its turn has come already */
        let_go(m);
}

static bool parent_stopped(struct turns *ts, pid_t pid, int event)
{
    unsigned long child;
    if (event != PTRACE_EVENT_FORK && event != PTRACE_EVENT_VFORK && event != PTRACE_EVENT_CLONE)
        return false;
    if (ptrace(PTRACE_GETEVENTMSG, pid, NULL, &child) == 0)
        child_there(ts, (pid_t)child);
    ts->forking = 0;
    ptrace(PTRACE_DETACH, pid, NULL, NULL);
    return true;
}

/* It may be heard of before its parent is. */
static struct member *find_new(struct turns *ts, pid_t pid)
{
    pid_t parent = 0;
    turns_state(pid, &parent);
    if (ts->forking && parent == ts->forking)
        child_there(ts, pid);
    return find(ts, pid);
}

static bool stopped_for(struct turns *ts, pid_t pid, int status)
{
    int event = status >> 16;
    if (pid == ts->forking && parent_stopped(ts, pid, event))
        return true;
    struct member *m = find(ts, pid);
    if (!m && event == PTRACE_EVENT_STOP)
        m = find_new(ts, pid);
    if (!m)
        return false;
    if (m->interrupted && event == PTRACE_EVENT_STOP) {
        m->interrupted = false;
        m->stopped = true;
        if (ts->at_work != m || !hand_over(m, WAITS_PIPE))
            let_go(m);
    } else if (!event && m->state == STATE_SHARES) {
        ptrace(PTRACE_CONT, pid, NULL, (void *)(intptr_t)WSTOPSIG(status));
    } else if (event == PTRACE_EVENT_EXEC && m->state == STATE_SHARES) {
        has_program(m);
        begins(m);
    } else if ((event == PTRACE_EVENT_STOP || event == PTRACE_EVENT_EXEC) && m->state != STATE_RUNS && !m->stopped) {
        begins(m);
    } else {
        return false; /* let go by whoever does not want it */
    }
    return true;
}

bool turns_stopped(struct server *s, pid_t pid, int status)
{
    for (struct turns *ts = s->turns; ts && WIFSTOPPED(status); ts = ts->next)
        if (!ts->lost && stopped_for(ts, pid, status))
            return true;
    return false;
}

/* --- of a task --- */

void turns_begin(struct task *t)
{
    struct server *s = t->region->server;
    struct turns *ts = calloc(1, sizeof *ts);
    if (!ts)
        return; /* then a second process is not certified */
    ts->task = t;
    ts->look_watch = (struct watch){-1, look_event, ts};
    ts->next = s->turns;
    s->turns = ts;
    t->turns = ts;
    notify_turns(t->notify, on_turn, ts);
}

bool turns_kept(const struct task *t)
{
    return t->turns && !t->turns->lost;
}

void turns_free(struct task *t)
{
    struct turns **at = &t->region->server->turns, *ts = t->turns;
    if (!ts)
        return;
    while (*at != ts)
        at = &(*at)->next;
    *at = ts->next;
    look_stop(ts);
    for (struct member *m = ts->member, *next; m; m = next) {
        next = m->next;
        member_free(m);
    }
    free(ts);
    t->turns = NULL;
}
