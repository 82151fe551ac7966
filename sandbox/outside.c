/* Was a program ended from outside of the sandbox?  Signals between a task's own processes are notified to us.  The kernel
 * itself never sends SIGTERM, and sends SIGKILL only when memory is short or CPU time is used up.  So an end by one of these
 * that no process of the task asked for is a failure of the infrastructure: a person on this host, a program that ends
 * processes when memory is short, or a service that is stopped.  Not only the main program matters: a shell whose `sort`
 * was killed goes on, and its status says nothing of that.
 *
 * Of a task's other processes, only those that take turns are looked at. */
#include "sandbox/result.h"
#include "sandbox/server.h"
#include "sandbox/turns_member.h"

#include <signal.h>
#include <sys/wait.h>

static bool is_foreign(const struct task *t, int signal)
{
    return (signal == SIGKILL || signal == SIGTERM) && t->notify && !notify_sends(t->notify, signal);
}

static uint64_t cpu_limit_ns(const struct task *t)
{
    return t->region->spec.region.task[t->index].limit.cpu_ns;
}

void outside_look(struct member *m)
{
    struct task *t = m->turns->task;
    int status = t->finish_sent || t->killing || cpu_limit_ns(t) ? -1 : turns_status(m);
    if (!t->hit_by && status >= 0 && WIFSIGNALED(status) && is_foreign(t, WTERMSIG(status)))
        t->hit_by = WTERMSIG(status);
}

void outside_look_at_all(struct task *t)
{
    for (struct member *m = t->turns ? t->turns->member : NULL; m; m = m->next)
        if (m->pid == m->process && turns_has_ended(m))
            outside_look(m);
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
