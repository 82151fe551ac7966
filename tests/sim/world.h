/* A made-up world for the scheduler's core, as sim.c says. */
#pragma once
#include "tests/lib/chain.h"
#include "tests/sim/check.h"
#include "tests/sim/plants.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SEEDS      10000
#define PLANT_SEEDS 40000 /* some bugs show in one world of ten thousand */
#define ACTORS     10
#define LINKS_MAX  512 /* in a world's whole life */
#define JOBS_MAX   256
#define HELDS_MAX  32 /* submitted jobs */
#define RUNS_MAX   32 /* at one worker: more than its slots can ever be */
#define LOANS_MAX  16 /* likewise */
#define NODES_MAX  8
#define IMAGES     3
#define UNITS_MAX  24 /* units of a job's input */
#define STAGE_MEMORY (2ull << 30) /* memory of a stage that needs some; a worker has enough for some of them */
/* Numbers of blocks.  BLOCK_KILLS takes its worker with it.  From BLOCK_ELSE on are blocks of stages where no block does
 * that; from BLOCK_BESIDE on, blocks that run beside one that does.  Each range has BLOCKS numbers. */
#define BLOCKS      1000000
#define BLOCK_KILLS 7
#define BLOCK_ELSE  1000
#define BLOCK_BESIDE (2 * BLOCKS)
#define AHEAD      4  /* a writer waits when its reader has this many units less */
#define EVENTS_MAX 100000
#define MS         1000000ull
#define NEVER      UINT64_MAX
#define QUIET_NS   (15000 * MS)  /* for so long no message is on its way */
#define CALM_NS    (30000 * MS)  /* from then on nothing breaks, */
#define REST_NS    (400000 * MS) /* and by then all has come to rest */

struct note { /* a message on its way */
    struct note *next;
    uint64_t at_ns;
    char *first, *bulk;
    size_t first_size, bulk_size;
};

/* Messages in order; the end of the link, if it has ended, comes after them. */
struct wire {
    struct note *first;
    uint64_t end_ns; /* NEVER: it has not ended */
};

/* What reads from a stage: its next stage, or the client. */
struct reader {
    uint32_t got, unit[UNITS_MAX];
    bool ended;
    /* about the present writer: */
    uint64_t link; /* 0: in the same process; else the worker's */
    uint32_t attempt, seen;
    bool broken, through; /* through: it has read all */
};

struct run {
    bool used, stopping, failed; /* failed: it waits for STOP */
    bool local;                  /* the run is in the client's process, with source and sink */
    bool paused;                 /* the scheduler that sent RUN is gone, and no other has said that the run goes on */
    bool left;                   /* paused, or another scheduler has told it to stop: no job waits for its end */
    uint8_t token[MSG_TOKEN_BYTES];
    uint32_t end[NODES_MAX];     /* how the stages that ended did so */
    uint64_t job, at_ns, memory;
    uint32_t attempt, heard;
    bool tells; /* workers were lost with the job, so it is told which block of each stage begins */
    bool here[NODES_MAX], ended[NODES_MAX];
    bool answered[NODES_MAX];  /* the reader, in another process, has all */
    uint32_t taken[NODES_MAX]; /* how many units of this attempt the reader has */
    struct reader in[NODES_MAX];
};

struct lent { /* slots that a worker has lent: they are lent until they are recalled, or for some time */
    bool used;
    struct msg_returned what;
    uint32_t slots;
    uint64_t memory;
    uint64_t at_ns; /* when they go back on their own; NEVER: they do not */
};

enum mood { ABSENT, PRESENT, LOST /* its side of the link ended; it comes back */, DEAD };

struct actor {
    uint32_t image; /* of a worker, if there are several images */
    bool worker, local, keeper, stuck; /* stuck: it never ends what it is told to stop */
    enum mood mood;
    uint64_t link; /* the present link */
    uint64_t address; /* the first link that this process had, which says where its streams are */
    bool goes_on;     /* it has lost its scheduler, and its runs go on */
    uint8_t instance[16];
    struct wire to, from; /* to: messages to this actor; from: messages from it */
    uint64_t join_ns, ping_ns, submit_ns, die_ns, stall_ns;
    uint64_t cut_ns; /* it is cut off: messages are held back until then */
    bool stalled;    /* it was stalled on this link, so it may have been taken for dead */
    struct run run[RUNS_MAX];
    struct lent lent[LOANS_MAX];
    uint32_t submits, slots;
    uint64_t memory; /* of a worker; 0: no bound */
    uint32_t loan; /* the last loan that it was told of */
    uint64_t requests;
    uint32_t asked, answered; /* of a client: questions and answers on this link */
    uint64_t drain, drain_of; /* its last question of kind DRAIN, and the link on which it was asked */
};

struct submitted {            /* a submitted job, as its keeper knows it */
    uint64_t number, request; /* request: on the keeper's present link; 0: the job must still be submitted */
    struct actor *keeper;
    bool over;
};

struct tracked {                      /* a job as the world knows it */
    uint64_t client, request, number; /* client: its link */
    uint8_t token[MSG_TOKEN_BYTES]; /* as ROUTE said; has_token */
    bool has_token;
    bool spread, needy; /* needy: each stage needs STAGE_MEMORY */
    bool accepted, ran, cancelled, pipefail, negate;
    bool held;    /* a submitted job: its client is a keeper */
    bool endless; /* its input does not end, like `tail -f`, until the client has had enough */
    bool cursed;  /* its first stage takes the worker with it, or fails there, each time */
    uint32_t results, stages, units;
    uint32_t status[NODES_MAX];
    bool early[NODES_MAX];
    uint32_t source_lost; /* the attempt whose stream broke, until another is named */
    uint32_t source;    /* the attempt to which the client gives its input */
    struct reader sink; /* the client's reader */
    uint64_t pull_ns;
    uint32_t runs, told; /* parts that were begun; messages that the core sent about the job, but for those that workers made it pass on */
};

/* How often each misfortune happened, in all worlds so far: none may be one that the simulator only seems to cause. */
enum befell { LATE, REPEATED, NEVER_CAME, HELD_UP, DIED, BROKE, SLEPT, RESTARTED, BABBLED, NAMED, BEFELL };
extern uint64_t befell[BEFELL];

struct world {
    uint64_t now, random;
    uint64_t sleep_ns, asleep_ns; /* when the scheduler stands still, and until when */
    bool talk, closing;
    bool images; /* workers are not all alike */
    bool roomy; /* there are many slots, and nobody wants to borrow any, so whatever goes on finds room */
    struct core *core;
    struct actor actor[ACTORS];
    uint32_t actors;
    uint64_t links;
    struct actor *owner[LINKS_MAX];
    bool ended[LINKS_MAX]; /* the link has ended, as far as the core can know */
    bool may_go[LINKS_MAX], drained[LINKS_MAX]; /* of a worker's link: the owner has asked to drain the worker; the owner was told that it is */
    uint32_t lent;         /* how many loans were made */
    struct tracked job[JOBS_MAX];
    uint32_t jobs;
    struct submitted submitted[HELDS_MAX];
    uint32_t submitted_count;
    uint64_t restart_ns; /* when the scheduler dies; NEVER: it does not */
    uint64_t lives;
    uint32_t went_on; /* how many jobs went on from one scheduler to the next */
    struct buf graph[NODES_MAX][8]; /* by the number of stages; then by pipefail, negate and needy */
    const char *wrong;
};

/* --- world.c --- */
uint64_t draw(struct world *w, uint64_t below);
uint32_t most_attempts(const struct world *w, const struct tracked *t);
bool one_in(struct world *w, uint64_t n);
bool mishap(struct world *w, uint64_t n);
void must(struct world *w, bool holds, const char *what);
uint64_t earlier(uint64_t a, uint64_t b);
void note_free(struct note *n);
void cut(struct wire *x);
void put_once(struct world *w, struct actor *a, struct wire *x, uint64_t delay_ns,
              const struct msg *m, struct slice bulk);
void put(struct world *w, struct actor *a, struct wire *x, const struct msg *m, struct slice bulk);
void say(struct world *w, struct actor *a, const struct msg *m);
void hang_up(struct world *w, struct actor *a);
void tell(const struct world *w, const char *arrow, uint64_t link, const struct msg *m); /* prints it, if the world is told step by step */
struct note *take_note(struct world *w, struct actor *a, struct wire *x, const char *arrow,
                       struct arena *arena, struct msg *m);

/* --- jobs.c --- */
struct tracked *tracked(struct world *w, uint64_t number);
struct tracked *known(struct world *w, uint64_t number); /* whether or not the present scheduler has accepted it */
struct run *run_of(struct actor *a, uint64_t job, uint32_t attempt);
uint32_t unit_of(uint32_t n, uint32_t from);
void see_result(struct world *w, uint64_t link, const struct msg_result *r);
void see_refused(struct world *w, uint64_t link, const struct msg_result *r);
void see_told(struct world *w, const struct msg *m);
void see_accept(struct world *w, uint64_t link, const struct msg_accept *m);

/* --- clients.c --- */
void submit(struct world *w, struct actor *a, uint64_t held);
void keeper_joins(struct world *w, struct actor *a);
void keeper_hears(struct world *w, struct actor *a, const struct msg *m);
void submit_again(struct world *w, struct actor *a);
void ask(struct world *w, struct actor *a);
void ask_drain(struct world *w, struct actor *a);
bool is_owner(const struct world *w, const struct actor *a);
extern const struct slice owner_key;
void client_hears(struct world *w, struct actor *a, const struct msg *m);
void client_pulls(struct world *w, struct actor *a, struct tracked *t);

/* --- streams.c --- */
void follow(struct reader *r, const struct msg_route *route, uint32_t attempt);
void take_unit(struct reader *r, uint32_t unit);
void pull(struct world *w, struct run *from, uint32_t n, struct reader *r);
void pull_over(struct world *w, struct actor *a, struct reader *r, uint64_t job, uint32_t n);

/* --- workers.c --- */
void want(struct world *w, struct actor *a, const struct run *r);
uint64_t memory_at_work(const struct actor *a); /* memory that the runs there need */
void give_back(struct world *w, struct actor *a, struct lent *l);
void worker_hears(struct world *w, struct actor *a, const struct msg *m);
void tell_remains(struct world *w, struct actor *a);
bool is_there(const struct actor *a, uint64_t address); /* can streams be read from the process that had this address? */
void run_step(struct world *w, struct actor *a, struct run *r);

/* --- actors.c --- */
void leave(struct world *w, struct actor *a, bool comes_back);
uint64_t actor_wakes(const struct world *w, const struct actor *a);
void actor_acts(struct world *w, struct actor *a);
void actor_hears(struct world *w, struct actor *a);
