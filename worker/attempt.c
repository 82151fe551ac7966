/* See attempt.h.  Every way that an attempt can take leads to attempt_settle, which looks what is still under way and sends
 * STOPPED when nothing is.  Nothing is freed inside its own callback: carries that ended wait for attempt_reap, which the
 * agent calls once per turn of the loop.  Streams from and to other processes are in attempt_streams.c. */
#include "worker/attempt.h"

#include "worker/blocks.h"
#include "worker/borrow.h"
#include "worker/local.h"
#include "worker/past.h"
#include "worker/share.h"
#include "worker/shared.h"

#include "base/fds.h"
#include "base/log.h"
#include "base/spool.h"
#include "proto/kept.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#define ARENA_MAX (256u << 20)

void attempt_say(struct attempt *t, const struct msg *m)
{
    if (!t->paused)
        agent_send(t->agent, m);
}

void attempt_settle(struct attempt *t)
{
    if (t->state == ATTEMPT_ENDED || t->state == ATTEMPT_FETCHING || group_runs(&t->main))
        return;
    for (uint32_t i = 0; i < t->blocks_count; i++)
        if (!blocks_over(t->blocks[i]))
            return;
    for (uint32_t i = 0; i < t->share_count; i++)
        if (!share_over(t->shares[i]))
            return;
    if (t->doubt.code && t->started && t->state == ATTEMPT_RUNNING) {
        attempt_fail(t, &t->doubt);
        return;
    }
    if ((t->state == ATTEMPT_RUNNING && (!t->started || t->moving)) || (local_again(t) && t->moving))
        return;
    t->state = ATTEMPT_ENDED;
    t->reapable = true;
    if (local_again(t)) {
        agent_keep_local(t->agent, t->local);
        t->local = NULL;
    }
    struct msg m = {.type = MSG_STOPPED, .stopped = {t->job, t->number, t->heard}};
    attempt_say(t, &m);
}

static void link_lost(struct attempt *t, const struct err *why)
{
    if (t->state == ATTEMPT_FETCHING || t->state == ATTEMPT_RUNNING)
        attempt_fail(t, why);
}

/* What programs say after a loss is a consequence of it. */
static void all_fall(struct attempt *t)
{
    group_fall(&t->main);
    for (uint32_t i = 0; i < t->blocks_count; i++)
        group_fall(blocks_group(t->blocks[i]));
}

void attempt_task_lost(struct attempt *t, uint32_t node, const char *why)
{
    struct err e;
    if (t->state != ATTEMPT_RUNNING)
        return;
    err_set(&e, ERR_GONE, "the sandbox of `%.200s` was lost: %.300s", t->graph->node[node].label, why);
    log_info("sandbox_lost", "job=%llu node=%u why=\"%s\"", (unsigned long long)t->job, node, why);
    all_fall(t);
    local_lost(t, &e);
    attempt_fail(t, &e);
}

void attempt_box_lost(struct attempt *t, const struct err *why)
{
    struct err e = *why;
    all_fall(t);
    local_lost(t, &e);
    link_lost(t, &e);
}

/* ---- the start */

static void main_moved(struct group *g, uint32_t channel, uint64_t bytes, uint64_t sources)
{
    for (uint32_t i = 0; i < g->t->blocks_count; i++)
        if (blocks_moved(g->t->blocks[i], channel, bytes, sources))
            return;
    for (uint32_t i = 0; i < g->t->share_count; i++)
        if (share_moved(g->t->shares[i], channel, bytes, sources))
            return;
}

static bool main_pump_ended(struct group *g, uint32_t channel, int sys, bool reading)
{
    for (uint32_t i = 0; i < g->t->blocks_count; i++)
        if (blocks_pump_ended(g->t->blocks[i], channel, sys, reading))
            return true;
    for (uint32_t i = 0; i < g->t->share_count; i++)
        if (share_pump_ended(g->t->shares[i], channel, sys, reading))
            return true;
    return false;
}

/* The words of a program of the main region.  If it belongs to a stage in blocks, it is the command that puts the blocks'
 * outputs together. */
static struct region_words main_words(void *owner, uint32_t node)
{
    const struct attempt *t = owner;
    for (uint32_t i = 0; i < t->blocks_count; i++)
        if (blocks_last_node(t->blocks[i]) == node)
            return blocks_rerun(t->blocks[i]);
    return (struct region_words){t->graph->node[node].argv, t->graph->node[node].argc};
}

int attempt_find_stages(struct attempt *t, struct err *e)
{
    if (graph_stages(t->graph, &t->arena, &t->stages, e) < 0)
        return -1;
    t->blocks = arena_array(&t->arena, (size_t)t->stages.count + 1, sizeof *t->blocks);
    t->joint = arena_array(&t->arena, (size_t)t->graph->edge_count + 1, sizeof *t->joint);
    return t->blocks && t->joint ? 0 : err_nomem(e);
}

static int make_blocks(struct attempt *t, struct err *e)
{
    if (attempt_find_stages(t, e) < 0)
        return -1;
    for (uint32_t i = 0; i < t->stages.count; i++) {
        if (!blocks_wanted(t, &t->stages.stage[i]))
            continue;
        t->blocks[t->blocks_count] = blocks_new(t, &t->stages.stage[i], e);
        if (!t->blocks[t->blocks_count])
            return -1;
        t->blocks_count++;
    }
    return 0;
}

/* Start all programs that stream, in one region. */
static int start_main(struct attempt *t, struct err *e)
{
    uint32_t *node = arena_array(&t->arena, (size_t)t->graph->node_count + 1, sizeof *node), count = 0, ends = 0;
    size_t most = 2 * (size_t)t->blocks_count;
    for (uint32_t i = 0; i < t->share_count; i++)
        most += share_ends(t->shares[i]);
    t->main_end = arena_array(&t->arena, most + 1, sizeof *t->main_end);
    t->report = arena_array(&t->arena, (size_t)t->graph->node_count + 1, sizeof *t->report);
    if (!node || !t->main_end || !t->report)
        return err_nomem(e);
    for (uint32_t i = 0; i < t->blocks_count; i++) {
        uint32_t more;
        if (blocks_meet_main(t->blocks[i], &t->main_end[ends], &more, e) < 0)
            return -1;
        ends += more;
    }
    for (uint32_t i = 0; i < t->share_count; i++) {
        uint32_t more;
        if (share_meet_main(t->shares[i], &t->main_end[ends], &more, e) < 0)
            return -1;
        ends += more;
    }
    for (uint32_t i = 0; i < t->graph->node_count; i++)
        if (blocks_main_runs(t, i)) {
            node[count++] = i;
            t->memory_bytes = graph_add_memory(t->memory_bytes, t->graph->node[i].set.memory_bytes);
        }
    agent_take_memory(t->agent, t->memory_bytes);
    t->main.moved = main_moved;
    t->main.pump_ended = main_pump_ended;
    struct region_scope scope = {.node = node, .count = count, .end = t->main_end, .end_count = ends,
                                 .words = main_words, .owner = t};
    return count ? group_run(&t->main, t, &scope, e) : 0;
}

void attempt_start(struct attempt *t)
{
    struct err e;
    t->state = ATTEMPT_RUNNING;
    int r = local_begin(t, &e);
    if (r == 0)
        r = make_blocks(t, &e);
    if (r == 0)
        r = shares_make(t, &e);
    if (r == 0)
        local_decide(t);
    if (r == 0)
        r = start_main(t, &e);
    for (uint32_t i = 0; r == 0 && i < t->blocks_count; i++)
        r = blocks_start(t->blocks[i], &e);
    for (uint32_t i = 0; r == 0 && i < t->share_count; i++)
        r = share_start(t->shares[i], &e);
    t->started = true;
    local_started(t);
    struct msg m = {.type = MSG_STARTED, .started = {t->job, t->number}};
    attempt_say(t, &m);
    if (r < 0)
        attempt_fail(t, &e);
    else
        attempt_settle(t);
}

void attempt_look(struct attempt *t)
{
    if (t->state != ATTEMPT_RUNNING)
        return;
    if (group_runs(&t->main))
        box_look(agent_box(t->agent), t->main.watch.id, NULL);
    for (uint32_t i = 0; i < t->blocks_count; i++)
        blocks_look(t->blocks[i]);
}

void attempt_step(struct attempt *t)
{
    for (uint32_t i = t->blocks_count; t->started && i-- > 0;)
        blocks_step(t->blocks[i]);
}

/* Does all that this source of the client's consists of lie on this host, too? */
static bool source_is_in_place(const struct attempt *t, const struct graph_node *n, uint32_t *looked)
{
    bool files = false;
    for (uint32_t i = 0; i < n->segment_count; i++) {
        const struct graph_segment *s = &n->segment[i];
        int fd = s->kind == GRAPH_SEGMENT_FILE && ++*looked <= KEPT_IN_PLACE_MAX ? shared_open(agent_shared(t->agent), &t->graph->file[s->file]) : -1;
        if (fd < 0 && s->kind != GRAPH_SEGMENT_TEXT)
            return false;
        files |= fd >= 0;
        fd_close(&fd);
    }
    return files;
}

/* Inputs that lie on this host, too, are read in place and not sent. */
static int take_in_place(struct attempt *t, struct err *e)
{
    uint32_t looked = 0;
    for (uint32_t i = 0; i < t->route_count && *agent_shared(t->agent); i++) {
        struct attempt_route *route = &t->route[i];
        const struct graph_edge *edge = route->r.what == MSG_EDGE ? &t->graph->edge[route->r.index] : NULL;
        if (route->r.via != MSG_VIA_LISTEN)
            continue;
        if (route->r.what == MSG_FILE && ++looked <= KEPT_IN_PLACE_MAX) {
            route->spool = shared_open(agent_shared(t->agent), &t->graph->file[route->r.index]);
            route->in_place = route->spool >= 0;
        } else if (edge && !t->here[edge->from] && t->graph->node[edge->from].kind == GRAPH_SOURCE) {
            route->in_place = source_is_in_place(t, &t->graph->node[edge->from], &looked);
            t->here[edge->from] = route->in_place;
        }
        if (route->in_place && attempt_decline(t, route, e) < 0)
            return -1;
    }
    return 0;
}

/* A file system gives out and takes back inodes slowly (ext4: 0.2 ms each, and more when many were freed a moment ago); so small
 * inputs that are fetched are in memory. */
int attempt_spool(struct attempt *t, const struct graph_file *f, bool *small, struct err *e)
{
    *small = f && f->size_bytes && f->size_bytes <= SMALL_INPUT_MAX && f->size_bytes <= SMALL_INPUTS_MAX - t->small_bytes;
    int fd = *small ? spool_of((struct slice){"", 0}, e) : spool_open(e);
    if (fd < 0)
        return -1;
    t->small_bytes += *small ? f->size_bytes : 0;
    fchmod(fd, f ? (f->mode & 0777) | 0400 : 0600);
    return fd;
}

/* Begin to fetch the inputs that must be here, complete, before the first program starts. */
static int begin_fetch(struct attempt *t, struct err *e)
{
    for (uint32_t i = 0; i < t->route_count; i++) {
        struct attempt_route *route = &t->route[i];
        bool stream = route->r.via == MSG_VIA_CONNECT || route->r.via == MSG_VIA_LISTEN;
        const struct graph_edge *edge =
            route->r.what == MSG_EDGE ? &t->graph->edge[route->r.index] : NULL;
        bool fetch = route->r.what == MSG_FILE ||
                     (edge && edge->seekable && t->here[edge->to] && !t->here[edge->from]);
        const struct graph_file *f = route->r.what == MSG_FILE ? &t->graph->file[route->r.index] : NULL;
        if (!stream || !fetch || route->in_place || (f && S_ISDIR(f->mode)))
            continue; /* the files in a directory have routes of their own */
        bool small;
        route->spool = attempt_spool(t, f, &small, e);
        if (route->spool < 0)
            return -1;
        t->fetching++;
        int to = fcntl(route->spool, F_DUPFD_CLOEXEC, 3);
        if (to < 0)
            return err_sys(e, "cannot duplicate a descriptor");
        if (attempt_carry(t, route, to, false, e) < 0)
            return -1;
        if (small)
            carry_expect(route->carry, f->size_bytes);
    }
    return 0;
}

/* ---- the end */

static void fail(struct attempt *t, const struct err *why, bool last)
{
    if (t->state == ATTEMPT_STOPPING || t->state == ATTEMPT_ENDED)
        return;
    struct msg m = {.type = MSG_FAIL,
                    .fail = {t->job, t->number, (uint32_t)why->code, why->text, last}};
    attempt_say(t, &m);
    attempt_stop(t);
}

void attempt_fail(struct attempt *t, const struct err *why)
{
    fail(t, why, false);
}

void attempt_doubt(struct attempt *t, const struct err *why)
{
    if (!t->doubt.code)
        t->doubt = *why;
}

void attempt_fail_for_good(struct attempt *t, const struct err *why)
{
    fail(t, why, true);
}

void attempt_stop(struct attempt *t)
{
    if (t->state == ATTEMPT_ENDED)
        return;
    t->state = ATTEMPT_STOPPING;
    t->torn = true;
    for (uint32_t i = 0; i < t->route_count; i++) /* what is killed now has not come to its end */
        if (t->route[i].carry && !carry_is_in(t->route[i].carry))
            carry_hold_end(t->route[i].carry);
    if (group_runs(&t->main))
        agent_stop_region(t->agent, &t->main.watch);
    for (uint32_t i = 0; i < t->blocks_count; i++)
        blocks_stop(t->blocks[i]);
    for (uint32_t i = 0; i < t->share_count; i++)
        share_stop(t->shares[i]);
    local_stop(t);
    if (local_again(t))
        group_tear(&t->main);
    for (uint32_t i = 0; local_again(t) && i < t->blocks_count; i++)
        group_tear(blocks_group(t->blocks[i]));
    attempt_settle(t);
}

/* The status that sh would have in $?. */
uint32_t attempt_status(const struct box_result *r)
{
    switch (r->end) {
    case BOX_EXITED:
        return (uint32_t)r->status & 255;
    case BOX_SIGNALLED:
        return 128 + (uint32_t)r->signal;
    case BOX_LIMIT:
        return 124;
    case BOX_NOT_FOUND:
        return 127;
    case BOX_NOT_RUN:
        return 126;
    default:
        return 125;
    }
}

/* A stage's end is reported only when its stderr has ended too, so that the last lines in the report are complete. */
void attempt_said(struct attempt *t, uint32_t node, const char *tail)
{
    struct attempt_report *r = &t->report[node];
    if (!r->ended || r->sent || t->state == ATTEMPT_STOPPING)
        return;
    r->sent = true;
    r->m.task.stderr_tail = tail ? tail : "";
    r->m.task.compared = r->compared;
    attempt_say(t, &r->m);
}

void attempt_limit(struct buf *sentence, const char *limit)
{
    static const char *const set[] = {"cpu", "descriptors", "memory", "output", "procs", "scratch", "timeout"};
    for (size_t i = 0; i < sizeof set / sizeof *set; i++)
        if (limit && strcmp(limit, set[i]) == 0)
            buf_printf(sentence, "; `with %s=` before it sets another", limit);
}

void attempt_node_ended(struct attempt *t, uint32_t node, const struct box_result *r, bool early_stop)
{
    const struct graph_node *n = &t->graph->node[node];
    struct attempt_report *own = &t->report[node];
    struct buf text = BUF_INIT(MSG_TEXT_MAX);
    if (r->end == BOX_LIMIT && !(r->text && r->text[0])) {
        buf_printf(&text, "`%s` reached its limit of %s", n->label, r->limit);
        attempt_limit(&text, r->limit);
    } else {
        buf_text(&text, r->text ? r->text : "");
    }
    own->m = (struct msg){.type = MSG_TASK,
                          .task = {.job = t->job,
                                   .attempt = t->number,
                                   .node = node,
                                   .end = (uint32_t)r->end,
                                   .status = attempt_status(r),
                                   .signal = (uint32_t)r->signal,
                                   .cpu_user_us = r->cpu_user_ns / 1000,
                                   .cpu_sys_us = r->cpu_sys_ns / 1000,
                                   .wall_us = r->wall_ns / 1000,
                                   .memory_peak_bytes = r->memory_peak_bytes,
                                   .early_stop = early_stop,
                                   .certified = r->certified}};
    attempt_take_made(t, node, r, &text);
    const char *copy = text.data ? arena_string(&t->arena, text.data) : "";
    own->m.task.text = copy ? copy : "";
    copy = arena_string(&t->arena, r->cold_why);
    own->m.task.cold = copy ? copy : "";
    own->ended = true;
    buf_clear(&text);
    if (r->end != BOX_FAILED && r->end != BOX_KILLED && t->state != ATTEMPT_STOPPING)
        attempt_allow_ends(t, node); /* not while all is being killed: then one program may end because another was killed */
}

bool pump_broke(int sys, bool reading)
{
    return sys && sys != EPIPE && !(sys == EDQUOT && reading);
}

void attempt_pump_failed(struct attempt *t, int sys, bool reading)
{
    struct err e;
    if (!pump_broke(sys, reading) || t->state != ATTEMPT_RUNNING)
        return;
    errno = sys;
    err_sys(&e, reading ? "cannot read an input" : "cannot write the output");
    attempt_fail(t, &e);
}

bool attempt_reap(struct attempt *t)
{
    t->reapable = false;
    borrows_reap(t);
    for (uint32_t i = 0; i < t->route_count; i++) {
        struct attempt_route *route = &t->route[i];
        if (!route->carry_ended || route->carry_closed)
            continue;
        carry_rest(route->carry);
        route->carry_closed = true;
    }
    return t->state == ATTEMPT_ENDED && !t->paused;
}

/* ---- life */

/* Keys that may connect while the attempt is there. */
static int admit(struct attempt *t, enum msg_role role, struct slice key, struct err *e)
{
    struct attempt_key *k = &t->key[t->key_count];
    if (!key.size)
        return 0; /* its client is in this process */
    if (net_admit(agent_net(t->agent), role, key, e) < 0)
        return -1;
    k->role = role;
    memcpy(k->key, key.data, key.size < sizeof k->key ? key.size : sizeof k->key);
    t->key_count++;
    return 0;
}

static int admit_all(struct attempt *t, const struct msg_run *run, struct err *e)
{
    t->key = arena_array(&t->arena, (size_t)run->admit_count + 1, sizeof *t->key);
    if (!t->key)
        return err_nomem(e);
    int r = admit(t, MSG_CLIENT, run->client, e);
    for (uint32_t i = 0; r == 0 && i < run->admit_count; i++)
        r = admit(t, MSG_WORKER, run->admit[i], e);
    return r;
}

/* A worker that others reach by a network has no descriptor of theirs, and opens no file because somebody says that it is
 * theirs: files are shared, or sent. */
static bool may_be(const struct attempt *t, const struct msg_route *r)
{
    return !agent_data(t->agent) || r->via == MSG_VIA_CONNECT || r->via == MSG_VIA_LISTEN;
}

static int copy_routes(struct attempt *t, const struct msg_run *run, struct err *e)
{
    t->route = arena_array(&t->arena, run->route_count, sizeof *t->route);
    if (!t->route)
        return err_nomem(e);
    for (uint32_t i = 0; i < run->route_count; i++) {
        struct attempt_route *to = &t->route[i];
        *to = (struct attempt_route){
            .r = run->route[i], .attempt = run->attempt, .spool = -1, .channel = GRAPH_NONE};
        struct msg_route *r = &to->r;
        uint32_t limit = r->what == MSG_EDGE   ? t->graph->edge_count
                         : r->what == MSG_FILE ? t->graph->file_count
                                               : t->graph->node_count;
        if (r->index >= limit)
            return err_set(e, ERR_PROTO, "a route names thing %u of %u", r->index, limit);
        if (!may_be(t, r))
            return err_set(e, ERR_PROTO, "a route leads to this host's own files or descriptors");
        r->url = arena_string(&t->arena, r->url);
        r->key.data = arena_bytes(&t->arena, r->key.data, r->key.size);
        if (!r->url || !r->key.data)
            return err_nomem(e);
        t->route_count++;
    }
    return 0;
}

struct attempt *attempt_new(struct agent *a, const struct msg_run *run, struct slice graph, struct err *e)
{
    struct attempt *t = calloc(1, sizeof *t);
    if (!t) {
        err_nomem(e);
        return NULL;
    }
    *t = (struct attempt){.agent = a, .job = run->job, .number = run->attempt, .heard = run->attempt, .arena = ARENA_INIT(ARENA_MAX)};
    memcpy(t->token, run->token.data, run->token.size < sizeof t->token ? run->token.size : sizeof t->token);
    t->graph = graph_decode(graph.data, graph.size, e);
    if (!t->graph)
        goto refuse;
    t->here = arena_array(&t->arena, t->graph->node_count, sizeof *t->here);
    if (!t->here) {
        err_nomem(e);
        goto refuse;
    }
    for (uint32_t i = 0; i < run->node_count; i++) {
        if (run->node[i] >= t->graph->node_count) {
            err_set(e, ERR_PROTO, "RUN names node %u of %u", run->node[i], t->graph->node_count);
            goto refuse;
        }
        t->here[run->node[i]] = true;
    }
    t->deaths = run->deaths;
    t->bad = run->bad;
    t->bad_number = run->bad_number;
    t->bad_why = run->bad ? arena_string(&t->arena, run->bad_why) : "";
    if (!t->bad_why) {
        err_nomem(e);
        goto refuse;
    }
    if (copy_routes(t, run, e) < 0 || admit_all(t, run, e) < 0)
        goto refuse;
    t->past = past_join(agent_past(a), run->held, t->graph);
    return t;
refuse:
    attempt_free(t);
    return NULL;
}

/* Without a sandbox an input has its absolute name only where it lies, and a client's is elsewhere.  The job's other workers are
 * alike, so it is not tried again. */
static int check_names(const struct attempt *t, struct err *e)
{
    for (uint32_t i = 0; agent_is_bare(t->agent) && i < t->route_count; i++) {
        const struct msg_route *r = &t->route[i].r;
        const char *name = r->what == MSG_FILE && r->node != GRAPH_NONE && graph_is_stage(&t->graph->node[r->node]) ? t->graph->file[r->index].name : "";
        if (name[0] == '/' && r->via != MSG_VIA_PATH && strncmp(name, "/job/", 5))
            return err_set(e, ERR_INPUT,
                           "worker '%s' runs programs without a sandbox (--isolation none) and cannot put an input at '%.200s': name "
                           "it relative to the working directory, or use workers with sandboxes",
                           agent_name(t->agent), name);
    }
    return 0;
}

void attempt_begin(struct attempt *t)
{
    struct err e;
    if (check_names(t, &e) < 0)
        attempt_fail_for_good(t, &e);
    else if (take_in_place(t, &e) < 0 || begin_fetch(t, &e) < 0)
        attempt_fail(t, &e);
    else if (!t->fetching)
        attempt_start(t);
}

void attempt_free(struct attempt *t)
{
    attempt_drop_made(t);
    past_leave(t->past, !t->torn);
    borrows_free(t);
    local_stop(t);
    local_free(t->local);
    agent_give_memory(t->agent, t->memory_bytes);
    for (uint32_t i = 0; i < t->route_count; i++) {
        carry_free(t->route[i].carry);
        fd_close(&t->route[i].spool);
    }
    for (uint32_t i = 0; i < t->blocks_count; i++)
        blocks_free(t->blocks[i]);
    for (uint32_t i = 0; i < t->share_count; i++)
        share_free(t->shares[i]);
    group_clear(&t->main);
    for (uint32_t i = 0; i < t->key_count; i++)
        net_forget(agent_net(t->agent), t->key[i].role, (struct slice){t->key[i].key, sizeof t->key[i].key});
    graph_free(t->graph);
    arena_clear(&t->arena);
    free(t);
}
