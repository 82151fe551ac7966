/* One attempt at a job's stages on this worker, from RUN to STOPPED:
 *
 *   FETCHING  inputs are on their way from the client (none in embedded mode)
 *   RUNNING   the region's sandboxes run; streams carry what crosses processes
 *   STOPPING  the scheduler said STOP or something of ours failed: everything is being killed
 *   ENDED     nothing is left; STOPPED was sent
 *
 * Before: agent.c (RUN).  Next: region.c (what to start), then sandbox/box.c. */
#pragma once
#include "proto/carry.h"
#include "proto/graph.h"
#include "sandbox/box.h"
#include "worker/agent.h"
#include "base/kept.h"
#include "base/lines.h"

enum attempt_state { ATTEMPT_FETCHING, ATTEMPT_RUNNING, ATTEMPT_STOPPING, ATTEMPT_ENDED };

/* A route with what this worker needs to remember of it. */
struct attempt_route {
    struct msg_route r;   /* strings in the attempt's arena */
    struct carry *carry;  /* owned; NULL until there is something to move */
    bool carry_ended;     /* to be freed when nothing of it is on the stack */
    int spool;            /* fetched inputs: owned; -1 */
    uint32_t channel;     /* of the region, for box_break; GRAPH_NONE */
};

/* What the scheduler will be told of a task that ended. */
struct attempt_report {
    struct msg m;
    bool ended, sent;
};

struct attempt_copy; /* a stage's files on their way to a descriptor of this process */

struct attempt {
    struct agent *agent;
    struct attempt *next;
    uint64_t job;
    uint32_t number;
    uint8_t token[MSG_TOKEN_BYTES];
    enum attempt_state state;
    struct graph *graph; /* owned */
    struct arena arena;
    bool *here;          /* per node: ours */
    struct attempt_route *route;
    uint32_t route_count;
    uint32_t fetching;   /* routes whose bytes must be here before the start */
    uint32_t moving;     /* carries, lines and copies that have not ended */
    uint64_t region;     /* the box's name for it; 0: not started */
    bool region_ended;
    bool reapable; /* something of it, or all, waits for attempt_reap */
    struct box_region plan;  /* in the arena */
    uint32_t *node_of_task;
    struct lines *lines; /* per task, in the arena; from is -1 where stderr goes another way */
    struct attempt_report *report; /* per task, in the arena */
    struct attempt_copy *copies;
    uint32_t edge_count;
    uint32_t *channel_of_edge; /* GRAPH_NONE: none */
};

struct attempt *attempt_new(struct agent *a, const struct msg_run *run, struct slice graph, struct err *e);
/* Fetch what is missing, then start. */
void attempt_begin(struct attempt *t);
void attempt_start(struct attempt *t);
void attempt_stop(struct attempt *t);
/* Data messages that bear a name of this job and attempt. */
void attempt_attach(struct attempt *t, struct peer *p, uint64_t link, const struct msg_attach *m);
void attempt_message(struct attempt *t, const struct stream_name *name, const struct msg *m,
                     struct slice bulk);
void attempt_link_lost(struct attempt *t, const struct err *why);
/* From the box. */
void attempt_task_ended(struct attempt *t, uint32_t task, const struct box_result *r);
void attempt_pump_ended(struct attempt *t, uint32_t channel, int sys, bool reading);
void attempt_bytes(struct attempt *t, uint32_t task, uint64_t in, uint64_t out);
void attempt_region_ended(struct attempt *t);
/* Free carries that ended; true when the attempt itself has ended and may be freed. */
bool attempt_reap(struct attempt *t);
void attempt_free(struct attempt *t);

/* region.c: fill t->plan, node_of_task, channel_of_edge and the routes' channels.  Descriptors that it
 * opens are listed in `opened` for the caller to close after box_run. */
struct region_opened {
    int *fd;
    uint32_t count, room;
};
int region_build(struct attempt *t, struct region_opened *opened, struct err *e);
void region_close(struct region_opened *opened);
/* Which files of a node's /job are outputs; the names are in the arena. */
int region_kept(struct attempt *t, uint32_t node, struct kept *out, struct err *e);
/* The route of this attempt for a thing, or NULL.  node GRAPH_NONE: any. */
struct attempt_route *attempt_route_of(struct attempt *t, uint32_t what, uint32_t index, uint32_t node);

/* What attempt.c needs of the agent. */
struct loop *agent_loop(struct agent *a);
struct box *agent_box(struct agent *a);
uint64_t agent_region_id(struct agent *a);
void agent_send(struct agent *a, const struct msg *m);
/* The data link to url, connecting if need be. */
struct peer *agent_data_peer(struct agent *a, const char *url, struct slice key, struct err *e);
/* An ATTACH that came before its carry could be made: bind it now. */
void agent_claim(struct agent *a, struct carry *c);
