/* A SUBMIT: the graph is decoded and checked, and becomes a plan, a job that waits for its turn, or
 * a RESULT with a sentence.  Nothing is kept of what is refused. */
#include "scheduler/state.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int check_room(const struct core *c, const struct peer_state *client, size_t size,
                      struct err *e)
{
    if (c->job_count == CORE_JOBS_MAX)
        return err_set(e, ERR_LIMIT,
                       "the scheduler has as many jobs as it takes, %d (CORE_JOBS_MAX)",
                       CORE_JOBS_MAX);
    if (client->queued == CORE_JOBS_QUEUED_PER_CLIENT_MAX)
        return err_set(e, ERR_LIMIT,
                       "%d jobs of this client wait already (CORE_JOBS_QUEUED_PER_CLIENT_MAX)",
                       CORE_JOBS_QUEUED_PER_CLIENT_MAX);
    if (size > CORE_GRAPH_BYTES_MAX - c->graph_bytes)
        return err_set(e, ERR_LIMIT,
                       "the jobs that the scheduler holds are as large as it takes "
                       "(CORE_GRAPH_BYTES_MAX)");
    if (size > CORE_GRAPH_BYTES_PER_CLIENT_MAX - client->graph_bytes)
        return err_set(e, ERR_LIMIT,
                       "this client's jobs are as large as the scheduler takes "
                       "(CORE_GRAPH_BYTES_PER_CLIENT_MAX)");
    return 0;
}

static int check_job(const struct graph *g, const struct msg_submit *m, struct err *e)
{
    const char *refusal = plan_refusal(g);
    if (refusal)
        return err_set(e, ERR_UNSUPPORTED, "%s", refusal);
    for (uint32_t i = 0; i < g->edge_count; i++)
        if (g->node[g->edge[i].from].kind == GRAPH_SOURCE && g->node[g->edge[i].to].kind == GRAPH_SINK)
            return err_set(e, ERR_INPUT,
                           "a source goes straight to a sink: put `cat` between them");
    if (routes_count_max(g) > ROUTES_MAX)
        return err_set(e, ERR_LIMIT,
                       "the job's stages open and make more than %d files together "
                       "(MSG_LIST_MAX)",
                       ROUTES_MAX);
    if (m->port_count > g->node_count + 1)
        return err_set(e, ERR_INPUT, "there are more descriptors than nodes");
    return 0;
}

static struct job *job_new(struct core *c, const struct msg_submit *m, struct slice encoded,
                           struct graph *g, struct err *e)
{
    struct job *j = calloc(1, sizeof *j);
    if (!j) {
        graph_free(g);
        err_nomem(e);
        return NULL;
    }
    struct list *const lists[] = {&j->at, &j->of_client, &j->wait, &j->timed};
    for (size_t i = 0; i < sizeof lists / sizeof *lists; i++)
        list_init(lists[i]);
    j->graph = g;
    if (job_wish(g, &j->wish, e) < 0) {
        job_free(j);
        return NULL;
    }
    j->bytes = bytes_new(encoded);
    j->limit_node = GRAPH_NONE;
    j->port = calloc((size_t)m->port_count + 1, sizeof *j->port);
    j->node = calloc((size_t)g->node_count + 1, sizeof *j->node);
    if (!j->bytes || !j->port || !j->node) {
        job_free(j);
        err_nomem(e);
        return NULL;
    }
    if (m->port_count)
        memcpy(j->port, m->port, m->port_count * sizeof *j->port);
    j->port_count = m->port_count;
    for (uint32_t i = 0; i < g->node_count; i++)
        j->node[i].part = graph_is_stage(&g->node[i]) ? NOWHERE : AT_CLIENT;
    j->request = m->request;
    j->submitted_ns = c->event_ns;
    snprintf(j->text, sizeof j->text, "%s", m->text);
    j->spread = m->flags & MSG_SUBMIT_SPREAD;
    for (size_t i = 0; i < sizeof j->token; i += sizeof(uint64_t)) {
        uint64_t r = core_random(c);
        memcpy(j->token + i, &r, sizeof r);
    }
    return j;
}

/* Put the job into the tables; on failure it is in none. */
static int enlist(struct core *c, struct peer_state *client, struct job *j, struct err *e)
{
    if (!table_put(&c->jobs_by_number, j->number, j))
        return err_nomem(e);
    if (!table_put(&client->requests, j->request, j)) {
        table_remove(&c->jobs_by_number, j->number);
        return err_nomem(e);
    }
    j->client = client;
    list_add(&c->jobs, &j->at);
    list_add(&client->jobs, &j->of_client);
    c->job_count++;
    if (j->quota)
        j->quota->jobs++;
    c->graph_bytes += j->bytes->size;
    client->graph_bytes += j->bytes->size;
    return 0;
}

/* Is the job too large for every worker?  This is told at once, unless a larger worker may be on its way: because the
 * scheduler was started just now, or the job waits in any case. */
static bool is_too_large(const struct core *c, const struct peer_state *client, const struct job *j, const struct msg_submit *m, struct err *e)
{
    return j->memory_bytes && !m->was && !j->held && !place_local(client) && c->event_ns >= c->began_ns + c->worker_wait_ns &&
           memory_say_too_much(c, j, e);
}

/* 0: the SUBMIT was answered, by a plan or an ACCEPT. */
static int answer(struct core *c, uint64_t now, struct peer_state *client,
                  const struct msg_submit *m, struct slice encoded, struct err *e)
{
    struct graph *g = graph_decode(encoded.data, encoded.size, e);
    if (!g)
        return -1;
    if (m->flags & MSG_SUBMIT_PLAN_ONLY) {
        int r = plan_send(c, client->link, m->request, g, e);
        graph_free(g);
        return r;
    }
    if (check_job(g, m, e) < 0) {
        graph_free(g);
        return -1;
    }
    struct job *j = job_new(c, m, encoded, g, e);
    if (!j)
        return -1;
    j->held = client->keeps ? m->held : 0;
    j->again = j->held && ((m->flags & MSG_SUBMIT_AGAIN) || m->was);
    if (memory_measure(j, e) < 0 || is_too_large(c, client, j, m, e)) {
        job_free(j);
        return -1;
    }
    j->number = c->job_numbers + 1;
    if (quota_of_job(c, client, m->held, &j->quota, e) < 0 || enlist(c, client, j, e) < 0) {
        quota_settle(c, j->quota);
        job_free(j);
        return -1;
    }
    c->job_numbers++;
    if (remains_claim(c, now, j, m))
        return 0;
    struct msg accept = {.type = MSG_ACCEPT, .accept = {m->request, j->number}};
    core_send(c, client->link, &accept);
    wait_add(c, now, j);
    return 0;
}

void job_submit(struct core *c, uint64_t now, struct peer_state *client, const struct msg_submit *m,
                struct slice encoded)
{
    struct err e;
    if (table_get(&client->requests, m->request)) {
        core_refuse_message(c); /* the client has used this number before */
        return;
    }
    if (check_room(c, client, encoded.size, &e) == 0 && answer(c, now, client, m, encoded, &e) == 0)
        return;
    struct msg result = {
        .type = MSG_RESULT,
        .result = {.request = m->request, .status = 125, .code = (uint32_t)e.code, .text = e.text}};
    core_send(c, client->link, &result);
}
