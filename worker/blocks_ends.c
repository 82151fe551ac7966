/* Where the input of a stage in blocks comes from, where its output goes to, and where it meets the programs
 * that stream. See blocks.h. */
#include "worker/blocks_inside.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

static bool all_come(const struct blocks *b)
{
    return b->file_at ? b->input_ended : b->in.ended;
}

/* Whoever writes our input need not go on. */
void blocks_stop_input(struct blocks *b)
{
    if (b->copy.id)
        agent_stop_region(b->t->agent, &b->copy);
    if (b->from_main && group_runs(&b->t->main) && !all_come(b))
        box_break(agent_box(b->t->agent), b->t->main.watch.id, b->from_main->channel, NULL);
    if (b->writer)
        outlet_leave(&b->writer->out);
    b->in.ended = b->input_ended = true;
}

bool ends_come(const struct blocks *b, uint64_t to)
{
    return !b->file_at || b->input.bytes >= b->file_at[to];
}

/* A stream that comes faster than it is worked on waits. */
void blocks_hold_input(struct blocks *b)
{
    uint64_t used = b->state == WHOLE ? b->whole_used : b->file_at ? b->file_at[b->from] : b->from;
    uint64_t ahead = (b->file_at ? b->input.bytes : b->in.bytes) - used;
    bool hold = ahead > (b->held_input ? INPUT_AHEAD_MAX / 2 : INPUT_AHEAD_MAX);
    const struct region_watch *w = b->copy.id ? &b->copy : b->from_main ? &b->t->main.watch : NULL;
    if (hold == b->held_input || all_come(b) || !w || !w->id)
        return;
    b->held_input = hold;
    box_hold(agent_box(b->t->agent), w->id, b->from_main ? b->from_main->channel : 0, hold, NULL);
}

/* ---- the input */

static void input_grown(struct blocks *b, uint64_t bytes)
{
    b->input.bytes = bytes;
    if (!b->file_at)
        inlet_grow(&b->in, bytes);
    blocks_step(b);
}

static void input_ended(struct blocks *b, int sys, bool reading)
{
    struct err e;
    uint64_t size = 0;
    if (all_come(b))
        return;
    if (sys && sys != EPIPE) {
        errno = sys;
        err_sys(&e, reading ? "cannot read an input" : "cannot write to a temporary file");
        blocks_fail(b, &e);
        return;
    }
    if (blocks_size_of(b->input.fd, &size, &e) < 0) {
        blocks_fail(b, &e);
        return;
    }
    if (b->file_at && size != b->file_at[b->in.count]) {
        err_set(&e, ERR_INPUT, "an input of `%.200s` changed while it was read",
                b->t->graph->node[blocks_last_node(b)].label);
        blocks_fail(b, &e);
        return;
    }
    b->in.ended = b->input_ended = true;
    input_grown(b, size);
}

static void copy_moved(void *owner, uint32_t channel, uint64_t bytes, uint64_t sources)
{
    (void)channel, (void)sources;
    input_grown(owner, bytes);
}

static void copy_pump_ended(void *owner, uint32_t channel, int sys, bool reading)
{
    (void)channel;
    input_ended(owner, sys, reading);
}

static void copy_ended(void *owner)
{
    struct blocks *b = owner;
    attempt_settle(b->t);
}

static int spool_input(struct blocks *b, struct err *e)
{
    b->input.fd = spool_open(e);
    if (b->file_at)
        return b->input.fd < 0 ? -1 : 0;
    int fd = b->input.fd < 0 ? -1 : blocks_dup(b->input.fd, e);
    return fd < 0 ? -1 : inlet_add(&b->in, fd, 0, 0, GRAPH_NONE, e);
}

static int copy_input(struct blocks *b, const struct box_source *source, uint32_t count, struct err *e)
{
    static const struct region_events events = {
        .moved = copy_moved, .pump_ended = copy_pump_ended, .ended = copy_ended};
    if (spool_input(b, e) < 0)
        return -1;
    struct box_channel c = {.end = BOX_COPY, .tell = true, .source = source, .source_count = count,
                            .sink = b->input.fd};
    b->copy.events = &events;
    b->copy.owner = b;
    return agent_run_region(b->t->agent, &b->copy, &(struct box_region){.channel = &c, .channel_count = 1}, e);
}

int ends_fd(const struct attempt *t, uint32_t edge)
{
    const struct attempt_route *route =
        attempt_route_of((struct attempt *)(uintptr_t)t, MSG_EDGE, edge, GRAPH_NONE);
    return route ? route->r.fd : -1;
}

/* A descriptor for the bytes of a segment; *from: where they begin, BOX_ALL: wherever it stands. */
static int segment_open(struct blocks *b, const struct graph_segment *s, uint64_t *from, uint64_t *size,
                        struct err *e)
{
    struct stat st;
    int fd;
    *from = 0;
    if (s->kind == GRAPH_SEGMENT_FILE) {
        *size = b->t->graph->file[s->file].size_bytes;
        return region_open_file(&b->t->graph->file[s->file], e);
    }
    if (s->kind == GRAPH_SEGMENT_TEXT) {
        *size = s->text.size;
        return spool_of(s->text, e);
    }
    fd = ends_fd(b->t, b->stage->in_edge);
    fd = fd < 0 ? open("/dev/null", O_RDONLY | O_CLOEXEC) : blocks_dup(fd, e);
    if (fd < 0 || fstat(fd, &st) < 0)
        return fd_close(&fd), err_sys(e, "cannot use stdin");
    off_t at = S_ISREG(st.st_mode) ? lseek(fd, 0, SEEK_CUR) : -1;
    *from = at < 0 ? BOX_ALL : (uint64_t)at;
    *size = at < 0 || st.st_size < at ? 0 : (uint64_t)(st.st_size - at);
    return fd;
}

/* A source of this process: its files as they are, if they are that; else all of it by a spool. */
static int open_source(struct blocks *b, const struct graph_node *n, struct err *e)
{
    struct box_source *source = calloc((size_t)n->segment_count + 1, sizeof *source);
    uint32_t count = 0;
    bool files = true;
    int r = source ? 0 : err_nomem(e);
    for (; r == 0 && count < n->segment_count; count++) {
        struct box_source *s = &source[count];
        s->fd = segment_open(b, &n->segment[count], &s->offset, &s->size, e);
        if (s->fd < 0) {
            r = -1;
            break;
        }
        files &= s->offset != BOX_ALL;
    }
    if (r == 0 && !files) {
        for (uint32_t i = 0; i < count; i++)
            if (n->segment[i].kind == GRAPH_SEGMENT_STDIN)
                source[i].offset = BOX_ALL;
        r = copy_input(b, source, count, e);
    }
    for (uint32_t i = 0; i < count; i++) {
        if (r == 0 && files)
            r = inlet_add(&b->in, source[i].fd, source[i].offset, source[i].size, GRAPH_NONE, e);
        else
            close(source[i].fd);
    }
    b->in.ended = files;
    free(source);
    return r;
}

/* A task per file: where each file's bytes will be in the spool that all of them come into, end to end. */
static int expect_files(struct blocks *b, const struct graph_node *source, struct err *e)
{
    b->file_at = arena_array(&b->t->arena, (size_t)source->segment_count + 1, sizeof *b->file_at);
    if (!b->file_at)
        return err_nomem(e);
    for (uint32_t i = 0; i < source->segment_count; i++)
        b->file_at[i + 1] = b->file_at[i] + b->t->graph->file[source->segment[i].file].size_bytes;
    return 0;
}

/* ... and each, also one that is empty, counts 1: none is opened before its task begins. */
static int add_files(struct blocks *b, const struct graph_node *source, struct err *e)
{
    b->in.apart = b->in.ended = true;
    for (uint32_t i = 0; i < source->segment_count; i++)
        if (inlet_add(&b->in, -1, 0, 1, source->segment[i].file, e) < 0)
            return -1;
    return 0;
}

/* The files that the stage's words name. */
static int open_files(struct blocks *b, struct err *e)
{
    const struct graph_split *s = b->head;
    b->in.apart = true;
    for (uint32_t i = 0; i < s->file_count; i++) {
        const struct graph_file *f = &b->t->graph->file[s->file[i]];
        struct attempt_route *route = attempt_route_of(b->t, MSG_FILE, s->file[i], b->node[0]);
        if (!route)
            return err_set(e, ERR_PROTO, "the input '%s' has no route", f->name);
        if (s->cut == GRAPH_CUT_FILES) { /* its programs open it; one that is empty counts too */
            if (inlet_add(&b->in, -1, 0, 1, s->file[i], e) < 0)
                return -1;
            continue;
        }
        int fd = route->r.via == MSG_VIA_PATH ? region_open_file(f, e) : spool_reader(route->spool, e);
        if (fd < 0 || inlet_add(&b->in, fd, 0, f->size_bytes, s->file[i], e) < 0)
            return -1;
    }
    b->in.ended = true;
    return 0;
}

int ends_remote_pair(struct blocks *b, struct attempt_route *route, bool out, int *ours, struct err *e)
{
    int pair[2];
    if (!route)
        return err_set(e, ERR_PROTO, "a stream of `%.200s` has no route", b->t->graph->node[blocks_last_node(b)].label);
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) < 0)
        return err_sys(e, "cannot make a socket pair");
    *ours = pair[1];
    return attempt_carry(b->t, route, pair[0], out, e);
}

int ends_open_input(struct blocks *b, struct err *e)
{
    const struct graph *g = b->t->graph;
    uint32_t edge = b->stage->in_edge;
    if (edge == GRAPH_NONE)
        return open_files(b, e);
    if (b->writer || b->from_main)
        return 0;
    uint32_t from = g->edge[edge].from;
    struct attempt_route *route = attempt_route_of(b->t, MSG_EDGE, edge, GRAPH_NONE);
    if (blocks_per_file(b) && add_files(b, &g->node[from], e) < 0)
        return -1;
    if (b->t->here[from])
        return blocks_per_file(b) ? 0 : open_source(b, &g->node[from], e);
    if (blocks_per_file(b) && expect_files(b, &g->node[from], e) < 0)
        return -1;
    if (route && route->spool >= 0) { /* a seekable input, fetched whole */
        uint64_t size = 0;
        int fd = spool_reader(route->spool, e);
        b->in.ended = true;
        return fd < 0 || blocks_size_of(fd, &size, e) < 0 ? -1 : inlet_add(&b->in, fd, 0, size, GRAPH_NONE, e);
    }
    int fd = -1;
    int r = ends_remote_pair(b, route, false, &fd, e);
    struct box_source s = {.fd = fd, .offset = BOX_ALL};
    if (r == 0)
        r = copy_input(b, &s, 1, e);
    fd_close(&fd);
    return r;
}

/* ---- the output */

static void reader_grown(void *owner)
{
    blocks_step(owner);
}

int ends_open_outlet(struct blocks *b, struct outlet *o, uint32_t edge, struct err *e)
{
    if (edge == GRAPH_NONE)
        return outlet_to_nothing(o), 0;
    int fd = ends_fd(b->t, edge); /* or whatever this process calls the other end */
    if (b->t->here[b->t->graph->edge[edge].to]) {
        struct stat s;
        bool null = fd < 0 || fstat(fd, &s) < 0;
        if (null)
            return outlet_to_nothing(o), 0;
        return outlet_to_fd(o, fd, e);
    }
    fd = -1;
    int r = ends_remote_pair(b, attempt_route_of(b->t, MSG_EDGE, edge, GRAPH_NONE), true, &fd, e);
    if (r == 0)
        r = outlet_to_fd(o, fd, e);
    fd_close(&fd);
    return r;
}

int ends_open_output(struct blocks *b, struct err *e)
{
    uint32_t edge = b->stage->out_edge;
    if (b->to_main) {
        outlet_to_channel(&b->out, &b->t->main.watch, b->to_main->channel);
        return 0;
    }
    if (b->reader) {
        outlet_to_inlet(&b->out, &b->reader->in, reader_grown, b->reader);
        return 0;
    }
    return ends_open_outlet(b, &b->out, edge, e);
}

/* ---- the main region */

bool blocks_main_runs(const struct attempt *t, uint32_t node)
{
    const struct graph_node *n = &t->graph->node[node];
    if (!t->here[node] || (n->kind != GRAPH_COMMAND && n->kind != GRAPH_SHELL))
        return false;
    for (uint32_t i = 0; i < t->blocks_count; i++) {
        const struct blocks *b = t->blocks[i];
        for (uint32_t k = 0; k < b->stage->count + b->stage->merge_count; k++)
            if (b->node[k] == node && b->stage->author != GRAPH_NONE)
                return false;
            else if (b->node[k] == node)
                return k + 1 == b->stage->count && blocks_rerun(b).count;
    }
    return true;
}

static struct blocks *ends_with(const struct attempt *t, uint32_t node)
{
    for (uint32_t i = 0; i < t->blocks_count; i++)
        if (blocks_last_node(t->blocks[i]) == node && !blocks_rerun(t->blocks[i]).count)
            return t->blocks[i];
    return NULL;
}

/* Is this edge the input of a stage in blocks? */
static bool reads(const struct attempt *t, uint32_t edge)
{
    for (uint32_t i = 0; i < t->blocks_count; i++)
        if (t->blocks[i]->stage->in_edge == edge)
            return true;
    return false;
}

int blocks_meet_main(struct blocks *b, struct region_end *end, uint32_t *count, struct err *e)
{
    const struct graph *g = b->t->graph;
    uint32_t in = b->stage->in_edge, out = b->stage->out_edge;
    *count = 0;
    if (in != GRAPH_NONE && blocks_main_runs(b->t, g->edge[in].from)) {
        if (spool_input(b, e) < 0)
            return -1;
        b->from_main = &end[*count];
        end[(*count)++] = (struct region_end){.how = REGION_DRAIN, .edge = in, .fd = b->input.fd,
                                              .channel = GRAPH_NONE};
    } else if (in != GRAPH_NONE) {
        b->writer = ends_with(b->t, g->edge[in].from);
        if (b->writer)
            b->writer->reader = b;
    }
    uint32_t to = blocks_rerun(b).count                      ? blocks_last_node(b)
                  : out == GRAPH_NONE || reads(b->t, out) ? GRAPH_NONE
                                                            : g->edge[out].to;
    if (to != GRAPH_NONE && blocks_main_runs(b->t, to)) {
        b->to_main = &end[*count];
        /* `head` shall end with the line that it wants, not when a read is full. */
        end[(*count)++] = (struct region_end){.how = REGION_FEED,
                                              .edge = blocks_rerun(b).count ? GRAPH_NONE : out,
                                              .node = to,
                                              .more = true,
                                              .lines = b->tail->stops_early, .channel = GRAPH_NONE};
    }
    return 0;
}

bool blocks_moved(struct blocks *b, uint32_t channel, uint64_t bytes, uint64_t sources)
{
    if (b->from_main && b->from_main->channel == channel)
        input_grown(b, bytes);
    else if (b->to_main && b->to_main->channel == channel)
        outlet_moved(&b->out, bytes, sources);
    else
        return false;
    return true;
}

bool blocks_pump_ended(struct blocks *b, uint32_t channel, int sys, bool reading)
{
    if (b->from_main && b->from_main->channel == channel)
        input_ended(b, sys, reading);
    else if (b->to_main && b->to_main->channel == channel)
        outlet_pump_ended(&b->out, sys, reading);
    else
        return false;
    return true;
}

