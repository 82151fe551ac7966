/* What a task has used so far: reported when asked for, and compared with its limit of CPU time.  RLIMIT_CPU counts each
 * process by itself and in whole seconds.  Here the time of all processes of the task is added up, and checked again when
 * they could have used up the rest, so that long limits cost nothing. */
#include "base/fds.h"
#include "sandbox/server.h"
#include "sandbox/usage.h"

#include <sys/timerfd.h>
#include <unistd.h>

#define NS            1000000000ull
#define METER_LEAST_NS 10000000ull /* between two looks; the kernel counts in such steps */

static void meter_set(struct task *t, uint64_t used_ns)
{
    const struct box_task *plan = &t->region->spec.region.task[t->index];
    long cpus = sysconf(_SC_NPROCESSORS_ONLN);
    uint64_t left = (plan->limit.cpu_ns - used_ns) / (cpus > 0 ? (uint64_t)cpus : 1);
    if (left < METER_LEAST_NS)
        left = METER_LEAST_NS;
    struct itimerspec when = {.it_value = {(time_t)(left / NS), (long)(left % NS)}};
    timerfd_settime(t->meter_watch.fd, 0, &when, NULL);
}

void meter_event(struct watch *w, uint32_t events)
{
    struct task *t = w->owner;
    struct usage u;
    uint64_t count, used_ns;
    (void)events;
    if (read(w->fd, &count, sizeof count) <= 0 || t->state != TASK_SETUP)
        return;
    if (!cgroup_cpu_ns(t->cgroup, &used_ns)) {
        usage_look(t->init, &u);
        used_ns = u.cpu_ns;
    }
    if (used_ns >= t->region->spec.region.task[t->index].limit.cpu_ns)
        task_kill(t, WIRE_WHY_CPU);
    else
        meter_set(t, used_ns);
}

int meter_start(struct task *t)
{
    if (!t->region->spec.region.task[t->index].limit.cpu_ns)
        return 0;
    int fd = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
    if (fd < 0 || watch_start(t->region->server, &t->meter_watch, fd, EPOLLIN) < 0) {
        fd_close(&fd);
        return -1;
    }
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
