/* Regions and their tasks in the server: from the request to the last trace of it. */
#include "base/fds.h"
#include "sandbox/forker.h"
#include "sandbox/result.h"
#include "sandbox/server.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/timerfd.h>
#include <unistd.h>

#define NS 1000000000ull
#define MADE_FDS_MAX 8192
#define LOOK_FIRST_NS 10000000ull   /* nothing tells when a process closes a file: look again after */
#define LOOK_LAST_NS  1000000000ull /* so long at first, and at most so long */
#define EMPTY_LOOKS   2             /* more, after one that found nobody */

static void task_event(struct watch *w, uint32_t events);
static void hangup_event(struct watch *w, uint32_t events);
static void notify_event(struct watch *w, uint32_t events);
static void timer_event(struct watch *w, uint32_t events);

struct region *region_find(struct server *s, uint64_t id)
{
    struct region *r = s->region;
    while (r && r->id != id)
        r = r->next;
    return r;
}

void region_settle(struct region *r)
{
    if (!r->started || r->tasks_left || r->pumps_left)
        return;
    struct server *s = r->server;
    uint64_t id = r->id;
    region_free(r);
    server_tell(s, (struct wire){.kind = WIRE_REGION, .region = id}, NULL, 0, NULL, 0);
}

/* --- the end of a task --- */

static void task_release(struct task *t)
{
    struct server *s = t->region->server;
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
    if (t->warm) {
        notify_free(t->notify);
        link_clear(&t->link);
    } else {
        place_leave(s, &t->link, t->notify);
    }
    t->notify = NULL;
}

void region_free(struct region *r)
{
    struct server *s = r->server;
    struct region **at = &s->region;
    while (*at && *at != r)
        at = &(*at)->next;
    if (*at) {
        *at = r->next;
        s->region_count--;
    }
    if (s->coming == r)
        s->coming = NULL;
    for (uint32_t i = 0; r->task && i < r->spec.region.task_count; i++) {
        freeze_task_gone(s, &r->task[i]);
        task_release(&r->task[i]);
    }
    for (uint32_t i = 0; r->channel && i < r->spec.region.channel_count; i++)
        channel_clear(&r->channel[i]);
    for (uint32_t i = 0; i < r->fd_count; i++)
        fd_close(&r->fd[i]);
    free(r->fd);
    free(r->stood);
    free(r->task);
    free(r->channel);
    spec_clear(&r->spec);
    if (r->map)
        munmap(r->map, r->map_size);
    fd_close(&r->spec_fd);
    free(r->bytes);
    free(r);
}

/* No process of the task is left: its sides of the channels are. */
static void task_ended(struct task *t)
{
    struct region *r = t->region;
    const struct box_task *plan = &r->spec.region.task[t->index];
    freeze_task_gone(r->server, t);
    for (uint32_t i = 0; i < plan->port_count; i++)
        if (plan->port[i].name && plan->port[i].channel >= 0)
            channel_handed_out(&r->channel[plan->port[i].channel], plan->port[i].write);
    for (uint32_t i = 0; i < r->spec.region.channel_count; i++) {
        struct channel *c = &r->channel[i];
        if (r->spec.channel[i].writer == (int32_t)t->index)
            channel_writer_left(c);
        if (r->spec.channel[i].reader == (int32_t)t->index)
            channel_reader_left(c);
    }
}

/* Reading what has just arrived shows the timing of its arrival. */
static bool reads_lines(const struct task *t)
{
    const struct region *r = t->region;
    for (uint32_t i = 0; i < r->spec.region.channel_count; i++)
        if (r->spec.channel[i].reader == (int32_t)t->index && r->spec.region.channel[i].lines)
            return true;
    return false;
}

/* Its program runs, or never will: another task may be set up (start_more, when this event is done). */
static void task_begun(struct task *t)
{
    if (t->starting)
        t->region->server->starting--;
    t->starting = false;
}

static void tell_result(struct task *t, struct box_result *r)
{
    struct buf b = BUF_INIT(WIRE_DATA_MAX);
    struct notify_report report = {.uncertified_why = "", .limit_hit = ""};
    const char *why = t->uncertified_why;
    if (t->notify)
        notify_report(t->notify, &report);
    if (t->region->server->none)
        why = "no isolation";
    if (!why)
        why = *report.uncertified_why ? report.uncertified_why
              : reads_lines(t)        ? "its input is passed on as it arrives"
              : !turns_kept(t)        ? "its processes run side by side"
                                      : "";
    /* A program that was refused something for its limit and did well all the same has not met it. */
    bool failed = r->end == BOX_SIGNALLED || (r->end == BOX_EXITED && r->status);
    if (failed && *report.limit_hit) {
        r->end = BOX_LIMIT;
        r->limit = report.limit_hit;
    }
    r->uncertified_why = why;
    r->cold_why = t->warm ? "" : t->cold_why ? t->cold_why : "it was not started";
    r->clock_ns = report.clock_ns;
    r->calls = report.calls;
    trace_phase(t, "ended");
    trace_flush(t);
    result_pack(&b, r);
    struct err e;
    if (buf_check(&b, "a task's result", &e) < 0)
        server_lose(t->region->server, &e);
    else
        server_tell(t->region->server,
                    (struct wire){.kind = WIRE_RESULT, .region = t->region->id, .task = t->index}, b.data,
                    b.size, NULL, 0);
    buf_clear(&b);
    t->state = TASK_RESULT;
    task_begun(t);
    if (t->asked && !t->warm)
        place_answered(t->region->server, &t->region->spec.region.task[t->index]);
}

/* The sandbox could not do it: tell so, end what there is of the task, let go its channels. */
static void task_failed_as(struct task *t, enum box_end end, const char *text, int sys)
{
    if (t->state != TASK_SETUP)
        return;
    t->uncertified_why = "the sandbox failed";
    tell_result(t, &(struct box_result){.end = end, .sys = sys, .text = text});
    if (t->link.fd >= 0)
        link_send(&t->link, (struct wire){.kind = WIRE_KILL, .a = WIRE_WHY_STOP}, NULL, 0, NULL, 0);
    task_ended(t);
}

static void task_failed(struct task *t, const char *text, int sys)
{
    task_failed_as(t, BOX_FAILED, text, sys);
}

/* Its init is gone, or has nothing more to say and waits for us to let it go. */
static void task_gone(struct task *t)
{
    struct region *r = t->region;
    if (t->state == TASK_GONE)
        return;
    if (t->result.size && t->state == TASK_SETUP) {
        t->gone = true;
        return;
    }
    task_failed(t, "the task's first process was killed", 0);
    t->state = TASK_GONE;
    task_begun(t);
    task_release(t);
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

/* The kernel's list of a process's children leaves out some while one of them goes away: nobody is found there only
 * when nobody is found several times. */
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
    t->finish_sent = true;
    link_send(&t->link, (struct wire){.kind = WIRE_FINISH}, NULL, 0, NULL, 0);
}

static void hangup_event(struct watch *w, uint32_t events)
{
    struct channel *c = w->owner;
    struct region *r = c->region;
    (void)events;
    watch_stop(r->server, w);
    task_heard(&r->task[r->spec.channel[c->index].writer]);
}

/* The program has ended; others of its tree may still write.  They are waited for as a shell's pipeline
 * waits: until nobody holds a writing end. */
static void task_main_ended(struct task *t)
{
    struct region *r = t->region;
    t->main_ended = true;
    task_heard(t);
    for (uint32_t i = 0; !t->finish_sent && i < r->spec.region.channel_count; i++) {
        struct channel *c = &r->channel[i];
        if (r->spec.channel[i].writer == (int32_t)t->index && c->held >= 0 &&
            !channel_writer_hung_up(c) && c->hangup_watch.fd < 0)
            watch_start(r->server, &c->hangup_watch, c->held, EPOLLRDHUP | EPOLLET);
    }
    task_heard(t);
}

/* --- a task's life --- */

/* Those of its descriptors that are the caller's own. */
static int give_files(struct task *t, const struct box_task *plan, struct err *e)
{
    int fd[SPEC_PORTS_MAX];
    uint32_t count = 0;
    for (uint32_t i = 0; i < plan->port_count; i++)
        if (plan->port[i].channel < 0 && plan->port[i].file >= 0)
            fd[count++] = t->region->fd[plan->port[i].file];
    return notify_give(t->notify, fd, count, e);
}

/* What it may open by name: we keep these until its end. */
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

/* Has it taken or given a byte?  Of the caller's own descriptors, a file tells by where it stands, and a
 * pipe does not tell: it counts as used.  What goes to stderr does not count. */
static bool task_uses(void *owner)
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

/* fd: taken. */
static void take_listener(struct task *t, int fd)
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
        return; /* there was no program to start, and who looked for it is gone: its init says so */
    int r = fd < 0 ? err_sys(&e, "cannot take over a program's system calls") : 0;
    if (r == 0)
        t->notify = notify_new(fd, plan->seed, plan->stream, plan->epoch_s, &e);
    if (r < 0 || !t->notify || give_files(t, plan, &e) < 0 || name_ports(t, plan, &e) < 0 ||
        (watch_start(s, &t->notify_watch, notify_fd(t->notify), EPOLLIN) < 0 &&
         err_sys(&e, "cannot wait for a program's system calls") < 0)) {
        notify_free(t->notify);
        t->notify = NULL;
        task_failed(t, e.text, e.sys);
        place_kill(&t->link, t->init); /* it has the listener too, and waits for its program's exec, which nobody answers */
        return;
    }
    notify_limit(t->notify, &plan->limit, t->init);
    notify_uses(t->notify, task_uses, t);
    turns_begin(t);
    if (plan->trace)
        notify_trace(t->notify, trace_call, t);
    trace_phase(t, "filter in place, program begins");
}

static bool is_drained(const struct task *t)
{
    const struct region *r = t->region;
    for (uint32_t i = 0; r->spec.region.task[t->index].limit.output_bytes && i < r->spec.region.channel_count; i++)
        if (r->spec.channel[i].writer == (int32_t)t->index && r->channel[i].pump)
            return false;
    return true;
}

static void task_conclude(struct task *t)
{
    struct box_result r;
    if (t->state != TASK_SETUP || !t->result.size || !is_drained(t))
        return;
    if (result_unpack(t->result.data, t->result.size, &r) < 0) {
        task_failed(t, "the task's first process made no sense", 0);
    } else {
        if (t->past_output) {
            r.end = BOX_LIMIT;
            r.limit = "output";
        }
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

static void take_packet(struct task *t, struct wire_packet *p)
{
    struct server *s = t->region->server;
    struct wire h = p->head;
    h.region = t->region->id;
    h.task = t->index;
    switch (h.kind) {
    case WIRE_HELLO:
        t->init = p->from;
        if (t->warm)
            task_begun(t);
        trace_phase(t, "first process there");
        break;
    case WIRE_LISTENER:
        take_listener(t, place_listener(&t->link, p));
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
        template_served(t, (enum wire_stays)h.a);
        if (t->state == TASK_SETUP) {
            struct err e;
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
        take_packet(t, &s->packet);
    wire_close_fds(&s->packet);
    if (n <= 0)
        task_gone(t);
}

static void notify_event(struct watch *w, uint32_t events)
{
    struct task *t = w->owner;
    struct server *s = t->region->server;
    struct err e;
    if ((w == &t->notify_watch ? notify_answer(t->notify, (short)events, &e) : notify_serve(t->notify, &e)) < 0) {
        watch_stop(s, &t->notify_watch);
        watch_stop(s, &t->random_watch);
        return;
    }
    int random = notify_random_fd(t->notify);
    if (random >= 0 && t->random_watch.fd < 0)
        watch_start(s, &t->random_watch, random, EPOLLIN);
}

void task_kill(struct task *t, enum wire_why why)
{
    if (t->state != TASK_SETUP || !t->asked)
        return;
    link_send(&t->link, (struct wire){.kind = WIRE_KILL, .a = why}, NULL, 0, NULL, 0);
    link_watch(t->region->server, &t->link, &t->watch);
}

static void timer_event(struct watch *w, uint32_t events)
{
    struct task *t = w->owner;
    uint64_t count;
    (void)events;
    if (read(w->fd, &count, sizeof count) > 0)
        task_kill(t, WIRE_WHY_TIMEOUT);
}

static int start_timer(struct task *t, uint64_t ns)
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

/* Ours, for the program; -1: it has none. */
static int port_fd(const struct region *r, const struct box_port *p)
{
    if (p->channel >= 0)
        return p->write ? r->channel[p->channel].write_end : r->channel[p->channel].read_end;
    return p->file >= 0 ? r->fd[p->file] : -1;
}

static void send_ports(struct task *t, const struct box_task *plan)
{
    struct region *r = t->region;
    int fd[WIRE_FDS_MAX];
    uint32_t count = 0, first = 0;
    for (uint32_t i = 0; i < plan->port_count; i++) {
        const struct box_port *p = &plan->port[i];
        if (!p->name && (fd[count] = port_fd(r, p)) >= 0)
            count++;
        if (count == WIRE_FDS_MAX || (count && i + 1 == plan->port_count)) {
            link_send(&t->link, (struct wire){.kind = WIRE_PORTS, .a = first}, NULL, 0, fd, count);
            first += count;
            count = 0;
        }
    }
}

/* The path that names the very file that fd is, if there is one. */
static bool path_of_fd(int fd, char *path, size_t size, struct stat *s)
{
    char link[32];
    struct stat there;
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t n = readlink(link, path, size - 1);
    if (n <= 0 || path[0] != '/' || fstat(fd, s) < 0)
        return false;
    path[n] = '\0';
    return stat(path, &there) == 0 && there.st_dev == s->st_dev && there.st_ino == s->st_ino;
}

static int cannot_open(const struct box_file *f, char *why, size_t size)
{
    int sys = errno;
    snprintf(why, size, "cannot open the input '%s': %s", f->name, strerror(sys));
    return sys;
}

static int send_copy(const struct file_sender *to, uint32_t i, int fd)
{
    link_send(to->link, (struct wire){.kind = WIRE_COPY, .a = i}, NULL, 0, &fd, 1);
    return 0;
}

int file_send(const struct file_sender *to, uint32_t i, const struct box_file *f, char *why, size_t size)
{
    struct server *s = to->server;
    struct wire h = {.kind = WIRE_OPEN, .region = to->region, .task = to->task, .a = i};
    char path[ERR_TEXT_MAX * 4];
    struct stat st;
    int own = -1;
    if (f->copy || f->size) {
        int fd = f->path ? (own = open(f->path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY)) : to->fd[f->fd];
        int r = fd < 0 ? cannot_open(f, why, size) : send_copy(to, i, fd);
        fd_close(&own);
        return r;
    }
    if (geteuid() == 0)
        h.b |= WIRE_OPEN_READABLE;
    if (f->path && s->none) { /* its init makes a link */
        own = open(f->path, O_PATH | O_CLOEXEC);
        if (own < 0)
            return cannot_open(f, why, size);
        link_send(to->link, (struct wire){.kind = WIRE_TREE, .a = i}, NULL, 0, &own, 1);
        fd_close(&own);
        return 0;
    }
    if (f->path) {
        snprintf(path, sizeof path, "%s", f->path);
    } else if (!s->none && path_of_fd(to->fd[f->fd], path, sizeof path, &st)) {
        h.b |= WIRE_OPEN_SAME;
        h.offset = st.st_ino;
        h.size = st.st_dev;
    } else {
        return send_copy(to, i, to->fd[f->fd]);
    }
    int r = link_send(&s->mounts, h, path, strlen(path), &to->link->fd, 1) < 0 ? errno : 0;
    link_watch(s, &s->mounts, &s->mounts_watch);
    if (r)
        snprintf(why, size, "the mounting process is gone");
    return r;
}

static bool send_file(struct task *t, uint32_t i, const struct box_file *f)
{
    struct region *r = t->region;
    struct file_sender to = {r->server, &t->link, r->fd, r->id, t->index};
    char why[ERR_TEXT_MAX];
    int sys = file_send(&to, i, f, why, sizeof why);
    if (sys)
        task_failed(t, why, sys);
    return t->state == TASK_SETUP;
}

void task_file_failed(struct server *s, const struct wire *h)
{
    if (h->region == TEMPLATE_FILES) {
        template_file_failed(s, h->task);
        return;
    }
    struct region *r = region_find(s, h->region);
    char text[ERR_TEXT_MAX];
    if (!r || !r->started || h->task >= r->spec.region.task_count)
        return;
    struct task *t = &r->task[h->task];
    const struct box_task *plan = &r->spec.region.task[h->task];
    if (t->state != TASK_SETUP || h->offset >= plan->file_count)
        return;
    const struct box_file *f = &plan->file[h->offset];
    /* With the sandbox's rights it cannot be had; with ours, perhaps, as a copy. */
    int own = -1, fd = -1;
    if (!f->path)
        fd = r->fd[f->fd];
    else if (geteuid() == 0)
        fd = own = open(f->path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    if (fd >= 0) {
        send_copy(&(struct file_sender){.link = &t->link}, (uint32_t)h->offset, fd);
        link_watch(s, &t->link, &t->watch);
        fd_close(&own);
        return;
    }
    snprintf(text, sizeof text, "cannot open the input '%s': %s", f->name, strerror((int)h->b));
    task_failed(t, text, (int)h->b);
}

static void task_asked(struct task *t)
{
    t->asked = true;
    trace_begin(t);
    t->starting = true;
    t->region->server->starting++;
}

static int start_cold(struct task *t, struct err *e)
{
    struct place p;
    if (place_take(t->region->server, t->region, t->index, false, &p, e) < 0)
        return -1;
    t->link = p.link;
    t->init = p.init;
    task_asked(t);
    if (p.listener >= 0)
        take_listener(t, p.listener);
    return 0;
}

/* Its filter is the template's, its listener too.  1: the template has gone meanwhile. */
static int start_warm(struct task *t, struct template *m, struct err *e)
{
    const struct box_task *plan = &t->region->spec.region.task[t->index];
    int pair[2], on = 1;
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0)
        return err_sys(e, "cannot make a task's socket");
    setsockopt(pair[0], SOL_SOCKET, SO_PASSCRED, &on, sizeof on);
    t->link.fd = pair[0];
    int fd[1 + FORKER_PORTS_MAX] = {pair[1]};
    uint32_t count = 1;
    for (uint32_t i = 0; i < plan->port_count; i++) {
        int one = port_fd(t->region, &plan->port[i]);
        if (one >= 0)
            fd[count++] = one; /* the key has looked that there are not too many */
    }
    t->warm = template_clone(m, t, fd, count);
    close(pair[1]);
    if (!t->warm) {
        link_clear(&t->link);
        t->cold_why = "its template has gone";
        return 1;
    }
    task_asked(t);
    notify_uses(t->notify, task_uses, t);
    turns_begin(t);
    if (give_files(t, plan, e) < 0)
        return -1;
    if (watch_start(t->region->server, &t->notify_watch, notify_fd(t->notify), EPOLLIN) < 0)
        return err_sys(e, "cannot wait for a program's system calls");
    return 0;
}

/* Where the caller's files stand before the task has used them; a pipe stands nowhere. */
static void note_places(struct region *r, const struct box_task *plan)
{
    for (uint32_t i = 0; i < plan->port_count; i++) {
        int file = plan->port[i].channel < 0 ? plan->port[i].file : -1;
        off_t at = file < 0 ? 0 : lseek(r->fd[file], 0, SEEK_CUR);
        if (file >= 0)
            r->stood[file] = at < 0 ? 0 : at;
    }
}

static int task_start(struct task *t, struct err *e)
{
    struct region *r = t->region;
    struct server *s = r->server;
    const struct box_task *plan = &r->spec.region.task[t->index];
    struct template *m = template_for(t, &t->cold_why);
    note_places(r, plan);
    int started = m ? start_warm(t, m, e) : 1;
    if (started > 0)
        started = start_cold(t, e);
    if (started < 0)
        return -1;
    if (watch_start(s, &t->watch, t->link.fd, EPOLLIN) < 0 ||
        start_timer(t, plan->limit.wall_ns) < 0 || meter_start(t) < 0)
        return err_sys(e, "cannot hand the task to the sandbox");
    if (!t->warm)
        send_ports(t, plan);
    for (uint32_t i = 0; !t->warm && i < plan->file_count; i++)
        if (!send_file(t, i, &plan->file[i]))
            break;
    if (t->link.kept)
        link_watch(s, &t->link, &t->watch);
    for (uint32_t i = 0; i < plan->port_count; i++)
        if (plan->port[i].channel >= 0 && !plan->port[i].name)
            channel_handed_out(&r->channel[plan->port[i].channel], plan->port[i].write);
    return 0;
}

/* --- the beginning of a region --- */

static void init_parts(struct region *r)
{
    for (uint32_t i = 0; i < r->spec.region.task_count; i++) {
        struct task *t = &r->task[i];
        *t = (struct task){.region = r, .index = i, .link = LINK_INIT, .result = BUF_INIT(WIRE_DATA_MAX)};
        t->watch = (struct watch){-1, task_event, t};
        t->notify_watch = (struct watch){-1, notify_event, t};
        t->random_watch = (struct watch){-1, notify_event, t};
        t->timer_watch = (struct watch){-1, timer_event, t};
        t->look_watch = (struct watch){-1, look_event, t};
        t->meter_watch = (struct watch){-1, meter_event, t};
    }
    for (uint32_t i = 0; i < r->spec.region.channel_count; i++) {
        struct channel *c = &r->channel[i];
        *c = (struct channel){.region = r, .index = i, .write_end = -1, .read_end = -1, .held = -1, .swallow_fd = -1};
        c->hangup_watch = (struct watch){-1, hangup_event, c};
        c->fed_watch.fd = c->keep_watch.fd = -1;
    }
}

static int open_parts(struct region *r, struct err *e)
{
    for (uint32_t i = 0; i < r->spec.region.channel_count; i++)
        if (channel_open(&r->channel[i], e) < 0)
            return -1;
    return 0;
}

/* It has a result, and no init whose end could be waited for. */
static void task_unasked(struct task *t)
{
    if (t->state == TASK_GONE)
        return;
    t->state = TASK_GONE;
    task_begun(t);
    task_release(t);
    t->region->tasks_left--;
}

/* It could not be begun as a whole: what of it has begun ends. */
static void abandon(struct region *r, const struct err *e)
{
    for (uint32_t i = 0; i < r->spec.region.channel_count; i++) {
        pump_kill(&r->channel[i]);
        if (r->spec.region.channel[i].end == BOX_COPY && !r->channel[i].pump)
            server_tell(r->server,
                        (struct wire){.kind = WIRE_PUMP, .region = r->id, .a = i,
                                      .b = (uint32_t)(e->sys                   ? e->sys
                                                      : e->code == ERR_NOMEM ? ENOMEM
                                                                             : EIO)},
                        NULL, 0, NULL, 0);
    }
    for (uint32_t i = 0; i < r->spec.region.task_count; i++) {
        struct task *t = &r->task[i];
        task_failed(t, e->text, e->sys);
        if (!t->asked || t->watch.fd < 0)
            task_unasked(t);
    }
    r->next_task = r->spec.region.task_count;
}

/* Ask for the tasks that there is room for.  A region may be gone after it. */
void region_start_more(struct server *s)
{
    struct err e;
    for (struct region *r = s->region, *next; s->ready && r && s->starting < STARTING_MAX && s->leaving_count < LEAVING_MAX;
         r = next) {
        next = r->next;
        bool more = r->started && r->next_task < r->spec.region.task_count;
        while (r->started && r->next_task < r->spec.region.task_count && s->starting < STARTING_MAX)
            if (task_start(&r->task[r->next_task++], &e) < 0)
                abandon(r, &e);
        if (more)
            region_settle(r);
    }
}

/* All its descriptors are here. */
static void region_start(struct region *r)
{
    struct err e;
    r->server->coming = NULL;
    r->server->regions_begun++;
    r->started = true;
    r->tasks_left = r->spec.region.task_count;
    if (open_parts(r, &e) < 0)
        abandon(r, &e);
    region_settle(r);
}

static int take_fds(struct region *r, struct wire_packet *p, size_t from)
{
    for (size_t i = from; i < p->fd_count; i++) {
        if (r->fd_count == r->fd_total)
            return -1;
        r->fd[r->fd_count++] = wire_take_fd(p, i);
    }
    return 0;
}

/* The caller is one of ours: what it sends is right, or it is not to be trusted. */
static int not_as_announced(struct err *e)
{
    return err_set(e, ERR_PROTO, "a region's description is not as announced");
}

static int map_spec(struct region *r, uint64_t size, struct err *e)
{
    struct stat s;
    int seals = fcntl(r->spec_fd, F_GET_SEALS);
    int wanted = F_SEAL_SHRINK | F_SEAL_WRITE;
    if (r->spec_fd < 0 || seals < 0 || (seals & wanted) != wanted || fstat(r->spec_fd, &s) < 0 || !size ||
        (uint64_t)s.st_size != size || size > BOX_SPEC_BYTES_MAX)
        return not_as_announced(e);
    void *map = mmap(NULL, size, PROT_READ, MAP_PRIVATE, r->spec_fd, 0);
    if (map == MAP_FAILED)
        return err_sys(e, "cannot read a region's description");
    r->map = map;
    r->map_size = size;
    return spec_decode((struct slice){map, size}, &r->spec, e);
}

/* One that came in the packet itself. */
static int copy_spec(struct region *r, const struct wire_packet *p, struct err *e)
{
    r->bytes = malloc(p->size);
    if (!r->bytes)
        return err_nomem(e);
    memcpy(r->bytes, p->data, p->size);
    return spec_decode((struct slice){r->bytes, p->size}, &r->spec, e);
}

int region_new(struct server *s, struct wire_packet *p, struct err *e)
{
    if (s->coming || region_find(s, p->head.region) || s->region_count == BOX_REGIONS_MAX || p->head.a > SPEC_FDS_MAX)
        return not_as_announced(e);
    struct region *r = calloc(1, sizeof *r);
    if (!r)
        return err_nomem(e);
    r->server = s;
    r->id = p->head.region;
    r->spec_fd = p->size ? -1 : wire_take_fd(p, 0);
    r->fd_total = p->head.a;
    r->spec.arena = ARENA_INIT(SPEC_ARENA_MAX);
    r->next = s->region;
    s->region = r;
    s->region_count++;
    r->fd = calloc(r->fd_total + 1, sizeof *r->fd);
    r->stood = calloc(r->fd_total + 1, sizeof *r->stood);
    if (!r->fd || !r->stood)
        return err_nomem(e);
    if ((p->size ? copy_spec(r, p, e) : map_spec(r, p->head.size, e)) < 0)
        return -1;
    if (r->spec.fd_count != r->fd_total || take_fds(r, p, p->size ? 0 : 1) < 0)
        return not_as_announced(e);
    r->task = calloc(r->spec.region.task_count + 1, sizeof *r->task);
    r->channel = calloc(r->spec.region.channel_count + 1, sizeof *r->channel);
    if (!r->task || !r->channel) {
        free(r->task);
        free(r->channel);
        r->task = NULL;
        r->channel = NULL;
        return err_nomem(e);
    }
    init_parts(r);
    s->coming = r;
    if (r->fd_count == r->fd_total)
        region_start(r);
    return 0;
}

int region_more(struct server *s, struct wire_packet *p, struct err *e)
{
    struct region *r = s->coming;
    if (!r || r->id != p->head.region || take_fds(r, p, 0) < 0)
        return not_as_announced(e);
    if (r->fd_count == r->fd_total)
        region_start(r);
    return 0;
}

int region_feed(struct region *r, const struct wire_packet *p)
{
    return p->head.a < r->spec.region.channel_count ? pump_feed(&r->channel[p->head.a], p) : -1;
}

void region_stop(struct region *r)
{
    if (!r->started)
        return;
    for (uint32_t i = 0; i < r->spec.region.channel_count; i++)
        pump_kill(&r->channel[i]);
    for (uint32_t i = r->next_task; i < r->spec.region.task_count; i++) {
        task_failed_as(&r->task[i], BOX_KILLED, "", 0);
        task_unasked(&r->task[i]);
    }
    r->next_task = r->spec.region.task_count;
    for (uint32_t i = 0; i < r->spec.region.task_count; i++)
        task_kill(&r->task[i], WIRE_WHY_STOP);
    region_settle(r);
}
