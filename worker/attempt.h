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

#define SMALL_INPUT_MAX  (64u << 10) /* a fetched input of so many bytes is kept in memory, */
#define SMALL_INPUTS_MAX (16u << 20) /* ... and so many of all of a job's together */

enum attempt_state { ATTEMPT_FETCHING, ATTEMPT_RUNNING, ATTEMPT_STOPPING, ATTEMPT_ENDED };

/* A route, and what this worker knows of it. */
struct attempt_route {
    struct msg_route r;   /* strings in the attempt's arena */
    uint32_t attempt;     /* the attempt number in its stream's name: a newer one if the stream was started again */
    struct carry *carry;  /* owned; NULL until bytes are to be moved */
    bool carry_ended;     /* the carry has ended: close it later, when none of its functions is on the stack */
    bool outlets;         /* its bytes come from an outlet, which says when the stream ends */
    bool cut;             /* the other side is lost, and the stream has not been started again */
    bool carry_closed;    /* the carry was closed; one that reads still compares what is sent again */
    int spool;            /* owned: the file that a fetched input is written to; -1 */
    bool in_place;        /* `spool` is the input file itself, found on this host: nothing is sent */
    struct group *group;  /* the group, and the channel of its region, that box_break is to be called for; NULL, GRAPH_NONE */
    uint32_t channel;
};

/* What the scheduler will be told of a stage that ended. */
struct attempt_report {
    struct msg m;
    uint64_t compared; /* how many tasks were run twice and compared */
    bool ended, sent;
};

/* Programs that run once and stream, in one region.  Either all commands of the attempt that are in no stage of blocks; or
 * all programs of such a stage, after a block made it necessary to run the stage whole. */
struct group {
    struct attempt *t;
    struct arena arena;
    struct region region;
    struct region_watch watch;
    struct lines *lines; /* per program: its stderr; `from` is -1 where stderr goes another way */
    bool *said;          /* per program: its stderr has ended */
    /* Called for channels that the region's scope has an end of.  May be NULL.  pump_ended returns false for a channel that
     * is not its own. */
    void (*moved)(struct group *g, uint32_t channel, uint64_t bytes, uint64_t sources);
    bool (*pump_ended)(struct group *g, uint32_t channel, int sys, bool reading);
    void (*ended)(struct group *g);
    void *owner;
};

struct blocks; /* a stage that runs in blocks */
struct share;  /* bytes with several readers */

/* The two sides of an edge that are not programs of the main region; NULL where a side is. */
struct joint {
    struct intake *reader;
    struct outlet *writer;
};

struct past_job;
struct local;        /* state of an attempt in the client's own process */
struct attempt_copy; /* files that a stage made, being copied to a descriptor of this process */

struct attempt_key {
    enum msg_role role;
    uint8_t key[MSG_KEY_BYTES];
};

struct attempt {
    struct agent *agent;
    struct attempt *next;
    uint64_t job;
    uint32_t number, heard; /* number: of this attempt; heard: the newest attempt, of the parts that it reads from, that it knows of */
    uint8_t token[MSG_TOKEN_BYTES];
    struct attempt_key *key; /* of its client and of workers: admitted as long as it is there */
    uint32_t key_count;
    enum attempt_state state;
    struct graph *graph; /* owned */
    struct arena arena;
    bool *here;          /* per node: it runs here, or is a source of the client's whose files are read in place */
    struct attempt_route *route;
    uint32_t route_count;
    uint32_t fetching;   /* how many routes must still bring their bytes before programs start */
    uint32_t moving;     /* how many carries, lines and copies have not ended */
    struct group main;
    bool started;        /* `main` runs, or has nothing to run */
    bool reapable; /* something waits for attempt_reap to free it */
    struct attempt_report *report; /* per node, in the arena */
    struct graph_stages stages;
    struct blocks **blocks;        /* one per stage that runs in blocks here; blocks_count of them */
    uint32_t blocks_count;
    struct share **shares;         /* share_count of them */
    uint32_t share_count;
    struct joint *joint;           /* per edge, in the arena */
    struct region_end *main_end;   /* in the arena: the ends at which `main` meets stages in blocks and shares */
    struct attempt_copy *copies;
    struct local *local;    /* NULL: in a cluster */
    struct borrow *borrows; /* slots that other workers lend us */
    uint32_t borrow_count, wanted;
    bool paused; /* there is no scheduler that knows of this attempt: its messages wait */
    bool torn;   /* it was killed: it has not ended by itself */
    struct err doubt; /* fewer bytes came than had been given away before; code 0: no */
    uint64_t small_bytes; /* of small inputs, in memory */
    uint64_t memory_bytes; /* taken from the worker's memory, for the programs that stream */
    struct past_job *past; /* of a submitted job: results kept for the case that it begins again; NULL: none are */
    uint32_t deaths; /* how many workers were lost while they ran a stage of it */
    uint32_t bad;    /* a task that is not to be run, as workers were lost with it: 1 + its MAP or REDUCE; 0: none */
    uint64_t bad_number;
    const char *bad_why; /* in the arena */
    bool elsewhere; /* the attempt is another worker's, for which we run some blocks: see lend.c */
};

struct attempt *attempt_new(struct agent *a, const struct msg_run *run, struct slice graph, struct err *e);
/* Fetch what is missing, then start. */
void attempt_begin(struct attempt *t);
void attempt_start(struct attempt *t);
void attempt_stop(struct attempt *t);
/* Data messages whose stream belongs to this job and attempt. */
void attempt_attach(struct attempt *t, struct peer *p, uint64_t link, const struct msg_attach *m);
void attempt_message(struct attempt_route *route, const struct msg *m, struct slice bulk);
/* A stream that was started again has brought less than before.  The attempt fails for that, but only when all has ended:
 * the stream's writer may turn out to have been killed. */
void attempt_doubt(struct attempt *t, const struct err *why);
/* A program of this node did not fail: its sandbox was lost before it had ended.  The attempt fails, to begin again. */
void attempt_task_lost(struct attempt *t, uint32_t node, const char *why);
/* zpipe-box is gone, and all sandboxes with it. */
void attempt_box_lost(struct attempt *t, const struct err *why);
/* The link to this data port is lost: tell the scheduler of each stream that was attached over it. */
void attempt_streams_lost(struct attempt *t, const char *url, const char *why);
/* Stages on other workers run again: take the streams that we read of them from there, from the start. */
void attempt_reroute(struct attempt *t, const struct msg_route_list *m);
/* A stage has ended by itself: its outputs are complete, so their streams may have their end, and it reads no more. */
void attempt_allow_ends(struct attempt *t, uint32_t node);
/* The route of the stream with this name.  to_us: the other side attached to us; else we attached to it. */
struct attempt_route *attempt_stream(struct attempt *t, const struct stream_name *name, bool to_us);
/* Start more blocks, if there are slots and input. */
void attempt_step(struct attempt *t);
void attempt_look(struct attempt *t); /* send a PROGRESS message for each stage */
/* Close carries that ended.  true: the attempt itself has ended and may be freed. */
bool attempt_reap(struct attempt *t);
void attempt_free(struct attempt *t);

/* Find out which stages run in blocks; none runs yet. */
int attempt_find_stages(struct attempt *t, struct err *e);
/* The attempt's route for this thing, or NULL.  node GRAPH_NONE: any node. */
/* A file for an input that is fetched: a small one is in memory, and must have as many bytes as it says.  Gives. */
int attempt_spool(struct attempt *t, const struct graph_file *f, bool *small, struct err *e);
struct attempt_route *attempt_route_of(struct attempt *t, uint32_t what, uint32_t index, uint32_t node);

/* What attempts need of the agent. */
const char *agent_name(const struct agent *a);
const char *agent_shared(const struct agent *a); /* the directories for shared_open */
struct loop *agent_loop(struct agent *a);
struct box *agent_box(struct agent *a);
/* Take a slot for one more block; agent_end_run gives it back.  running: runs of this stage so far.  width: at most so many
 * at once, 0: as many as there are slots.  memory_bytes: what the run needs; only the first run of a stage gets a slot if
 * the worker has less left. */
bool agent_begin_run(struct agent *a, uint32_t running, uint32_t width, uint64_t memory_bytes);
void agent_end_run(struct agent *a, uint64_t memory_bytes);
/* Memory for the programs that stream: take it when they start, give it back when they have ended. */
void agent_take_memory(struct agent *a, uint64_t bytes);
void agent_give_memory(struct agent *a, uint64_t bytes);
uint32_t agent_width(const struct agent *a, uint32_t width);
void agent_send(struct agent *a, const struct msg *m);
bool agent_is_bare(const struct agent *a); /* do its programs run without a sandbox? */
/* Our data port, NULL when embedded; and a message for one of its links. */
struct peer *agent_data(const struct agent *a);
struct past *agent_past(const struct agent *a); /* also NULL when embedded */
int agent_send_data(struct agent *a, uint64_t link, const struct msg *m);
struct net *agent_net(const struct agent *a);
void agent_step_soon(struct agent *a); /* calls attempt_step for all attempts, from the loop */
/* The link to the data port at this URL; connects if need be. */
struct peer *agent_data_peer(struct agent *a, const char *url, struct slice key, struct err *e);
/* Attach a new carry to an ATTACH that came before it was made. */
int agent_claim(struct agent *a, struct carry *c, struct err *e);

/* paused.c */
/* The scheduler is gone: attempts that can go on, and wait for the next scheduler; the others are stopped. */
void attempts_pause(struct attempt *first);
uint32_t attempts_paused(const struct attempt *first);
void attempts_tell_remains(struct attempt *first); /* tell the next scheduler what goes on here; */
void attempt_go_on(struct attempt *t);             /* it knows this attempt: send the messages that waited, and repeat those sent before; */
void attempt_end_pause(struct attempt *t);         /* it does not know this attempt, which has been told to stop */

/* group.c */
int group_run(struct group *g, struct attempt *t, const struct region_scope *scope, struct err *e);
bool group_runs(const struct group *g);
void group_tear(struct group *g); /* the group will run again, and its programs will write all of their stderr again */
void group_fall(struct group *g); /* its sandboxes are lost: drop what its programs still write to stderr */
void group_clear(struct group *g);

/* For group.c, blocks.c, intake.c and outlet.c. */
void attempt_fail(struct attempt *t, const struct err *why);
/* Fail, and no other worker is to try. */
void attempt_fail_for_good(struct attempt *t, const struct err *why);
void attempt_limit(struct buf *sentence, const char *limit); /* adds how this limit is set, if it can be */
void attempt_say(struct attempt *t, const struct msg *m); /* send to the scheduler */
void attempt_settle(struct attempt *t);
uint32_t attempt_status(const struct box_result *r); /* the status that sh has in $? */
/* A node's program, or all its blocks, ended; then: its stderr ended, with these last lines. */
void attempt_node_ended(struct attempt *t, uint32_t node, const struct box_result *r, bool early_stop);
void attempt_said(struct attempt *t, uint32_t node, const char *tail); /* NULL: nothing */
/* attempt_made.c: send the files that the stage left in /job and that the job keeps; tell of the others in `text`. */
void attempt_take_made(struct attempt *t, uint32_t node, const struct box_result *r, struct buf *text);
void attempt_drop_made(struct attempt *t); /* drop files that are being sent */
/* Add to `text`, in lines, the files that nobody keeps and whatever else is not as sh would leave it. */
void attempt_tell_dropped(struct arena *a, const struct graph *g, const struct graph_node *n,
                          const struct box_result *r, struct buf *text);
/* Is this end of a pump a failure?  A broken sink is not: its writer gets SIGPIPE.  Neither are bytes beyond a limit of
 * output: the writer's end tells of that. */
bool pump_broke(int sys, bool reading);
void attempt_pump_failed(struct attempt *t, int sys, bool reading);
/* Send the contents of these files, end to end, over the route's stream; takes the descriptors. */
int attempt_carry_files(struct attempt *t, struct attempt_route *route, const int *fd, uint32_t count, struct err *e);
/* Attach to the route's stream, and say that its bytes are not wanted. */
int attempt_decline(struct attempt *t, struct attempt_route *route, struct err *e);
/* Send what is read from fd over the route's stream, or write what comes over it to fd; takes fd. */
int attempt_carry(struct attempt *t, struct attempt_route *route, int fd, bool out, struct err *e);
/* Like attempt_carry, over a socket pair whose other end, *fd, is for a pump of the box.  route NULL: refused. */
int attempt_carry_pair(struct attempt *t, struct attempt_route *route, bool out, int *fd, struct err *e);
/* Likewise for an outlet: the stream ends when the outlet says so, not when the descriptor is closed. */
int attempt_outlet_pair(struct attempt *t, struct attempt_route *route, int *fd, struct err *e);
/* The outlet has put in everything, or the reader wants no more. */
void attempt_end_route(struct attempt *t, struct attempt_route *route);
int attempt_edge_fd(const struct attempt *t, uint32_t edge); /* the descriptor of an edge's route; -1 */
