/* A region's task in the server: messages of its init, calls of its program, and its end. */
#include "base/fds.h"
#include "sandbox/result.h"
#include "sandbox/server.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <unistd.h>

#define NS            1000000000ull
#define MADE_FDS_MAX  8192
#define LOOK_FIRST_NS 10000000ull  /* nothing tells when a process closes a file: look again after this time, */
#define LOOK_LAST_NS 1000000000ull /* which grows up to this */
#define ASKS_OFTEN   64 /* calls of a task from which on it is waited for by itself */
#define EMPTY_LOOKS  2             /* further looks after one that found nobody */

/* --- the end of a task --- */

void task_clear(struct task *t)
{
    struct server *s = t->region->server;
    template_await_not(t);
    template_leave(t);
    watch_stop(s, &t->watch);
    watch_stop(s, &t->notify_watch);
    watch_stop(s, &t->random_watch);
    struct watch *timer[] = {&t->timer_watch, &t->look_watch, &t->meter_watch};
    for (int i = 0; i < 3; i++) {
        int fd = timer[i]->fd;
        watch_stop(s, timer[i]);
        fd_close(&fd);
    }
    buf_clear(&t->trace);
    buf_clear(&t->result);
    turns_free(t);
    if (t->warm)
        notify_free(t->notify);
    else
        place_leave(s, &t->link, t->notify, t->cgroup, t->again ? &t->region->spec.region.task[t->index] : NULL);
    t->notify = NULL;
    t->cgroup = NULL;
}

/* Let the channels that it writes to end.  If the task did not end by itself, a channel that another program reads gets no
 * end: that program would take what came for all. */
static void end_written(struct task *t, bool named)
{
    const struct region *r = t->region;
    const struct box_task *plan = &r->spec.region.task[t->index];
    for (uint32_t i = 0; i < plan->port_count; i++) {
        const struct box_port *p = &plan->port[i];
        bool read = p->channel >= 0 && r->spec.channel[p->channel].reader >= 0;
        if (p->channel >= 0 && p->write && (named || !p->name) && !(t->broken && read))
            channel_writer_ended(&r->channel[p->channel]);
    }
}

/* No process of the task is left: give up its sides of the channels. */
static void task_ended(struct task *t)
{
    struct region *r = t->region;
    const struct box_task *plan = &r->spec.region.task[t->index];
    left_look(t);
    freeze_task_gone(r->server, t);
    end_written(t, true);
    for (uint32_t i = 0; i < plan->port_count; i++)
        if (plan->port[i].name && plan->port[i].channel >= 0 && !plan->port[i].write)
            channel_handed_out(&r->channel[plan->port[i].channel], false);
    for (uint32_t i = 0; i < r->spec.region.channel_count; i++) {
        struct channel *c = &r->channel[i];
        if (r->spec.channel[i].writer == (int32_t)t->index)
            channel_writer_left(c);
        /* If the reader was killed, its writer will be killed, too, and must not see a broken pipe before that. */
        if (r->spec.channel[i].reader == (int32_t)t->index && !(t->broken && r->spec.channel[i].writer >= 0))
            channel_reader_left(c);
    }
    t->ended = true;
    left_settle(t);
}

/* Does it read bytes as they arrive?  Then their timing shows. */
static bool reads_lines(const struct task *t)
{
    const struct region *r = t->region;
    for (uint32_t i = 0; i < r->spec.region.channel_count; i++)
        if (r->spec.channel[i].reader == (int32_t)t->index && r->spec.region.channel[i].lines)
            return true;
    return false;
}

/* Its program runs, or never will: the next task is set up by region_start_more, when this event is done. */
static void task_begun(struct task *t)
{
    if (t->starting)
        t->region->server->starting--;
    t->starting = false;
}

/* Was it ended at a moment that differs between runs?  Then how far it came differs, too. */
static const char *ended_by_chance(const struct box_result *r)
{
    if (r->end == BOX_LIMIT && (!strcmp(r->limit, "timeout") || !strcmp(r->limit, "cpu")))
        return "a limit of time ended it";
    return r->end == BOX_KILLED ? "it was stopped" : "";
}

static void tell_result(struct task *t, struct box_result *r)
{
    struct buf b = BUF_INIT(WIRE_DATA_MAX);
    struct notify_report report = {.uncertified_why = "", .limit_hit = "", .unknown = ""};
    char cgroup[CGROUP_TEXT_MAX];
    const char *why = t->uncertified_why;
    if (t->notify)
        notify_report(t->notify, &report);
    if (t->region->server->none)
        why = "no isolation";
    if (!why)
        why = *report.uncertified_why ? report.uncertified_why
              : *t->region->server->unusual ? t->region->server->unusual
              : reads_lines(t)        ? "its input is passed on as it arrives"
                                      : turns_broken(t);
    /* A program that was refused something because of a limit, but ended well, has not met that limit. */
    bool failed = r->end == BOX_SIGNALLED || (r->end == BOX_EXITED && r->status);
    if (failed && *report.limit_hit) {
        r->end = BOX_LIMIT;
        r->limit = report.limit_hit;
    }
    if (!*why)
        why = ended_by_chance(r);
    if (!*why)
        why = left_why(t, r);
    r->uncertified_why = why;
    r->cold_why = t->warm ? "" : t->cold_why ? t->cold_why : "it was not started";
    r->clock_ns = report.clock_ns;
    r->calls = report.calls;
    r->unknown_calls = report.unknown;
    cgroup_report(&t->region->server->cgroups, t->cgroup, cgroup, r);
    trace_phase(t, "ended");
    trace_flush(t);
    result_pack(&b, r);
    struct err e;
    if (buf_check(&b, "a task's result", &e) < 0)
        server_lose(t->region->server, &e);
    else
        server_tell(t->region->server,
                    (struct wire){.kind = WIRE_RESULT, .region = t->region->id, .task = t->index},
                    b.data, b.size, NULL, 0);
    buf_clear(&b);
    t->state = TASK_RESULT;
    task_begun(t);
    if (t->asked && !t->warm)
        place_answered(t->region->server, &t->region->spec.region.task[t->index]);
}

/* Note whether the task broke; must be called before its channels are dealt with. */
static void task_broke(struct task *t, enum box_end end)
{
    t->broken = end == BOX_FAILED || end == BOX_KILLED;
    t->region->failed |= end == BOX_FAILED;
    t->region->server->failed |= end == BOX_FAILED;
}

static void tell_init(struct task *t, struct wire head)
{
    if (t->warm) {
        template_tell(t, head);
    } else if (t->link.fd >= 0) {
        link_send(&t->link, head, NULL, 0, NULL, 0);
        link_watch(t->region->server, &t->link, &t->watch);
    }
}

void task_failed_as(struct task *t, enum box_end end, const char *text, int sys)
{
    if (t->state != TASK_SETUP)
        return;
    t->uncertified_why = "the sandbox failed";
    task_broke(t, end);
    tell_result(t, &(struct box_result){.end = end, .sys = sys, .text = text});
    tell_init(t, (struct wire){.kind = WIRE_KILL, .a = WIRE_WHY_STOP});
    task_ended(t);
}

void task_failed(struct task *t, const char *text, int sys)
{
    task_failed_as(t, BOX_FAILED, text, sys);
}

/* Is the kernel still ending processes of a task whose init was killed?  It closes the init's descriptors before it kills
 * the processes below.  Until they are dead their calls must be answered, or they would learn that a call does not exist.
 * A clone's listener belongs to its template, which goes on to answer. */
static bool still_dies(struct task *t)
{
    struct pollfd p = {.fd = t->notify_watch.fd, .events = POLLIN};
    if (t->state != TASK_SETUP || !t->notify || t->warm || p.fd < 0 || (poll(&p, 1, 0) > 0 && (p.revents & POLLHUP)))
        return false;
    watch_stop(t->region->server, &t->watch);
    return t->dying = true; /* notify_event sees the end */
}

void task_gone(struct task *t)
{
    struct region *r = t->region;
    if (t->state == TASK_GONE)
        return;
    if (t->result.size && t->state == TASK_SETUP) {
        t->gone = true;
        return;
    }
    if (still_dies(t))
        return;
    if (t->state == TASK_SETUP && t->used_again && !t->notify)
        place_again_went(r->server, false);
    if (t->state == TASK_SETUP && cgroup_ran_out(t->cgroup))
        task_failed(t, "its processes together needed more memory than its cgroup has, and the kernel ended them; allow more memory", ENOMEM);
    task_failed(t, "the task's first process was killed", 0);
    t->state = TASK_GONE;
    task_begun(t);
    task_clear(t);
    r->tasks_left--;
    region_settle(r);
}

static void look_event(struct watch *w, uint32_t events)
{
    struct task *t = w->owner;
    uint64_t count;
    (void)events;
    if (read(w->fd, &count, sizeof count) <= 0)
        return;
    t->empty_looks++;
    task_heard(t);
}

static void look_later(struct task *t)
{
    if (t->look_watch.fd < 0) {
        int fd = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
        if (fd < 0 || watch_start(t->region->server, &t->look_watch, fd, EPOLLIN) < 0) {
            fd_close(&fd);
            return;
        }
        t->look_ns = LOOK_FIRST_NS;
    }
    struct itimerspec when = {.it_value = {(time_t)(t->look_ns / NS), (long)(t->look_ns % NS)}};
    timerfd_settime(t->look_watch.fd, 0, &when, NULL);
    t->look_ns = t->look_ns * 2 < LOOK_LAST_NS ? t->look_ns * 2 : LOOK_LAST_NS;
}

/* May a process of the task still write to a descriptor of the caller?  While a process goes away, the kernel's list of
 * children leaves out some, so only several looks that find nobody count. */
static bool may_write(struct task *t)
{
    if (!task_passes_outputs(t))
        return false;
    if (!task_holds_outputs(t))
        return t->empty_looks < EMPTY_LOOKS;
    t->empty_looks = 0;
    return true;
}

void task_heard(struct task *t)
{
    struct region *r = t->region;
    if (!t->main_ended || t->finish_sent || t->state != TASK_SETUP)
        return;
    for (uint32_t i = 0; i < r->spec.region.channel_count; i++)
        if (r->spec.channel[i].writer == (int32_t)t->index && !r->channel[i].reader_gone &&
            !channel_writer_hung_up(&r->channel[i]))
            return;
    if (may_write(t)) {
        look_later(t);
        return;
    }
    outside_look_at_all(t); /* what ends after this its init has ended */
    t->finish_sent = true;
    tell_init(t, (struct wire){.kind = WIRE_FINISH});
}

void task_hangup_event(struct watch *w, uint32_t events)
{
    struct channel *c = w->owner;
    struct region *r = c->region;
    (void)events;
    watch_stop(r->server, w);
    task_heard(&r->task[r->spec.channel[c->index].writer]);
}

/* The program has ended, but others of its tree may still write.  Like a shell's pipeline, wait until nobody holds a
 * writing end. */
static void task_main_ended(struct task *t)
{
    struct region *r = t->region;
    t->main_ended = true;
    end_written(t, false);
    task_heard(t);
    for (uint32_t i = 0; !t->finish_sent && i < r->spec.region.channel_count; i++) {
        struct channel *c = &r->channel[i];
        if (r->spec.channel[i].writer == (int32_t)t->index && c->held >= 0 &&
            !channel_writer_hung_up(c) && c->hangup_watch.fd < 0)
            watch_start(r->server, &c->hangup_watch, c->held, EPOLLRDHUP | EPOLLET);
    }
    task_heard(t);
}

/* --- messages and calls of the task --- */

/* Tell notify.c which of its descriptors are the caller's own. */
int task_give_files(struct task *t, const struct box_task *plan, struct err *e)
{
    int fd[SPEC_PORTS_MAX];
    uint32_t count = 0;
    for (uint32_t i = 0; i < plan->port_count; i++)
        if (plan->port[i].channel < 0 && plan->port[i].file >= 0)
            fd[count++] = t->region->fd[plan->port[i].file];
    return notify_give(t->notify, fd, count, e);
}

/* Tell notify.c what it may open by name; we keep those descriptors until its end. */
static int name_ports(struct task *t, const struct box_task *plan, struct err *e)
{
    const struct region *r = t->region;
    for (uint32_t i = 0; i < plan->port_count; i++) {
        const struct box_port *p = &plan->port[i];
        int fd = p->channel < 0 ? (p->file < 0 ? -1 : r->fd[p->file])
                 : p->write     ? r->channel[p->channel].write_end
                                : r->channel[p->channel].read_end;
        if (p->name && notify_name(t->notify, p->name, fd, p->write, p->quota, e) < 0)
            return -1;
    }
    return 0;
}

/* Has the task read or written a byte?  A file of the caller's shows that by its offset.  A pipe of the caller's does not
 * show it, and counts as used.  Output to stderr does not count. */
bool task_uses(void *owner)
{
    const struct task *t = owner;
    const struct region *r = t->region;
    const struct box_task *plan = &r->spec.region.task[t->index];
    bool used = false;
    for (uint32_t i = 0; !used && i < plan->port_count; i++) {
        const struct box_port *p = &plan->port[i];
        if (p->write && p->fd == 2)
            continue;
        if (p->channel >= 0)
            used = (p->write ? channel_written_to : channel_read_from)(&r->channel[p->channel]);
        else if (p->file >= 0)
            used = lseek(r->fd[p->file], 0, SEEK_CUR) != r->stood[p->file];
    }
    return used;
}

void task_take_listener(struct task *t, int fd)
{
    struct server *s = t->region->server;
    const struct box_task *plan = &t->region->spec.region.task[t->index];
    struct err e;
    task_begun(t);
    if (t->notify) {
        fd_close(&fd);
        return;
    }
    if (fd < 0 && (errno == EBADF || errno == ESRCH))
        return; /* there was no program to start, and the process that looked for it is gone: its init reports that */
    if (fd >= 0 && t->used_again)
        place_again_went(s, true);
    int r = fd < 0 ? err_sys(&e, "cannot take over a program's system calls") : 0;
    if (r == 0)
        t->notify = notify_new(fd, plan->seed, plan->stream, plan->epoch_s, &e);
    if (r < 0 || !t->notify || task_give_files(t, plan, &e) < 0 || name_ports(t, plan, &e) < 0 ||
        (watch_start(s, &t->notify_watch, notify_fd(t->notify), EPOLLIN) < 0 &&
         err_sys(&e, "cannot wait for a program's system calls") < 0)) {
        notify_free(t->notify);
        t->notify = NULL;
        task_failed(t, e.text, e.sys);
        place_kill(&t->link, t->init); /* it holds the listener too, and waits for its program's exec, which nobody answers */
        return;
    }
    notify_limit(t->notify, &plan->limit, t->init);
    if (!place_watches(plan))
        notify_unwatched(t->notify);
    if (reads_lines(t))
        notify_live(t->notify);
    notify_uses(t->notify, task_uses, t);
    if (t->unasked)
        notify_began(t->notify);
    turns_begin(t);
    if (plan->trace)
        notify_trace(t->notify, trace_call, t);
    trace_phase(t, "filter in place, program begins");
}

static bool is_drained(const struct task *t)
{
    const struct region *r = t->region;
    for (uint32_t i = 0;
         r->spec.region.task[t->index].limit.output_bytes && i < r->spec.region.channel_count; i++)
        if (r->spec.channel[i].writer == (int32_t)t->index && r->channel[i].pump)
            return false;
    return true;
}

static uint64_t less(uint64_t all, uint64_t before)
{
    return all > before ? all - before : 0;
}

static int result_of(const struct task *t, const char *data, size_t size, struct box_result *r)
{
    if (result_unpack(data, size, r) < 0)
        return -1;
    r->cpu_user_ns = less(r->cpu_user_ns, t->before_user_ns);
    r->cpu_sys_ns = less(r->cpu_sys_ns, t->before_sys_ns);
    return 0;
}

void task_conclude(struct task *t)
{
    struct box_result r;
    if (t->state != TASK_SETUP || !t->result.size || !is_drained(t))
        return;
    bool makes_sense = result_of(t, t->result.data, t->result.size, &r) == 0;
    if (makes_sense && left_waits(t, &r))
        return;
    if (!makes_sense) {
        task_failed(t, "the task's first process made no sense", 0);
    } else {
        if (t->warm)
            r.wall_ns = trace_age_ns(t);
        if (t->past_output) {
            r.end = BOX_LIMIT;
            r.limit = "output";
        }
        outside_judge(t, &r);
        tell_result(t, &r);
    }
    task_gone(t);
}

void task_drained(struct task *t, bool past)
{
    t->past_output |= past;
    if (past)
        task_kill(t, WIRE_WHY_OUTPUT);
    task_conclude(t);
}

void task_has_init(struct task *t, pid_t init)
{
    t->init = init;
    if (t->warm) {
        notify_limit(t->notify, &t->region->spec.region.task[t->index].limit, init);
        task_begun(t);
    }
    freeze_look(t->region->server); /* the reader of one of its channels may have left already */
    trace_phase(t, "first process there");
}

void task_take(struct task *t, struct wire_packet *p)
{
    struct server *s = t->region->server;
    struct wire h = p->head;
    h.region = t->region->id;
    h.task = t->index;
    switch (h.kind) {
    case WIRE_HELLO:
        task_has_init(t, p->from);
        if (!t->warm)
            place_said(s, &t->cgroup, &h);
        break;
    case WIRE_LISTENER:
        task_take_listener(t, place_listener(&t->link, p));
        break;
    case WIRE_MAIN:
        trace_phase(t, "program ended, others of its go on");
        task_main_ended(t);
        break;
    case WIRE_MADE:
        t->made += h.a;
        if (t->made <= MADE_FDS_MAX)
            server_tell(s, h, p->data, p->size, p->fd, p->fd_count);
        break;
    case WIRE_RESULT:
        t->again = !t->warm && h.a == WIRE_STAYS;
        template_served(t, (enum wire_stays)h.a);
        if (t->state == TASK_SETUP) {
            struct err e;
            struct box_result end;
            if (result_of(t, p->data, p->size, &end) < 0)
                end = (struct box_result){.end = BOX_FAILED};
            outside_judge(t, &end);
            task_broke(t, end.end);
            buf_add(&t->result, p->data, p->size);
            if (buf_check(&t->result, "a task's result", &e) < 0) {
                server_lose(s, &e);
                break;
            }
            task_ended(t);
            task_conclude(t);
        } else {
            task_gone(t);
        }
        break;
    case WIRE_FAILED:
        task_failed(t, p->data, (int)h.b);
        break;
    default:
        break;
    }
}

static void task_event(struct watch *w, uint32_t events)
{
    struct task *t = w->owner;
    struct server *s = t->region->server;
    if ((events & EPOLLOUT) && link_flush(&t->link) == 0)
        link_watch(s, &t->link, w);
    if (!(events & (EPOLLIN | EPOLLHUP)))
        return;
    int n = wire_receive(t->link.fd, &s->packet, MSG_DONTWAIT);
    if (n < 0 && errno == EAGAIN)
        return;
    if (n > 0)
        task_take(t, &s->packet);
    wire_close_fds(&s->packet);
    if (n <= 0)
        task_gone(t);
}

void task_calls(struct task *t, struct watch *w, uint32_t events)
{
    struct server *s = t->region->server;
    struct err e;
    if ((w == &t->random_watch ? notify_serve(t->notify, &e) : notify_answer(t->notify, (short)events, &e)) < 0) {
        watch_stop(s, w);
        watch_stop(s, &t->notify_watch);
        watch_stop(s, &t->random_watch);
        if (t->dying)
            task_gone(t);
        return;
    }
    if (w == &t->notify_watch && (t->calls == ASKS_OFTEN || ++t->calls == ASKS_OFTEN))
        s->asking = w;
    if (notify_alarm_new(t->notify) && meter_alarm(t) < 0)
        notify_uncertified(t->notify, "its alarms cannot be followed");
    int random = notify_random_fd(t->notify);
    if (random >= 0 && t->random_watch.fd < 0)
        watch_start(s, &t->random_watch, random, EPOLLIN);
}

static void notify_event(struct watch *w, uint32_t events)
{
    task_calls(w->owner, w, events);
}

void task_kill(struct task *t, enum wire_why why)
{
    if (t->state != TASK_SETUP || !t->asked || t->dying || t->result.size)
        return;
    outside_look_at_all(t);
    t->killing = true;
    tell_init(t, (struct wire){.kind = WIRE_KILL, .a = why});
}

static void timer_event(struct watch *w, uint32_t events)
{
    struct task *t = w->owner;
    uint64_t count;
    (void)events;
    if (read(w->fd, &count, sizeof count) > 0)
        task_kill(t, WIRE_WHY_TIMEOUT);
}

int task_start_timer(struct task *t, uint64_t ns)
{
    struct itimerspec when = {.it_value = {(time_t)(ns / NS), (long)(ns % NS)}};
    if (!ns)
        return 0;
    int fd = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
    if (fd < 0 || timerfd_settime(fd, 0, &when, NULL) < 0 ||
        watch_start(t->region->server, &t->timer_watch, fd, EPOLLIN) < 0) {
        fd_close(&fd);
        return -1;
    }
    return 0;
}

void task_unasked(struct task *t)
{
    if (t->state == TASK_GONE)
        return;
    t->state = TASK_GONE;
    task_begun(t);
    task_clear(t);
    t->region->tasks_left--;
}

void task_init(struct task *t, struct region *r, uint32_t index)
{
    *t = (struct task){
        .region = r, .index = index, .link = LINK_INIT, .result = BUF_INIT(WIRE_DATA_MAX)};
    t->watch = (struct watch){-1, task_event, t};
    t->notify_watch = (struct watch){-1, notify_event, t};
    t->random_watch = (struct watch){-1, notify_event, t};
    t->timer_watch = (struct watch){-1, timer_event, t};
    t->look_watch = (struct watch){-1, look_event, t};
    t->meter_watch.fd = -1;
}
