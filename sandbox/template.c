/* A template's life: how it is made, how its clones get to tasks, what these say at their ends, and its own end.
 * template_choose.c decides which there are. */
#include "sandbox/template.h"
#include "base/fds.h"
#include "sandbox/result.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/sockios.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/statvfs.h>
#include <sys/timerfd.h>
#include <sys/wait.h>
#include <unistd.h>

#define STATUS_OURS 125 /* this status and higher ones come from the forker, or from a limit */

static void template_event(struct watch *w, uint32_t events);
static void door_event(struct watch *w, uint32_t events);
static void listener_event(struct watch *w, uint32_t events);
static void look_event(struct watch *w, uint32_t events);

/* --- the end of a template --- */

/* The task no longer uses its template: none of its processes is left, and the listener serves another task now. */
void template_leave(struct task *t)
{
    if (!t->template)
        return;
    t->template->task = NULL;
    t->template = NULL;
}

void template_await_not(struct task *t)
{
    if (t->awaits)
        t->awaits->made_for = NULL;
    t->awaits = NULL;
}

static void nobody_awaits(struct template *m)
{
    if (m->made_for)
        template_await_not(m->made_for);
}

static void stop_looking(struct template *m)
{
    int fd = m->look_watch.fd;
    watch_stop(m->server, &m->look_watch);
    fd_close(&fd);
}

static void template_free(struct template *m)
{
    struct server *s = m->server;
    struct template **at = &s->template;
    while (*at != m)
        at = &(*at)->next;
    *at = m->next;
    if (m->task)
        template_leave(m->task);
    nobody_awaits(m);
    watch_stop(s, &m->watch);
    watch_stop(s, &m->notify_watch);
    stop_looking(m);
    notify_free(m->notify);
    link_clear(&m->link);
    for (int i = 0; i < FORKER_DOORS; i++) {
        watch_stop(s, &m->door[i].watch);
        link_clear(&m->door[i].link);
    }
    fd_close(&m->control);
    for (uint32_t i = 0; i < m->shown_count; i++)
        fd_close(&m->shown[i].fd);
    for (int i = 0; i < FORKER_OWN - 1; i++)
        fd_close(&m->theirs[i]);
    cgroup_give_back(&s->cgroups, m->cgroup);
    free(m->page);
    free(m);
}

/* Kill its init: that ends all processes below it, and closes the link. */
static void template_kill(struct template *m)
{
    m->ready = false;
    nobody_awaits(m);
    if (m->init > 0)
        kill(m->init, SIGKILL);
}

void template_end(struct template *m)
{
    template_kill(m);
    template_free(m);
}

void template_give_up(struct template *m, const char *why)
{
    m->key->cold = why;
    m->step = STEP_OVER;
    template_kill(m);
}

/* Templates at work leave no room for this one: it may be tried again later. */
void template_put_off(struct template *m)
{
    m->key->seen = 0;
    m->key->doubtful = true;
    m->stale = true;
    m->step = STEP_OVER;
    template_kill(m);
}

void templates_drop(struct server *s)
{
    for (struct template *m = s->template; m; m = m->next) {
        m->stale = m->key->doubtful = true;
        nobody_awaits(m);
        if (m->ready)
            template_kill(m);
    }
}

void template_clear(struct server *s)
{
    while (s->template)
        template_free(s->template);
    free(s->template_key);
    s->template_key = NULL;
    fd_close(&s->users);
    fd_close(&s->changes);
}

/* --- making a template --- */

/* A stand-in for a port: something of the same kind, which is never used. */
static int stand_in(const struct region *r, const struct box_port *p)
{
    int pair[2], got = -1;
    struct stat s;
    if (p->channel >= 0) {
        if (channel_pair(pair, !r->spec.region.channel[p->channel].lines) < 0)
            return -1;
        got = pair[p->write];
        close(pair[!p->write]);
        return got;
    }
    if (fstat(r->fd[p->file], &s) < 0)
        return -1;
    if (S_ISFIFO(s.st_mode)) {
        if (pipe2(pair, O_CLOEXEC) < 0)
            return -1;
        got = pair[p->write];
        close(pair[!p->write]);
        return got;
    }
    int flags = fcntl(r->fd[p->file], F_GETFL), memory = memfd_create("stand-in", MFD_CLOEXEC);
    if (memory >= 0)
        got = fd_reopen(memory, flags & (O_ACCMODE | O_APPEND));
    fd_close(&memory);
    return got;
}

/* Send the stand-ins, in the order of send_ports; ports that are the same thing get the same stand-in. */
static int send_stand_ins(struct template *m, const struct region *r, const struct box_task *plan)
{
    int fd[FORKER_PORTS_MAX];
    uint32_t slot[SPEC_PORTS_MAX], count = 0;
    int result = 0;
    for (uint32_t i = 0; result == 0 && i < plan->port_count; i++) {
        const struct box_port *p = &plan->port[i];
        struct stat s;
        if (p->channel < 0 && p->file < 0)
            continue;
        uint32_t first = template_first_same(r, plan, i);
        slot[i] = count;
        fd[count] = first < i ? fcntl(fd[slot[first]], F_DUPFD_CLOEXEC, 0) : stand_in(r, p);
        if (fd[count] < 0 || fstat(fd[count], &s) < 0) {
            fd_close(&fd[count]);
            result = -1;
            break;
        }
        m->device[count] = s.st_dev;
        m->inode[count++] = s.st_ino;
        m->opening[p->fd] = p->channel < 0 && template_is_data(r->fd[p->file]) ? TEMPLATE_DATA : TEMPLATE_PORT;
    }
    if (result == 0 && count)
        result = link_send(&m->link, (struct wire){.kind = WIRE_PORTS}, NULL, 0, fd, count);
    for (uint32_t i = 0; i < count; i++)
        close(fd[i]);
    m->port_count = count;
    return result;
}

/* Take the listener of its filter; takes fd. */
static void take_listener(struct template *m, int fd)
{
    struct err e;
    if (fd >= 0 && !m->notify)
        m->notify = notify_new(fd, m->plan_seed, m->plan_stage, m->plan_epoch_s, &e);
    if (!m->notify || watch_start(m->server, &m->notify_watch, notify_fd(m->notify), EPOLLIN) < 0) {
        template_give_up(m, "there was no room for a template");
        return;
    }
    if (!m->plan_watched)
        notify_unwatched(m->notify);
    notify_trace_start(m->notify);
}

/* Start the timer that looks at it, as no task waits for it and no limit of a task holds for it. */
static int start_looking(struct template *m)
{
    static const struct itimerspec often = {{0, TEMPLATE_LOOK_NS}, {0, TEMPLATE_LOOK_NS}};
    int fd = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
    if (fd >= 0 && timerfd_settime(fd, 0, &often, NULL) == 0 && watch_start(m->server, &m->look_watch, fd, EPOLLIN) == 0)
        return 0;
    fd_close(&fd);
    return -1;
}

static void look_event(struct watch *w, uint32_t events)
{
    struct template *m = w->owner;
    uint64_t count;
    (void)events;
    if (read(w->fd, &count, sizeof count) <= 0)
        return;
    if (++m->looks == TEMPLATE_WAIT_LOOKS && m->made_for) {
        m->key->doubtful = true;
        nobody_awaits(m);
    }
    const char *why = m->step == STEP_OVER ? NULL : template_exceeds(m);
    if (why)
        template_give_up(m, why);
    if (m->step == STEP_OVER && !m->made_for)
        stop_looking(m);
}

struct template *template_new(struct task *t, struct template_key *k)
{
    struct region *r = t->region;
    struct server *s = r->server;
    const struct box_task *plan = &r->spec.region.task[t->index];
    struct place p;
    struct err e;
    struct template *m = calloc(1, sizeof *m);
    if (!m || place_take(s, r, t->index, true, &p, &e) < 0) {
        free(m);
        return NULL;
    }
    *m = (struct template){.server = s, .next = s->template, .id = ++s->template_turn, .key = k, .link = LINK_INIT,
                           .watch = {-1, template_event, m}, .notify_watch = {-1, listener_event, m},
                           .look_watch = {-1, look_event, m}, .control = -1, .theirs = {-1, -1, -1, -1}};
    for (int i = 0; i < FORKER_DOORS; i++)
        m->door[i] = (struct template_door){.link = LINK_INIT, .watch = {-1, door_event, m}};
    s->template = m;
    m->used = k->used;
    m->link = p.link;
    m->init = p.init;
    m->cgroup = p.cgroup;
    m->plan_seed = plan->seed;
    m->plan_stage = (uint32_t)plan->stream;
    m->plan_watched = place_watches(plan);
    m->plan_epoch_s = plan->epoch_s;
    struct file_sender to = {s, &m->link, r->fd, TEMPLATE_FILES, (uint32_t)m->id};
    if (watch_start(s, &m->watch, m->link.fd, EPOLLIN) < 0 || start_looking(m) < 0 ||
        send_stand_ins(m, r, plan) < 0) {
        fd_close(&p.listener);
        template_free(m); /* if it has an init, that ends with the link */
        return NULL;
    }
    if (p.listener >= 0)
        take_listener(m, p.listener);
    for (uint32_t i = 0; i < plan->file_count; i++) {
        char why[ERR_TEXT_MAX];
        if (file_send(&to, i, &plan->file[i], why, sizeof why) != 0) {
            template_free(m);
            return NULL;
        }
    }
    link_watch(s, &m->link, &m->watch);
    return m;
}

void template_file_failed(struct server *s, uint32_t id)
{
    for (struct template *m = s->template; m; m = m->next)
        if ((uint32_t)m->id == id) {
            template_give_up(m, "an input could not be opened");
            return;
        }
}

/* The door of the clone with this number. */
static struct template_door *door_of(struct template *m, uint32_t serial)
{
    return &m->door[serial % FORKER_DOORS];
}

static bool ask_forker(struct template *m)
{
    struct template_door *d = door_of(m, m->asked);
    d->init = 0;
    d->born = m->asked;
    d->user_ns = d->sys_ns = 0;
    return wire_send(m->control, (struct wire){.kind = WIRE_CLONE, .a = m->asked}, NULL, 0, NULL, 0) == 0;
}

/* Ask for the next clone, for whichever task comes; if one stands ready already, that is used.  The clone after the next is
 * made when the one that now works at the same door has ended: by the door's first process, if that stays (served). */
static bool ask_next(struct template *m)
{
    struct template_door *d = door_of(m, ++m->asked);
    if (!d->stays && m->asked < m->given + FORKER_DOORS)
        return ask_forker(m);
    d->stays = false;
    return link_send(&d->link, (struct wire){.kind = WIRE_CLONE, .a = m->asked}, NULL, 0, NULL, 0) == 0;
}

static bool ask_ahead(struct template *m)
{
    while (m->asked < m->given + FORKER_DOORS)
        if (!ask_next(m))
            return false;
    return true;
}

static void stand_ready(struct template *m)
{
    m->ready = !m->stale && !m->key->cold && m->step == STEP_OVER;
    if (!m->ready)
        template_kill(m);
}

/* Give each ready template a clone that waits; it is made after the last one's end was told, not before. */
void templates_tend(struct server *s)
{
    bool yielded = false;
    for (struct template *m = s->template; m; m = m->next) {
        if (!m->ready || m->asked != m->given)
            continue;
        if (!yielded)
            sched_yield(); /* let the caller go on first, if we share a CPU, as a fork takes longer than that */
        yielded = true;
        if (!ask_next(m))
            template_kill(m);
    }
}

static void served(struct template *m, enum wire_stays stays)
{
    bool ahead = m->asked == m->given + FORKER_DOORS, both = stays == WIRE_STAYS_BOTH;
    door_of(m, m->given)->stays = both && !ahead;
    if (ahead && stays == WIRE_STAYS && !ask_forker(m))
        m->stale = true;
    if (stays == WIRE_STAYS || stays == WIRE_STAYS_BOTH)
        stand_ready(m);
    else if (stays == WIRE_STAYS_CHANGED)
        m->key->cold = "its program writes files";
}

void template_served(struct task *t, enum wire_stays stays)
{
    struct template *m = t->template;
    if (!m)
        return;
    template_leave(t);
    served(m, stays);
}

/* Take the hello of a clone's first process, which it sends at its door before the clone has any other process. */
static void take_hello(struct template *m, struct template_door *d, const struct wire_packet *p)
{
    if (p->head.a != d->born)
        return;
    d->init = p->from;
    if (m->task && d == door_of(m, m->given))
        task_has_init(m->task, d->init);
}

/* Read one message at a door.  false: there is none. */
static bool hear_door(struct template *m, struct template_door *d, struct wire_packet *p)
{
    int n = wire_receive(d->link.fd, p, MSG_DONTWAIT);
    if (n < 0 && errno == EAGAIN)
        return false;
    wire_close_fds(p);
    if (n <= 0) /* the link will report that, too */
        watch_stop(m->server, &d->watch);
    return n > 0;
}

/* The first process of the task's clone.  It says hello at its door before it takes its ports; so if it has not come yet it
 * holds none of them, in whatever order we read messages. */
pid_t task_first(const struct task *t)
{
    static struct wire_packet said; /* not the server's packet, which may be in use: we look here whenever we must know */
    struct template *m = t->template;
    struct template_door *d = !t->init && m && m->task == t ? door_of(m, m->given) : NULL;
    if (d && hear_door(m, d, &said) && said.head.kind == WIRE_HELLO)
        take_hello(m, d, &said);
    return t->init;
}

static bool watch_doors(struct template *m)
{
    bool all = true;
    for (int i = 0; i < FORKER_DOORS; i++)
        all = all && watch_start(m->server, &m->door[i].watch, m->door[i].link.fd, EPOLLIN) == 0;
    return all;
}

/* Is the message that the clone should have taken still unread at the door, or did the init find it there?  If the first
 * process stays, the message there may be the next clone's. */
static bool lies_unread(const struct link *door, const struct wire_packet *p)
{
    int bytes = 0;
    return door->kept || (p->head.kind == WIRE_RESULT && p->head.a != WIRE_STAYS_BOTH &&
                          (p->head.b || (ioctl(door->fd, SIOCOUTQ, &bytes) == 0 && bytes)));
}

static bool was_killed(const struct wire_packet *p)
{
    struct box_result r;
    return p->head.kind == WIRE_RESULT && result_unpack(p->data, p->size, &r) == 0 && r.end == BOX_SIGNALLED;
}

/* Take a task's result, or its failure.  If a clone ended at its door without taking its task, end the template, too: the
 * task's descriptors may lie at the door, and would stay open.  If it was killed, it had not become the program yet. */
static void take_result(struct template *m, struct wire_packet *p)
{
    const struct template_door *d = door_of(m, m->given);
    bool unread = lies_unread(&d->link, p);
    if (p->head.kind == WIRE_RESULT && p->head.a != WIRE_STAYS_BOTH) {
        m->task->before_user_ns = d->user_ns;
        m->task->before_sys_ns = d->sys_ns;
    }
    if (unread && was_killed(p))
        task_failed(m->task, "the process that was to become the program was killed", 0);
    else
        task_take(m->task, p);
    if (unread)
        template_kill(m); /* its end also ends the task, if that has not ended yet */
}

/* A clone could not be made.  The one before it goes on to its end. */
static void clone_failed(struct template *m, uint32_t serial)
{
    bool waited_for = m->task && serial == m->given;
    m->stale = true;
    if (waited_for)
        task_failed(m->task, "a template could not be cloned", 0);
    if (waited_for || !m->task)
        template_kill(m);
}

/* Has the clone left nothing?  Whatever is made, removed, written or renamed in these directories changes the time of
 * something that existed before. */
static bool has_left_nothing(const struct template *m)
{
    bool same = m->shown_count;
    for (uint32_t i = 0; same && i < m->shown_count; i++) {
        const struct template_shown *one = &m->shown[i];
        struct stat s;
        same = fstat(one->fd, &s) == 0 && s.st_ctim.tv_sec == one->changed.tv_sec && s.st_ctim.tv_nsec == one->changed.tv_nsec;
    }
    return same;
}

static uint64_t ns_of(struct timeval t)
{
    return (uint64_t)t.tv_sec * 1000000000 + (uint64_t)t.tv_usec * 1000;
}

/* A clone has ended, none of its processes is left, and its first process stays.  The init must look at it only if it left
 * something, or met a limit. */
static void clone_ended(struct template *m, struct template_door *d, struct wire_packet *p)
{
    struct wire head = p->head;
    struct rusage use;
    struct buf b = BUF_INIT(WIRE_DATA_MAX);
    struct statvfs room;
    int status = (int)head.b;
    if (p->size != sizeof use || head.offset != m->given) {
        clone_failed(m, (uint32_t)head.offset);
        return;
    }
    if (m->told == m->given)
        return; /* the init will report how that went */
    memcpy(&use, p->data, sizeof use);
    struct box_result r = {.end = BOX_EXITED,
                           .status = WEXITSTATUS(status),
                           .text = "",
                           .cpu_user_ns = ns_of(use.ru_utime),
                           .cpu_sys_ns = ns_of(use.ru_stime),
                           .memory_peak_bytes = (uint64_t)use.ru_maxrss * 1024};
    d->user_ns += r.cpu_user_ns;
    d->sys_ns += r.cpu_sys_ns;
    bool full = r.status && (fstatvfs(m->shown[0].fd, &room) < 0 || !room.f_bfree);
    result_pack(&b, &r);
    if (full || r.status >= STATUS_OURS || !has_left_nothing(m) || b.failed) {
        link_send(&m->link, head, &use, sizeof use, NULL, 0);
        link_watch(m->server, &m->link, &m->watch);
    } else {
        p->head = (struct wire){.kind = WIRE_RESULT, .a = WIRE_STAYS_BOTH, .offset = m->given};
        p->size = b.size;
        memcpy(p->data, b.data, b.size);
        take_result(m, p);
    }
    buf_clear(&b);
}

static void door_event(struct watch *w, uint32_t events)
{
    struct template *m = w->owner;
    struct server *s = m->server;
    struct template_door *d = w == &m->door[0].watch ? &m->door[0] : &m->door[1];
    if ((events & EPOLLOUT) && link_flush(&d->link) == 0)
        link_watch(s, &d->link, w);
    if (!(events & (EPOLLIN | EPOLLHUP)) || !hear_door(m, d, &s->packet))
        return;
    switch (s->packet.head.kind) {
    case WIRE_HELLO:
        take_hello(m, d, &s->packet);
        break;
    case WIRE_MAIN:
        clone_ended(m, d, &s->packet);
        break;
    case WIRE_FAILED:
        clone_failed(m, s->packet.head.a);
        break;
    default:
        break;
    }
}

static void take_shown(struct template *m, struct wire_packet *p)
{
    struct stat s;
    for (int fd; m->shown_count < FORKER_SHOWN_MAX && (fd = wire_take_fd(p, m->shown_count)) >= 0; m->shown_count++)
        m->shown[m->shown_count] = (struct template_shown){fd, fstat(fd, &s) == 0 ? s.st_ctim : (struct timespec){0}};
}

static void take_packet(struct template *m, struct wire_packet *p)
{
    switch (p->head.kind) {
    case WIRE_HELLO:
        m->init = p->from;
        place_said(m->server, &m->cgroup, &p->head);
        break;
    case WIRE_LISTENER:
        take_listener(m, place_listener(&m->link, p));
        break;
    case WIRE_READY:
        take_shown(m, p);
        if (watch_doors(m))
            stand_ready(m);
        else
            template_kill(m);
        break;
    default:
        if (m->asked && p->head.offset > m->given) /* it was killed while it stood ready */
            template_kill(m);
        else if (m->task)
            take_result(m, p);
        else if (m->asked) /* the task whose clone it was is gone */
            served(m, (enum wire_stays)p->head.a);
        else
            template_give_up(m, m->key->cold ? m->key->cold : "its program ends before it uses a channel");
        break;
    }
}

static void template_event(struct watch *w, uint32_t events)
{
    struct template *m = w->owner;
    struct server *s = m->server;
    if ((events & EPOLLOUT) && link_flush(&m->link) == 0)
        link_watch(s, &m->link, w);
    if (!(events & (EPOLLIN | EPOLLHUP)))
        return;
    int n = wire_receive(m->link.fd, &s->packet, MSG_DONTWAIT);
    if (n < 0 && errno == EAGAIN)
        return;
    if (n > 0)
        take_packet(m, &s->packet);
    wire_close_fds(&s->packet);
    if (n > 0)
        return;
    if (m->step != STEP_OVER && !m->key->cold && !m->stale)
        m->key->cold = "its template ended before it could be cloned";
    if (m->task)
        task_gone(m->task);
    template_free(m);
}

/* A call was notified: of the task that the template serves or, before it makes clones, of the template's own program.  A
 * clone whose task did not wait for it belongs to nobody, and dies. */
static void listener_event(struct watch *w, uint32_t events)
{
    struct template *m = w->owner;
    struct err e;
    if (m->task)
        task_first(m->task); /* the answer may depend on which process is the clone's first */
    if (m->task)
        task_calls(m->task, w, events);
    else if (m->asked || notify_answer(m->notify, (short)events, &e) < 0)
        watch_stop(m->server, w); /* until the next task comes */
}

/* Replace the stand-ins by the task's own ports in the state that was copied. */
static void exchange_ports(const struct template *m, struct notify *n, const struct region *r,
                           const struct box_task *plan)
{
    uint32_t count = 0;
    for (uint32_t i = 0; i < plan->port_count; i++) {
        const struct box_port *p = &plan->port[i];
        struct stat s;
        if (p->channel < 0 && p->file < 0)
            continue;
        int fd = p->channel < 0 ? r->fd[p->file]
                 : p->write     ? r->channel[p->channel].write_end
                                : r->channel[p->channel].read_end;
        if (fstat(fd, &s) == 0)
            notify_exchange(n, m->device[count], m->inode[count], s.st_dev, s.st_ino);
        count++;
    }
}

/* Give the clone to the task: what its listener reports is the task's from here on. */
bool template_begin(struct template *m, struct task *t, const int *fd, uint32_t count)
{
    const struct region *r = t->region;
    const struct box_task *plan = &r->spec.region.task[t->index];
    bool asked = m->asked > m->given || ask_next(m);
    struct template_door *d = door_of(m, m->given + 1);
    struct err e;
    m->ready = false;
    t->notify = notify_copy(m->notify, &e);
    if (!t->notify || !asked ||
        (m->notify_watch.fd < 0 && watch_start(m->server, &m->notify_watch, notify_fd(m->notify), EPOLLIN) < 0) ||
        link_send(&d->link, (struct wire){.kind = WIRE_BEGIN, .a = m->given + 1}, NULL, 0, fd, count) < 0) {
        notify_free(t->notify);
        t->notify = NULL;
        template_kill(m);
        return false;
    }
    m->given++;
    link_watch(m->server, &d->link, &d->watch);
    notify_become(t->notify, plan->stream);
    exchange_ports(m, t->notify, r, plan);
    m->task = t;
    t->template = m;
    t->cgroup = m->cgroup;
    cgroup_limit(t->cgroup, &plan->limit); /* only CPU time: tasks with other limits start cold */
    t->init = d->init;
    if (region_awaited(r) && !ask_ahead(m))
        m->stale = true;
    return true;
}

void template_tell(const struct task *t, struct wire head)
{
    struct template *m = t->template;
    if (!m)
        return;
    head.b = m->told = m->given;
    link_send(&m->link, head, NULL, 0, NULL, 0);
    link_watch(m->server, &m->link, &m->watch);
}
