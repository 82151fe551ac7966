/* See client.h.  A job's life in the client:
 *
 *   submitted   the graph and the ports were sent to the scheduler
 *   accepted    the job has a number; in a cluster its streams run (serve.c)
 *   result      every stage ended, or zpipe failed: the status is known, and whether to commit outputs
 *   over        all bytes for us have arrived; outputs are in place or gone
 *
 * Before: cli/.  Next: dsl/lower.c for the graph, then scheduler/daemon.c. */
#include "client/client.h"

#include "base/fds.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#define CANCEL_NS ((uint64_t)5 * 1000000000) /* so long a cancelled job may take to end; then its client goes */

char *client_directory(const char *given, struct err *e)
{
    char *d = realpath(given ? given : ".", NULL);
    if (!d && !given && errno == ENOENT)
        err_set(e, ERR_INPUT, "the working directory is gone: go to one that is there (cd)");
    else if (!d)
        err_sys(e, "cannot use the directory '%s'", given ? given : ".");
    return d;
}

struct dsl_input client_dsl_input(const struct zpipe_submission *s, const char *directory)
{
    return (struct dsl_input){
        .text = s->text,
        .size = s->text ? strlen(s->text) : 0,
        .file = s->job_file ? s->job_file : "pipeline",
        .jobfile = s->job_file != NULL,
        .directory = directory,
        .home = getenv("HOME"),
        .parameter = s->parameter,
        .parameter_count = s->parameter_count,
        .env = s->env,
        .env_count = s->env_count,
        .with = s->with,
        .with_count = s->with_count,
        .each = s->each,
        .each_count = s->each_count,
        .pipefail = s->pipefail,
        .line_reads = s->line_reads,
        .split_bytes = s->split_bytes,
    };
}

struct zpipe_submission zpipe_submission(const char *text)
{
    return (struct zpipe_submission){.text = text, .io = {.stdin_fd = 0, .stdout_fd = 1, .stderr_fd = 2}};
}

void client_job_say(struct zpipe_job *j, const char *format, ...)
{
    char *text;
    va_list args;
    if (j->drops)
        return; /* a trial run (zpipe classify): it prints nothing */
    va_start(args, format);
    int size = vasprintf(&text, format, args);
    va_end(args);
    if (size < 0)
        return;
    err_plain(text, true);
    if (j->io.stderr_fd >= 0)
        fd_write_all(j->io.stderr_fd, text, (size_t)size);
    else if (j->io.on_stderr)
        j->io.on_stderr(j->io.owner, text, (size_t)size);
    free(text);
}

static void tell(struct zpipe_job *j, struct zpipe_event *event)
{
    event->job = j->number;
    if (j->io.on_event)
        j->io.on_event(j->io.owner, event);
}

/* ---- the end */

/* If an input changed while the job read it, the result belongs to no single state of the file: the job fails. */
static int inputs_unchanged(struct zpipe_job *j, struct err *e)
{
    for (uint32_t i = 0; i < j->whole->file_count; i++) {
        const struct graph_file *f = &j->whole->file[i];
        struct stat s;
        if (f->awaited || !S_ISREG(f->mode) || !f->inode)
            continue;
        if (stat(f->path, &s) < 0)
            return err_sys(e, "the input '%s' vanished while the job ran", f->path);
        int64_t mtime = (int64_t)s.st_mtim.tv_sec * 1000000000 + s.st_mtim.tv_nsec;
        if (s.st_ino != f->inode || (uint64_t)s.st_size != f->size_bytes || mtime != f->mtime_ns)
            return err_set(e, ERR_INPUT, "the input '%s' changed while the job ran", f->path);
    }
    return 0;
}

/* Print the job's real, user and system time in bash's form, or for `time -p` in that of POSIX. */
static void say_time(struct zpipe_job *j)
{
    const char *const word[] = {"real", "user", "sys"};
    const uint64_t us[] = {(loop_clock_ns() - j->began_ns) / 1000, j->cpu_user_us, j->cpu_sys_us};
    for (int i = 0; i < 3; i++) {
        double s = (double)us[i] / 1e6;
        unsigned minutes = (unsigned)(s / 60);
        if (j->whole->timed_posix)
            client_job_say(j, "%s %.2f\n", word[i], s);
        else
            client_job_say(j, "%s%s\t%um%.3fs\n", i ? "" : "\n", word[i], minutes, s - minutes * 60.0);
    }
}

static void finish(struct zpipe_job *j)
{
    struct err e;
    if (j->whole->timed)
        say_time(j);
    record_tell(j);
    if (j->commit && outputs_check(j, &e) < 0) {
        j->commit = false;
        j->status = e.code == ERR_INPUT ? 1 : ZPIPE_STATUS_FAILED;
        j->why = e;
    }
    if (j->commit && (inputs_unchanged(j, &e) < 0 || (!j->drops && outputs_commit(j, &e) < 0))) {
        j->status = j->status ? j->status : ZPIPE_STATUS_FAILED; /* keep the status of a program that failed already */
        j->why = e;
    }
    j->over = true;
    outputs_close(j);
    ports_close(j);
    serve_close(j);
    tell(j, &(struct zpipe_event){.kind = ZPIPE_OVER, .status = j->status, .text = j->why.text});
}

static int submit(struct zpipe_job *j, struct err *e);

static void next_phase(struct zpipe_job *j)
{
    struct err e;
    serve_close(j);
    made_close(j);
    memset(j->said, 0, j->whole->node_count * sizeof *j->said);
    memset(j->told, 0, j->whole->node_count * sizeof *j->told);
    j->result_here = j->commit = j->ended = j->accepted = j->has_token = false;
    j->number = 0;
    j->request = ++j->z->requests;
    if (phases_begin(j, j->phase + 1, &e) < 0 || ports_begin(j, &e) < 0 || submit(j, &e) < 0)
        client_job_fail(j, &e);
}

static struct graph_end end_of(const void *owner, uint32_t node)
{
    return ((const struct zpipe_job *)owner)->end[node];
}

/* The job is over when its result has arrived, and with it all bytes that are for us. */
void client_job_settle(struct zpipe_job *j)
{
    if (!j->result_here || j->over)
        return;
    if ((j->commit || j->ended) && !(serve_done(j) && ports_drained(j)))
        return;
    if (j->commit && j->phase + 1 < j->phases)
        next_phase(j);
    else
        finish(j);
}

void client_job_fail(struct zpipe_job *j, const struct err *why)
{
    if (j->over || (j->result_here && !j->commit)) {
        if (j->over || !j->ended)
            return;
        j->ended = false; /* what was still to come will not come; the first reason stands */
        client_job_settle(j);
        return;
    }
    if (j->accepted && !j->result_here && !j->z->lost) {
        struct msg m = {.type = MSG_CANCEL, .cancel = {j->number, j->request, why->text}};
        client_send(j->z, &m, (struct slice){0}, NULL);
    }
    j->result_here = true;
    j->commit = false;
    j->status = ZPIPE_STATUS_FAILED;
    j->why = *why;
    ports_release(j);
    client_job_settle(j);
}

static void on_result(struct zpipe_job *j, const struct msg_result *r)
{
    if (j->result_here)
        return;
    j->result_here = true;
    j->status = (int)(r->status & 255);
    j->commit = r->commit;
    j->ended = r->ended;
    if (r->code)
        err_set(&j->why, (int)r->code, "%s", r->text);
    if (j->commit && j->phases > 1)
        j->status = (int)graph_status(j->whole, end_of, j);
    if (j->commit && j->phase + 1 < j->phases)
        made_release(j);
    else
        ports_release(j);
    client_job_settle(j);
}

/* ---- what the scheduler says */

static void on_task(struct zpipe_job *j, const struct msg_task *t)
{
    if (t->node >= j->graph->node_count || (t->attempt && j->told[t->node] == t->attempt))
        return; /* a scheduler that took over has told us of the same end again */
    j->told[t->node] = t->attempt;
    const struct graph_node *n = &j->graph->node[t->node];
    j->end[t->node] = (struct graph_end){t->status, t->early_stop};
    j->cpu_user_us += t->cpu_user_us;
    j->cpu_sys_us += t->cpu_sys_us;
    bool author = n->kind == GRAPH_MAP || n->kind == GRAPH_REDUCE;
    if (t->text[0] && (author || t->end != MSG_END_LIMIT) && !j->said[t->node])
        client_job_say(j, "zpipe: %s\n", t->text);
    if (!j->said[t->node] && !j->held)
        hints_task(j, t); /* hints are about files of this machine, and a submitted job came from another */
    j->said[t->node] = true; /* the stage may run again, and is then not reported twice */
    tell(j, &(struct zpipe_event){.kind = ZPIPE_TASK,
                                  .stage = n->label,
                                  .node = t->node,
                                  .status = (int)t->status,
                                  .signal = (int)t->signal,
                                  .not_found = t->end == MSG_END_NOT_FOUND,
                                  .certified = t->certified,
                                  .cold = t->cold,
                                  .compared = t->compared,
                                  .text = t->text,
                                  .cpu_user_us = t->cpu_user_us,
                                  .cpu_sys_us = t->cpu_sys_us,
                                  .wall_us = t->wall_us,
                                  .memory_peak_bytes = t->memory_peak_bytes});
}

/* How many bytes a stage will read: the size of its source, or of the files that it names if it reads no stdin.  0: not
 * known. */
static uint64_t total_of(const struct graph *g, const struct graph_node *n)
{
    const struct graph_fd *in = graph_fd_of(n, 0);
    uint64_t bytes = 0;
    for (uint32_t i = 0; !in && i < n->file_count; i++)
        bytes += S_ISREG(g->file[n->file[i]].mode) ? g->file[n->file[i]].size_bytes : 0;
    const struct graph_node *from = in ? &g->node[g->edge[in->edge].from] : NULL;
    for (uint32_t i = 0; from && from->kind == GRAPH_SOURCE && i < from->segment_count; i++) {
        const struct graph_segment *s = &from->segment[i];
        if (s->kind == GRAPH_SEGMENT_STDIN)
            return 0;
        bytes += s->kind == GRAPH_SEGMENT_FILE ? g->file[s->file].size_bytes : s->text.size;
    }
    return bytes;
}

static bool is_typed(const struct zpipe_job *j)
{
    for (uint32_t i = 0; i < j->graph->node_count; i++)
        if (ports_read_stdin(&j->graph->node[i]))
            return j->io.stdin_fd >= 0 && isatty(j->io.stdin_fd);
    return false;
}

static void on_progress(struct zpipe_job *j, const struct msg_progress *p)
{
    if (p->node >= j->graph->node_count)
        return;
    tell(j, &(struct zpipe_event){.kind = ZPIPE_PROGRESS,
                                  .stage = j->graph->node[p->node].label,
                                  .node = p->node,
                                  .bytes_in = p->bytes_in,
                                  .bytes_out = p->bytes_out,
                                  .bytes_total = total_of(j->graph, &j->graph->node[p->node]),
                                  .typed = is_typed(j)});
}

/* The commands of a chain of stages, from `node` to `last`, as one text.  NULL: no memory.  Gives. */
static char *chain_text(const struct graph *g, uint32_t node, uint32_t last)
{
    struct buf b = BUF_INIT(GRAPH_BYTES_MAX);
    for (uint32_t steps = 0; node < g->node_count && steps < g->node_count; steps++) {
        const struct graph_node *n = &g->node[node];
        const struct graph_fd *out = graph_fd_of(n, 1);
        buf_printf(&b, "%s%s", steps ? " | " : "", n->label);
        if (node == last || !out)
            break;
        node = g->edge[out->edge].to;
    }
    buf_byte(&b, '\0');
    if (b.failed)
        buf_clear(&b);
    return b.data;
}

static void on_block(struct zpipe_job *j, const struct msg_block *b)
{
    char *text = chain_text(j->graph, b->node, b->last);
    tell(j, &(struct zpipe_event){.kind = ZPIPE_BLOCK,
                                  .stage = text ? text : "",
                                  .node = b->node,
                                  .last_node = b->last,
                                  .block = b->number,
                                  .worker = b->worker,
                                  .status = (int)b->status,
                                  .signal = (int)b->signal,
                                  .certified = b->certified,
                                  .cold = b->cold,
                                  .text = "",
                                  .bytes_in = b->bytes_in,
                                  .bytes_out = b->bytes_out,
                                  .cpu_user_us = b->cpu_user_us,
                                  .cpu_sys_us = b->cpu_sys_us,
                                  .wall_us = b->wall_us,
                                  .memory_peak_bytes = b->memory_peak_bytes});
    free(text);
}

void client_job_message(struct zpipe_job *j, const struct msg *m)
{
    struct err e;
    if (j->plan_only && m->type != MSG_PLAN && m->type != MSG_RESULT)
        return; /* a plan runs nothing, and j->told is not allocated for it */
    switch (m->type) {
    case MSG_ACCEPT:
        if (j->number == m->accept.job)
            serve_tell_lost(j);
        else
            memset(j->told, 0, j->whole->node_count * sizeof *j->told);
        j->number = m->accept.job;
        j->accepted = true;
        tell(j, &(struct zpipe_event){.kind = ZPIPE_ACCEPTED});
        if (j->cancelled)
            zpipe_cancel(j);
        break;
    case MSG_ROUTE:
        if ((j->has_token = m->route.token.size == sizeof j->token))
            memcpy(j->token, m->route.token.data, sizeof j->token);
        if (!j->result_here && serve_routes(j, &m->route, &e) < 0)
            client_job_fail(j, &e);
        break;
    case MSG_PLAN:
        if (!j->plan_only || j->plan)
            break;
        j->plan = plan_text(&m->plan, j->plan_json);
        if (!j->plan) {
            err_nomem(&e);
            client_job_fail(j, &e);
        }
        on_result(j, &(struct msg_result){0});
        break;
    case MSG_TASK:
        on_task(j, &m->task);
        break;
    case MSG_PROGRESS:
        on_progress(j, &m->progress);
        break;
    case MSG_BLOCK:
        on_block(j, &m->block);
        break;
    case MSG_RESULT:
        on_result(j, &m->result);
        break;
    default:
        break;
    }
}

/* ---- life */

/* Where a source leads straight to a sink (`cat a.txt`), insert the program cat between them, so that its status, messages
 * and SIGPIPE are those that sh would show. */
static int insert_cat(struct graph *g, uint32_t edge, struct err *e)
{
    static const char *const argv[] = {"cat"};
    uint32_t sink = g->edge[edge].to;
    uint32_t cat = graph_add_node(g, GRAPH_COMMAND, e);
    uint32_t out = cat == GRAPH_NONE ? GRAPH_NONE : graph_add_edge(g, cat, sink, e);
    if (out == GRAPH_NONE)
        return -1;
    struct graph_node *n = &g->node[cat];
    n->argv = argv;
    n->argc = 1;
    n->parent = g->node[sink].parent;
    n->merge = g->node[sink].merge;
    n->ends = n->parent == GRAPH_NONE;
    n->phase = g->node[sink].phase;
    n->set = g->node[sink].set;
    n->label = "cat";
    g->edge[edge].to = cat;
    if (graph_set_fd(g, cat, 0, edge, e) < 0 || graph_set_fd(g, cat, 1, out, e) < 0)
        return -1;
    return graph_set_fd(g, sink, 0, out, e);
}

static int insert_cats(struct graph *g, struct err *e)
{
    uint32_t count = g->edge_count;
    for (uint32_t i = 0; i < count; i++)
        if (g->node[g->edge[i].from].kind == GRAPH_SOURCE && g->node[g->edge[i].to].kind == GRAPH_SINK &&
            insert_cat(g, i, e) < 0)
            return -1;
    return 0;
}

static int submit(struct zpipe_job *j, struct err *e)
{
    struct buf graph = BUF_INIT(GRAPH_BYTES_MAX);
    struct msg_port *port = calloc((size_t)j->port_count + 1, sizeof *port);
    int r = -1;
    if (!port) {
        err_nomem(e);
        goto out;
    }
    for (uint32_t i = 0; i < j->port_count; i++)
        port[i] = (struct msg_port){j->port[i].node, j->port[i].fd};
    if (graph_encode(j->graph, &graph, e) < 0)
        goto out;
    struct msg m = {.type = MSG_SUBMIT, .submit = {j->request, j->flags, j->text, port, j->port_count, j->held, .token = {"", 0}}};
    if (j->number) { /* it may still be running there */
        m.submit.was = j->number;
        m.submit.token = (struct slice){(const char *)j->token, sizeof j->token};
    }
    r = client_send(j->z, &m, (struct slice){graph.data, graph.size}, e);
out:
    free(port);
    buf_clear(&graph);
    return r;
}

void client_job_again(struct zpipe_job *j)
{
    struct err e;
    if (j->result_here)
        return;
    j->request = ++j->z->requests;
    if (!j->has_token || !serve_attached(j))
        j->number = 0;
    if (submit(j, &e) < 0)
        client_job_fail(j, &e);
}

static uint32_t count_jobs(const struct zpipe *z)
{
    uint32_t count = 0;
    for (const struct zpipe_job *j = z->jobs; j; j = j->next)
        count++;
    return count;
}

/* Mark the tasks that --record-tasks keeps, however they end. */
static int mark_recorded(struct graph *g, const struct zpipe_submission *s, struct err *e)
{
    if (!s->record_stage)
        return 0;
    if (s->record_stage > g->node_count || (g->node[s->record_stage - 1].kind != GRAPH_MAP && g->node[s->record_stage - 1].kind != GRAPH_REDUCE))
        return err_set(e, ERR_INPUT, "stage %u is no map or reduce, and only their tasks are recorded: `zpipe plan` shows the stages' numbers",
                       s->record_stage);
    g->node[s->record_stage - 1].recorded_first = s->record_first;
    g->node[s->record_stage - 1].recorded_last = s->record_last;
    return 0;
}

int client_job_prepare(const struct zpipe *z, struct graph *g, const struct zpipe_submission *s, struct buf *told, struct err *e)
{
    g->width = s->width;
    g->split_bytes = s->split_bytes;
    g->tell_blocks = s->tell_blocks;
    g->audit = s->audit < GRAPH_AUDIT_ALL ? s->audit : GRAPH_AUDIT_ALL;
    hints_first(g, told);
    return mark_recorded(g, s, e) < 0 || insert_cats(g, e) < 0 || trees_expand(g, !z->embedded, e) < 0 ? -1 : 0;
}

static struct zpipe_job *job_start(struct zpipe *z, struct graph *g, char *directory, const struct zpipe_submission *s,
                                   uint32_t flags, uint64_t held, struct err *e)
{
    struct zpipe_job *j = calloc(1, sizeof *j);
    if (!j) {
        graph_free(g);
        free(directory);
        err_nomem(e);
        return NULL;
    }
    *j = (struct zpipe_job){.z = z,
                            .held = held,
                            .whole = g,
                            .graph = g,
                            .phases = 1,
                            .directory = directory,
                            .io = s->io,
                            .request = ++z->requests,
                            .began_ns = loop_clock_ns(),
                            .no_outputs = s->no_outputs,
                            .drops = flags & CLIENT_DROPS,
                            .recorded = BUF_INIT(CLIENT_TOLD_MAX),
                            .feed_read = -1,
                            .feed_write = -1,
                            .kept = {.copy = -1},
                            .out = {.read = -1, .write = -1},
                            .err = {.read = -1, .write = -1}};
    j->next = z->jobs;
    z->jobs = j;
    j->flags = (flags & ~CLIENT_DROPS) | (s->spread ? MSG_SUBMIT_SPREAD : 0);
    j->records = s->records ? record_place(s->records, NULL) : NULL;
    g->records = j->records != NULL;
    snprintf(j->text, sizeof j->text, "%s", s->text ? s->text : "(graph)");
    struct buf told = BUF_INIT(CLIENT_TOLD_MAX);
    int r = 0;
    if (count_jobs(z) > CLIENT_JOBS_MAX)
        r = err_set(e, ERR_LIMIT, "more than %d jobs at once", CLIENT_JOBS_MAX);
    if (r == 0 && !held)
        r = client_job_prepare(z, g, s, &told, e);
    if (told.size)
        client_job_say(j, "%.*s", (int)told.size, told.data);
    buf_clear(&told);
    if (r == 0 && !(flags & MSG_SUBMIT_PLAN_ONLY)) {
        j->phases = phases_count(g);
        r = ports_open(j, e);
        if (r == 0 && phases_wanted(g))
            r = phases_begin(j, 0, e);
        if (r == 0)
            r = ports_begin(j, e);
    }
    if (r < 0 || submit(j, e) < 0) {
        j->over = true;
        outputs_close(j);
        ports_close(j);
        zpipe_job_free(j);
        return NULL;
    }
    return j;
}

struct zpipe_job *client_job_start(struct zpipe *z, struct graph *g, char *directory, const struct zpipe_submission *s,
                                   uint32_t flags, struct err *e)
{
    return job_start(z, g, directory, s, flags, 0, e);
}

struct zpipe_job *client_job_keep(struct zpipe *z, struct graph *g, char *directory, const struct zpipe_submission *s,
                                  uint32_t flags, uint64_t held, struct err *e)
{
    return job_start(z, g, directory, s, flags, held, e);
}

struct zpipe_job *zpipe_submit(struct zpipe *z, const struct zpipe_submission *s, struct zpipe_error *error)
{
    struct err e = {0};
    struct zpipe_job *j = NULL;
    struct client_text t;
    struct graph *g = client_text_open(&t, s, &e) < 0 ? NULL : dsl_graph(&t.in, &e);
    if (g) {
        j = client_job_start(z, g, t.directory, s, 0, &e);
        t.directory = NULL;
    }
    client_text_close(&t);
    if (!j)
        client_error(error, &e);
    return j;
}

bool zpipe_over(const struct zpipe_job *j)
{
    return j->over;
}

int zpipe_wait(struct zpipe_job *j, struct zpipe_error *error)
{
    while (!j->over)
        loop_turn(j->z->loop, true);
    if (error)
        *error = (struct zpipe_error){0};
    if (j->why.code)
        client_error(error, &j->why);
    return j->status;
}

/* A scheduler or worker that stands still, or lies, ends nothing. */
void client_job_expire(struct zpipe_job *j)
{
    struct err e;
    if (!j->cancelled || j->over || loop_clock_ns() - j->cancelled_ns < CANCEL_NS)
        return;
    err_set(&e, ERR_CANCELLED, "cancelled, and the cluster does not say that nothing runs any more");
    client_job_fail(j, &e);
}

void zpipe_cancel(struct zpipe_job *j)
{
    if (!j->cancelled)
        j->cancelled_ns = loop_clock_ns();
    j->cancelled = true;
    if (!j->result_here && j->z->away) { /* there is no scheduler that could end it */
        struct err e;
        err_set(&e, ERR_CANCELLED, "cancelled");
        client_job_fail(j, &e);
    }
    if (j->result_here || !j->accepted)
        return;
    struct msg m = {.type = MSG_CANCEL, .cancel = {j->number, j->request, "cancelled"}};
    client_send(j->z, &m, (struct slice){0}, NULL);
}

void zpipe_job_free(struct zpipe_job *j)
{
    if (!j)
        return;
    if (!j->over) {
        zpipe_cancel(j);
        while (!j->over)
            loop_turn(j->z->loop, true);
    }
    for (struct zpipe_job **at = &j->z->jobs; *at; at = &(*at)->next) {
        if (*at == j) {
            *at = j->next;
            break;
        }
    }
    if (j->graph != j->whole)
        graph_free(j->graph);
    graph_free(j->whole);
    free(j->directory);
    free(j->port);
    free(j->end);
    free(j->said);
    free(j->told);
    free(j->check);
    free(j->passed);
    free(j->plan);
    free(j->records);
    buf_clear(&j->recorded);
    free(j);
}
