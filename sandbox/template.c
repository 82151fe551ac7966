/* Which templates there are, and which task starts from one.
 *
 * The first task with a key starts cold, and so does the second; but then a template is made beside it,
 * since more of them will come: a run of blocks, a file each.  A template serves one task at a time; when
 * all of a key's are taken, one more is made, up to the number of CPUs.  Whatever goes wrong with one on
 * its way is told of once, and its key starts cold from then on. */
#include "sandbox/template.h"
#include "base/fds.h"
#include "base/pack.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <sys/wait.h>
#include <unistd.h>

static void template_event(struct watch *w, uint32_t events);
static void listener_event(struct watch *w, uint32_t events);
static void look_event(struct watch *w, uint32_t events);

/* --- keys --- */

static void key_file(struct buf *b, const struct box_file *f, const struct stat *s)
{
    pack_string(b, f->name);
    pack_u64(b, f->offset);
    pack_u64(b, f->size);
    pack_u64(b, s->st_dev);
    pack_u64(b, s->st_ino);
    pack_u64(b, (uint64_t)s->st_size);
    pack_u64(b, (uint64_t)s->st_mtim.tv_sec);
    pack_u64(b, (uint64_t)s->st_mtim.tv_nsec);
    pack_u64(b, (uint64_t)s->st_ctim.tv_sec);
    pack_u64(b, (uint64_t)s->st_ctim.tv_nsec);
}

static const char *key_files(struct buf *b, const struct region *r, const struct box_task *plan)
{
    pack_u32(b, plan->file_count);
    for (uint32_t i = 0; i < plan->file_count; i++) {
        const struct box_file *f = &plan->file[i];
        struct stat s;
        if (f->copy)
            return "it has files of its own to change";
        if ((f->path ? stat(f->path, &s) : fstat(r->fd[f->fd], &s)) < 0)
            return "an input cannot be looked at";
        if (S_ISDIR(s.st_mode))
            return "it has a directory, whose files may change";
        key_file(b, f, &s);
    }
    return NULL;
}

/* What a program can see of the caller's descriptor before it uses it.  A pipe, or a new file. */
static const char *key_given(struct buf *b, int fd)
{
    struct stat s;
    int flags = fcntl(fd, F_GETFL);
    if (flags < 0 || fstat(fd, &s) < 0)
        return "a descriptor cannot be looked at";
    if (!S_ISFIFO(s.st_mode) && (!S_ISREG(s.st_mode) || s.st_size || lseek(fd, 0, SEEK_CUR)))
        return "it has a file of the caller's that is not empty";
    pack_u32(b, s.st_mode & S_IFMT);
    pack_u32(b, (uint32_t)flags);
    return NULL;
}

/* Which port comes first that is the same thing as this one? */
static uint32_t first_same(const struct region *r, const struct box_task *plan, uint32_t i)
{
    const struct box_port *p = &plan->port[i];
    struct stat s, t;
    uint32_t k = 0;
    for (; k < i; k++) {
        const struct box_port *q = &plan->port[k];
        if (p->channel >= 0 ? p->channel == q->channel
                            : p->file >= 0 && q->file >= 0 && fstat(r->fd[p->file], &s) == 0 &&
                                  fstat(r->fd[q->file], &t) == 0 && s.st_dev == t.st_dev && s.st_ino == t.st_ino)
            break;
    }
    return k;
}

static const char *key_ports(struct buf *b, const struct region *r, const struct box_task *plan)
{
    uint32_t count = 0;
    pack_u32(b, plan->port_count);
    for (uint32_t i = 0; i < plan->port_count; i++) {
        const struct box_port *p = &plan->port[i];
        const char *why = NULL;
        if (p->name)
            return "it has named channels";
        pack_u32(b, (uint32_t)p->fd);
        pack_u32(b, p->write);
        pack_u32(b, p->channel >= 0 ? 2 : p->file >= 0);
        pack_u32(b, first_same(r, plan, i));
        if (p->channel >= 0)
            pack_u32(b, r->spec.region.channel[p->channel].lines);
        else if (p->file >= 0)
            why = key_given(b, r->fd[p->file]);
        if (why)
            return why;
        count += p->channel >= 0 || p->file >= 0;
    }
    return count > FORKER_PORTS_MAX ? "it has too many descriptors" : NULL;
}

static void key_words(struct buf *b, const char *const *word)
{
    for (; word && *word; word++)
        pack_string(b, *word);
    pack_u32(b, 0); /* no word is empty without its length: an end is an end */
    pack_u32(b, UINT32_MAX);
}

/* All that the program's state at its stop depends on; else why it starts cold. */
static const char *key_of(const struct task *t, uint8_t digest[SHA256_BYTES])
{
    const struct region *r = t->region;
    const struct box_task *plan = &r->spec.region.task[t->index];
    const struct box_limits *l = &plan->limit;
    struct buf b = BUF_INIT(TEMPLATE_KEY_BYTES);
    struct sha256 sum;
    if (l->memory_bytes || l->procs || l->files)
        return "it has a limit of memory, processes or files";
    if (plan->trace)
        return "its calls are traced";
    key_words(&b, plan->argv);
    key_words(&b, plan->env);
    key_words(&b, plan->output);
    key_words(&b, plan->out_glob);
    const char *why = key_ports(&b, r, plan);
    if (!why)
        why = key_files(&b, r, plan);
    const uint64_t number[] = {l->cpu_ns, l->scratch_bytes, l->output_bytes, plan->seed, (uint32_t)plan->stream,
                               (uint64_t)plan->epoch_s};
    for (size_t i = 0; i < sizeof number / sizeof *number; i++)
        pack_u64(&b, number[i]);
    if (!why && b.failed)
        why = "its words are too many";
    sha256_begin(&sum);
    if (!why)
        sha256_add(&sum, b.data, b.size);
    sha256_end(&sum, digest);
    buf_clear(&b);
    return why;
}

static bool in_use(const struct server *s, const struct template_key *k)
{
    for (const struct template *m = s->template; m; m = m->next)
        if (m->key == k)
            return true;
    return false;
}

/* The one with this digest, or a new one in the place of that which was seen longest ago. */
static struct template_key *key_find(struct server *s, const uint8_t digest[SHA256_BYTES])
{
    struct template_key *oldest = NULL;
    if (!s->template_key && !(s->template_key = calloc(TEMPLATE_KEYS_MAX, sizeof *s->template_key)))
        return NULL;
    for (uint32_t i = 0; i < TEMPLATE_KEYS_MAX; i++) {
        struct template_key *k = &s->template_key[i];
        if (k->seen && !memcmp(k->digest, digest, SHA256_BYTES))
            return k;
        if ((!oldest || k->used < oldest->used) && !in_use(s, k))
            oldest = k;
    }
    *oldest = (struct template_key){0}; /* there are fewer templates than keys */
    memcpy(oldest->digest, digest, SHA256_BYTES);
    return oldest;
}

/* --- the end of one --- */

/* Its turn is over: none of its processes is left, and the listener is another's. */
static void leave(struct template *m)
{
    if (!m->task)
        return;
    watch_stop(m->server, &m->task->notify_watch);
    m->task->template = NULL;
    m->task = NULL;
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
    leave(m);
    watch_stop(s, &m->watch);
    watch_stop(s, &m->notify_watch);
    stop_looking(m);
    notify_free(m->notify);
    link_clear(&m->link);
    fd_close(&m->control);
    fd_close(&m->theirs);
    cgroup_give_back(&s->cgroups, m->cgroup);
    free(m->page);
    free(m);
}

void template_leave(struct task *t)
{
    struct template *m = t->template;
    if (!m)
        return;
    leave(m);
    if (m->ended)
        template_free(m);
}

/* Its init's end is the end of all below it, and closes the link. */
static void template_kill(struct template *m)
{
    m->ready = false;
    if (m->init > 0)
        kill(m->init, SIGKILL);
}

void template_give_up(struct template *m, const char *why)
{
    m->key->cold = why;
    m->step = STEP_OVER;
    template_kill(m);
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

/* --- the making of one --- */

/* A stand-in for a port: a thing of the same kind that is never used. */
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
    char path[32];
    int flags = fcntl(r->fd[p->file], F_GETFL), memory = memfd_create("stand-in", MFD_CLOEXEC);
    snprintf(path, sizeof path, "/proc/self/fd/%d", memory);
    if (memory >= 0)
        got = open(path, (flags & (O_ACCMODE | O_APPEND)) | O_CLOEXEC);
    fd_close(&memory);
    return got;
}

/* In the order of send_ports, the same thing for the same thing. */
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
        uint32_t first = first_same(r, plan, i);
        slot[i] = count;
        fd[count] = first < i ? fcntl(fd[slot[first]], F_DUPFD_CLOEXEC, 0) : stand_in(r, p);
        if (fd[count] < 0 || fstat(fd[count], &s) < 0) {
            fd_close(&fd[count]);
            result = -1;
            break;
        }
        m->device[count] = s.st_dev;
        m->inode[count++] = s.st_ino;
        m->opening[p->fd] = TEMPLATE_PORT;
    }
    if (result == 0 && count)
        result = link_send(&m->link, (struct wire){.kind = WIRE_PORTS}, NULL, 0, fd, count);
    for (uint32_t i = 0; i < count; i++)
        close(fd[i]);
    m->port_count = count;
    return result;
}

/* fd: taken. */
static void take_listener(struct template *m, int fd)
{
    struct err e;
    if (fd >= 0 && !m->notify)
        m->notify = notify_new(fd, m->plan_seed, m->plan_stage, m->plan_epoch_s, &e);
    if (!m->notify || watch_start(m->server, &m->notify_watch, notify_fd(m->notify), EPOLLIN) < 0) {
        template_give_up(m, "there was no room for a template");
        return;
    }
    notify_trace_start(m->notify);
}

/* Nobody waits for it, and no limit of the task's holds it. */
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
    const char *why = m->step == STEP_OVER ? NULL : template_exceeds(m);
    if (why)
        template_give_up(m, why);
    if (m->step == STEP_OVER)
        stop_looking(m);
}

static void template_new(struct task *t, struct template_key *k)
{
    struct region *r = t->region;
    struct server *s = r->server;
    const struct box_task *plan = &r->spec.region.task[t->index];
    struct place p;
    struct err e;
    struct template *m = calloc(1, sizeof *m);
    if (!m || place_take(s, r, t->index, true, &p, &e) < 0) {
        free(m);
        return;
    }
    *m = (struct template){.server = s, .next = s->template, .id = ++s->template_turn, .key = k, .link = LINK_INIT,
                           .watch = {-1, template_event, m}, .notify_watch = {-1, listener_event, m}, .look_watch = {-1, look_event, m},
                           .control = -1, .theirs = -1};
    s->template = m;
    m->link = p.link;
    m->init = p.init;
    m->cgroup = p.cgroup;
    m->plan_seed = plan->seed;
    m->plan_stage = (uint32_t)plan->stream;
    m->plan_epoch_s = plan->epoch_s;
    struct file_sender to = {s, &m->link, r->fd, TEMPLATE_FILES, (uint32_t)m->id};
    if (watch_start(s, &m->watch, m->link.fd, EPOLLIN) < 0 || start_looking(m) < 0 ||
        send_stand_ins(m, r, plan) < 0) {
        fd_close(&p.listener);
        template_free(m); /* its init, if there is one, ends with the link */
        return;
    }
    if (p.listener >= 0)
        take_listener(m, p.listener);
    for (uint32_t i = 0; i < plan->file_count; i++) {
        char why[ERR_TEXT_MAX];
        if (file_send(&to, i, &plan->file[i], why, sizeof why) != 0) {
            template_free(m);
            return;
        }
    }
    link_watch(s, &m->link, &m->watch);
}

void template_file_failed(struct server *s, uint32_t id)
{
    for (struct template *m = s->template; m; m = m->next)
        if ((uint32_t)m->id == id) {
            template_give_up(m, "an input could not be opened");
            return;
        }
}

static void stand_ready(struct template *m)
{
    m->ready = m->step == STEP_OVER && !m->key->cold && !m->stale;
    if (m->stale)
        template_kill(m);
}

void template_served(struct task *t, enum wire_stays stays)
{
    struct template *m = t->template;
    if (!m)
        return;
    if (stays == WIRE_STAYS && !m->ended)
        stand_ready(m);
    else if (stays == WIRE_STAYS_CHANGED)
        m->key->cold = "its program writes files";
    template_leave(t);
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
        watch_stop(m->server, &m->notify_watch); /* the listener is its clones' */
        stand_ready(m);
        break;
    default: /* a result, or that it failed */
        if (!m->key->cold)
            m->key->cold = "its program ends before it uses a channel";
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
    m->ended = true;
    m->ready = false;
    if (m->task)
        watch_stop(s, w);
    else
        template_free(m);
}

static void listener_event(struct watch *w, uint32_t events)
{
    struct template *m = w->owner;
    struct err e;
    (void)events;
    if (notify_serve(m->notify, &e) < 0)
        watch_stop(m->server, w);
}

/* --- for a task --- */

static uint32_t templates_of(const struct server *s, const struct template_key *k, bool making)
{
    uint32_t count = 0;
    for (const struct template *m = s->template; m; m = m->next)
        count += (!k || m->key == k) && (!making || m->step != STEP_OVER);
    return count;
}

/* Room for one more: of another key's, the one that has waited longest goes. */
static bool make_room(struct server *s, const struct template_key *k)
{
    struct template *oldest = NULL;
    if (templates_of(s, NULL, false) < TEMPLATES_MAX)
        return true;
    for (struct template *m = s->template; m; m = m->next)
        if (m->ready && m->key != k && (!oldest || m->used < oldest->used))
            oldest = m;
    if (oldest) {
        template_kill(oldest);
        template_free(oldest);
    }
    return oldest;
}

static const char *make_one(struct task *t, struct template_key *k)
{
    struct server *s = t->region->server;
    long cpus = sysconf(_SC_NPROCESSORS_ONLN);
    if (s->users < 0) {
        if (!s->users_asked)
            link_send(&s->mounts, (struct wire){.kind = WIRE_USERS}, NULL, 0, NULL, 0);
        s->users_asked = true;
        link_watch(s, &s->mounts, &s->mounts_watch);
    } else if (templates_of(s, k, true) == 0 && templates_of(s, NULL, true) < TEMPLATES_MAKING &&
               templates_of(s, k, false) < (uint32_t)(cpus > 0 ? cpus : 1) && make_room(s, k)) {
        template_new(t, k);
    }
    return templates_of(s, k, false) ? "its template is not free" : "it has no template yet";
}

void template_take_users(struct server *s, struct wire_packet *p)
{
    fd_close(&s->users);
    s->users = wire_take_fd(p, 0);
    s->users_refused = s->users < 0;
}

/* Those that serve a task end with it. */
static void drop_all(struct server *s)
{
    for (struct template *m = s->template; m; m = m->next) {
        m->stale = true;
        if (m->ready)
            template_kill(m);
    }
}

struct template *template_for(struct task *t, const char **why)
{
    struct server *s = t->region->server;
    uint8_t digest[SHA256_BYTES];
    *why = s->none           ? "there is no sandbox"
           : s->no_templates ? "templates are switched off"
           : s->users_refused ? "the host refuses a second user namespace"
                              : key_of(t, digest);
    if (*why)
        return NULL;
    struct template_key *k = key_find(s, digest);
    if (!k) {
        *why = "there was no room for a template";
        return NULL;
    }
    k->used = ++s->template_turn;
    if (templates_changed(s))
        drop_all(s);
    *why = k->cold;
    if (*why)
        return NULL;
    for (struct template *m = s->template; m; m = m->next)
        if (m->key == k && m->ready) {
            m->used = k->used;
            return m;
        }
    if (k->seen < 2)
        k->seen++;
    *why = k->seen < 2 ? "it is the first of its kind" : make_one(t, k);
    return NULL;
}

/* What the stand-ins were is now the task's own. */
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

bool template_clone(struct template *m, struct task *t, const int *fd, uint32_t count)
{
    struct err e;
    const struct region *r = t->region;
    const struct box_task *plan = &r->spec.region.task[t->index];
    m->ready = false;
    t->notify = notify_copy(m->notify, plan->stream, &e);
    if (!t->notify || link_send(&m->link, (struct wire){.kind = WIRE_CLONE}, NULL, 0, fd, count) < 0) {
        notify_free(t->notify);
        t->notify = NULL;
        return false;
    }
    exchange_ports(m, t->notify, r, plan);
    link_watch(m->server, &m->link, &m->watch);
    m->task = t;
    t->template = m;
    t->cgroup = m->cgroup;
    cgroup_limit(t->cgroup, &plan->limit); /* of CPU time: who has others starts cold */
    return true;
}
