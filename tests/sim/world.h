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
#define LINKS_MAX  512 /* over a world's life */
#define JOBS_MAX   256
#define HELDS_MAX  32 /* submitted jobs */
#define RUNS_MAX   32 /* at one worker: more than its slots can ever be */
#define LOANS_MAX  16 /* likewise */
#define NODES_MAX  8
#define IMAGES     3
#define UNITS_MAX  24 /* of a job's input */
#define STAGE_MEMORY (2ull << 30) /* of a stage that needs some; a worker has as much as some of them */
/* Blocks by number: the one that takes its worker with it, then ranges of BLOCKS of those that do not, where no such one is, and beside one. */
#define BLOCKS      1000000
#define BLOCK_KILLS 7
#define BLOCK_ELSE  1000
#define BLOCK_BESIDE (2 * BLOCKS)
#define AHEAD      4  /* a writer waits when its reader has so many less */
#define EVENTS_MAX 100000
#define MS         1000000ull
#define NEVER      UINT64_MAX
#define QUIET_NS   (15000 * MS)  /* no message is on its way for so long */
#define CALM_NS    (30000 * MS)  /* from then on nothing breaks, */
#define REST_NS    (400000 * MS) /* and by then all has come to rest */

struct note { /* a message on its way */
    struct note *next;
    uint64_t at_ns;
    char *first, *bulk;
    size_t first_size, bulk_size;
};

/* Notes in order, and what tells that the link ended behind them. */
struct wire {
    struct note *first;
    uint64_t end_ns; /* NEVER: it has not ended */
};

/* What reads from a stage: its next stage, or the client. */
struct reader {
    uint32_t got, unit[UNITS_MAX];
    bool ended;
    /* of the writer now: */
    uint64_t link; /* 0: in the same process; else the worker's */
    uint32_t attempt, seen;
    bool broken, through; /* through: with all of it */
};

struct run {
    bool used, stopping, failed; /* failed: it waits for STOP */
    bool local;                  /* in the client's process: source and sink too */
    bool paused;                 /* the scheduler that gave it is gone; no other has said that it goes on */
    bool left;                   /* likewise, or another has told it to stop: no job waits for its end */
    uint8_t token[MSG_TOKEN_BYTES];
    uint32_t end[NODES_MAX];     /* how those that ended did */
    uint64_t job, at_ns, memory;
    uint32_t attempt, heard;
    bool tells; /* workers were lost with it: which block of each stage begins is told */
    bool here[NODES_MAX], ended[NODES_MAX];
    bool answered[NODES_MAX];  /* the reader elsewhere has all */
    uint32_t taken[NODES_MAX]; /* units that the reader has, of this attempt */
    struct reader in[NODES_MAX];
};

struct lent { /* slots of a worker; it keeps them until they are recalled, or for some time */
    bool used;
    struct msg_returned what;
    uint32_t slots;
    uint64_t memory;
    uint64_t at_ns; /* when they go back; NEVER */
};

enum mood { ABSENT, PRESENT, LOST /* its side of the link ended; it comes back */, DEAD };

struct actor {
    uint32_t image; /* of a worker, where there are several */
    bool worker, local, keeper, stuck; /* stuck: it never ends what it is told to stop */
    enum mood mood;
    uint64_t link; /* the one now */
    uint64_t address; /* the first that this process had: where its streams are */
    bool goes_on;     /* it has lost its scheduler, and what it runs goes on */
    uint8_t instance[16];
    struct wire to, from; /* towards it, from it */
    uint64_t join_ns, ping_ns, submit_ns, die_ns, stall_ns;
    uint64_t cut_ns; /* messages made since are kept back until then */
    bool stalled;    /* it has been, on this link: it may have been taken for dead */
    struct run run[RUNS_MAX];
    struct lent lent[LOANS_MAX];
    uint32_t submits, slots;
    uint64_t memory; /* of a worker; 0: no bound */
    uint32_t loan; /* the last it was told of */
    uint64_t requests;
    uint32_t asked, answered; /* of a client, on this link */
    uint64_t drain, drain_of; /* its last question that was DRAIN, and of which link */
};

struct submitted {            /* as its keeper knows it */
    uint64_t number, request; /* request: on the keeper's link now; 0: it is to be submitted */
    struct actor *keeper;
    bool over;
};

struct tracked {                      /* a job as the world knows it */
    uint64_t client, request, number; /* client: its link */
    uint8_t token[MSG_TOKEN_BYTES]; /* as ROUTE said; has_token */
    bool has_token;
    bool spread, needy; /* needy: each stage needs STAGE_MEMORY */
    bool accepted, ran, cancelled, pipefail, negate;
    bool held;    /* submitted: its client is a keeper */
    bool endless; /* its input does not end, like `tail -f`, until the client has had enough */
    bool cursed;  /* its first stage takes the worker with it, or fails there, each time */
    uint32_t results, stages, units;
    uint32_t status[NODES_MAX];
    bool early[NODES_MAX];
    uint32_t source_lost; /* the attempt whose stream broke, until another is named */
    uint32_t source;    /* the attempt to which the client gives its input */
    struct reader sink; /* the client's */
    uint64_t pull_ns;
    uint32_t runs, told; /* parts that were begun; messages that the core sent about it, but those that workers made it pass on */
};

/* What befell them, in all worlds so far: none of it may be a thing that the simulator only believes to do. */
enum befell { LATE, REPEATED, NEVER_CAME, HELD_UP, DIED, BROKE, SLEPT, RESTARTED, BABBLED, NAMED, BEFELL };
extern uint64_t befell[BEFELL];

struct world {
    uint64_t now, random;
    uint64_t sleep_ns, asleep_ns; /* the scheduler stands still from, until */
    bool talk, closing;
    bool images; /* workers are not all alike */
    bool roomy; /* many slots, and nobody wants to borrow any: what goes on has room to */
    struct core *core;
    struct actor actor[ACTORS];
    uint32_t actors;
    uint64_t links;
    struct actor *owner[LINKS_MAX];
    bool ended[LINKS_MAX]; /* as far as the core can know */
    bool may_go[LINKS_MAX], drained[LINKS_MAX]; /* workers': the owner asked to drain it; and was told that it is done */
    uint32_t lent;         /* loans made */
    struct tracked job[JOBS_MAX];
    uint32_t jobs;
    struct submitted submitted[HELDS_MAX];
    uint32_t submitted_count;
    uint64_t restart_ns; /* the scheduler dies; NEVER */
    uint64_t lives;
    uint32_t went_on; /* jobs, from one scheduler to the next */
    struct buf graph[NODES_MAX][8]; /* by stages; pipefail, negate, needy */
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
void tell(const struct world *w, const char *arrow, uint64_t link, const struct msg *m); /* to who looks on */
struct note *take_note(struct world *w, struct actor *a, struct wire *x, const char *arrow,
                       struct arena *arena, struct msg *m);

/* --- jobs.c --- */
struct tracked *tracked(struct world *w, uint64_t number);
struct tracked *known(struct world *w, uint64_t number); /* accepted or not by the scheduler there is */
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
uint64_t memory_at_work(const struct actor *a); /* what all needs that runs there */
void give_back(struct world *w, struct actor *a, struct lent *l);
void worker_hears(struct world *w, struct actor *a, const struct msg *m);
void tell_remains(struct world *w, struct actor *a);
bool is_there(const struct actor *a, uint64_t address); /* its streams can be read */
void run_step(struct world *w, struct actor *a, struct run *r);

/* --- actors.c --- */
void leave(struct world *w, struct actor *a, bool comes_back);
uint64_t actor_wakes(const struct world *w, const struct actor *a);
void actor_acts(struct world *w, struct actor *a);
void actor_hears(struct world *w, struct actor *a);
