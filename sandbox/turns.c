/* The threads of a task, of all its processes, take turns.
 *
 * A new thread is stopped before its first instruction (a process that shares its parent's memory: before its program's)
 * and queued.  The thread at work goes on until it waits for a child or another thread, sleeps, yields, reads from an
 * empty pipe of the task's own or writes to a full one.  Then the next thread has the turn, until it has ended or waits
 * itself.  So between two such points everything that one thread does comes before or after everything that another does.
 * These points are the same in every run: they follow from what the processes do, never from how long it takes.  When the
 * thread at work waits for something from outside (a channel, the disk), it keeps the turn, and no other uses the time.
 *
 * None of this needs a privilege or a special scheduler.  A real-time scheduler on one CPU would not do: while one process
 * waits for the disk or for a channel, it lets another go on.
 *
 * Some programs cannot take turns this way: those that wait for something of the task's own and for a channel at once, and
 * those whose turns are very long.  Then all threads run side by side, as on any host, and the result is not certified.
 *
 * What must stay true: no other thread runs beside the one at work, so what that is found to wait for cannot come from
 * another thread before one is given the turn.  If a thread could be woken by two things (a signal while it waits for a
 * child) it is not left to chance which comes first: turns are given up. */
#include "sandbox/turns.h"
#include "base/fds.h"
#include "sandbox/server.h"
#include "sandbox/turns_member.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#ifndef PIDFD_THREAD
#define PIDFD_THREAD O_EXCL /* 6.9 */
#endif

struct member *turns_find(const struct turns *ts, pid_t pid)
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
    turns_ended(w->owner);
}

/* Before Linux 6.9 a thread has no pidfd and nothing tells of its end, so it is looked for (turns_pass.c). */
static int watch_end(struct member *m)
{
    char path[32];
    bool thread = m->pid != m->process;
    int fd = (int)syscall(SYS_pidfd_open, m->pid, thread ? PIDFD_THREAD : 0);
    if (fd >= 0 && watch_start(m->turns->task->region->server, &m->watch, fd, EPOLLIN) == 0)
        return 0;
    if (fd < 0 && errno == EINVAL && thread) {
        snprintf(path, sizeof path, "/proc/%d", (int)m->pid);
        m->place_fd = open(path, O_PATH | O_DIRECTORY | O_CLOEXEC);
        return m->place_fd < 0 ? -1 : 0;
    }
    fd_close(&fd);
    return -1;
}

/* Add a thread to the list; for the first thread of a process, pid is the process. */
static struct member *member_add(struct turns *ts, pid_t pid, pid_t process, enum state state)
{
    struct member **at = &ts->member, *m;
    uint32_t count = 0;
    for (; *at; at = &(*at)->next)
        count++;
    if (count >= TURNS_MEMBERS_MAX || !(m = calloc(1, sizeof *m)))
        return NULL;
    *m = (struct member){.turns = ts, .pid = pid, .process = process, .state = state, .place_fd = -1};
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
    watch_stop(m->turns->task->region->server, &m->watch);
    fd_close(&fd);
    fd_close(&m->place_fd);
    free(m);
}

void turns_let_go(struct member *m)
{
    if (m->stopped && ptrace(PTRACE_DETACH, m->pid, NULL, NULL) == 0)
        freeze_let_go(m->turns->task->region->server, m->pid);
    m->stopped = false;
}

/* Give up turns.  Threads that stop later are resumed by the code that gets their status. */
void turns_lose(struct turns *ts, const char *why)
{
    struct notify *n = ts->task->notify;
    if (ts->lost)
        return;
    ts->lost = true;
    notify_uncertified(n, why);
    turns_look_close(ts);
    for (struct member *m = ts->member, *next; m; m = next) {
        next = m->next;
        bool kills = m == ts->at_work && ts->kills;
        if (!kills)
            m->reply.go_on = m->waits == WAITS_FUTEX || m->waits == WAITS_POLL; /* from now on the kernel handles their waits */
        if (m->waits == WAITS_SLEEP || m->waits == WAITS_POLL)
            notify_pass_to(n, &m->asked, m->reply.due_ns);
        if (m->kept && (m != ts->at_work || kills))
            notify_send(n, &m->reply);
        if (m->written)
            turns_write_end(m);
        turns_let_go(m);
        beside_watch(ts, m->pid);
        if (m->pid == m->process)
            outside_follow(ts, m->pid, fcntl(m->watch.fd, F_DUPFD_CLOEXEC, 0));
        member_free(m);
    }
    ts->member = ts->at_work = NULL;
}

/* --- the end of threads and processes --- */

/* Does the end of the process m wake p? */
static bool wakes(const struct member *p, const struct member *m)
{
    return p->process == m->parent &&
           (p->waits == WAITS_SIGNAL || (p->waits == WAITS_CHILD && (p->child <= 0 || m->inner == p->child)));
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
    turns_futex_unused(m);
    member_free(m);
}

/* A thread has ended: give its turn to `next`, if there is one. */
static void pass_on(struct turns *ts, struct member *next, struct member *from)
{
    if (ts->lost)
        return;
    if (next)
        turns_give(next, from);
    else if (from && from->waits == WAITS_PIPE)
        turns_give(from, NULL); /* it waits for something from outside */
    else if (ts->member)
        turns_lose(ts, "processes wait for each other");
}

/* One of several threads of a process has ended. */
static void thread_ended(struct member *m)
{
    struct turns *ts = m->turns;
    struct member *first = turns_find(ts, m->process);
    bool at_work = ts->at_work == m, others = false;
    pid_t process = m->process;
    uint64_t clear_tid = m->clear_tid;
    forget(m);
    turns_futex_ended(ts, process, clear_tid);
    if (!at_work)
        return; /* killed by the one at work */
    for (struct member *o = ts->member; o; o = o->next)
        others |= o->process == process && o->waits != WAITS_END && !turns_dying(o);
    if (others || !first)
        pass_on(ts, turns_next(ts, NULL), NULL);
    else
        ts->at_work = first; /* the whole process is ending, and we will be told */
}

static void forget_threads(struct turns *ts, pid_t process)
{
    for (struct member *o = ts->member, *next; o; o = next) {
        next = o->next;
        if (o->process == process && o->pid != process)
            forget(o);
    }
}

static void process_ended(struct member *m)
{
    struct turns *ts = m->turns;
    struct member *woken = NULL, *other = NULL, *from = m->from;
    struct member *maker = m->state == STATE_SHARES ? turns_find(ts, m->maker) : NULL;
    bool at_work = ts->at_work && ts->at_work->process == m->process;
    outside_look(m);
    if (!turns_find(ts, m->parent))
        proc_state(m->pid, &m->parent); /* the parent has ended, too */
    for (struct member *o = ts->member; o; o = o->next) {
        if (o->parent == m->process && o->process != m->process)
            proc_state(o->pid, &o->parent); /* it has another parent now */
        if (wakes(o, m)) {
            if (woken)
                return turns_lose(ts, "two threads wait for the same process");
            woken = o;
        } else if (o->process == m->parent && o->waits == WAITS_CHILD) {
            other = o;
        }
    }
    forget_threads(ts, m->process);
    while (from && from->process == m->process)
        from = from->from;
    forget(m);
    turns_futex_ended(ts, 0, 0);
    ts->signals = ts->ended = true; /* its parent has got a signal */
    if (!at_work && !woken)
        return; /* killed by the one at work */
    if (!at_work && ts->at_work) {
        turns_lose(ts, "a process is woken while another is at work");
        return;
    }
    if (!woken && other && turns_takes_child_signal(other->process)) {
        turns_lose(ts, "a process is told of one child while it waits for another");
        return;
    }
    struct member *next = woken ? woken : maker;
    if (!next && from && from->waits == WAITS_PIPE && turns_wait_over(from))
        next = from;
    pass_on(ts, next ? next : turns_next(ts, from), from);
}

void turns_ended(struct member *m)
{
    struct turns *ts = m->turns;
    bool killed = m->killed;
    if (m->pid == m->process)
        process_ended(m);
    else
        thread_ended(m);
    if (killed)
        turns_signal_done(ts);
}

/* A vfork child has its program: its parent goes on.  If the parent was killed meanwhile, the child itself does. */
static void has_program(struct member *m)
{
    struct member *maker = turns_find(m->turns, m->maker);
    bool at_work = m->turns->at_work == m;
    m->state = maker || !at_work ? STATE_HELD : STATE_RUNS;
    if (maker && at_work)
        turns_give(maker, NULL);
    else if (m->state == STATE_HELD && !m->turns->looking)
        turns_look_begin(m->turns);
}

void turns_catch_up(struct turns *ts, pid_t asks)
{
    while (ts->at_work && ts->at_work->pid != asks) {
        struct member *m = ts->at_work;
        if (turns_has_ended(m))
            turns_ended(m);
        else if (m->state == STATE_SHARES && m->maker == asks)
            has_program(m);
        else
            return;
    }
}

/* --- calls that matter for turns --- */

static const char side_by_side[] = "its processes run side by side";

static void fork_ahead(struct turns *ts, const struct seccomp_notif *q)
{
    uint64_t flags = q->data.nr == SYS_clone ? q->data.args[0] : q->data.nr == SYS_vfork ? CLONE_VM | CLONE_VFORK : 0;
    int options = PTRACE_O_TRACEFORK | PTRACE_O_TRACEVFORK | PTRACE_O_TRACECLONE;
    pid_t pid = (pid_t)q->pid;
    ts->many = true;
    if (flags & (CLONE_UNTRACED | CLONE_PARENT) || (flags & CLONE_VM && !(flags & (CLONE_VFORK | CLONE_THREAD))))
        turns_lose(ts, "a process shares more with its child than a fork does");
    else if (ptrace(PTRACE_SEIZE, pid, NULL, options) < 0 && ts->forking != pid)
        turns_lose(ts, "a process's child cannot be held");
    ts->forking = pid;
    ts->thread = flags & CLONE_THREAD;
    ts->shares = flags & CLONE_VFORK && !ts->thread;
    ts->clear_tid = flags & CLONE_CHILD_CLEARTID && ts->thread ? q->data.args[3] : 0;
}

static bool wait_ahead(struct member *m, const struct seccomp_notif *q)
{
    bool id = q->data.nr == SYS_waitid, there = false, ended = false;
    uint32_t options = (uint32_t)q->data.args[id ? 3 : 2], kind = (uint32_t)q->data.args[0];
    int32_t number = (int32_t)q->data.args[id];
    if (id)
        number = kind == P_PID ? number : kind == P_ALL ? -1 : CHILD_UNSURE;
    m->child = number > 0 || number == -1 ? number : CHILD_UNSURE;
    m->call = turns_call_of(q);
    for (struct member *o = m->turns->member; o; o = o->next) {
        there |= o->pid == o->process && o->parent == m->process && (m->child < 0 || turns_inner(o) == m->child);
        ended |= o->process == m->process && turns_has_ended_child(m->process, o->pid, m->child);
    }
    if (!there || options & WNOHANG || m->child == CHILD_UNSURE || ended)
        return false; /* it will not wait, or we will see that it waits */
    turns_hand_over(m, WAITS_CHILD);
    return false;
}

static bool does(struct member *m, enum notify_turn what, const struct seccomp_notif *q, struct notify_reply *reply)
{
    switch (what) {
    case NOTIFY_FORKS:
        fork_ahead(m->turns, q);
        return false;
    case NOTIFY_WAITS:
        return wait_ahead(m, q);
    case NOTIFY_SIGNALS:
        turns_reaped(m->turns);
        return turns_signal(m, q, reply);
    case NOTIFY_NUMBERS:
        turns_reaped(m->turns);
        return false;
    case NOTIFY_PARENT: /* the one that gets the signal then would run beside the next one.  The task's init does not end */
        if (m->parent && m->parent != m->turns->task->init)
            notify_uncertified(m->turns->task->notify, "asks for a signal at its parent's end");
        return false;
    case NOTIFY_FUTEX:
        return turns_futex(m, q, reply);
    case NOTIFY_EXECS:
        if (m->pid != m->process) /* it takes the number of the first thread */
            turns_lose(m->turns, "a thread that is not its process's first starts a program");
        return false;
    case NOTIFY_POLLS:
        return turns_poll(m, q, reply);
    case NOTIFY_SLEEPS:
        return turns_keep(m, q, reply, WAITS_SLEEP);
    default:
        reply->go_on = false;
        return turns_idle(m, q, reply);
    }
}

/* A traced thread may have a pending signal that nobody takes; the kernel may look at one in another thread of its process,
 * whose wait it then begins again. */
static bool begins_again(const struct turns *ts, const struct seccomp_notif *q)
{
    const struct member *m = turns_find(ts, (pid_t)q->pid);
    struct call c = turns_call_of(q);
    return m && (m->waits == WAITS_CHILD || m->waits == WAITS_SIGNAL) && !memcmp(&m->call, &c, sizeof c);
}

static bool take_turn(struct turns *ts, enum notify_turn what, const struct seccomp_notif *q, struct notify_reply *reply)
{
    pid_t pid = (pid_t)q->pid;
    if (!ts->many && what == NOTIFY_POLLS)
        return turns_poll(&(struct member){.turns = ts, .pid = pid, .process = pid}, q, reply);
    if (!ts->many && what != NOTIFY_FORKS)
        return what == NOTIFY_FUTEX && turns_futex(NULL, q, reply);
    if (!ts->many) {
        ts->at_work = turns_look_open(ts) < 0 ? NULL : member_add(ts, pid, pid, STATE_RUNS);
        if (ts->at_work)
            ts->at_work->inner = turns_inner_number(pid);
    }
    turns_catch_up(ts, pid);
    if (ts->lost)
        return false;
    if (ts->at_work && ts->at_work->pid == pid)
        return does(ts->at_work, what, q, reply);
    if (begins_again(ts, q))
        return false;
    ts->many = true;
    turns_lose(ts, side_by_side);
    return false;
}

static const char not_started[] = "the host has started no process or thread where one was asked for";

/* Has the host refused to start the process or thread that was last asked for?  We know it has if the one that asked
 * (forking) makes another call, or if another one asks to fork, before we have heard of the new one.  But a fork may begin
 * again, because of a signal; and a new process that shares its maker's memory may make calls before we have heard of it. */
static bool was_refused(const struct turns *ts, enum notify_turn what, pid_t asks)
{
    const struct member *last = turns_find(ts, ts->forking);
    if (ts->lost || !ts->forking)
        return false;
    return ts->forking == asks ? what != NOTIFY_FORKS : what == NOTIFY_FORKS && !(last && last->waits == WAITS_MEMORY);
}

static bool on_turn(void *owner, enum notify_turn what, const struct seccomp_notif *q, struct notify_reply *reply)
{
    struct turns *ts = owner;
    if (was_refused(ts, what, (pid_t)q->pid))
        notify_uncertified(ts->task->notify, not_started);
    bool kept = !ts->lost && take_turn(ts, what, q, reply);
    if (ts->lost && what == NOTIFY_FORKS)
        beside_watch(ts, (pid_t)q->pid);
    if (ts->lost && (what == NOTIFY_FORKS || what == NOTIFY_WAITS || what == NOTIFY_EXECS))
        outside_asks(ts, (pid_t)q->pid);
    return kept;
}

/* --- stops of traced threads --- */

static void child_there(struct turns *ts, pid_t pid)
{
    struct member *maker = turns_find(ts, ts->forking), *m = NULL;
    if (turns_find(ts, pid))
        return;
    if (maker)
        m = member_add(ts, pid, ts->thread ? maker->process : pid, ts->shares ? STATE_SHARES : STATE_HELD);
    if (!m) {
        turns_lose(ts, "too many threads and processes at once");
        return;
    }
    m->parent = ts->thread ? maker->parent : maker->process;
    m->maker = maker->pid;
    m->clear_tid = ts->clear_tid;
    if (m->state == STATE_HELD) {
        turns_look_begin(ts);
    } else {
        maker->waits = WAITS_MEMORY;
        m->from = maker;
        ts->at_work = m;
    }
}

/* A new thread is stopped at its first instruction. */
static void begins(struct member *m)
{
    if (m->state == STATE_SHARES) {
        ptrace(PTRACE_SETOPTIONS, m->pid, NULL, PTRACE_O_TRACEEXEC);
        ptrace(PTRACE_CONT, m->pid, NULL, NULL);
        return;
    }
    m->stopped = true;
    if (m->state == STATE_RUNS) /* it has been given the turn already */
        turns_let_go(m);
}

static bool parent_stopped(struct turns *ts, pid_t pid, int event)
{
    unsigned long child;
    if (event != PTRACE_EVENT_FORK && event != PTRACE_EVENT_VFORK && event != PTRACE_EVENT_CLONE)
        return false;
    if (ptrace(PTRACE_GETEVENTMSG, pid, NULL, &child) == 0)
        child_there(ts, (pid_t)child);
    ts->forking = 0;
    if (ts->lost) /* turns were given up because of that child: it may have to stay traced (beside.c) */
        return false;
    ptrace(PTRACE_DETACH, pid, NULL, NULL);
    return true;
}

/* Find a new thread, whose stop may be told before its maker's. */
static struct member *find_new(struct turns *ts, pid_t pid)
{
    pid_t parent = 0;
    const struct member *maker = ts->forking ? turns_find(ts, ts->forking) : NULL;
    if (!maker)
        return NULL;
    proc_state(pid, &parent);
    if (ts->thread ? turns_process(pid) == maker->process : parent == maker->process)
        child_there(ts, pid);
    return turns_find(ts, pid);
}

static bool stopped_for(struct turns *ts, pid_t pid, int status)
{
    int event = status >> 16;
    if (pid == ts->forking && parent_stopped(ts, pid, event))
        return true;
    struct member *m = turns_find(ts, pid);
    if (!m && event == PTRACE_EVENT_STOP)
        m = find_new(ts, pid);
    if (!m)
        return false;
    if (m->interrupted && event == PTRACE_EVENT_STOP) {
        m->interrupted = false;
        m->stopped = true;
        turns_again(m);
        turns_write_stopped(m);
        if ((ts->at_work != m || turns_widen(m) || !turns_hand_over(m, WAITS_PIPE)) && !ts->lost)
            turns_let_go(m);
    } else if (!event && m->state == STATE_SHARES) {
        ptrace(PTRACE_CONT, pid, NULL, (void *)(intptr_t)WSTOPSIG(status));
    } else if (event == PTRACE_EVENT_EXEC && m->state == STATE_SHARES) {
        has_program(m);
        begins(m);
    } else if ((event == PTRACE_EVENT_STOP || event == PTRACE_EVENT_EXEC) && m->state != STATE_RUNS && !m->stopped) {
        begins(m);
    } else {
        return false; /* it is resumed by the code that does not want it */
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

/* --- a task's turns --- */

void turns_begin(struct task *t)
{
    struct server *s = t->region->server;
    struct turns *ts = calloc(1, sizeof *ts);
    if (!ts)
        return; /* then the result is not certified if there is a second process */
    ts->task = t;
    ts->look_watch = (struct watch){-1, NULL, ts};
    ts->next = s->turns;
    s->turns = ts;
    t->turns = ts;
    notify_turns(t->notify, on_turn, ts);
}

const char *turns_broken(const struct task *t)
{
    const struct turns *ts = t->turns;
    bool ended = t->finish_sent || t->past_output; /* then we have ended it, whatever it was about to do */
    return !ts || ts->lost ? side_by_side : ts->forking && !ended ? not_started : "";
}

void turns_free(struct task *t)
{
    struct turns **at = &t->region->server->turns, *ts = t->turns;
    if (!ts)
        return;
    while (*at != ts)
        at = &(*at)->next;
    *at = ts->next;
    turns_look_close(ts);
    for (struct member *m = ts->member, *next; m; m = next) {
        next = m->next;
        member_free(m);
    }
    outside_free(ts);
    free(ts);
    t->turns = NULL;
}
