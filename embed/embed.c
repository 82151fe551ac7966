/* Runs a scheduler and a worker inside this process, on its loop, joined by inproc://.  They exchange the same messages and
 * run the same code as in a cluster, but there is no daemon and nothing to configure.  See proto/embedded.h. */
#include "proto/embedded.h"

#include "scheduler/daemon.h"
#include "worker/agent.h"

#include <stdlib.h>

struct embedded {
    struct loop *loop;
    struct agent *agent;
    struct daemon *daemon;
    void (*lost)(void *owner, const struct err *why);
    void *owner;
};

struct embedded *embedded_new(struct loop *l, const struct embedded_options *o, struct err *e)
{
    struct embedded *m = calloc(1, sizeof *m);
    if (!m) {
        err_nomem(e);
        return NULL;
    }
    m->loop = l;
    m->lost = o->lost;
    m->owner = o->owner;
    struct agent_options a = {
        .name = "local", .slots = o->slots, .box = o->box, .no_isolation = o->no_isolation,
        .no_templates = o->no_templates};
    m->agent = agent_new(l, &a, e);
    if (!m->agent) {
        free(m);
        return NULL;
    }
    return m;
}

int embedded_start(struct embedded *m, struct net *n, struct err *e)
{
    struct daemon_options o = {.url = EMBEDDED_URL, .lost = m->lost, .owner = m->owner};
    m->daemon = daemon_new(m->loop, n, &o, e);
    if (!m->daemon)
        return -1;
    return agent_start(m->agent, n, EMBEDDED_URL, NULL, m->lost, m->owner, e);
}

void embedded_free(struct embedded *m)
{
    if (!m)
        return;
    agent_free(m->agent);
    daemon_free(m->daemon);
    free(m);
}
