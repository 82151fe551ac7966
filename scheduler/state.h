/* The core's state, shared by core.c (peers, events), job.c (a job's life), place.c (where it runs). */
#pragma once
#include "scheduler/core.h"

#define LEASE_NS         ((uint64_t)MSG_LEASE_MS * 1000000u)
#define CLIENT_SILENT_NS ((uint64_t)60 * 1000000000u) /* a client is gone after this */
#define NO_WORKER_NS     ((uint64_t)10 * 1000000000u) /* a job waits this long for any worker */

struct peer_state {
    struct peer_state *next;
    uint64_t link;
    enum msg_role role;
    char name[128], data_url[257];
    uint8_t instance[16], data_key[MSG_KEY_BYTES], key[MSG_KEY_BYTES];
    bool has_data_key, has_key;
    uint32_t slots, used; /* worker */
    uint32_t jobs;        /* client: accepted and not over */
    uint64_t heard_ns;
};

/* A job:
 *   JOB_QUEUED    no worker has a free slot for it
 *   JOB_RUNNING   RUN was sent; some worker has not said STOPPED
 *   JOB_STOPPING  it failed or was cancelled: STOP was sent to all that have it
 *   JOB_OVER      RESULT was sent; freed at the end of the event */
enum job_state { JOB_QUEUED, JOB_RUNNING, JOB_STOPPING, JOB_OVER };

/* A worker's part of a job. */
struct part {
    uint64_t link;
    uint32_t slots;
    bool gone; /* STOPPED, or the worker was lost */
};

struct job_node {
    uint64_t link; /* the worker it runs on; 0: at the client */
    uint32_t end, status;
    bool ended, early_stop;
};

struct job {
    struct job *next;
    uint64_t number, request, client;
    enum job_state state;
    struct graph *graph; /* owned */
    char *bytes;         /* owned: the graph as it came, for RUN */
    size_t size;
    struct msg_port *port; /* owned */
    uint32_t port_count;
    struct job_node *node; /* owned, per node of the graph */
    struct part *part;     /* owned */
    uint32_t part_count;
    uint8_t token[MSG_TOKEN_BYTES];
    bool spread, cancelled;
    uint64_t queued_ns;
    uint32_t status; /* when it failed */
    struct err why;  /* code ERR_NONE: nothing of ours failed */
};

struct queued_action {
    struct queued_action *next;
    struct core_action action;
    struct arena arena; /* holds what the message borrows */
    char *bulk;
};

struct core {
    struct peer_state *peers;
    struct job *jobs, **jobs_end; /* in order of arrival */
    struct queued_action *first, **last, *taken;
    uint64_t random, next_job;
    struct core_stats stats;
    uint32_t peer_count, job_count;
};

/* core.c */
struct peer_state *core_peer(struct core *c, uint64_t link);
/* Queue a message: everything it borrows is copied. */
void core_send(struct core *c, uint64_t link, const struct msg *m, struct slice bulk);
uint64_t core_random(struct core *c);
/* Bugs planted on purpose, for the test that shows that the simulator finds them. */
#ifdef CORE_PLANTS
extern int core_plant;
#define PLANTED(n) (core_plant == (n))
#else
#define PLANTED(n) false
#endif

/* job.c */
void job_submit(struct core *c, uint64_t now_ns, struct peer_state *client, const struct msg_submit *m,
                struct slice graph);
void job_cancel(struct core *c, struct peer_state *client, const struct msg_cancel *m);
void job_worker_message(struct core *c, struct peer_state *worker, const struct msg *m);
void job_peer_lost(struct core *c, struct peer_state *p, const char *why);
void job_fail(struct core *c, struct job *j, uint32_t status, const struct err *why);
void jobs_sweep(struct core *c); /* free those that are over */
void jobs_start(struct core *c, uint64_t now_ns); /* those that wait and now can */
void job_free(struct job *j);

/* place.c: choose workers and send RUN and ROUTE.  false: not now. */
bool job_place(struct core *c, struct job *j);

/* plan.c: the answer to a SUBMIT that only asks. */
void plan_send(struct core *c, uint64_t link, uint64_t request, const struct graph *g);
/* What this version cannot run yet: NULL if it can, else a sentence. */
const char *plan_refusal(const struct graph *g);
