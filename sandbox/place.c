/* A place for a task is an init with its namespaces and mounts, and a process that is already behind its filter and only
 * lacks its program (init.c).  No place depends on the task, so some are kept ready; a task takes one and has it to
 * itself.  So a start costs a message and an exec.  A used place is replaced only after the task's result was sent.  It is
 * used again: only the process is made anew, and /job and /tmp if the task did not leave them as they were.
 *
 * A server's first place shows that the host permits all that a task needs, but its program: until it stands no task starts, so
 * what a host refuses is found before anything runs.  A server that has only one region keeps no other one ready.  Nor is one kept
 * for tasks that must be known first: those that need a root of their own, or a filter that few tasks use. */
#include "base/fds.h"
#include "sandbox/filter.h"
#include "sandbox/mounts.h"
#include "sandbox/notify_task.h"
#include "sandbox/result.h"
#include "sandbox/server.h"
#include "sandbox/syscalls.h"

#include <errno.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

/* If a place cannot be used again so many are made anew before that is tried once more: the first time, and at most. */
#define AGAIN_PAUSE_FIRST 16
#define AGAIN_PAUSE_MOST  4096

struct ready_place {
    struct server *server;
    struct place place;
    unsigned variant;
    struct watch watch;
    bool again; /* it has served a task before */
    struct ready_place *next;
};

static void forget(struct server *s, struct place *p)
{
    fd_close(&p->listener);
    link_clear(&p->link);
    cgroup_give_back(&s->cgroups, p->cgroup);
    p->cgroup = NULL;
}

bool place_watches(const struct box_task *t)
{
    bool told = false;
    for (uint32_t i = 0; i < t->port_count; i++)
        told |= t->port[i].name || t->port[i].null;
    return told || filter_watches(t->argv, t->env);
}

static unsigned variant_of(const struct box_task *t)
{
    const struct box_limits *l = &t->limit;
    bool quota = false;
    for (uint32_t i = 0; i < t->port_count; i++)
        quota |= t->port[i].quota != 0;
    return (place_watches(t) ? FILTER_OPENS : 0) | (quota ? FILTER_QUOTA : 0) |
           (l->memory_bytes ? FILTER_MEMORY : 0) | (l->files ? FILTER_FILES : 0) | (t->trace ? FILTER_TRACE : 0);
}

static bool is_usual(const struct server *s, const struct box_task *t, unsigned variant)
{
    return !s->none && (variant == FILTER_PLAIN || variant == FILTER_OPENS) && !mounts_need_root(t);
}

void place_said(struct server *s, struct cgroup **g, const struct wire *hello)
{
    if (!*g || !hello->a)
        return;
    cgroups_refused(&s->cgroups);
    cgroup_give_back(&s->cgroups, *g);
    *g = NULL;
}

/* Make a new link; returns the init's end of it, or -1. */
static int new_link(struct place *p, struct err *e)
{
    int pair[2], on = 1;
    *p = (struct place){.link = LINK_INIT, .listener = -1};
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0)
        return err_sys(e, "cannot make a task's socket");
    p->link.fd = pair[0];
    setsockopt(pair[0], SOL_SOCKET, SO_PASSCRED, &on, sizeof on);
    return pair[1];
}

/* Ask the zygote for a place. */
static int place_new(struct server *s, unsigned variant, bool task_first, struct place *p, struct err *e)
{
    int init = new_link(p, e);
    if (init < 0)
        return -1;
    p->cgroup = cgroup_take(&s->cgroups);
    const int fd[] = {init, cgroup_fd(p->cgroup)};
    int sent = link_send(&s->tasks, (struct wire){.kind = WIRE_PLACE, .a = variant, .b = task_first}, NULL, 0, fd, 1 + (fd[1] >= 0));
    close(init);
    link_watch(s, &s->tasks, &s->tasks_watch);
    if (sent == 0)
        return 0;
    forget(s, p);
    return err_set(e, ERR_GONE, "cannot hand the task to the sandbox");
}

/* A pidfd for the process that holds the other end of l; -1: it does not, or does not exist.  As long as that end is open,
 * its number cannot have become another process's. */
static int open_process(const struct link *l, pid_t pid)
{
    struct pollfd still = {.fd = l->fd};
    int pidfd = (int)syscall(SYS_pidfd_open, pid, 0);
    if (pidfd >= 0 && (poll(&still, 1, 0) < 0 || (still.revents & POLLHUP))) {
        fd_close(&pidfd);
        errno = ESRCH;
    }
    return pidfd;
}

/* Take over the process's descriptor of this number. */
static int take_fd(const struct link *l, pid_t pid, int number)
{
    int pidfd = open_process(l, pid);
    int fd = pidfd < 0 ? -1 : (int)syscall(SYS_pidfd_getfd, pidfd, number, 0);
    int saved = errno;
    fd_close(&pidfd);
    errno = saved;
    return fd;
}

void place_kill(const struct link *l, pid_t init)
{
    int pidfd = open_process(l, init);
    if (pidfd >= 0)
        syscall(SYS_pidfd_send_signal, pidfd, SIGKILL, NULL, 0);
    fd_close(&pidfd);
}

int place_listener(const struct link *l, const struct wire_packet *p)
{
    return take_fd(l, p->from, (int)p->head.a);
}

/* --- places that end --- */

/* The place of a task whose result was sent: all its processes are dead but the init, which holds nothing but its mounts. */
struct leaving {
    struct server *server;
    struct link link;
    struct notify *notify; /* freed later, as closing it takes the kernel a while */
    struct cgroup *cgroup;
    struct watch watch;
    bool let_go, again;
    unsigned variant; /* with `again`: the place serves further tasks, of this variant */
    struct leaving *next;
};

static void left(struct leaving *l)
{
    struct leaving **at = &l->server->leaving;
    while (*at != l)
        at = &(*at)->next;
    *at = l->next;
    l->server->leaving_count--;
    watch_stop(l->server, &l->watch);
    link_clear(&l->link);
    notify_free(l->notify);
    cgroup_give_back(&l->server->cgroups, l->cgroup);
    free(l);
}

static void leaving_event(struct watch *w, uint32_t events)
{
    (void)events; /* the init says nothing more; this is its end */
    left(w->owner);
}

void place_leave(struct server *s, struct link *link, struct notify *notify, struct cgroup *cgroup, const struct box_task *again)
{
    struct leaving *l = link->fd < 0 ? NULL : calloc(1, sizeof *l);
    if (!l) {
        link_clear(link);
        notify_free(notify);
        cgroup_give_back(&s->cgroups, cgroup);
        return;
    }
    l->server = s;
    l->link = *link;
    l->notify = notify;
    l->cgroup = cgroup;
    l->variant = again ? variant_of(again) : 0;
    l->again = again && !cgroup && is_usual(s, again, l->variant);
    *link = LINK_INIT;
    l->watch = (struct watch){-1, leaving_event, l};
    l->next = s->leaving;
    s->leaving = l;
    s->leaving_count++;
}

static void let_them_go(struct server *s)
{
    for (struct leaving *l = s->leaving, *next; l && !l->let_go; l = next) {
        next = l->next;
        l->let_go = true;
        notify_free(l->notify);
        l->notify = NULL;
        if (shutdown(l->link.fd, SHUT_WR) < 0 || watch_start(s, &l->watch, l->link.fd, EPOLLIN) < 0)
            left(l);
    }
}

/* A used place that serves further tasks and has this variant of the filter. */
static struct leaving *who_stays(struct server *s, unsigned variant)
{
    struct leaving *l = s->last_number < 0 ? NULL : s->leaving;
    while (l && !(l->again && !l->let_go && l->variant == variant))
        l = l->next;
    if (!l || !s->again_skip)
        return l;
    s->again_skip--;
    return NULL;
}

void place_again_went(struct server *s, bool well)
{
    if (well)
        s->again_pause = 0;
    else if (s->again_pause < AGAIN_PAUSE_MOST)
        s->again_pause = s->again_pause ? 2 * s->again_pause : AGAIN_PAUSE_FIRST;
    s->again_skip = s->again_pause;
}

/* Use a place again, over a new link, so that no message about the last task can be taken for one about the next. */
static int place_again(struct leaving *l, struct place *p)
{
    struct err e;
    int init = new_link(p, &e);
    if (init < 0)
        return -1;
    const int fd[] = {init, l->server->last_number};
    int sent = link_send(&l->link, (struct wire){.kind = WIRE_PLACE}, NULL, 0, fd, 2);
    close(init);
    if (sent < 0 || l->link.kept) {
        link_clear(&p->link);
        return -1;
    }
    left(l);
    return 0;
}

/* --- places that are kept ready --- */

static void take_out(struct ready_place *r)
{
    struct ready_place **at = &r->server->places;
    while (*at != r)
        at = &(*at)->next;
    *at = r->next;
    watch_stop(r->server, &r->watch);
}

static void drop(struct ready_place *r)
{
    take_out(r);
    forget(r->server, &r->place);
    free(r);
}

/* Why a server's first place failed; n: what receiving its last message returned. */
static void first_failed(struct server *s, int n, const struct wire_packet *p)
{
    struct box_result r;
    struct err e;
    err_set(&e, ERR_GONE, "the sandbox's first place has died");
    if (n > 0 && p->head.kind == WIRE_FAILED) {
        err_set(&e, (int)p->head.a, "%s", p->data);
    } else if (n > 0 && p->head.kind == WIRE_LISTENER) {
        err_sys(&e, "cannot take over a program's system calls (pidfd_getfd)");
    } else if (n > 0 && p->head.kind == WIRE_RESULT && result_unpack(p->data, p->size, &r) == 0) {
        err_set(&e, ERR_IO, "%s", r.text);
        e.sys = r.sys;
    }
    server_lose(s, &e);
}

/* Take the two messages of a new place.  Anything else means that it failed; the next task will be told why. */
static void place_event(struct watch *w, uint32_t events)
{
    struct ready_place *r = w->owner;
    struct wire_packet *p = &r->server->packet;
    (void)events;
    int n = wire_receive(r->place.link.fd, p, MSG_DONTWAIT);
    if (n < 0 && errno == EAGAIN)
        return;
    bool ready = r->place.listener >= 0;
    bool good = n > 0 && (p->head.kind == WIRE_HELLO || p->head.kind == WIRE_LISTENER);
    if (good && p->head.kind == WIRE_HELLO) {
        r->place.init = p->from;
        place_said(r->server, &r->place.cgroup, &p->head);
    } else if (good)
        good = (r->place.listener = place_listener(&r->place.link, p)) >= 0;
    if (!r->server->ready && !good)
        first_failed(r->server, n, p);
    r->server->ready |= good && r->place.listener >= 0;
    if (n > 0)
        wire_close_fds(p);
    if (r->again && !ready && (!good || r->place.listener >= 0))
        place_again_went(r->server, good);
    if (!good)
        drop(r);
}

/* -1 also if a used place could not be used again, without a word in *e. */
static int make_ready(struct server *s, unsigned variant, struct err *e)
{
    struct leaving *stays = who_stays(s, variant);
    struct ready_place *r = calloc(1, sizeof *r);
    if (!r)
        return err_nomem(e);
    if ((stays ? place_again(stays, &r->place) : place_new(s, variant, false, &r->place, e)) < 0) {
        free(r);
        return -1;
    }
    r->again = stays;
    r->server = s;
    r->variant = variant;
    r->watch = (struct watch){-1, place_event, r};
    r->next = s->places;
    s->places = r;
    if (watch_start(s, &r->watch, r->place.link.fd, EPOLLIN) == 0)
        return 0;
    err_sys(e, "cannot watch a place");
    drop(r);
    return -1;
}

int places_begin(struct server *s, struct err *e)
{
    s->ready = s->none;
    return s->none ? 0 : make_ready(s, FILTER_PLAIN, e);
}

static void refill(struct server *s)
{
    struct err e;
    for (unsigned variant = 0; variant < PLACE_VARIANTS; variant++) {
        uint32_t ready = 0;
        for (const struct ready_place *r = s->places; r; r = r->next)
            ready += r->variant == variant;
        for (; s->places_used[variant] && ready < s->places_max; ready++, s->places_used[variant]--)
            make_ready(s, variant, &e); /* if not, the next task starts without a ready place */
        s->places_used[variant] = 0;
    }
}

/* The work that can wait until all results were sent. */
void places_tend(struct server *s)
{
    if (s->leaving && !s->leaving->let_go)
        sched_yield(); /* let the caller go on first, if we share a CPU */
    refill(s);
    let_them_go(s);
}

void places_clear(struct server *s)
{
    while (s->places)
        drop(s->places);
    while (s->leaving)
        left(s->leaving);
}

/* --- a place for a task --- */

/* The number of the directory in PATH that has the program, if the program is known to start by the loader shim: being
 * notified of its exec would tell us nothing.  For a name with a slash it is the first.  No directory before it belongs to
 * the task. */
static uint32_t known_program(const struct box_task *t)
{
    const char *name = t->argv[0], *at = spec_path(t);
    char path[256];
    if (strchr(name, '/'))
        return notify_knows_program(name) ? 0 : WIRE_ASK;
    for (uint32_t i = 0;; i++, at++) {
        size_t n = strcspn(at, ":");
        snprintf(path, sizeof path, "%.*s/%s", (int)n, at, name);
        if (n + strlen(name) + 2 > sizeof path || !path_of_image(path))
            return WIRE_ASK;
        if (notify_knows_program(path))
            return i;
        if (!*(at += n))
            return WIRE_ASK;
    }
}

static int tell(struct place *p, const struct region *r, uint32_t task, bool is_template)
{
    const struct slice *bytes = &r->spec.task[task];
    const struct box_task *t = &r->spec.region.task[task];
    /* If its exec is notified we know that the init holds the listener until we have taken it. */
    bool asks = is_template || t->trace || p->listener < 0;
    struct wire h = {.kind = WIRE_TASK, .a = is_template, .b = asks ? WIRE_ASK : known_program(t)};
    p->unasked = h.b != WIRE_ASK;
    if (bytes->size <= WIRE_DATA_MAX)
        return link_send(&p->link, h, bytes->data, bytes->size, NULL, 0);
    h.offset = (uint64_t)((const char *)bytes->data - (const char *)r->map);
    h.size = bytes->size;
    return link_send(&p->link, h, NULL, 0, &r->spec_fd, 1);
}

/* A place of this variant that is ready, or else one that will be; but not one of which that is in doubt. */
static struct ready_place *ready_with(const struct server *s, unsigned variant)
{
    struct ready_place *found = NULL;
    for (struct ready_place *r = s->places; r && (!found || found->place.listener < 0); r = r->next)
        if (r->variant == variant && (r->place.listener >= 0 || (!found && !(r->again && s->again_pause))))
            found = r;
    return found;
}

int place_take(struct server *s, const struct region *r, uint32_t task, bool is_template, struct place *p, struct err *e)
{
    const struct box_task *t = &r->spec.region.task[task];
    unsigned variant = variant_of(t);
    struct ready_place *ready;
    while (is_usual(s, t, variant) && (ready = ready_with(s, variant))) {
        bool there = tell(&ready->place, r, task, is_template) == 0;
        if (there) {
            *p = ready->place;
            p->used_again = ready->again && p->listener < 0;
            ready->place = (struct place){.link = LINK_INIT, .listener = -1};
            cgroup_limit(p->cgroup, &t->limit);
        }
        drop(ready); /* it has died, or what is left of it was moved to the task */
        if (there)
            return 0;
    }
    if (place_new(s, variant, s->none || mounts_need_root(t), p, e) < 0)
        return -1;
    cgroup_limit(p->cgroup, &t->limit);
    if (tell(p, r, task, is_template) == 0)
        return 0;
    forget(s, p);
    return err_set(e, ERR_GONE, "cannot hand the task to the sandbox");
}

void place_answered(struct server *s, const struct box_task *t)
{
    unsigned variant = variant_of(t);
    if (is_usual(s, t, variant) && s->regions_begun > 1)
        s->places_used[variant]++;
}
