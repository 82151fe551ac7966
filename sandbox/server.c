/* The server's loop: handles the caller's requests, messages of the zygote, and children that change state. */
#include "sandbox/server.h"
#include "base/fds.h"
#include "sandbox/filter.h"
#include "sandbox/syscalls.h"
#include "sandbox/template.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#define ASKS_IN_A_ROW 16 /* calls of one task that are answered before all others are looked at */

int watch_start(struct server *s, struct watch *w, int fd, uint32_t events)
{
    struct epoll_event ev = {.events = events, .data.ptr = w};
    if (epoll_ctl(s->epoll, EPOLL_CTL_ADD, fd, &ev) < 0)
        return -1;
    w->fd = fd;
    return 0;
}

static void watch_change(struct server *s, struct watch *w, uint32_t events)
{
    struct epoll_event ev = {.events = events, .data.ptr = w};
    epoll_ctl(s->epoll, EPOLL_CTL_MOD, w->fd, &ev);
}

void watch_stop(struct server *s, struct watch *w)
{
    if (w->fd >= 0)
        epoll_ctl(s->epoll, EPOLL_CTL_DEL, w->fd, NULL);
    if (s->asking == w)
        s->asking = NULL;
    w->fd = -1;
}

void link_watch(struct server *s, struct link *l, struct watch *w)
{
    if (w->fd < 0 || (!l->kept && !l->awaits_room))
        return; /* nothing to change */
    l->awaits_room = l->kept;
    watch_change(s, w, EPOLLIN | (l->kept ? EPOLLOUT : 0u));
}

static void tell_now(struct server *s, struct wire head, const void *data, size_t size, const int *fds, size_t fd_count)
{
    if (link_send(&s->control, head, data, size, fds, fd_count) < 0)
        s->ended = true; /* the caller is gone or does not read: there is nobody to work for */
    else if (s->control.kept)
        link_watch(s, &s->control, &s->control_watch);
}

/* Send the messages that were gathered. */
static void tell_gathered(struct server *s)
{
    size_t size = s->telling_bytes;
    s->telling_bytes = 0;
    s->telling_due = false;
    if (size)
        tell_now(s, (struct wire){.kind = WIRE_MANY}, s->telling, size, NULL, 0);
}

static bool gather(struct server *s, struct wire head, const void *data, size_t size)
{
    uint32_t bytes = (uint32_t)size;
    size_t whole = sizeof head + sizeof bytes + size;
    char *at;
    if (whole > sizeof s->telling)
        return false;
    if (whole > sizeof s->telling - s->telling_bytes)
        tell_gathered(s);
    at = s->telling + s->telling_bytes;
    memcpy(at, &head, sizeof head);
    memcpy(at + sizeof head, &bytes, sizeof bytes);
    if (size)
        memcpy(at + sizeof head + sizeof bytes, data, size);
    s->telling_bytes += whole;
    return true;
}

void server_tell(struct server *s, struct wire head, const void *data, size_t size, const int *fds,
                 size_t fd_count)
{
    if (!fd_count && gather(s, head, data, size)) {
        s->telling_due = true;
        return;
    }
    tell_gathered(s);
    tell_now(s, head, data, size, fds, fd_count);
}

void server_tell_later(struct server *s, struct wire head)
{
    gather(s, head, NULL, 0);
}

void server_lose(struct server *s, struct err *e)
{
    host_explain(e);
    server_tell(s, (struct wire){.kind = WIRE_LOST, .a = (uint32_t)e->code, .b = (uint32_t)e->sys},
                e->text, strlen(e->text), NULL, 0);
    s->ended = true;
}

static int take_control(struct server *s, struct wire_packet *p, struct err *e)
{
    struct region *r = region_find(s, p->head.region);
    switch (p->head.kind) {
    case WIRE_RUN:
        return region_new(s, p, e);
    case WIRE_FDS:
        return region_more(s, p, e);
    case WIRE_STOP:
        if (r)
            region_stop(r);
        return 0;
    case WIRE_BREAK:
        if (r && r->started && p->head.a < r->spec.region.channel_count) {
            if (r->spec.region.channel[p->head.a].end == BOX_FEED)
                return -1; /* the readers of such a channel are programs */
            channel_break(&r->channel[p->head.a]);
        }
        if (r)
            region_settle(r);
        return 0;
    case WIRE_HOLD:
        if (r && r->started && p->head.a < r->spec.region.channel_count)
            pump_hold(&r->channel[p->head.a], p->head.b != 0);
        return 0;
    case WIRE_FEED:
    case WIRE_FEED_END:
        return r && r->started ? region_feed(r, p) : 0;
    case WIRE_RELEASE:
        if (r)
            r->after = 0;
        return 0;
    case WIRE_FORGET:
        templates_drop(s);
        return 0;
    case WIRE_THERE:
        server_tell(s, (struct wire){.kind = WIRE_THERE}, NULL, 0, NULL, 0);
        return 0;
    case WIRE_LOOK:
        if (r)
            look_region(s, r);
        return 0;
    default:
        return -1;
    }
}

static void control_ready(struct watch *w, uint32_t events)
{
    struct server *s = w->owner;
    if ((events & EPOLLOUT) && link_flush(&s->control) < 0)
        s->ended = true;
    if (events & EPOLLOUT)
        link_watch(s, &s->control, w);
    if (!(events & (EPOLLIN | EPOLLHUP)))
        return;
    int n = wire_receive(s->control.fd, &s->packet, MSG_DONTWAIT);
    if (n < 0 && errno == EAGAIN)
        return;
    struct err e;
    err_set(&e, ERR_PROTO, "zpipe-box was asked for what makes no sense");
    if (n <= 0)
        s->ended = true;
    else if (take_control(s, &s->packet, &e) < 0)
        server_lose(s, &e);
    wire_close_fds(&s->packet);
}

static void zygote_ready(struct watch *w, uint32_t events)
{
    struct server *s = w->owner;
    struct err e;
    if ((events & EPOLLOUT) && link_flush(&s->tasks) == 0)
        link_watch(s, &s->tasks, w);
    if (!(events & (EPOLLIN | EPOLLHUP)))
        return;
    int n = wire_receive(s->tasks.fd, &s->packet, MSG_DONTWAIT);
    if (n < 0 && errno == EAGAIN)
        return;
    if (n > 0 && s->packet.head.kind == WIRE_READY) {
        if (places_begin(s, &e) < 0)
            server_lose(s, &e);
        return;
    }
    err_set(&e, ERR_GONE, "the sandbox's first process has died");
    if (n > 0 && s->packet.head.kind == WIRE_FAILED) {
        err_set(&e, (int)s->packet.head.a, "%s", s->packet.data);
        e.sys = (int)s->packet.head.b;
    }
    server_lose(s, &e);
}

static void mounts_ready(struct watch *w, uint32_t events)
{
    struct server *s = w->owner;
    struct err e;
    if ((events & EPOLLOUT) && link_flush(&s->mounts) == 0)
        link_watch(s, &s->mounts, w);
    if (!(events & (EPOLLIN | EPOLLHUP)))
        return;
    int n = wire_receive(s->mounts.fd, &s->packet, MSG_DONTWAIT);
    if (n < 0 && errno == EAGAIN)
        return;
    if (n > 0) {
        if (s->packet.head.kind == WIRE_FAILED)
            task_file_failed(s, &s->packet.head);
        else if (s->packet.head.kind == WIRE_USERS)
            template_take_users(s, &s->packet);
        wire_close_fds(&s->packet);
        return;
    }
    /* The mounter ends with the zygote, whose message, if there is one, says why. */
    watch_stop(s, w);
    if (s->tasks_watch.fd < 0) {
        err_set(&e, ERR_GONE, "the sandbox's mounting process has died");
        server_lose(s, &e);
    }
}

/* The guard ends by itself only after the zygote, whose end is reported elsewhere.  false: some other process ended. */
static bool guard_ended(struct server *s, pid_t pid, int status)
{
    struct err e;
    if (pid != s->guard)
        return false;
    if (status) {
        err_set(&e, ERR_GONE, "the guard of zpipe-box's sandboxes was killed");
        server_lose(s, &e);
    }
    return true;
}

static void children_ready(struct watch *w, uint32_t events)
{
    struct server *s = w->owner;
    struct signalfd_siginfo info;
    (void)events;
    while (read(w->fd, &info, sizeof info) > 0)
        ;
    for (;;) {
        int status;
        pid_t pid = waitpid(-1, &status, WNOHANG | __WALL);
        if (pid <= 0)
            return;
        if (guard_ended(s, pid, status) || pid == s->zygote.pid || pump_ended(s, pid, status) || template_stopped(s, pid, status))
            continue;
        notify_stopped(pid, status);
        if (turns_stopped(s, pid, status))
            freeze_look(s);
        else
            freeze_stopped(s, pid, status); /* resumes a thread that nobody wants to stop */
    }
}

/* A signal to our caller's process group is the caller's affair: we end with its socket.  SIGTERM stays blocked if the caller has
 * blocked it, as libzpipe does; somebody who starts us otherwise may end us with it. */
static void take_signals(void)
{
    static const int ignored[] = {SIGINT, SIGQUIT, SIGHUP, SIGPIPE, SIGXFSZ};
    sigset_t mask;
    for (size_t i = 0; i < sizeof ignored / sizeof *ignored; i++)
        signal(ignored[i], SIG_IGN);
    sigprocmask(SIG_SETMASK, NULL, &mask);
    bool blocked = sigismember(&mask, SIGTERM);
    sigemptyset(&mask);
    sigaddset(&mask, SIGCHLD);
    if (blocked)
        sigaddset(&mask, SIGTERM);
    sigprocmask(SIG_SETMASK, &mask, NULL);
}

static int prepare(struct server *s, struct err *e)
{
    sigset_t child;
    struct rlimit files;
    take_signals();
    sigemptyset(&child);
    sigaddset(&child, SIGCHLD);
    if (getrlimit(RLIMIT_NOFILE, &files) < 0)
        return err_sys(e, "cannot read the limit of open files");
    if (files.rlim_max < HOST_FILES_MIN)
        return err_set(e, ERR_LIMIT,
                       "a sandbox needs %d open files and this process may have %llu; raise the hard "
                       "limit (ulimit -Hn)",
                       HOST_FILES_MIN, (unsigned long long)files.rlim_max);
    files.rlim_cur = files.rlim_max;
    setrlimit(RLIMIT_NOFILE, &files);
    int signals = signalfd(-1, &child, SFD_CLOEXEC | SFD_NONBLOCK);
    s->epoll = epoll_create1(EPOLL_CLOEXEC);
    if (signals < 0 || s->epoll < 0 || watch_start(s, &s->signal_watch, signals, EPOLLIN) < 0 ||
        watch_start(s, &s->control_watch, s->control.fd, EPOLLIN) < 0)
        return err_sys(e, "cannot wait for events");
    if (filter_prepare(FILTER_PLAIN, e) < 0 || filter_prepare(FILTER_OPENS, e) < 0)
        return -1;
    if (s->none)
        fprintf(stderr, "zpipe-box: WARNING: --isolation=none: programs run without a sandbox; nothing is "
                        "kept from them and no result is certified\n");
    cgroups_open(&s->cgroups);
    if (zygote_start(&s->zygote, s->none, e) < 0)
        return -1;
    if (guard_start(s, e) < 0)
        return -1;
    s->tasks.fd = s->zygote.tasks;
    s->mounts.fd = s->zygote.mounts;
    if (watch_start(s, &s->tasks_watch, s->tasks.fd, EPOLLIN) < 0 ||
        (!s->none && watch_start(s, &s->mounts_watch, s->mounts.fd, EPOLLIN) < 0))
        return err_sys(e, "cannot wait for the sandbox");
    return 0;
}

/* Wait for an event.  A task that asks often is waited for at its listener itself: that wakes us on the task's CPU, and so the
 * two take turns there; an epoll that watches the listener does not pass that on, and wakes us on an idle CPU, at ten times the
 * price where that must be told by an interrupt. */
static int wait_once(struct server *s, struct epoll_event *ev)
{
    struct watch *w = s->asking;
    struct pollfd p[] = {{.fd = w ? w->fd : -1, .events = POLLIN}, {.fd = s->epoll, .events = POLLIN}};
    if (w && s->asked++ % ASKS_IN_A_ROW && poll(p, 2, -1) >= 0 && p[0].revents) {
        *ev = (struct epoll_event){.events = (uint32_t)p[0].revents, .data.ptr = w};
        return 1;
    }
    return epoll_wait(s->epoll, ev, 1, -1);
}

static int serve_once(struct server *s)
{
    struct epoll_event ev;
    int n = wait_once(s, &ev);
    if (n < 0 && errno != EINTR)
        return -1;
    if (n == 1) {
        struct watch *w = ev.data.ptr;
        w->run(w, ev.events);
        region_end_failed(s);
        region_start_more(s);
        if (s->telling_due)
            tell_gathered(s);
        templates_tend(s);
        places_tend(s);
        lane_tend(s);
    }
    return 0;
}

/* Kill everything below us: the zygote with its pid namespace, and the pumps one by one. */
static void take_down(struct server *s)
{
    pump_kill_all(s);
    if (s->zygote.pid > 0)
        kill(s->zygote.pid, SIGKILL);
    while (waitpid(-1, NULL, __WALL) >= 0 || errno == EINTR)
        ;
    while (s->region)
        region_free(s->region);
    template_clear(s);
    places_clear(s);
    pump_forget_all(s);
    cgroups_close(&s->cgroups);
    link_clear(&s->control);
    link_clear(&s->tasks);
    link_clear(&s->mounts);
}

static uint32_t cpus_for(const struct server_options *o)
{
    long cpus = o->lane ? 1 : sysconf(_SC_NPROCESSORS_ONLN);
    return cpus > 0 ? (uint32_t)cpus : 1;
}

int server_main(int control, const struct server_options *o)
{
    static struct server s;
    struct err e;
    s.none = o->isolation_none;
    s.unusual = unusual_host();
    program_raise();
    s.no_templates = o->no_templates;
    s.cpus = cpus_for(o);
    s.places_max = o->lane ? LANE_PLACES : s.cpus < PLACES_MAX ? s.cpus : PLACES_MAX;
    s.templates_kib_max = o->lane ? LANE_TEMPLATES_KIB_MAX : TEMPLATES_KIB_MAX;
    s.users = s.changes = -1;
    s.last_number = open("/proc/sys/kernel/ns_last_pid", O_RDWR | O_CLOEXEC);
    s.cgroups = CGROUPS_INIT;
    s.control = s.tasks = s.mounts = LINK_INIT;
    s.control.fd = control;
    s.control_watch = (struct watch){-1, control_ready, &s};
    s.tasks_watch = (struct watch){-1, zygote_ready, &s};
    s.mounts_watch = (struct watch){-1, mounts_ready, &s};
    s.signal_watch = (struct watch){-1, children_ready, &s};
    s.lane.timer.fd = -1;
    if (prepare(&s, &e) < 0 || lane_start(&s, o->lane, &e) < 0)
        server_lose(&s, &e);
    while (!s.ended && serve_once(&s) == 0)
        ;
    tell_gathered(&s);
    take_down(&s);
    return 0;
}
