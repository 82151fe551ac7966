/* What a task has used so far: reported when asked for, and compared with its limit of CPU time, and with the time that its
 * alarms have left.  RLIMIT_CPU counts each process by itself and in whole seconds.  Here the time of all processes of the task
 * is added up, and checked again when they could have used up the rest, so that long limits cost nothing. */
#include "base/fds.h"
#include "sandbox/server.h"
#include "sandbox/turns_member.h"
#include "sandbox/usage.h"

#include <sys/timerfd.h>
#include <unistd.h>

#define NS            1000000000ull
#define METER_LEAST_NS 10000000ull /* between two looks; the kernel counts in such steps */

static void meter_set(struct task *t, uint64_t left_ns)
{
    long cpus = sysconf(_SC_NPROCESSORS_ONLN);
    uint64_t ns = left_ns / (cpus > 0 ? (uint64_t)cpus : 1);
    if (ns < METER_LEAST_NS)
        ns = METER_LEAST_NS;
    struct itimerspec when = {.it_value = {(time_t)(ns / NS), (long)(ns % NS)}};
    timerfd_settime(t->meter_watch.fd, 0, &when, NULL);
}

static uint64_t used_ns(const struct task *t)
{
    struct usage u;
    uint64_t ns;
    if (cgroup_cpu_ns(t->cgroup, &ns))
        return ns;
    usage_look(t->init, &u);
    return u.cpu_ns;
}

/* How much CPU time until an alarm that the task has set rings; UINT64_MAX: none is set. */
static uint64_t alarm_left(struct task *t, uint64_t used)
{
    uint64_t left = t->notify ? notify_alarm(t->notify, used) : UINT64_MAX;
    if (left)
        return left;
    static const char why[] = "an alarm rings while a program computes";
    if (t->turns)
        turns_lose(t->turns, why); /* it wakes one beside the one at work */
    notify_uncertified(t->notify, why);
    notify_alarm_ring(t->notify, used);
    return notify_alarm(t->notify, used);
}

static void meter_look(struct task *t)
{
    uint64_t limit = t->region->spec.region.task[t->index].limit.cpu_ns, used = used_ns(t);
    if (limit && used >= limit) {
        task_kill(t, WIRE_WHY_CPU);
        return;
    }
    uint64_t left = limit ? limit - used : UINT64_MAX, alarm = alarm_left(t, used);
    if (alarm < left)
        left = alarm;
    if (left < UINT64_MAX)
        meter_set(t, left);
}

static void meter_event(struct watch *w, uint32_t events)
{
    struct task *t = w->owner;
    uint64_t count;
    (void)events;
    if (read(w->fd, &count, sizeof count) <= 0 || t->state != TASK_SETUP)
        return;
    t->meter_soon = false;
    meter_look(t);
}

static int meter_open(struct task *t)
{
    if (t->meter_watch.fd >= 0)
        return 0;
    int fd = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
    t->meter_watch = (struct watch){-1, meter_event, t};
    if (fd >= 0 && watch_start(t->region->server, &t->meter_watch, fd, EPOLLIN) == 0)
        return 0;
    fd_close(&fd);
    return -1;
}

int meter_start(struct task *t)
{
    uint64_t limit = t->region->spec.region.task[t->index].limit.cpu_ns;
    if (!limit)
        return 0;
    if (meter_open(t) < 0)
        return -1;
    meter_set(t, limit);
    return 0;
}

int meter_alarm(struct task *t)
{
    if (t->meter_soon)
        return 0;
    if (meter_open(t) < 0)
        return -1;
    t->meter_soon = true;
    meter_set(t, 0);
    return 0;
}

void look_region(struct server *s, struct region *r)
{
    for (uint32_t i = 0; r->started && i < r->spec.region.task_count; i++) {
        struct task *t = &r->task[i];
        struct usage u;
        if (t->init <= 0 || t->state != TASK_SETUP || outside_ends(t))
            continue;
        usage_look(t->init, &u);
        server_tell(s,
                    (struct wire){.kind = WIRE_BYTES, .region = r->id, .task = i, .offset = u.bytes_in,
                                  .size = u.bytes_out},
                    NULL, 0, NULL, 0);
    }
}
