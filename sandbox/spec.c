/* A region as bytes.  Layout: version, channels, then each task as one length-prefixed blob, so that the
 * process that sets a task up decodes that task alone.  Descriptors are numbered in the order in which
 * they are met here: channels first, then the tasks' files and ports. */
#include "sandbox/spec.h"
#include "base/grow.h"
#include "base/pack.h"

#include <stdlib.h>

#define NONE UINT32_MAX

struct fd_list {
    int *fd;
    uint32_t count, room;
    bool failed, no_memory;
};

static uint32_t list_add(struct fd_list *l, int fd)
{
    if (fd < 0)
        return NONE;
    if (!grow(&l->fd, &l->room, l->count, SPEC_FDS_MAX, sizeof *l->fd)) {
        l->failed = true;
        l->no_memory = l->count < SPEC_FDS_MAX;
        return NONE;
    }
    l->fd[l->count] = fd;
    return l->count++;
}

/* What each kind of channel has. */
static const struct {
    bool reader, writer; /* there is a task at that side */
    bool sink, sources;
    uint32_t remote; /* number of ends that come from the caller */
} has[] = {
    [BOX_INSIDE] = {.reader = true, .writer = true},
    [BOX_FEED] = {.reader = true, .sources = true},
    [BOX_DRAIN] = {.writer = true, .sink = true},
    [BOX_COPY] = {.sink = true, .sources = true},
    [BOX_REMOTE_WRITER] = {.reader = true, .remote = 1},
    [BOX_REMOTE_READER] = {.writer = true, .remote = 2},
    [BOX_KEEP] = {.writer = true},
};

/* How a file is given, as bits. */
enum { COPY = 1, DIRECTORY = 2 };
enum { WRITE = 1, TO_NULL = 2 };

static void pack_list(struct buf *b, const char *const *text, uint32_t count)
{
    pack_u32(b, count);
    for (uint32_t i = 0; i < count; i++)
        pack_string(b, text[i]);
}

static uint32_t length_of(const char *const *text)
{
    uint32_t n = 0;
    while (text && text[n])
        n++;
    return n;
}

static void pack_task(struct buf *b, const struct box_task *t, struct fd_list *l)
{
    pack_list(b, t->argv, length_of(t->argv));
    pack_list(b, t->env, length_of(t->env));
    pack_u32(b, t->file_count);
    for (uint32_t i = 0; i < t->file_count; i++) {
        const struct box_file *f = &t->file[i];
        pack_string(b, f->name);
        pack_string(b, f->path);
        pack_u32(b, list_add(l, f->path || spec_is_made(f) ? -1 : f->fd));
        pack_u32(b, (f->copy ? COPY : 0) | (f->directory ? DIRECTORY : 0));
        pack_u64(b, f->offset);
        pack_u64(b, f->size);
        pack_string(b, f->link);
    }
    pack_u32(b, t->port_count);
    for (uint32_t i = 0; i < t->port_count; i++) {
        const struct box_port *p = &t->port[i];
        pack_u32(b, (uint32_t)p->fd);
        pack_u32(b, (p->write ? WRITE : 0) | (p->null ? TO_NULL : 0));
        pack_u32(b, (uint32_t)p->channel);
        pack_u32(b, list_add(l, p->channel >= 0 ? -1 : p->file));
        pack_string(b, p->name);
        pack_u64(b, p->quota);
    }
    pack_list(b, t->output, t->output_count);
    pack_list(b, t->out_glob, t->out_glob_count);
    const uint64_t number[] = {t->limit.memory_bytes, t->limit.cpu_ns, t->limit.wall_ns,
                               t->limit.scratch_bytes, t->limit.output_bytes, t->limit.procs,
                               t->limit.files, t->seed, t->stream, (uint64_t)t->epoch_s, t->trace, t->expected};
    for (size_t i = 0; i < sizeof number / sizeof *number; i++)
        pack_u64(b, number[i]);
}

int spec_encode(const struct box_region *r, const int (*remote)[2], struct buf *out, int **fds,
                uint32_t *fd_count, struct err *e)
{
    struct fd_list l = {0};
    pack_u32(out, SPEC_VERSION);
    pack_u32(out, r->channel_count);
    for (uint32_t i = 0; i < r->channel_count; i++) {
        const struct box_channel *c = &r->channel[i];
        uint32_t count = 0;
        pack_u32(out, c->end);
        pack_u32(out, c->lines);
        pack_u32(out, c->more);
        pack_u32(out, c->tell);
        pack_u32(out, c->digest);
        pack_u32(out, c->exact);
        pack_u32(out, c->if_files);
        for (uint32_t k = 0; k < has[c->end].remote; k++, count++)
            l.failed |= list_add(&l, remote[i][k]) == NONE;
        if (has[c->end].sink)
            l.failed |= list_add(&l, c->sink) == NONE;
        if (has[c->end].sources)
            count = c->source_count;
        pack_u32(out, count);
        for (uint32_t k = 0; has[c->end].sources && k < count; k++) {
            l.failed |= list_add(&l, c->source[k].fd) == NONE;
            pack_u64(out, c->source[k].offset);
            pack_u64(out, c->source[k].size);
        }
    }
    pack_u32(out, r->task_count);
    for (uint32_t i = 0; i < r->task_count; i++) {
        struct buf one = BUF_INIT(BOX_SPEC_BYTES_MAX);
        pack_task(&one, &r->task[i], &l);
        pack_bytes(out, one.data, one.size);
        out->failed |= one.failed;
        out->no_memory |= one.no_memory;
        buf_clear(&one);
    }
    if (out->failed || l.failed) {
        free(l.fd);
        if (l.no_memory || out->no_memory)
            return err_nomem(e);
        return err_set(e, ERR_LIMIT, "the region is too large for one sandbox request");
    }
    *fds = l.fd;
    *fd_count = l.count;
    return 0;
}

/* The state of decoding one task. */
struct walk {
    struct unpack u;
    struct arena *arena;
    uint32_t *fd_next; /* descriptors counted so far; NULL: not checked (a task alone) */
    const char *wrong; /* the first error that was found */
};

static void refuse(struct walk *w, const char *why)
{
    if (!w->wrong)
        w->wrong = why;
    w->u.bad = true;
}

static void *take_array(struct walk *w, size_t count, size_t size)
{
    void *p = arena_array(w->arena, count ? count : 1, size);
    if (!p)
        refuse(w, "out of memory");
    return p;
}

/* Reads a NULL-terminated list. */
static const char *const *take_list(struct walk *w, uint32_t *count)
{
    uint32_t n = unpack_count(&w->u, 5, BOX_SPEC_BYTES_MAX / 5);
    const char **list = take_array(w, (size_t)n + 1, sizeof *list);
    if (!list)
        return NULL;
    for (uint32_t i = 0; i < n; i++)
        list[i] = unpack_string(&w->u);
    *count = n;
    return list;
}

/* Reads an index into the list of descriptors: it must be the next one, or -1. */
static int take_fd(struct walk *w)
{
    uint32_t index = unpack_u32(&w->u);
    if (index == NONE)
        return -1;
    if (index >= SPEC_FDS_MAX || (w->fd_next && index != *w->fd_next)) {
        refuse(w, "a descriptor is out of order");
        return -1;
    }
    if (w->fd_next)
        ++*w->fd_next;
    return (int)index;
}

/* May a program's file have this name?  It may be relative or absolute, without empty, "." or ".." parts. */
bool spec_name_good(const char *name)
{
    const char *at = *name == '/' ? name + 1 : name;
    for (;;) {
        size_t n = strcspn(at, "/");
        if (n == 0 || n > 255 || (n == 1 && at[0] == '.') || (n == 2 && at[0] == '.' && at[1] == '.'))
            return false;
        if (!at[n])
            return at + n - name < 4096;
        at += n + 1;
    }
}

static void take_files(struct walk *w, struct box_task *t)
{
    t->file_count = unpack_count(&w->u, 39, SPEC_FILES_MAX);
    struct box_file *f = take_array(w, t->file_count, sizeof *f);
    for (uint32_t i = 0; f && i < t->file_count; i++) {
        f[i].name = unpack_string(&w->u);
        f[i].path = unpack_string(&w->u);
        f[i].fd = take_fd(w);
        uint32_t how = unpack_u32(&w->u);
        f[i].copy = how & COPY;
        f[i].directory = how & DIRECTORY;
        f[i].offset = unpack_u64(&w->u);
        f[i].size = unpack_u64(&w->u);
        f[i].link = unpack_string(&w->u);
        if (!spec_name_good(f[i].name))
            refuse(w, "a file has no proper name");
        if (!*f[i].path)
            f[i].path = NULL;
        if (!*f[i].link)
            f[i].link = NULL;
        bool made = spec_is_made(&f[i]);
        if (made && (f[i].path || f[i].fd >= 0 || how > DIRECTORY || (f[i].link && (how || strlen(f[i].link) >= 4096))))
            refuse(w, "a link or a directory is no file as well");
        else if (!made && (!f[i].path == (f[i].fd < 0) || (f[i].path && *f[i].path != '/')))
            refuse(w, "a file needs a whole path or a descriptor");
        if (f[i].size ? f[i].path || f[i].offset > INT64_MAX || f[i].size > INT64_MAX - f[i].offset : f[i].offset != 0)
            refuse(w, "a part of a file cannot be");
    }
    t->file = f;
}

static bool port_name_good(const char *name, bool write)
{
    const char *folder = write ? "out/" : "in/";
    size_t n = strlen(folder);
    return !strncmp(name, folder, n) && spec_name_good(name + n) && !strchr(name + n, '/');
}

static void take_ports(struct walk *w, struct box_task *t)
{
    t->port_count = unpack_count(&w->u, 29, SPEC_PORTS_MAX);
    struct box_port *p = take_array(w, t->port_count, sizeof *p);
    uint8_t seen[(SPEC_PORT_FD_MAX + 8) / 8] = {0};
    for (uint32_t i = 0; p && i < t->port_count; i++) {
        uint32_t fd = unpack_u32(&w->u);
        uint32_t how = unpack_u32(&w->u);
        p[i].write = (how & WRITE) != 0;
        p[i].null = (how & TO_NULL) != 0;
        p[i].channel = (int32_t)unpack_u32(&w->u);
        p[i].file = take_fd(w);
        p[i].name = unpack_string(&w->u);
        p[i].quota = unpack_u64(&w->u);
        if (!*p[i].name)
            p[i].name = NULL;
        else if (!port_name_good(p[i].name, p[i].write))
            return refuse(w, "a named port has no proper name");
        if (p[i].quota && (!p[i].name || !p[i].write || p[i].file < 0))
            return refuse(w, "a port has a quota and is no named file to be written");
        if (p[i].name && p[i].channel < 0 && p[i].file < 0)
            return refuse(w, "a named port has nothing behind it");
        if (p[i].channel < -1 || (p[i].channel >= 0 && p[i].file >= 0))
            return refuse(w, "a port is both a channel and a file");
        if (p[i].null && (!p[i].write || p[i].channel < 0))
            return refuse(w, "a port is /dev/null and no channel to be written");
        if (p[i].name)
            continue;
        if (fd > SPEC_PORT_FD_MAX || (seen[fd / 8] & 1u << fd % 8))
            return refuse(w, "a port's number is too high or taken twice");
        seen[fd / 8] |= (uint8_t)(1u << fd % 8);
        p[i].fd = (int)fd;
    }
    t->port = p;
}

static void take_task(struct walk *w, struct box_task *t)
{
    uint32_t count = 0;
    t->argv = take_list(w, &count);
    if (!count)
        return refuse(w, "a task has no program");
    t->env = take_list(w, &count);
    take_files(w, t);
    take_ports(w, t);
    t->output = take_list(w, &t->output_count);
    t->out_glob = take_list(w, &t->out_glob_count);
    for (uint32_t i = 0; !w->u.bad && i < t->output_count; i++)
        if (!spec_name_good(t->output[i]))
            refuse(w, "an output has no proper name");
    uint64_t *number[] = {&t->limit.memory_bytes, &t->limit.cpu_ns, &t->limit.wall_ns,
                          &t->limit.scratch_bytes, &t->limit.output_bytes};
    for (size_t i = 0; i < sizeof number / sizeof *number; i++)
        *number[i] = unpack_u64(&w->u);
    uint64_t procs = unpack_u64(&w->u), files = unpack_u64(&w->u);
    t->limit.procs = procs > UINT32_MAX ? UINT32_MAX : (uint32_t)procs;
    t->limit.files = files > UINT32_MAX ? UINT32_MAX : (uint32_t)files;
    t->seed = unpack_u64(&w->u);
    t->stream = unpack_u64(&w->u);
    t->epoch_s = (int64_t)unpack_u64(&w->u);
    t->trace = unpack_u64(&w->u) != 0;
    uint64_t expected = unpack_u64(&w->u);
    t->expected = expected > UINT32_MAX ? UINT32_MAX : (uint32_t)expected;
    if (!unpack_end(&w->u))
        refuse(w, "a task's bytes are wrong");
}

static int broken(struct err *e, const char *why)
{
    return err_set(e, ERR_PROTO, "a sandbox request is wrong: %s", why ? why : "its bytes are cut short");
}

int spec_decode_task(struct slice bytes, struct arena *a, struct box_task *t, struct err *e)
{
    struct walk w = {.u = unpack_of(bytes.data, bytes.size), .arena = a};
    memset(t, 0, sizeof *t);
    take_task(&w, t);
    return w.u.bad ? broken(e, w.wrong) : 0;
}

/* Numbers a channel's descriptors, and its sources. */
static void take_channel_fds(struct walk *w, struct box_channel *c)
{
    uint32_t each = has[c->end].sources ? 16 : 0;
    uint32_t count = each ? unpack_count(&w->u, each, SPEC_FDS_MAX) : unpack_u32(&w->u);
    uint32_t sink = has[c->end].sink, room = SPEC_FDS_MAX - *w->fd_next;
    c->sink = c->caller_fd = -1;
    if (count + (uint64_t)sink > room || (!each && count != has[c->end].remote) ||
        (c->more && !each) || (c->tell && !sink))
        return refuse(w, "a channel's descriptors are wrong");
    if (sink)
        c->sink = (int)(*w->fd_next)++;
    struct box_source *s = each ? take_array(w, count, sizeof *s) : NULL;
    for (uint32_t k = 0; s && k < count; k++) {
        s[k] = (struct box_source){.fd = (int)*w->fd_next + (int)k};
        s[k].offset = unpack_u64(&w->u);
        s[k].size = unpack_u64(&w->u);
        if (s[k].offset != BOX_ALL && (s[k].offset > INT64_MAX || s[k].size > INT64_MAX - s[k].offset))
            return refuse(w, "a source's bytes are none");
    }
    c->source = s;
    c->source_count = each ? count : 0;
    *w->fd_next += count;
}

static void take_channels(struct walk *w, struct spec *s)
{
    uint32_t n = unpack_count(&w->u, 32, BOX_CHANNELS_MAX);
    struct box_channel *c = take_array(w, n, sizeof *c);
    s->channel = take_array(w, n, sizeof *s->channel);
    for (uint32_t i = 0; c && s->channel && i < n; i++) {
        uint32_t end = unpack_u32(&w->u);
        c[i].lines = unpack_u32(&w->u) != 0;
        c[i].more = unpack_u32(&w->u) != 0;
        c[i].tell = unpack_u32(&w->u) != 0;
        c[i].digest = unpack_u32(&w->u) != 0;
        c[i].exact = unpack_u32(&w->u) != 0;
        c[i].if_files = unpack_u32(&w->u) != 0;
        if (end > BOX_KEEP || (c[i].exact && end != BOX_INSIDE))
            return refuse(w, "a channel is of no kind");
        c[i].end = (enum box_channel_end)end;
        s->channel[i] = (struct spec_channel){-1, -1, *w->fd_next};
        take_channel_fds(w, &c[i]);
    }
    s->region.channel = c;
    s->region.channel_count = n;
}

/* Checks that every channel has the sides that its kind demands, with one task at each. */
static const char *check_sides(struct spec *s)
{
    const struct box_region *r = &s->region;
    for (uint32_t i = 0; i < r->task_count; i++) {
        for (uint32_t k = 0; k < r->task[i].port_count; k++) {
            const struct box_port *p = &r->task[i].port[k];
            if (p->channel < 0)
                continue;
            if ((uint32_t)p->channel >= r->channel_count)
                return "a port names no channel";
            struct spec_channel *c = &s->channel[p->channel];
            int32_t *side = p->write ? &c->writer : &c->reader;
            if (*side >= 0 && *side != (int32_t)i)
                return "two programs are at one end of a channel";
            *side = (int32_t)i;
        }
    }
    for (uint32_t i = 0; i < r->channel_count; i++) {
        enum box_channel_end end = r->channel[i].end;
        if ((s->channel[i].writer >= 0) != has[end].writer || (s->channel[i].reader >= 0) != has[end].reader)
            return "a channel lacks a side, or has one too many";
    }
    for (uint32_t i = 0; !r->task_count && i < r->channel_count; i++)
        if (r->channel[i].end != BOX_COPY)
            return "a region without programs only copies";
    return NULL;
}

int spec_decode(struct slice bytes, struct spec *s, struct err *e)
{
    *s = (struct spec){.arena = ARENA_INIT(SPEC_ARENA_MAX)};
    struct walk w = {.u = unpack_of(bytes.data, bytes.size), .arena = &s->arena, .fd_next = &s->fd_count};
    if (unpack_u32(&w.u) != SPEC_VERSION)
        refuse(&w, "it is of another version");
    if (!w.u.bad)
        take_channels(&w, s);
    uint32_t n = w.u.bad ? 0 : unpack_count(&w.u, 5, BOX_TASKS_MAX);
    struct box_task *t = take_array(&w, n, sizeof *t);
    s->task = take_array(&w, n, sizeof *s->task);
    s->region.task = t;
    for (uint32_t i = 0; t && s->task && !w.u.bad && i < n; i++) {
        struct walk one = {.arena = &s->arena, .fd_next = &s->fd_count};
        s->task[i] = unpack_bytes(&w.u);
        one.u = unpack_of(s->task[i].data, s->task[i].size);
        take_task(&one, &t[i]);
        if (one.u.bad)
            refuse(&w, one.wrong);
        s->region.task_count = i + 1;
    }
    if (!unpack_end(&w.u))
        refuse(&w, NULL);
    if (!w.u.bad && ((!n && !s->region.channel_count) || s->fd_count > SPEC_FDS_MAX))
        refuse(&w, "it has nothing to do, or too many descriptors");
    if (!w.u.bad) {
        const char *why = check_sides(s);
        if (why)
            refuse(&w, why);
    }
    if (!w.u.bad)
        return 0;
    broken(e, w.wrong);
    spec_clear(s);
    return -1;
}

void spec_clear(struct spec *s)
{
    arena_clear(&s->arena);
    *s = (struct spec){.arena = ARENA_INIT(SPEC_ARENA_MAX)};
}

const char *spec_path(const struct box_task *t)
{
    for (const char *const *env = t->env; env && *env; env++)
        if (!strncmp(*env, "PATH=", 5))
            return *env + 5;
    return "/usr/local/bin:/usr/bin:/bin";
}
