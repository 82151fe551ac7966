/* What must run again when a worker is lost, so that the job goes on.  Streams are not stored, so what the lost part had
 * read is gone with it.  It runs again, and so does every part that it reads from, and those that they read from, up to
 * the client, which reads its files again.  Parts on other workers that read from it stay as they are: a stream that is
 * started again brings them the bytes that they already have, which they compare and drop (proto/stream.h).  Only a
 * reader that is over cannot do that, and runs again, too; also one that ends before it was told of its new writer.
 *
 * To keep this simple, a job first stops all that must run again, and then places all of it under the next attempt number.
 * If it cannot be placed at once the job gives back all its slots: jobs that hold slots and wait for more would wait for
 * each other.
 *
 * Blame: a part that was lost, or failed for a reason that is not its programs' own, is blamed, and may be tried `retries`
 * times more, never on a worker where it failed.  A stage with which KILLS_MAX workers were lost gets no further one.
 *
 * When a worker is lost nobody is left to say which block of a stage was the reason.  So the next worker runs one block of
 * each stage at a time, and says before each which one it is (BEGINS).  The task of a map that is found to be the reason is
 * to be kept with its input, to be run again alone, and only the worker with the stage has that input: so one more worker
 * gets the stage, and is told not to run that task. */
#include "proto/holes.h"
#include "scheduler/state.h"

#include <stdlib.h>
#include <string.h>

#define RETRIES_DEFAULT 3
#define ALONE_MAX       300 /* bytes of the command that runs a stage alone; a longer one is cut off */

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

uint32_t part_deaths(const struct job *j, uint32_t part)
{
    uint32_t most = 0;
    for (uint32_t i = 0; i < j->graph->node_count; i++)
        if (j->node[i].part == part && j->node[i].kills > most)
            most = j->node[i].kills;
    return most;
}

bool part_begins(const struct part *p, const struct msg_begins *m)
{
    struct job *j = p->job;
    if (m->node >= j->graph->node_count || j->node[m->node].part != (uint32_t)(p - j->part) || m->number == UINT64_MAX)
        return false;
    struct job_node *n = &j->node[m->node];
    free(n->begun_text);
    n->begun_text = strdup(m->text); /* without memory for the text, it is left out */
    n->begun = m->number + 1;
    return true;
}

/* The stage whose block was running when the part's worker was lost.  If there are several: the one whose same block was
 * running at the loss before.  GRAPH_NONE: not known. */
static uint32_t suspect(const struct part *p)
{
    const struct job *j = p->job;
    uint32_t found = GRAPH_NONE;
    for (uint32_t i = 0; i < j->graph->node_count; i++) {
        const struct job_node *n = &j->node[i];
        if (n->part != (uint32_t)(p - j->part) || !n->begun || n->ended)
            continue;
        if (n->begun == n->begun_before)
            return i;
        found = found == GRAPH_NONE ? i : found;
    }
    return found;
}

static void forget_begun(const struct part *p)
{
    const struct job *j = p->job;
    for (uint32_t i = 0; i < j->graph->node_count; i++)
        if (j->node[i].part == (uint32_t)(p - j->part)) {
            j->node[i].begun_before = j->node[i].begun;
            j->node[i].begun = 0;
        }
}

static bool is_author(const struct graph_node *g)
{
    return g->kind == GRAPH_MAP || g->kind == GRAPH_REDUCE;
}

static void say_block(const struct job *j, uint32_t node, const struct err *why, struct err *e)
{
    const struct graph_node *g = &j->graph->node[node];
    const struct job_node *n = &j->node[node];
    const char *text = n->begun_text ? n->begun_text : "";
    bool file = is_author(g) && *text;
    err_set(e, ERR_GONE, "%s %llu%s%.200s%s of `%.200s` took %u workers with it and is not given another (%.300s)%s%s",
            g->kind == GRAPH_REDUCE ? "partition" : "block", (unsigned long long)n->begun, file ? " (the file '" : "", file ? text : "",
            file ? "')" : "", g->label, n->kills, why->text, !file && *text ? "\nzpipe: run it alone: " : "", !file ? text : "");
}

/* Is it one task of a map or reduce with which workers were lost twice?  Then a further worker is to keep it as a failed
 * task. */
static bool keep_bad(struct job *j, uint32_t node, const struct err *why)
{
    const struct graph_node *g = &j->graph->node[node];
    if (j->bad || !is_author(g) || j->node[node].begun != j->node[node].begun_before || !j->graph->records)
        return false;
    say_block(j, node, why, &j->bad_why);
    j->bad = node + 1;
    j->bad_number = j->node[node].begun - 1;
    return true;
}

/* Add what the user can do to run the stage alone.  For a stage of many tasks, where it is not known here which one was the
 * reason, there is no command: but if the job is run in one process, the task is found and kept. */
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

/* Count one more failed try for each of the part's stages. */
static void note_loss(struct part *p, bool killed)
{
    struct job *j = p->job;
    for (uint32_t i = 0; i < j->graph->node_count; i++)
        if (j->node[i].part == (uint32_t)(p - j->part)) {
            j->node[i].kills += killed;
            j->node[i].tries += !p->again;
        }
}

/* Was that the last try?  true: e says so. */
static bool give_up(const struct job *j, uint32_t node, uint32_t block, bool kept, const struct err *why, struct err *e)
{
    const struct graph_node *g = &j->graph->node[node];
    const struct job_node *n = &j->node[node];
    bool killer = n->kills >= KILLS_MAX && !n->ended && !kept;
    if (killer && block != GRAPH_NONE)
        say_block(j, block, why, e);
    else if (killer)
        say_quarantined(g, n->kills, why, e);
    else if (n->tries > retries_of(g) && retries_of(g))
        err_set(e, why->code, "%.600s (after %u tries%s%.200s%s)", why->text, n->tries, *g->label ? " of `" : "", g->label, *g->label ? "`" : "");
    else if (n->tries > retries_of(g))
        *e = *why;
    else
        return false;
    return true;
}

/* Mark one more round of parts: those that write to a marked part must write again; and a reader of a marked part that is
 * over must read again. */
static bool spread(const struct job *j)
{
    bool more = false;
    for (uint32_t i = 0; i < j->graph->edge_count; i++) {
        uint32_t from = j->node[j->graph->edge[i].from].part, to = j->node[j->graph->edge[i].to].part;
        if (from >= j->part_count || to >= j->part_count)
            continue; /* it is the client */
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
    if (j->state == JOB_AGAIN) { /* the part that was lost last gets its full time, too */
        j->since_ns = c->event_ns;
        list_to_end(&c->stopping, &j->timed);
    }
}

/* Find all parts that must run again, from those that are marked now; tell those that run to stop. */
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
        return; /* the job is about to end in any case */
    if (!j->client || (j->local && why->code != ERR_GONE)) {
        job_fail(c, now, j, 125, why);
        return;
    }
    note_loss(p, killed);
    uint32_t index = (uint32_t)(p - j->part), block = suspect(p);
    bool kept = block != GRAPH_NONE && j->node[block].kills == KILLS_MAX && keep_bad(j, block, why);
    for (uint32_t i = 0; i < j->graph->node_count; i++) {
        if (j->node[i].part == index && give_up(j, i, block, kept, why, &last)) {
            job_fail(c, now, j, 125, &last);
            return;
        }
    }
    forget_begun(p);
    if (p->worker && !j->local)
        shun(j, p->worker);
    j->why = *why;
    p->again = p->blamed = true;
    begin_again(c, now, j);
}

/* Stages of parts that are to run again are now NOWHERE. */
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
        j->bound = false; /* the worker that was to run it first left without a word: its image binds nobody */
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
    /* here: the part whose worker listened for the stream; there: the side that attached. */
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
        core_refuse_message(c); /* it is known already */
        return;
    }
    struct err e;
    err_set(&e, ERR_GONE, "the connection to worker '%s' broke: %.600s", part->worker->name, m->text);
    part_lose(c, now, part, false, &e);
    job_settle(c, now, j);
}
