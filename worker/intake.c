/* See intake.h. */
#include "worker/intake.h"

#include "base/fds.h"
#include "base/gather.h"
#include "base/spool.h"
#include "worker/attempt.h"
#include "worker/blocks.h"
#include "worker/outlet.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

void intake_init(struct intake *k, struct attempt *t, uint32_t edge, struct inlet *in, void (*grown)(void *),
                 void *owner)
{
    *k = (struct intake){.t = t, .edge = edge, .inlet = in, .grown = grown, .owner = owner, .spool = -1};
    if (edge != GRAPH_NONE)
        t->joint[edge].reader = k;
}

/* Has all input come?  For a stream we know; otherwise whoever fills the inlet does. */
static bool all_came(const struct intake *k)
{
    return k->aside ? k->ended : k->inlet->ended;
}

void intake_stop(struct intake *k)
{
    if (k->copy.id && k->remote)
        attempt_end_route(k->t, k->remote);
    if (k->copy.id)
        agent_stop_region(k->t->agent, &k->copy);
    if (k->main && group_runs(&k->t->main) && !all_came(k))
        box_break(agent_box(k->t->agent), k->t->main.watch.id, k->main->channel, NULL);
    if (k->writer)
        outlet_leave(k->writer);
    k->inlet->ended = k->ended = true;
}

void intake_hold(struct intake *k, uint64_t used)
{
    bool hold = k->bytes - used > (k->held ? INTAKE_AHEAD_MAX / 2 : INTAKE_AHEAD_MAX);
    const struct region_watch *w = k->copy.id ? &k->copy : k->main ? &k->t->main.watch : NULL;
    if (k->endless || !w || !w->id || hold == k->held || all_came(k))
        return;
    k->held = hold;
    box_hold(agent_box(k->t->agent), w->id, k->main ? k->main->channel : 0, hold, NULL);
}

bool intake_over(const struct intake *k)
{
    return !k->copy.id;
}

void intake_clear(struct intake *k)
{
    fd_close(&k->spool);
}

/* ---- a stream, into a spool */

static void grow(struct intake *k, uint64_t bytes)
{
    k->bytes = bytes;
    if (!k->aside)
        inlet_grow(k->inlet, bytes);
    k->grown(k->owner);
}

static void end(struct intake *k, int sys, bool reading)
{
    struct err e;
    struct stat s;
    if (all_came(k))
        return;
    errno = sys;
    int r = pump_broke(sys, reading)
                ? reading ? err_sys(&e, "cannot read an input") : spool_write_failed(&e)
            : fstat(k->spool, &s) < 0 ? err_sys(&e, "cannot look at a temporary file")
            : k->aside && (uint64_t)s.st_size != k->aside_bytes
                ? err_set(&e, ERR_INPUT, "an input of `%.200s` changed while it was read",
                          k->t->graph->node[k->t->graph->edge[k->edge].to].label)
                : 0;
    if (r < 0) {
        attempt_fail(k->t, &e);
        return;
    }
    k->inlet->ended = k->ended = true;
    grow(k, (uint64_t)s.st_size);
}

static void copy_moved(void *owner, uint32_t channel, uint64_t bytes, uint64_t sources)
{
    (void)channel, (void)sources;
    grow(owner, bytes);
}

static void copy_pump_ended(void *owner, uint32_t channel, int sys, bool reading)
{
    (void)channel;
    end(owner, sys, reading);
}

static void copy_ended(void *owner)
{
    struct intake *k = owner;
    attempt_settle(k->t);
}

bool intake_moved(struct intake *k, uint32_t channel, uint64_t bytes)
{
    bool ours = k->main && k->main->channel == channel;
    if (ours)
        grow(k, bytes);
    return ours;
}

bool intake_pump_ended(struct intake *k, uint32_t channel, int sys, bool reading)
{
    bool ours = k->main && k->main->channel == channel;
    if (ours)
        end(k, sys, reading);
    return ours;
}

static int duplicate(int fd, struct err *e)
{
    int other = fcntl(fd, F_DUPFD_CLOEXEC, 3);
    return other < 0 ? err_sys(e, "cannot duplicate a descriptor") : other;
}

static int open_spool(struct intake *k, struct err *e)
{
    k->spool = spool_open(e);
    if (k->aside)
        return k->spool < 0 ? -1 : 0;
    int fd = k->spool < 0 ? -1 : duplicate(k->spool, e);
    return fd < 0 ? -1 : inlet_add(k->inlet, fd, 0, 0, GRAPH_NONE, e);
}

static int copy_in(struct intake *k, const struct box_source *source, uint32_t count, struct err *e)
{
    static const struct region_events events = {
        .moved = copy_moved, .pump_ended = copy_pump_ended, .ended = copy_ended};
    if (open_spool(k, e) < 0)
        return -1;
    struct box_channel c = {.end = BOX_COPY, .tell = true, .source = source, .source_count = count,
                            .sink = k->spool};
    k->copy.events = &events;
    k->copy.owner = k;
    return agent_run_region(k->t->agent, &k->copy, &(struct box_region){.channel = &c, .channel_count = 1}, e);
}

/* ---- a source of this process */

/* Open the bytes of a segment; *from: where they begin; BOX_ALL: at the descriptor's present offset. */
static int open_segment(struct intake *k, const struct graph_segment *s, uint64_t *from, uint64_t *size,
                        struct err *e)
{
    struct stat st;
    int fd;
    *from = 0;
    if (s->kind == GRAPH_SEGMENT_FILE) {
        *size = k->t->graph->file[s->file].size_bytes;
        return region_open_file(k->t, &k->t->graph->file[s->file], e);
    }
    if (s->kind == GRAPH_SEGMENT_TEXT) {
        *size = s->text.size;
        return spool_of(s->text, e);
    }
    fd = attempt_edge_fd(k->t, k->edge);
    fd = fd < 0 ? open("/dev/null", O_RDONLY | O_CLOEXEC) : duplicate(fd, e);
    if (fd < 0 || fstat(fd, &st) < 0)
        return fd_close(&fd), err_sys(e, "cannot use stdin");
    off_t at = S_ISREG(st.st_mode) ? lseek(fd, 0, SEEK_CUR) : -1;
    *from = at < 0 ? BOX_ALL : (uint64_t)at;
    *size = at < 0 || st.st_size < at ? 0 : (uint64_t)(st.st_size - at);
    return fd;
}

/* Open the segments, of which many small files become one.  *of[i]: the segment that source[i] is; or NULL, it is several. */
static int open_segments(struct intake *k, const struct graph_node *n, struct box_source *source, const struct graph_segment **of,
                         uint32_t *count, struct err *e)
{
    struct gather g = gather_begin(n->segment_count);
    for (uint32_t i = 0; i < n->segment_count; i++) {
        const struct graph_segment *one = &n->segment[i];
        const struct graph_file *f = one->kind == GRAPH_SEGMENT_FILE ? &k->t->graph->file[one->file] : NULL;
        struct box_source *s = &source[*count];
        s->fd = open_segment(k, one, &s->offset, &s->size, e);
        if (s->fd < 0)
            return -1;
        enum gathered how = gather_file(&g, &s->fd, f ? f->size_bytes : 0, f ? f->path : "", e);
        if (how == GATHERED_FAILED)
            return -1;
        if (how == GATHERED_ON)
            source[*count - 1].size += s->size;
        else
            of[(*count)++] = how == GATHERED_NOT ? one : NULL;
    }
    return 0;
}

/* Use the source's files themselves, if it consists of files; else copy all of it into a spool. */
static int open_source(struct intake *k, const struct graph_node *n, struct err *e)
{
    struct box_source *source = calloc((size_t)n->segment_count + 1, sizeof *source);
    const struct graph_segment **of = calloc((size_t)n->segment_count + 1, sizeof *of);
    uint32_t count = 0;
    bool files = true;
    int r = source && of ? open_segments(k, n, source, of, &count, e) : err_nomem(e);
    for (uint32_t i = 0; i < count; i++)
        files &= source[i].offset != BOX_ALL;
    if (r == 0 && !files) {
        for (uint32_t i = 0; i < count; i++)
            if (of[i] && of[i]->kind == GRAPH_SEGMENT_STDIN)
                source[i].offset = BOX_ALL;
        r = copy_in(k, source, count, e);
    }
    for (uint32_t i = 0; i < count; i++) {
        if (r == 0 && files)
            r = inlet_add(k->inlet, source[i].fd, source[i].offset, source[i].size, GRAPH_NONE, e);
        else
            close(source[i].fd);
        if (r == 0 && files && agent_data(k->t->agent) && of[i] && of[i]->kind == GRAPH_SEGMENT_FILE)
            inlet_in_place(k->inlet, of[i]->file);
    }
    k->inlet->ended = files;
    free(of);
    free(source);
    return r;
}

/* ---- whoever writes the edge */

static int open_remote(struct intake *k, struct err *e)
{
    struct attempt_route *route = attempt_route_of(k->t, MSG_EDGE, k->edge, GRAPH_NONE);
    if (route && route->spool >= 0) { /* a seekable input, which has been fetched */
        struct stat s;
        int fd = spool_reader(route->spool, e);
        k->inlet->ended = true;
        if (fd >= 0 && fstat(fd, &s) < 0)
            return close(fd), err_sys(e, "cannot look at a temporary file");
        return fd < 0 ? -1 : inlet_add(k->inlet, fd, 0, (uint64_t)s.st_size, GRAPH_NONE, e);
    }
    int fd = -1;
    int r = attempt_carry_pair(k->t, route, false, &fd, e);
    struct box_source s = {.fd = fd, .offset = BOX_ALL};
    if (r == 0)
        r = copy_in(k, &s, 1, e);
    fd_close(&fd);
    k->remote = route;
    return r;
}

int intake_meet_main(struct intake *k, struct region_end *at, uint32_t *count, struct err *e)
{
    *count = 0;
    if (k->edge == GRAPH_NONE)
        return 0;
    k->writer = k->t->joint[k->edge].writer;
    if (k->writer || !blocks_main_runs(k->t, k->t->graph->edge[k->edge].from))
        return 0;
    if (open_spool(k, e) < 0)
        return -1;
    k->main = at;
    *at = (struct region_end){.how = REGION_DRAIN, .edge = k->edge, .fd = k->spool, .channel = GRAPH_NONE};
    *count = 1;
    return 0;
}

int intake_open(struct intake *k, struct err *e)
{
    if (k->edge == GRAPH_NONE || k->writer || k->main)
        return 0;
    uint32_t from = k->t->graph->edge[k->edge].from;
    return k->t->here[from] ? open_source(k, &k->t->graph->node[from], e) : open_remote(k, e);
}
