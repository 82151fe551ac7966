/* Starts a task, as a clone of a template or cold: sends its descriptors and inputs to its init. */
#include "base/fds.h"
#include "sandbox/forker.h"
#include "sandbox/server.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

/* Our descriptor for this port; -1: none. */
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

/* The path of the file that fd is open on, if a path still leads to it. */
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

int file_send(const struct file_sender *to, uint32_t i, const struct box_file *f, char *why,
              size_t size)
{
    struct server *s = to->server;
    struct wire h = {.kind = WIRE_OPEN, .region = to->region, .task = to->task, .a = i};
    char path[ERR_TEXT_MAX * 4];
    struct stat st;
    int own = -1;
    if (spec_is_made(f))
        return 0; /* its init makes it */
    if (f->copy || f->size) {
        int fd = f->path ? (own = open(f->path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY))
                         : to->fd[f->fd];
        int r = fd < 0 ? cannot_open(f, why, size) : send_copy(to, i, fd);
        fd_close(&own);
        return r;
    }
    if (geteuid() == 0)
        h.b |= WIRE_OPEN_READABLE;
    if (f->path && s->none) { /* without a wall, its init makes a link */
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
    if (r == EPIPE) {
        snprintf(why, size, "the mounting process is gone");
    } else if (r) {
        struct err e;
        errno = r;
        err_sys(&e, "cannot ask for the input '%s'", f->name);
        snprintf(why, size, "%s", e.text);
    }
    return r;
}

static bool send_file(struct task *t, uint32_t i, const struct box_file *f)
{
    struct region *r = t->region;
    struct file_sender to = {r->server, &t->link, r->fd, r->id, t->index};
    struct stat s;
    char why[ERR_TEXT_MAX];
    if (f->path && stat(f->path, &s) == 0 && S_ISFIFO(s.st_mode))
        t->uncertified_why = "an input is a fifo, which gives what has come";
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
    /* The sandbox may not read it, but perhaps we may, and can pass on a copy. */
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
    t->cgroup = p.cgroup;
    t->unasked = p.unasked;
    t->used_again = p.used_again;
    task_asked(t);
    if (p.listener >= 0)
        task_take_listener(t, p.listener);
    return 0;
}

/* Start the task as a clone of the template, whose filter and listener it has.  1: the template has gone meanwhile. */
static int start_warm(struct task *t, struct template *m, struct err *e)
{
    const struct box_task *plan = &t->region->spec.region.task[t->index];
    int fd[FORKER_PORTS_MAX];
    uint32_t count = 0;
    for (uint32_t i = 0; i < plan->port_count; i++) {
        int one = port_fd(t->region, &plan->port[i]);
        if (one >= 0)
            fd[count++] = one; /* template_key has made sure that there are not too many */
    }
    t->warm = template_begin(m, t, fd, count);
    if (!t->warm) {
        t->cold_why = "its template has gone";
        return 1;
    }
    task_asked(t);
    if (t->init)
        task_has_init(t, t->init); /* the clone exists already, and takes them */
    notify_uses(t->notify, task_uses, t);
    turns_begin(t);
    return task_give_files(t, plan, e);
}

/* Note the offsets of the caller's files before the task uses them; a pipe has none. */
static void note_places(struct region *r, const struct box_task *plan)
{
    for (uint32_t i = 0; i < plan->port_count; i++) {
        int file = plan->port[i].channel < 0 ? plan->port[i].file : -1;
        off_t at = file < 0 ? 0 : lseek(r->fd[file], 0, SEEK_CUR);
        if (file >= 0)
            r->stood[file] = at < 0 ? 0 : at;
    }
}

int task_start(struct task *t, struct err *e)
{
    struct region *r = t->region;
    struct server *s = r->server;
    const struct box_task *plan = &r->spec.region.task[t->index];
    const char *cold;
    struct template *m = template_for(t, &cold);
    if (!m && !cold)
        return 1;
    t->cold_why = cold;
    note_places(r, plan);
    int started = m ? start_warm(t, m, e) : 1;
    if (started > 0)
        started = start_cold(t, e);
    if (started < 0)
        return -1;
    if ((!t->warm && watch_start(s, &t->watch, t->link.fd, EPOLLIN) < 0) ||
        task_start_timer(t, plan->limit.wall_ns) < 0 || meter_start(t) < 0)
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
