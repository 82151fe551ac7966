/* What an author's stage says on stderr, block by block, and how it ends.  See tasks.h. */
#include "worker/tasks.h"

#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

/* ---- stderr */

static void said_over(struct blocks *b)
{
    struct said *s = &b->tasks->said;
    s->over = true;
    attempt_said(b->t, b->stage->author, s->lines.loop ? &s->lines.tail : NULL);
    attempt_settle(b->t);
}

static void lines_ended(struct lines *l)
{
    struct blocks *b = l->owner;
    b->t->moving--;
    said_over(b);
}

static void outlet_moves(void *owner)
{
    (void)owner; /* what waits are a few descriptors per block, and blocks wait for their stdout */
}

static void outlet_ended(void *owner)
{
    struct blocks *b = owner;
    if (!b->tasks->said.lines.loop) /* else when its last line is out */
        said_over(b);
    attempt_settle(b->t);
}

static void outlet_failed(void *owner, const struct err *why)
{
    blocks_fail(owner, why);
}

/* Where the stage's stderr goes: to a sink of its own, to a client elsewhere, or in whole lines to the job's. */
static int open_said(struct blocks *b, struct err *e)
{
    static const struct outlet_events events = {outlet_moves, outlet_moves, outlet_ended, outlet_failed};
    struct said *s = &b->tasks->said;
    uint32_t node = b->stage->author;
    const struct graph_fd *own = graph_fd_of(&b->t->graph->node[node], 2);
    struct attempt_route *route = attempt_route_of(b->t, MSG_STDERR, node, GRAPH_NONE);
    int pair[2] = {-1, -1};
    outlet_init(&s->out, b->t->agent, &events, b);
    s->open = true;
    if (own)
        return outlet_open(&s->out, b->t, own->edge, e);
    if (!route || route->r.via == MSG_VIA_FD) {
        if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) < 0)
            return err_sys(e, "cannot make a socket pair");
        fcntl(pair[0], F_SETFL, O_NONBLOCK);
        b->t->moving++;
        lines_start(&s->lines, agent_loop(b->t->agent), pair[0], route ? route->r.fd : -1, lines_ended, b);
    } else if (attempt_carry_pair(b->t, route, true, &pair[1], e) < 0) {
        fd_close(&pair[1]);
        return -1;
    }
    int r = outlet_to_fd(&s->out, pair[1], e);
    close(pair[1]);
    return r;
}

int tasks_say(struct blocks *b, int fd, struct err *e)
{
    struct said *s = &b->tasks->said;
    uint64_t size;
    if (blocks_size_of(fd, &size, e) < 0 || (size && !s->open && open_said(b, e) < 0)) {
        close(fd);
        return -1;
    }
    if (!size)
        return close(fd), 0;
    return outlet_put(&s->out, fd, 0, size, e);
}

static int say_end(struct blocks *b, struct err *e)
{
    struct tasks *t = b->tasks;
    const struct graph_fd *own = graph_fd_of(&b->t->graph->node[b->stage->author], 2);
    if (!t->said.open && own && !t->said_out && open_said(b, e) < 0)
        return -1; /* a file that stays empty */
    if (t->said.open)
        return outlet_close(&t->said.out, e);
    if (!own)
        blocks_end_stderr(b, b->stage->author);
    said_over(b);
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

/* As in sh, or with --pipefail as in bash. */
static int status_of(const struct run *r)
{
    uint32_t i = r->b->stage->count - 1;
    while (r->b->t->graph->pipefail && i && !r->task->status[i])
        i--;
    return r->task->status[i];
}

/* Does it end the job that this program of a task ended so? */
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
    const struct graph_node *n = blocks_node(b, i);
    bool last = i + 1 == b->stage->count;
    int status = (int)attempt_status(end);
    struct err e;
    add_usage(&b->tasks->sum, end);
    if (end->end == BOX_FAILED || end->end == BOX_KILLED) {
        err_set(&e, ERR_IO, "the sandbox of `%.200s` failed%s%s", n->label, end->text[0] ? ": " : "", end->text);
        blocks_fail(b, &e);
        return;
    }
    if (!last && end->end == BOX_SIGNALLED && end->signal == SIGPIPE)
        status = 0; /* its reader wanted no more */
    r->task->status[i] = status = n->negate ? status == 0 : status;
    r->status = status_of(r);
    if (!fails(n, end, status) || (failure->is && failure->program < i))
        return;
    *failure = (struct task_failure){.is = true, .program = i, .end = end->end, .status = status,
                                     .signal = end->signal, .limit = arena_string(&b->t->arena, end->limit),
                                     .text = arena_string(&b->t->arena, end->text), .number = r->number,
                                     .file = r->file};
}

/* One sentence for a person. */
static const char *sentence(const struct blocks *b, const struct task_failure *f)
{
    const struct graph *g = b->t->graph;
    char name[ERR_NAME_MAX];
    struct buf s = BUF_INIT(MSG_TEXT_MAX);
    buf_printf(&s, "`%.200s` ", blocks_node(b, f->program)->label);
    if (f->end == BOX_LIMIT)
        buf_printf(&s, "reached its limit of %s", f->limit ? f->limit : "");
    else if (f->end == BOX_SIGNALLED)
        buf_printf(&s, "was ended by signal %d (%s)", f->signal, strsignal(f->signal));
    else
        buf_printf(&s, "ended with status %d", f->status);
    if (f->file != GRAPH_NONE)
        buf_printf(&s, " on the file '%s'", err_name(g->file[f->file].name, name));
    else
        buf_printf(&s, " on %s %llu", b->deal ? "partition" : "block", (unsigned long long)f->number + 1);
    if (f->text && f->text[0])
        buf_printf(&s, ": %s", f->text);
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
    r.limit = r.text = r.uncertified_why = "";
    if (t->failure.is && !early) {
        r.end = t->failure.end;
        r.status = t->failure.status;
        r.signal = t->failure.signal;
        r.text = sentence(b, &t->failure);
    }
    attempt_node_ended(b->t, b->stage->author, &r, early);
    if (say_end(b, &e) < 0)
        blocks_fail(b, &e);
}
