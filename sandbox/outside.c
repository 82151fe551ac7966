/* Was a program ended from outside of the sandbox?  Signals between a task's own processes are notified to us.  The kernel
 * itself never sends SIGTERM, and sends SIGKILL only when memory is short or CPU time is used up.  So an end by one of these
 * that no process of the task asked for is a failure of the infrastructure: a person on this host, a program that ends
 * processes when memory is short, or a service that is stopped.  Not only the main program matters: a shell whose `sort`
 * was killed goes on, and its status says nothing of that.
 *
 * So all processes of a task are known.  Those that take turns are members of its turns (turns.c).  When turns are given up
 * each that is left is followed by a pidfd, and others are added when they start a program, and when their parent starts another
 * process or is about to wait: only then could one be gone before we have seen it.  Missed is one that is killed before its
 * program begins while its parent waits already, in another thread, or ignores the ends of its children. */
#include "base/fds.h"
#include "sandbox/children.h"
#include "sandbox/result.h"
#include "sandbox/server.h"
#include "sandbox/turns_member.h"

#include <signal.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

struct seen {
    struct watch watch; /* its pidfd */
    struct turns *turns;
    pid_t pid;
    struct seen *next;
};

static bool is_foreign(const struct task *t, int signal)
{
    return (signal == SIGKILL || signal == SIGTERM) && t->notify && !notify_sends(t->notify, signal);
}

static uint64_t cpu_limit_ns(const struct task *t)
{
    return t->region->spec.region.task[t->index].limit.cpu_ns;
}

static void look(struct task *t, pid_t pid, int fd)
{
    int status = t->hit_by || t->finish_sent || t->killing || cpu_limit_ns(t) ? -1 : turns_status(pid, fd);
    if (status >= 0 && WIFSIGNALED(status) && is_foreign(t, WTERMSIG(status)))
        t->hit_by = WTERMSIG(status);
}

void outside_look(struct member *m)
{
    look(m->turns->task, m->pid, m->watch.fd);
}

void outside_look_at_all(struct task *t)
{
    for (struct member *m = t->turns ? t->turns->member : NULL; m; m = m->next)
        if (m->pid == m->process)
            outside_look(m);
    for (struct seen *s = t->turns ? t->turns->seen : NULL; s; s = s->next)
        look(t, s->pid, s->watch.fd);
}

static void forget(struct seen *s)
{
    struct turns *ts = s->turns;
    struct seen **at = &ts->seen;
    int fd = s->watch.fd;
    while (*at != s)
        at = &(*at)->next;
    *at = s->next;
    ts->seen_count--;
    watch_stop(ts->task->region->server, &s->watch);
    fd_close(&fd);
    free(s);
}

static void seen_ended(struct watch *w, uint32_t events)
{
    struct seen *s = w->owner;
    (void)events;
    look(s->turns->task, s->pid, w->fd);
    forget(s);
}

void outside_follow(struct turns *ts, pid_t pid, int fd)
{
    struct seen *s = fd >= 0 && ts->seen_count < TURNS_MEMBERS_MAX ? calloc(1, sizeof *s) : NULL;
    if (!s) {
        fd_close(&fd);
        return;
    }
    *s = (struct seen){.watch = {-1, seen_ended, s}, .turns = ts, .pid = pid, .next = ts->seen};
    if (watch_start(ts->task->region->server, &s->watch, fd, EPOLLIN) < 0) {
        fd_close(&fd);
        free(s);
        return;
    }
    ts->seen = s;
    ts->seen_count++;
}

static bool follow_process(void *owner, pid_t pid)
{
    struct turns *ts = owner;
    const struct seen *s = ts->seen;
    while (s && s->pid != pid)
        s = s->next;
    if (!s)
        outside_follow(ts, pid, (int)syscall(SYS_pidfd_open, pid, 0));
    return false;
}

void outside_asks(struct turns *ts, pid_t thread)
{
    pid_t process = turns_process(thread);
    if (!process)
        return;
    follow_process(ts, process);
    children_each(process, follow_process, ts);
}

void outside_free(struct turns *ts)
{
    while (ts->seen)
        forget(ts->seen);
}

bool outside_ends(struct task *t)
{
    outside_look_at_all(t);
    if (t->hit_by && !t->hit_killed) {
        t->hit_killed = true;
        task_kill(t, WIRE_WHY_STOP);
    }
    return t->hit_by != 0;
}

void outside_judge(struct task *t, struct box_result *r)
{
    bool past = cpu_limit_ns(t) && r->cpu_user_ns + r->cpu_sys_ns >= cpu_limit_ns(t);
    if (r->end != BOX_EXITED && r->end != BOX_SIGNALLED && !(r->end == BOX_KILLED && t->hit_killed))
        return;
    outside_look_at_all(t); /* the result may come before we are told of an earlier end */
    if (!t->hit_by && r->end == BOX_SIGNALLED && !past && is_foreign(t, r->signal))
        t->hit_by = r->signal;
    if (!t->hit_by)
        return;
    r->end = BOX_FAILED;
    r->text = t->hit_by == SIGKILL ? "a process of it was killed from outside, by somebody on this host or by the kernel for want of memory"
                                   : "a process of it was sent SIGTERM from outside, by somebody on this host";
}
