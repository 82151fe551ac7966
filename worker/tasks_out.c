/* The stderr and the files of a map's or reduce's tasks are passed on here, and how such a stage ends is reported.  See
 * tasks.h. */
#include "worker/tasks.h"
#include "worker/local.h"

#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

/* ---- streams beside stdout */

/* The region of its pump has ended, and its last line is out. */
static void stream_over(struct task_stream *s)
{
    if (s->lines.from >= 0 || !s->out.over)
        return;
    s->over = true;
    if (s == &s->b->tasks->said)
        attempt_said(s->b->t, s->b->stage->author, s->b->tasks->tail);
    attempt_settle(s->b->t);
}

static void lines_ended(struct lines *l)
{
    struct task_stream *s = l->owner;
    s->b->t->moving--;
    if (l->differs.code)
        attempt_doubt(s->b->t, &l->differs);
    stream_over(s);
}

static bool has_fallen(struct lines *l)
{
    const struct task_stream *s = l->owner;
    return agent_box_gone(s->b->t->agent);
}

static void stream_moved(void *owner)
{
    struct task_stream *s = owner;
    blocks_step(s->b);
}

static void stream_left(void *owner)
{
    (void)owner; /* nobody reads the stream any more; the stage goes on */
}

static void stream_ended(void *owner)
{
    stream_over(owner);
}

static void stream_failed(void *owner, const struct err *why)
{
    struct task_stream *s = owner;
    blocks_fail(s->b, why);
}

static void stream_open(struct blocks *b, struct task_stream *s)
{
    static const struct outlet_events events = {stream_moved, stream_left, stream_ended, stream_failed};
    s->b = b;
    s->open = true;
    s->lines.from = -1;
    outlet_init(&s->out, b->t->agent, &events, s);
}

/* Passes the stream to the job's stderr in whole lines. */
static int stream_to_lines(struct task_stream *s, const struct attempt_route *route, struct err *e)
{
    struct attempt *t = s->b->t;
    int pair[2];
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) < 0)
        return err_sys(e, "cannot make a socket pair");
    fcntl(pair[0], F_SETFL, O_NONBLOCK);
    t->moving++;
    lines_start(&s->lines, agent_loop(t->agent), pair[0], route ? route->r.fd : -1, lines_ended, s);
    s->lines.given = local_given(t, route);
    s->lines.has_fallen = has_fallen;
    int r = outlet_to_fd(&s->out, pair[1], e);
    close(pair[1]);
    return r;
}

static int open_said(struct blocks *b, struct err *e)
{
    struct task_stream *s = &b->tasks->said;
    uint32_t node = b->stage->author;
    const struct graph_fd *own = graph_fd_of(&b->t->graph->node[node], 2);
    struct attempt_route *route = attempt_route_of(b->t, MSG_STDERR, node, GRAPH_NONE);
    stream_open(b, s);
    if (own)
        return outlet_open(&s->out, b->t, own->edge, e);
    if (route && route->r.via != MSG_VIA_FD)
        return outlet_to_route(&s->out, b->t, route, e);
    return stream_to_lines(s, route, e);
}

static int open_made(struct blocks *b, struct err *e)
{
    struct task_stream *s = &b->tasks->made;
    struct attempt_route *route = attempt_route_of(b->t, MSG_OUTPUT, b->stage->author, GRAPH_NONE);
    stream_open(b, s);
    int fd, own;
    if (!route || route->r.via != MSG_VIA_FD)
        return outlet_to_route(&s->out, b->t, route, e);
    if (local_sink(b->t, route, &fd, &own, e) < 0)
        return -1;
    int r = outlet_to_fd(&s->out, fd, e);
    if (own >= 0)
        close(own);
    return r;
}

bool tasks_have_room(const struct blocks *b)
{
    const struct tasks *t = b->tasks;
    return outlet_backlog(&t->said.out) + outlet_backlog(&t->made.out) < BACKLOG_MAX &&
           t->leaves_kept < HELD_MAX + 1024 &&
           outlet_waiting(&t->said.out) + outlet_waiting(&t->made.out) < HELD_MAX;
}

bool tasks_over(const struct blocks *b)
{
    return b->tasks->said.over && b->tasks->made.over;
}

void tasks_stop_streams(struct blocks *b)
{
    struct task_stream *const streams[] = {&b->tasks->said, &b->tasks->made};
    b->tasks->said.lines.torn = local_again(b->t);
    for (int i = 0; i < 2; i++)
        if (streams[i]->open)
            outlet_stop(&streams[i]->out);
        else
            streams[i]->over = true;
}

/* ---- stderr */

int tasks_say(struct blocks *b, int fd, struct err *e)
{
    struct task_stream *s = &b->tasks->said;
    uint64_t size;
    if (fd < 0)
        return 0;
    if (blocks_size_of(fd, &size, e) < 0 || (size && !s->open && open_said(b, e) < 0)) {
        close(fd);
        return -1;
    }
    if (!size)
        return close(fd), 0;
    uint64_t last = size < LINES_TAIL_MAX ? size : LINES_TAIL_MAX;
    ssize_t n = pread(fd, b->tasks->tail, last, (off_t)(size - last));
    b->tasks->tail[n > 0 ? n : 0] = '\0';
    return outlet_put(&s->out, fd, 0, size, e);
}

int tasks_put_stretch(struct blocks *b, int fd, uint64_t offset, uint64_t size, struct err *e)
{
    struct task_stream *s = &b->tasks->made;
    if (!s->open && open_made(b, e) < 0) {
        close(fd);
        return -1;
    }
    return outlet_put(&s->out, fd, offset, size, e);
}

int tasks_put_made(struct blocks *b, int fd, struct err *e)
{
    uint64_t size;
    if (blocks_size_of(fd, &size, e) == 0)
        return tasks_put_stretch(b, fd, 0, size, e);
    close(fd);
    return -1;
}

static int end_made(struct blocks *b, struct err *e)
{
    struct tasks *t = b->tasks;
    bool sends = t->sink_count || b->t->graph->records;
    if (sends && !t->made.open && open_made(b, e) < 0)
        return -1; /* no task has ended */
    if (t->made.open)
        return outlet_close(&t->made.out, e);
    t->made.over = true;
    return 0;
}

static int end_said(struct blocks *b, struct err *e)
{
    struct tasks *t = b->tasks;
    const struct graph_fd *own = graph_fd_of(&b->t->graph->node[b->stage->author], 2);
    if (!t->said.open && own && !t->said_out && open_said(b, e) < 0)
        return -1; /* a file that stays empty */
    if (t->said.open)
        return outlet_close(&t->said.out, e);
    if (!own)
        blocks_end_stderr(b, b->stage->author);
    t->said.over = true;
    attempt_said(b->t, b->stage->author, NULL);
    attempt_settle(b->t);
    return 0;
}

/* ---- how it ends */

static void add_usage(struct box_result *sum, const struct box_result *r)
{
    sum->cpu_user_ns += r->cpu_user_ns;
    sum->cpu_sys_ns += r->cpu_sys_ns;
    sum->wall_ns += r->wall_ns;
    if (r->memory_peak_bytes > sum->memory_peak_bytes)
        sum->memory_peak_bytes = r->memory_peak_bytes;
    if (!r->certified && sum->certified)
        sum->certified = false;
}

/* The status of a task: as in sh, or with --pipefail as in bash. */
static int status_of(const struct run *r)
{
    uint32_t i = r->task->count - 1;
    while (r->b->t->graph->pipefail && i && !r->task->status[i])
        i--;
    return r->task->status[i];
}

/* Does it fail the job that this program of a task ended in this way? */
static bool fails(const struct graph_node *n, const struct box_result *end, int status)
{
    enum graph_fail fail = graph_fail_of(n);
    bool usual = end->end == BOX_EXITED && status < 32 && n->split.ok_status >> status & 1;
    return fail == GRAPH_FAIL_STOP ? status && !usual : fail == GRAPH_FAIL_SH && end->end == BOX_LIMIT;
}

void tasks_note(struct run *r, uint32_t i, const struct box_result *end)
{
    struct blocks *b = r->b;
    struct task_failure *failure = &r->task->failure;
    const struct graph_node *n = blocks_node(b, r->task->first + i);
    bool last = i + 1 == r->task->count;
    int status = (int)attempt_status(end);
    struct err e;
    add_usage(&b->tasks->sum, end);
    if (end->end == BOX_FAILED && !end->sys) {
        attempt_task_lost(b->t, b->node[r->task->first + i], end->text);
        return;
    }
    if (end->end == BOX_FAILED || end->end == BOX_KILLED) {
        err_set(&e, ERR_IO, "the sandbox of `%.200s` failed%s%s", n->label, end->text[0] ? ": " : "", end->text);
        blocks_fail(b, &e);
        return;
    }
    if (!last && end->end == BOX_SIGNALLED && end->signal == SIGPIPE)
        status = 0; /* the program was ended by SIGPIPE, as its reader had left */
    r->task->status[i] = status = n->negate ? status == 0 : status;
    r->status = status_of(r);
    if (!fails(n, end, status) || (failure->is && failure->program < r->task->first + i))
        return;
    *failure = (struct task_failure){.is = true, .program = r->task->first + i, .end = end->end, .status = status,
                                     .signal = end->signal, .limit = arena_string(&b->t->arena, end->limit),
                                     .text = arena_string(&b->t->arena, end->text), .number = r->number,
                                     .file = r->file};
}

/* Is the name of its file a word that looks like an option? */
static bool seems_option(const struct graph_node *n, const char *name)
{
    bool begins = false;
    for (uint32_t i = 1; i < n->argc; i++)
        begins |= n->argv[i][0] == GRAPH_HOLE && n->argv[i][1] != '#';
    return begins && name[0] == '-' && n->kind == GRAPH_COMMAND;
}

const char *tasks_sentence(const struct blocks *b, const struct task_failure *f)
{
    const struct graph *g = b->t->graph;
    char name[ERR_NAME_MAX];
    struct buf s = BUF_INIT(MSG_TEXT_MAX);
    if (f->end == BOX_FAILED)
        return f->text ? f->text : "";
    buf_printf(&s, "`%.200s` ", blocks_node(b, f->program)->label);
    if (f->end == BOX_LIMIT)
        buf_printf(&s, "reached its limit of %s", f->limit ? f->limit : "");
    else if (f->end == BOX_SIGNALLED)
        buf_printf(&s, "was ended by signal %d (%s)", f->signal, strsignal(f->signal));
    else
        buf_printf(&s, "ended with status %d", f->status);
    if (f->program >= b->stage->count)
        buf_text(&s, " when it merged");
    else if (f->file != GRAPH_NONE)
        buf_printf(&s, " on the file '%s'", err_name(g->file[f->file].name, name));
    else
        buf_printf(&s, " on %s %llu", b->deal ? "partition" : "block", (unsigned long long)f->number + 1);
    if (f->text && f->text[0])
        buf_printf(&s, ": %s", f->text);
    if (f->program < b->stage->count && f->file != GRAPH_NONE && seems_option(blocks_node(b, f->program), g->file[f->file].name))
        buf_text(&s, "; a name that begins with a `-` may be taken for an option: write `./{}`");
    if (f->end == BOX_LIMIT)
        attempt_limit(&s, f->limit);
    const char *text = s.data ? arena_string(&b->t->arena, s.data) : NULL;
    buf_clear(&s);
    return text ? text : "";
}

void tasks_report(struct blocks *b, bool early)
{
    struct tasks *t = b->tasks;
    struct box_result r = t->sum;
    struct err e;
    r.end = early ? BOX_SIGNALLED : BOX_EXITED;
    r.signal = early ? SIGPIPE : 0;
    r.status = t->status;
    r.limit = r.text = r.uncertified_why = r.cold_why = "";
    if (t->failure.is && !early) {
        r.end = t->failure.end == BOX_FAILED ? BOX_EXITED : t->failure.end; /* so that it is not tried elsewhere */
        r.status = t->failure.status;
        r.signal = t->failure.signal;
        r.text = tasks_sentence(b, &t->failure);
    }
    if (t->dropped && r.text[0]) {
        struct buf both = BUF_INIT(MSG_TEXT_MAX);
        buf_printf(&both, "%s\n%s", r.text, t->dropped);
        r.text = both.data ? arena_string(&b->t->arena, both.data) : r.text;
        buf_clear(&both);
    } else if (t->dropped) {
        r.text = t->dropped;
    }
    attempt_node_ended(b->t, b->stage->author, &r, early);
    if (t->failure.is && !early && t->failure.end == BOX_FAILED)
        b->t->report[b->stage->author].m.task.end = MSG_END_KILLED; /* it is not an end of the programs: it fails the job, whatever fail= says */
    if (end_made(b, &e) < 0 || end_said(b, &e) < 0)
        blocks_fail(b, &e);
}
