/* A server stays on one CPU with the processes below it while only one of them has something to do at a time.
 *
 * A task of a few hundred microseconds is a dozen hand-overs between this server, its init, its template and the program; and
 * so is what a shell does with each small program, when processes of a task take turns (turns.c).  A second CPU gains nothing
 * then, but to wake it costs more than what it is woken for (most of all on a virtual machine, where that leaves the guest).
 * The kernel cannot know this.  So a lane stays on one CPU while its tasks are short, and any other server while it has one
 * task, whose processes take turns.
 *
 * Which CPU is best is the kernel's decision, and others may come to need that one.  So we let go every few moments,
 * for as long as some events take, and stay wherever the kernel has put us by then.  While a lane's task takes longer than a
 * moment nothing is held, as then it matters more that each process finds a free CPU; likewise while turns are long, or are
 * given up. */
#include "sandbox/turns_member.h"
#include "sandbox/server.h"
#include "sandbox/usage.h"

#include <sched.h>
#include <stdlib.h>
#include <sys/timerfd.h>
#include <unistd.h>

#define LET_GO_EVENTS  16          /* events after which the kernel has chosen */
#define HOLD_FIRST_NS  5000000u    /* the first times are short, since all lanes may have begun on the same CPU, */
#define HOLD_MOST_NS   320000000u  /* and each is twice as long as the one before it */
#define LONG_NS        20000000u   /* a task that takes longer is not short */

/* A lane's pumps come with it; beside a task that takes turns they may use the other CPUs.  What is begun at this moment by one
 * that was not moved yet comes with the next time; and when they are let go nobody is to be left behind, so that is done twice. */
static void move_all(const struct server *s, const cpu_set_t *to, int times)
{
    pid_t *tid;
    sched_setaffinity(0, sizeof *to, to);
    while (times-- > 0) {
        uint32_t count = usage_count(s->lane.is_lane ? getpid() : s->zygote.pid, &tid);
        for (uint32_t i = 0; tid && i < count; i++)
            sched_setaffinity(tid[i], sizeof *to, to); /* it may be gone */
        free(tid);
    }
}

static void let_go(struct server *s)
{
    struct lane *l = &s->lane;
    if (l->held)
        move_all(s, &l->cpus, 2);
    l->held = false;
    l->events = 0;
}

static void let_go_event(struct watch *w, uint32_t events)
{
    uint64_t count;
    (void)events;
    if (read(w->fd, &count, sizeof count) > 0)
        let_go(w->owner);
}

static bool all_short(const struct server *s)
{
    for (const struct region *r = s->region; r; r = r->next)
        for (uint32_t i = 0; i < r->next_task; i++)
            if (r->task[i].state == TASK_SETUP && trace_age_ns(&r->task[i]) > LONG_NS)
                return false;
    return true;
}

/* Is there one task alone, and do its processes take turns? */
static bool takes_turns(const struct server *s)
{
    const struct turns *ts = s->turns;
    return ts && !ts->next && ts->many && !ts->lost;
}

void lane_passed(struct server *s)
{
    s->lane.events += !s->lane.is_lane;
}

void lane_tend(struct server *s)
{
    struct lane *l = &s->lane;
    if (l->timer.fd < 0)
        return;
    if (l->held && !l->is_lane && !takes_turns(s))
        let_go(s);
    l->events += l->is_lane;
    if (l->held || l->events < LET_GO_EVENTS || !(l->is_lane ? s->region && all_short(s) : takes_turns(s)))
        return;
    struct itimerspec when = {.it_value.tv_nsec = l->hold_ns};
    int cpu = sched_getcpu();
    cpu_set_t one;
    if (cpu < 0 || timerfd_settime(l->timer.fd, 0, &when, NULL) < 0)
        return;
    CPU_ZERO(&one);
    CPU_SET(cpu, &one);
    l->held = true;
    l->hold_ns = 2 * l->hold_ns < HOLD_MOST_NS ? 2 * l->hold_ns : HOLD_MOST_NS;
    move_all(s, &one, 1);
}

int lane_start(struct server *s, bool is_lane, struct err *e)
{
    struct lane *l = &s->lane;
    l->is_lane = is_lane;
    if (sched_getaffinity(0, sizeof l->cpus, &l->cpus) < 0 || CPU_COUNT(&l->cpus) < 2)
        return 0; /* it is on one CPU anyway, or on more than a cpu_set_t has */
    int fd = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
    l->timer = (struct watch){-1, let_go_event, s};
    l->hold_ns = HOLD_FIRST_NS;
    return fd < 0 || watch_start(s, &l->timer, fd, EPOLLIN) < 0 ? err_sys(e, "cannot make a timer") : 0;
}
