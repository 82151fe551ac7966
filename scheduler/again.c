/* A job goes on when a worker is lost.  Streams are not stored, so what the lost part had read is gone with
 * it: it runs again, and so does every part that it reads from, and theirs, up to the client, who reads its
 * files anew.  Readers elsewhere stay as they are: a stream that begins anew gives them what they have
 * already once more, which they compare and drop (proto/stream.h).  Only a reader that is over cannot do
 * that, and runs again too; also one that is over when its new writer begins, of which it has not heard.
 *
 * So that it can be looked at as a whole, a job first stops all that must run again, then is placed anew, all
 * of it under the next attempt's number.  What cannot be placed at once gives back all that the job
 * holds: jobs that hold slots and wait for others would wait for each other.
 *
 * Whose fault: a part that was lost, or failed for reasons that are not its programs' own, is blamed, and
 * may be tried `retries` times more; never where it failed.  A stage that took KILLS_MAX workers with it is
 * not given a further one. */
#include "proto/holes.h"
#include "scheduler/state.h"

#define RETRIES_DEFAULT 3
#define ALONE_MAX       300 /* bytes of the command that runs a stage alone: a longer one is cut off */

bool job_shuns(const struct job *j, const struct peer_state *worker)
{
    for (uint32_t i = 0; i < j->shunned_count && i < SHUNNED_MAX; i++)
        if (j->shunned[i] == worker->link)
            return true;
    return false;
}

static void shun(struct job *j, const struct peer_state *worker)
{
    if (!job_shuns(j, worker))
        j->shunned[j->shunned_count++ % SHUNNED_MAX] = worker->link;
}

static uint32_t retries_of(const struct graph_node *n)
{
    return n->set.retries_set ? n->set.retries : RETRIES_DEFAULT;
}

/* A stage of many tasks, of which it is not known here who did it, is no command: where its job runs in one process the
 * task is found, and kept. */
static void tell_alone(const struct graph_node *g, struct buf *out)
{
    if (g->kind != GRAPH_COMMAND && g->kind != GRAPH_SHELL) {
        buf_text(out, "without a cluster (`ZPIPE_CLUSTER= zpipe ...`) its job names the task");
        return;
    }
    buf_text(out, "`zpipe box --");
    if (g->kind == GRAPH_SHELL)
        buf_printf(out, " %s -c", g->shell);
    for (uint32_t i = 0; i < g->argc && out->size < ALONE_MAX; i++) {
        buf_byte(out, ' ');
        holes_quote(g->argv[i], out);
    }
    if (out->size >= ALONE_MAX) {
        out->size = ALONE_MAX;
        buf_text(out, "...");
    }
    buf_text(out, "` runs it alone");
}

static void say_quarantined(const struct graph_node *g, uint32_t kills, const struct err *why, struct err *e)
{
    struct buf alone = BUF_INIT(1 << 20);
    tell_alone(g, &alone);
    buf_byte(&alone, '\0');
    err_set(e, ERR_GONE, "`%.200s` took %u workers with it and is not given another (%.300s): %s", g->label, kills, why->text,
            alone.data && !alone.failed ? alone.data : "");
    buf_clear(&alone);
}

/* One more try of this stage was in vain.  true, and e says so: it was the last. */
static bool give_up(const struct job *j, uint32_t node, bool again, bool killed, const struct err *why,
                    struct err *e)
{
    const struct graph_node *g = &j->graph->node[node];
    struct job_node *n = &j->node[node];
    n->kills += killed;
    n->tries += !again;
    if (n->kills >= KILLS_MAX && !n->ended)
        say_quarantined(g, n->kills, why, e);
    else if (n->tries > retries_of(g) && retries_of(g))
        err_set(e, why->code, "%.600s (after %u tries of `%.200s`)", why->text, n->tries, g->label);
    else if (n->tries > retries_of(g))
        *e = *why;
    else
        return false;
    return true;
}

/* Its writers must write again; and whoever was through with what these wrote must read again. */
static bool spread(const struct job *j)
{
    bool more = false;
    for (uint32_t i = 0; i < j->graph->edge_count; i++) {
        uint32_t from = j->node[j->graph->edge[i].from].part, to = j->node[j->graph->edge[i].to].part;
        if (from >= j->part_count || to >= j->part_count)
            continue; /* the client */
        struct part *writer = &j->part[from], *reader = &j->part[to];
        if (reader->again && !writer->again)
            more = writer->again = true;
        if (writer->again && !reader->again && !reader->worker)
            more = reader->again = true;
    }
    return more;
}

bool part_missed(const struct part *p, uint32_t heard)
{
    const struct job *j = p->job;
    for (uint32_t i = 0; i < j->graph->edge_count; i++) {
        uint32_t from = j->node[j->graph->edge[i].from].part, to = j->node[j->graph->edge[i].to].part;
        if (to == (uint32_t)(p - j->part) && from < j->part_count && from != to &&
            (j->part[from].again || j->part[from].attempt > heard))
            return true;
    }
    return false;
}

static void stop(struct core *c, struct job *j, struct part *p)
{
    struct msg m = {.type = MSG_STOP, .stop = {j->number, p->attempt, j->why.text}};
    core_send(c, p->worker->link, &m);
    lend_want(c, p, 0);
    j->again_left++;
    if (j->state == JOB_AGAIN) { /* this one has its time, too */
        j->since_ns = c->event_ns;
        list_to_end(&c->stopping, &j->timed);
    }
}

/* From the parts that are marked now to all that must run again; those that run are told to stop. */
static void begin_again(struct core *c, uint64_t now, struct job *j)
{
    uint32_t index = 0;
    while (spread(j))
        ;
    for (uint32_t i = 0; i < j->graph->node_count; i++)
        if ((index = j->node[i].part) < j->part_count && j->part[index].again)
            j->node[i].ended = false;
    for (uint32_t i = 0; i < j->part_count; i++) {
        struct part *p = &j->part[i];
        if (p->again && p->worker && !p->told)
            stop(c, j, p);
        p->told |= p->again;
    }
    job_step(c, now, j, JOB_LOST, NULL);
}

void part_repeat(struct core *c, uint64_t now, struct part *p)
{
    if (p->job->state == JOB_STOPPING)
        return;
    p->again = true;
    begin_again(c, now, p->job);
}

void part_lose(struct core *c, uint64_t now, struct part *p, bool killed, const struct err *why)
{
    struct job *j = p->job;
    struct err last;
    bool again = p->again;
    if (j->state == JOB_STOPPING || (again && !(killed && p->blamed)))
        return; /* it was to end anyway */
    if (!j->client || (j->local && why->code != ERR_GONE)) {
        job_fail(c, now, j, 125, why);
        return;
    }
    for (uint32_t i = 0; i < j->graph->node_count; i++) {
        if (j->node[i].part == (uint32_t)(p - j->part) && give_up(j, i, again, killed, why, &last)) {
            job_fail(c, now, j, 125, &last);
            return;
        }
    }
    if (p->worker && !j->local)
        shun(j, p->worker);
    j->why = *why;
    p->again = p->blamed = true;
    begin_again(c, now, j);
}

/* What ran in parts that are to run again is nowhere now. */
static void clear_places(struct job *j)
{
    for (uint32_t i = 0; i < j->graph->node_count; i++)
        if (j->node[i].part < j->part_count && j->part[j->node[i].part].again)
            j->node[i].part = NOWHERE;
    for (uint32_t i = 0; i < j->part_count; i++)
        if (j->part[i].again)
            j->part[i].again = j->part[i].blamed = j->part[i].told = false;
}

void job_resume(struct core *c, uint64_t now, struct job *j)
{
    struct err e;
    if (!j->begun && !j->parts_left)
        j->bound = false; /* whoever was to have it first has left without a word: its image binds nobody */
    if (place_possible(c, j)) {
        clear_places(j);
        if (job_place(c, j, &e) < 0)
            job_fail(c, now, j, 125, &e);
        else
            job_step(c, now, j, JOB_PLACED, NULL);
    } else if (j->parts_left) {
        for (uint32_t i = 0; i < j->part_count; i++)
            j->part[i].again = true;
        begin_again(c, now, j);
    } else {
        clear_places(j);
        job_step(c, now, j, JOB_UNPLACED, NULL);
    }
}

void job_lost_stream(struct core *c, uint64_t now, struct peer_state *p, const struct msg_lost *m)
{
    struct job *j = table_get(&c->jobs_by_number, m->job);
    const struct graph *g = j ? j->graph : NULL;
    uint32_t from = m->what == MSG_FILE ? m->node : m->index, to = AT_CLIENT;
    if (j && m->what == MSG_EDGE && m->index < g->edge_count) {
        from = g->edge[m->index].from;
        to = g->edge[m->index].to;
    }
    /* The worker at which it was attached, and who attached it. */
    uint32_t here = j && from < g->node_count ? j->node[from].part : AT_CLIENT;
    uint32_t there = j && to < g->node_count ? j->node[to].part : AT_CLIENT;
    if (here == AT_CLIENT) {
        here = there;
        there = AT_CLIENT;
    }
    bool theirs = j && (there < j->part_count ? j->part[there].worker == p : there == AT_CLIENT && j->client == p);
    struct part *part = theirs && here < j->part_count ? &j->part[here] : NULL;
    if (part && part->worker && part_outdated(c, now, part, m->attempt)) {
        job_settle(c, now, j);
        return;
    }
    if (!part || !part->worker || part->again || part->attempt != m->attempt) {
        core_refuse_message(c); /* known already */
        return;
    }
    struct err e;
    err_set(&e, ERR_GONE, "the connection to worker '%s' broke: %.600s", part->worker->name, m->text);
    part_lose(c, now, part, false, &e);
    job_settle(c, now, j);
}
