/* Answers clients: about their jobs (also those of other connections with the same key), and about the workers.  Nobody
 * sees or ends the jobs of another key. */
#include "scheduler/state.h"

#include <string.h>

static const char *const state_names[JOB_STATES] = {"waits", "waits for its workers", "starts", "runs", "runs again", "stops", "over"};

static bool is_theirs(const struct core *c, const struct job *j, const struct peer_state *p)
{
    const struct peer_state *own = j->client;
    const struct held *h = j->held ? held_of(c, j->held) : NULL;
    if (h && h->keeper == own)
        return held_is_theirs(h, p);
    return own == p || (own && own->has_key && p->has_key && !memcmp(own->key, p->key, sizeof p->key));
}

/* The names of the workers that run the job, each once. */
static const char *workers_of(const struct job *j, struct arena *a)
{
    struct buf names = BUF_INIT(MSG_NAMES_MAX);
    for (uint32_t i = 0; i < j->part_count && !names.failed; i++) {
        bool again = !j->part[i].worker;
        for (uint32_t k = 0; k < i && !again; k++)
            again = j->part[k].worker == j->part[i].worker;
        if (!again)
            buf_printf(&names, "%s%s", names.size ? " " : "", j->part[i].worker->name);
    }
    const char *copy = arena_string(a, names.data ? names.data : "");
    buf_clear(&names);
    return copy;
}

static int job_row(const struct core *c, const struct job *j, struct arena *a, struct msg_job_row *row, struct err *e)
{
    *row = (struct msg_job_row){.job = j->held ? j->held : j->number,
                                .state = state_names[j->state],
                                .text = arena_string(a, j->text),
                                .workers = workers_of(j, a),
                                .attempt = j->attempt,
                                .age_ms = (c->event_ns - j->submitted_ns) / 1000000};
    for (uint32_t i = 0; i < j->graph->node_count; i++) {
        row->stages += graph_is_stage(&j->graph->node[i]);
        row->ended += graph_is_stage(&j->graph->node[i]) && j->node[i].ended;
    }
    return row->text && row->workers ? 0 : err_nomem(e);
}

/* A row for a submitted job that does not run: it waits at its keeper, or is over. */
static int held_row(const struct core *c, const struct held *h, struct arena *a, struct msg_job_row *row, struct err *e)
{
    *row = (struct msg_job_row){.job = h->number,
                                .state = arena_string(a, h->state),
                                .text = arena_string(a, h->text),
                                .workers = "",
                                .age_ms = (c->event_ns - h->since_ns) / 1000000};
    return row->state && row->text ? 0 : err_nomem(e);
}

static int job_rows(const struct core *c, const struct peer_state *p, uint64_t job, struct arena *a,
                    struct msg_answer *out, struct err *e)
{
    struct msg_job_row *row = arena_array(a, (size_t)c->job_count + c->held.count + 1, sizeof *row);
    out->job = row;
    if (!row)
        return err_nomem(e);
    for (const struct list *l = c->jobs.next; l != &c->jobs; l = l->next) {
        const struct job *j = LIST_OF(l, job, at);
        struct held *h = j->held ? held_of(c, j->held) : NULL;
        if (!is_theirs(c, j, p) || (job && (j->held ? j->held : j->number) != job))
            continue;
        if (job_row(c, j, a, &row[out->job_count++], e) < 0)
            return -1;
        if (h)
            h->shown = c->stats.events;
    }
    for (const struct list *l = c->helds.next; l != &c->helds && out->job_count < MSG_LIST_MAX; l = l->next) {
        const struct held *h = LIST_OF(l, held, at);
        if (h->shown != c->stats.events && held_is_theirs(h, p) && (!job || h->number == job) &&
            held_row(c, h, a, &row[out->job_count++], e) < 0)
            return -1;
    }
    return 0;
}

static int worker_rows(const struct core *c, struct arena *a, struct msg_answer *out, struct err *e)
{
    struct msg_worker_row *row = arena_array(a, (size_t)c->stats.workers + 1, sizeof *row);
    out->worker = row;
    if (!row)
        return err_nomem(e);
    for (const struct list *l = c->workers.next; l != &c->workers; l = l->next) {
        const struct peer_state *w = LIST_OF(l, peer_state, at);
        struct msg_worker_row one = {arena_string(a, w->name), w->slots, w->used, w->draining, arena_string(a, w->image),
                                     arena_string(a, w->domain), w->memory_bytes, w->memory_used};
        if (!one.name || !one.image || !one.domain)
            return err_nomem(e);
        row[out->worker_count++] = one;
    }
    return 0;
}

static int answer(struct core *c, uint64_t now, struct peer_state *p, const struct msg_ask *m, struct arena *a,
                  struct msg_answer *out, struct err *e)
{
    struct job *j = m->job ? table_get(&c->jobs_by_number, m->job) : NULL;
    const struct held *h = m->job ? held_of(c, m->job) : NULL;
    bool theirs = h ? held_is_theirs(h, p) : j && !j->held && is_theirs(c, j, p);
    if (m->job && !theirs)
        return err_set(e, ERR_NOENT, "no job of yours has the number %llu: it is over, or never was",
                       (unsigned long long)m->job);
    if (m->what == MSG_ASK_DRAIN)
        return drain_ask(c, p, m, e);
    if (m->what == MSG_ASK_CANCEL && !j)
        return err_set(e, ERR_INPUT, "which job is to be cancelled?");
    if (m->what == MSG_ASK_CANCEL) {
        struct msg_cancel cancel = {.job = m->job, .text = "cancelled by another command"};
        job_cancel(c, now, j->client, &cancel);
        return 0;
    }
    return job_rows(c, p, m->job, a, out, e) < 0 || worker_rows(c, a, out, e) < 0 ? -1 : 0;
}

/* Is it a question that a keeper answers? */
static bool is_for_keeper(const struct core *c, const struct msg_ask *m)
{
    return m->what == MSG_ASK_KEEP || m->what == MSG_ASK_TAKE || m->what == MSG_ASK_LOGS || m->what == MSG_ASK_RECORDS ||
           (m->what == MSG_ASK_CANCEL && held_of(c, m->job));
}

void status_answer(struct core *c, uint64_t now, struct peer_state *p, const struct msg_ask *m)
{
    if (!held_wait(c, now, p, m))
        status_answer_now(c, now, p, m);
}

void status_answer_now(struct core *c, uint64_t now, struct peer_state *p, const struct msg_ask *m)
{
    struct err e = {0};
    struct msg_answer out = {.request = m->request, .text = ""};
    bool keeper = is_for_keeper(c, m);
    if (keeper && held_ask(c, now, p, m, &e) == 0)
        return;
    struct action *a = action_new(c, p->link, keeper ? NULL : &e);
    int r = keeper ? -1 : a ? answer(c, now, p, m, &a->arena, &out, &e) : -1;
    if (r == 0) {
        a->out.msg = (struct msg){.type = MSG_ANSWER, .answer = out};
        r = action_check(&a->out.msg, &e);
    }
    if (r == 0) {
        action_queue(c, a);
        return;
    }
    if (a)
        action_forget(c, a);
    struct msg failed = {.type = MSG_ANSWER,
                         .answer = {.request = m->request, .code = (uint32_t)e.code, .text = e.text}};
    core_send(c, p->link, &failed);
}
