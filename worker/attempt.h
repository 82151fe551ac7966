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
#include "base/kept.h"
#include "base/lines.h"
#include "proto/stages.h"
#include "worker/agent.h"
#include "worker/region.h"
#include "worker/regions.h"

enum attempt_state { ATTEMPT_FETCHING, ATTEMPT_RUNNING, ATTEMPT_STOPPING, ATTEMPT_ENDED };

/* A route with what this worker needs to remember of it. */
struct attempt_route {
    struct msg_route r;   /* strings in the attempt's arena */
    uint32_t attempt;     /* its stream's: a newer one, when it began anew */
    struct carry *carry;  /* owned; NULL until there is something to move */
    bool carry_ended;     /* to be closed when nothing of it is on the stack */
    bool outlets;         /* its bytes come from an outlet, which says when they were all */
    bool cut;             /* the other side is lost, and its stream has not begun anew */
    bool carry_closed;    /* one that read still compares what comes anew */
    int spool;            /* fetched inputs: owned; -1 */
    bool in_place;        /* ... or the file itself: nothing comes */
    struct group *group;  /* of its region: a channel, for box_break; NULL, GRAPH_NONE */
    uint32_t channel;
};

/* What the scheduler will be told of a task that ended. */
struct attempt_report {
    struct msg m;
    uint64_t compared; /* tasks that were run twice */
    bool ended, sent;
};

/* Programs that run once and stream, in one region: those of no stage in blocks; or all of such a stage,
 * when its blocks were spoilt. */
struct group {
    struct attempt *t;
    struct arena arena;
    struct region region;
    struct region_watch watch;
    struct lines *lines; /* per task; from is -1 where stderr goes another way */
    bool *said;          /* per task: its stderr has ended */
    /* NULL, or what happens at channels with an end of the scope's; pump_ended is false if it was none. */
    void (*moved)(struct group *g, uint32_t channel, uint64_t bytes, uint64_t sources);
    bool (*pump_ended)(struct group *g, uint32_t channel, int sys, bool reading);
    void (*ended)(struct group *g);
    void *owner;
};

struct blocks; /* a stage that runs in blocks */
struct share;  /* bytes with several readers */

/* Who has the two sides of an edge, where that is no program of the main region. */
struct joint {
    struct intake *reader;
    struct outlet *writer;
};

struct past_job;
struct local;        /* of the client's own process */
struct attempt_copy; /* a stage's files on their way to a descriptor of this process */

struct attempt {
    struct agent *agent;
    struct attempt *next;
    uint64_t job;
    uint32_t number, heard; /* the newest attempt at parts that it reads from */
    uint8_t token[MSG_TOKEN_BYTES];
    enum attempt_state state;
    struct graph *graph; /* owned */
    struct arena arena;
    bool *here;          /* per node: ours, or a source of the client's whose files are read in place */
    struct attempt_route *route;
    uint32_t route_count;
    uint32_t fetching;   /* routes whose bytes must be here before the start */
    uint32_t moving;     /* carries, lines and copies that have not ended */
    struct group main;
    bool started;        /* main runs, or has nothing to run */
    bool reapable; /* something of it, or all, waits for attempt_reap */
    struct attempt_report *report; /* per node, in the arena */
    struct graph_stages stages;
    struct blocks **blocks;        /* per stage that runs here; blocks_count of them */
    uint32_t blocks_count;
    struct share **shares;         /* share_count of them */
    uint32_t share_count;
    struct joint *joint;           /* per edge, in the arena */
    struct region_end *main_end;   /* where main meets them, in the arena */
    struct attempt_copy *copies;
    struct local *local;    /* NULL: in a cluster */
    struct borrow *borrows; /* slots of other workers */
    uint32_t borrow_count, wanted;
    bool paused; /* there is no scheduler that knows of it: what it has to say waits */
    bool torn;   /* it has not ended by itself */
    struct err doubt; /* something came to less than was given; code 0: nothing did */
    uint64_t memory_bytes; /* of the worker's, for what streams */
    struct past_job *past; /* of a submitted job; NULL: nothing is noted of it */
    uint32_t deaths; /* workers that were lost with a stage of it */
    uint32_t bad;    /* 1 + the MAP or REDUCE of which the task bad_number is not to be run; 0: none */
    uint64_t bad_number;
    const char *bad_why; /* in the arena */
    bool elsewhere; /* it is another worker's, who lends us runs of it: see lend.c */
};

struct attempt *attempt_new(struct agent *a, const struct msg_run *run, struct slice graph, struct err *e);
/* Fetch what is missing, then start. */
void attempt_begin(struct attempt *t);
void attempt_start(struct attempt *t);
void attempt_stop(struct attempt *t);
/* Data messages that bear a name of this job and attempt. */
void attempt_attach(struct attempt *t, struct peer *p, uint64_t link, const struct msg_attach *m);
void attempt_message(struct attempt_route *route, const struct msg *m, struct slice bulk);
/* Less came than had been given.  It fails for that when all has ended; before, who wrote it may turn out to have been killed. */
void attempt_doubt(struct attempt *t, const struct err *why);
/* All sandboxes were lost, with zpipe-box. */
void attempt_box_lost(struct attempt *t, const struct err *why);
/* The link to this data port is gone: the scheduler is told of each stream that was attached over it. */
void attempt_streams_lost(struct attempt *t, const char *url, const char *why);
/* Writers on other workers run again: their streams begin anew, from there. */
void attempt_reroute(struct attempt *t, const struct msg_route_list *m);
/* A stage has ended as it should: what it wrote is all, and it wants no more. */
void attempt_allow_ends(struct attempt *t, uint32_t node);
/* The route whose stream bears this name, and was attached to us, or by us. */
struct attempt_route *attempt_stream(struct attempt *t, const struct stream_name *name, bool to_us);
/* More blocks may be started. */
void attempt_step(struct attempt *t);
void attempt_look(struct attempt *t); /* how far it is: goes out as PROGRESS */
/* Close carries that ended; true when the attempt itself has ended and may be freed. */
bool attempt_reap(struct attempt *t);
void attempt_free(struct attempt *t);

/* Its stages in blocks, none of which runs here yet. */
int attempt_find_stages(struct attempt *t, struct err *e);
/* The route of this attempt for a thing, or NULL.  node GRAPH_NONE: any. */
struct attempt_route *attempt_route_of(struct attempt *t, uint32_t what, uint32_t index, uint32_t node);

/* What attempt.c needs of the agent. */
const char *agent_name(const struct agent *a);
const char *agent_shared(const struct agent *a); /* for shared_open */
struct loop *agent_loop(struct agent *a);
struct box *agent_box(struct agent *a);
/* Leave to run one more block: given back by agent_end_run.  running: of its stage; width: at once, 0: as many as slots; memory: that
 * it needs, which a second one of a stage only has if there is so much. */
bool agent_begin_run(struct agent *a, uint32_t running, uint32_t width, uint64_t memory_bytes);
void agent_end_run(struct agent *a, uint64_t memory_bytes);
/* What streams needs it from now on, and then no more. */
void agent_take_memory(struct agent *a, uint64_t bytes);
void agent_give_memory(struct agent *a, uint64_t bytes);
uint32_t agent_width(const struct agent *a, uint32_t width);
void agent_send(struct agent *a, const struct msg *m);
/* Our data port, NULL in embedded mode; and something for one of its links. */
struct peer *agent_data(const struct agent *a);
struct past *agent_past(const struct agent *a); /* likewise */
int agent_send_data(struct agent *a, uint64_t link, const struct msg *m);
struct net *agent_net(const struct agent *a);
void agent_step_soon(struct agent *a); /* attempt_step for all, when nothing of them is on the stack */
/* The data link to url, connecting if need be. */
struct peer *agent_data_peer(struct agent *a, const char *url, struct slice key, struct err *e);
/* An ATTACH that came before its carry could be made: bind it now. */
int agent_claim(struct agent *a, struct carry *c, struct err *e);

/* paused.c */
/* The scheduler is gone: what can goes on, and waits to be known again; the rest is stopped. */
void attempts_pause(struct attempt *first);
uint32_t attempts_paused(const struct attempt *first);
void attempts_tell_remains(struct attempt *first); /* to the next scheduler, */
void attempt_go_on(struct attempt *t);             /* who knows it: what there was to say is said, all of it once more */
void attempt_end_pause(struct attempt *t);         /* or does not, and it has been told to stop */

/* group.c */
int group_run(struct group *g, struct attempt *t, const struct region_scope *scope, struct err *e);
bool group_runs(const struct group *g);
void group_tear(struct group *g); /* its programs will say all of it again */
void group_fall(struct group *g); /* its sandboxes have: what its programs say now is dropped */
void group_clear(struct group *g);

/* For group.c, blocks.c, intake.c and outlet.c. */
void attempt_fail(struct attempt *t, const struct err *why);
/* Likewise, and no other worker shall try. */
void attempt_fail_for_good(struct attempt *t, const struct err *why);
void attempt_limit(struct buf *sentence, const char *limit); /* ... how it is set, if it can be */
void attempt_say(struct attempt *t, const struct msg *m); /* to the scheduler */
void attempt_settle(struct attempt *t);
uint32_t attempt_status(const struct box_result *r); /* as sh has it in $? */
/* A node's program, or all blocks of it, ended; its stderr did. */
void attempt_node_ended(struct attempt *t, uint32_t node, const struct box_result *r, bool early_stop);
void attempt_said(struct attempt *t, uint32_t node, const char *tail); /* NULL: nothing */
/* attempt_made.c: the files that it left in /job and the job keeps are sent; the others are told in `text`. */
void attempt_take_made(struct attempt *t, uint32_t node, const struct box_result *r, struct buf *text);
void attempt_drop_made(struct attempt *t); /* those that are under way */
/* Those that nobody keeps, and whatever else is not as sh would leave it, as lines of `text`. */
void attempt_tell_dropped(struct arena *a, const struct graph *g, const struct graph_node *n,
                          const struct box_result *r, struct buf *text);
/* Did a pump end as none should?  A sink that broke is its writer's SIGPIPE, and bytes past a limit of output are the
 * writer's too: its end tells of it. */
bool pump_broke(int sys, bool reading);
void attempt_pump_failed(struct attempt *t, int sys, bool reading);
/* A route's stream takes what is read from these, end to end; taken. */
int attempt_carry_files(struct attempt *t, struct attempt_route *route, const int *fd, uint32_t count, struct err *e);
/* A route's stream is taken, and nobody wants what comes over it. */
int attempt_decline(struct attempt *t, struct attempt_route *route, struct err *e);
/* A route's stream takes what is read from fd, or gives what is written to it; fd is taken. */
int attempt_carry(struct attempt *t, struct attempt_route *route, int fd, bool out, struct err *e);
/* The same by a pair of sockets, whose other end is for a pump of the box.  route NULL: refused. */
int attempt_carry_pair(struct attempt *t, struct attempt_route *route, bool out, int *fd, struct err *e);
/* The same for an outlet: the stream has its end when that one says so, not when the descriptor is closed. */
int attempt_outlet_pair(struct attempt *t, struct attempt_route *route, int *fd, struct err *e);
/* Whoever is behind the pump has put in all, or wants no more. */
void attempt_end_route(struct attempt *t, struct attempt_route *route);
int attempt_edge_fd(const struct attempt *t, uint32_t edge); /* the descriptor of an edge's route; -1 */
