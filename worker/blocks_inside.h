/* Shared by blocks.c, blocks_*.c, tasks.c, tasks_*.c, and by the two sides of what is lent, borrow*.c and
 * lend*.c; for nobody else. */
#pragma once
#include "base/digest.h"
#include "base/fds.h"
#include "base/lines.h"
#include "base/spool.h"
#include "proto/combine.h"
#include "worker/blocks.h"
#include "worker/borrow.h"
#include "worker/inlet.h"
#include "worker/intake.h"
#include "worker/outlet.h"
#include "worker/past.h"

#define RUN_BYTES_MIN   (1u << 20)
#define RUN_BYTES_MAX   (16u << 20)
#define SORT_BYTES_MAX  (32u << 20)  /* of what is merged afterwards: fewer, larger ones */
#define MERGE_BYTES_MAX (128u << 20) /* ... and where they would be more than MERGE_FAN */
#define RUNS_PER_SLOT   4            /* at least, where the input is large enough: so that all end at once */
#define RUNS_LEFT_PER_SLOT 2         /* ... of what is left of one that has come */
#define RUNS_APART      512          /* runs of one block, with `--split always`; then so many of two, of four, and so on */
#define HELD_MAX        256          /* runs started and not put into the outlet, where they can be */
#define BACKLOG_MAX     (256u << 20) /* bytes in the outlet that nobody took yet */
#define SPOIL_AHEAD     (256u << 10) /* more than commands of the table read at once */
#define SOURCES_MAX     16384        /* pieces of input of one run */
#define RUN_ARENA_MAX   (64u << 20)
#define MERGE_FAN       64           /* the table says so to `sort` */
#define RUN_TRIES_MAX   3            /* times that a run may be lost with its sandbox or a lender */
#define AUDITS_MAX      64           /* that have not ended, of a stage */
#define RESTING_MAX     64           /* runs of a stage whose programs have ended and whose sandboxes have not */
#define KEPT_INPUT_MAX (64u << 10)   /* a task that reads more writes to a file from the beginning */
#define PUT_BYTES_MIN   (1u << 20)   /* of a spool that is still being written */

enum blocks_state { CUTTING, DEALING, COMBINING, WHOLE, ENDED };

/* What a run came to: a digest of all that it wrote and of how its last program ended. */
struct outcome {
    bool is; /* it has ended */
    uint8_t digest[16];
    char worker[64]; /* cut off, for people */
};

struct run {
    struct run *next;
    struct blocks *b;
    struct arena arena;
    struct region_watch watch;
    uint64_t number, from, to;
    uint32_t file;    /* of the graph, whose bytes these are; GRAPH_NONE */
    int in;           /* its input in a file of its own; -1: the stage's inlet has it, or: */
    struct box_source *placed; /* these, in the arena; fds owned */
    uint32_t placed_count;
    struct box_result *result; /* per node of the chain, in the arena: counts when all have ended */
    struct region_words merge; /* it is no run of blocks, but this with files behind its words; else count 0 */
    struct box_source *source; /* ... these, in the arena; fds borrowed.  `to` is how many bytes they are together */
    uint32_t source_count;
    struct run *part;          /* whose outputs those are, owned */
    uint32_t part_count;
    struct box_source *piece;  /* what it wrote are these stretches, in the arena; fds borrowed */
    uint32_t piece_count;      /* 0: it is in `out` */
    int out;            /* spool; -1: there is none, and it wrote `kept` */
    struct slice kept;  /* in the arena */
    int status;       /* of the last command of the chain */
    bool first, last, ended;
    uint32_t tasks_ended;
    bool rests;  /* all have, and its slot was given back; its region is being taken down */
    bool orphan; /* ... and then it is freed */
    const char *worker;    /* who ran it; NULL: this one */
    struct run_lent *lent; /* another worker has it */
    struct run *copy;      /* it is being done twice: this is the other one */
    struct run *of;        /* of such a copy: whose; NULL: that one has ended, and wrote what follows */
    struct outcome seen;   /* what the other one of the two came to, if that has ended */
    struct run *behind, *follower; /* it waits in the box for that one's end, and its slot; who waits for it */
    uint32_t tries;
    const char *lost; /* its sandbox failed, in the arena: it is to be run again; NULL */
    bool waiting; /* it came back, and is to be run again; or is an audit that has no slot yet */
    bool is_copy, is_audit;
    bool stays;   /* it is made here: a lender that is alive could not (its disk may be full), or it is an audit of what a lender has */
    struct task *task; /* of an author's stage, in the arena */
};

enum where { HERE, BEHIND /* the last that runs here */, ELSEWHERE };

/* What tells an author's stage, each block of which is a task of its own, from one of the planner's.  Of
 * the functions those that have nothing to do may be NULL, from goes_on on if they are not told apart. */
struct blocks_way {
    bool joins;  /* a run may be several blocks */
    bool spoils; /* a block that ends as it must not has the stage run again, whole */
    int (*open)(struct blocks *b, struct err *e); /* before the first run */
    int (*prepare)(struct run *r, struct err *e); /* wherever it is to run */
    int (*start)(struct blocks *b, struct run *r, struct err *e);
    /* What a run writes besides `out`: how many, and where its number i is kept. */
    uint32_t (*outputs)(const struct blocks *b);
    int *(*output)(struct run *r, uint32_t i);
    /* A program ended: the files that it left become outputs, or a sentence; where that is kept. */
    int (*take_left)(struct run *r, uint32_t task, const struct box_result *end, struct err *e);
    const char **(*dropped)(struct run *r, uint32_t task);
    void (*task_ended)(struct run *r, uint32_t task, const struct box_result *end);
    int (*kept)(struct run *r, uint32_t channel, const struct box_kept *k, struct err *e); /* takes k->fd */
    bool (*goes_on)(struct run *r); /* a region of it has ended: was another one started? */
    bool (*queues)(const struct run *r); /* may others wait behind it? */
    bool (*gave_up)(struct run *r, const struct err *why); /* it was lost too often, and has ended so: false: that fails the job */
    /* Its output, in block order.  1: no more is wanted; it must not change the list of runs. */
    int (*give)(struct blocks *b, struct run *r, struct err *e);
    int (*nothing)(struct blocks *b, struct err *e); /* there is no input */
    void (*report)(struct blocks *b, bool early);    /* how the stage ended */
    void (*stop)(struct blocks *b);
    void (*free)(struct blocks *b);
    void (*free_run)(struct run *r);
};
extern const struct blocks_way blocks_planner, blocks_author;

/* A spool that a pump fills, as the way of a stream into the outlet. */
struct spooled {
    int fd;
    uint64_t bytes, taken;
};

struct blocks {
    struct attempt *t;
    const struct graph_stage *stage;
    const struct blocks_way *way;
    const uint32_t *node; /* stage->count, and the merge body's */
    const struct graph_split *head, *tail, *last; /* of its first program, of the one that joins (stage->joins), of its last */
    uint64_t run_memory; /* that one run needs, as its programs declare */
    enum blocks_state state;
    struct inlet in;
    struct intake intake; /* fills it, or files do */
    uint64_t *file_at; /* a task per file, of a stream: where each begins in it; one more: where the last ends */
    struct outlet out;
    struct inlet_rule rule;
    uint64_t from, units, number; /* where the next run begins */
    uint64_t looked;              /* up to here nothing spoils */
    struct run *run, *run_last; /* in order: running, or not put into the outlet */
    uint32_t held, running; /* all of the list; those that run here, copies too */
    struct run *orphans;    /* whose regions are being taken down; nobody needs them any more */
    uint32_t resting;       /* of `running`: their programs have ended */
    uint32_t queued;        /* ... wait for another's end */
    struct run *queue_end;  /* behind which one may wait, and how many; NULL: none */
    uint32_t queue_room;
    uint64_t task_ns;       /* that a run takes, going by the last ones; 0: none has ended */
    uint32_t away, waiting; /* those that others have, or that wait for a slot again; only the latter */
    struct run *copies;     /* of runs that are done twice: of lent ones, and audits */
    uint32_t copying, audits; /* the former run here; the latter may wait, or be away */
    uint64_t compared;
    bool may_be_lent;
    bool lacks_slots;       /* there has been a run for which there was none here */
    struct combine *native; /* NULL: it is not needed */
    struct keys *keys;      /* of a merge by ranges of keys; NULL: there is none */
    bool keys_lost;         /* it was tried */
    int errors; /* what blocks say on stderr: nothing */
    struct box_result *sum; /* the planner's: per node of the chain */
    bool *seen;

    struct group whole;
    uint64_t whole_fed, whole_used;
    uint32_t whole_drain; /* its channel */
    struct spooled whole_out;
    struct running_digest *given; /* of what was put into the outlet, while blocks run */
    struct running_digest *again; /* of the same bytes, the second time */
    uint64_t given_bytes;
    bool unread; /* nobody wants the output, and it goes on reading */
    bool stopping, reported, out_ended;
    struct tasks *tasks; /* an author's */
    struct deal *deal;   /* a reduce's */
    uint64_t dealt;      /* bytes of its input; of `in` none before all are */
};

/* blocks.c */
void blocks_fail(struct blocks *b, const struct err *why);
const struct graph_node *blocks_node(const struct blocks *b, uint32_t i);
bool blocks_per_file(const struct blocks *b); /* an author's, with a task per file */
/* A block ended as it must not: the whole, once. */
void blocks_spoil(struct blocks *b, const char *why); /* why: NULL, or for who asked to be told */
/* The run of [b->from, to), for which there is a slot. */
int blocks_begin(struct blocks *b, uint64_t to, enum where where, struct err *e);
int blocks_put(struct blocks *b, int fd, struct err *e); /* into the outlet; takes fd */
/* What is said on this node's stderr has ended with nothing: a client elsewhere waits for that. */
void blocks_end_stderr(struct blocks *b, uint32_t node);
void blocks_end(struct blocks *b); /* everything was put into the outlet */
int blocks_size_of(int fd, uint64_t *size, struct err *e);
int blocks_dup(int fd, struct err *e); /* gives another descriptor of it */
int blocks_digest(struct running_digest *d, int fd, uint64_t from, uint64_t size, struct err *e);

/* Those at the front of the list that have ended, to the outlet. */
int blocks_give_all(struct blocks *b, struct err *e);
bool blocks_room_for_more(const struct blocks *b);

/* blocks_runs.c */
struct run *run_new(struct blocks *b, struct err *e); /* gives; its `out` is not open */
struct run *run_like(const struct run *r, struct err *e); /* gives; of the same piece of input, in no list */
void run_replace(const struct run *r, struct run *by);    /* in the list of runs; r is the caller's then */
int run_open_out(struct run *r, struct err *e);
int run_check_room(struct run *r, struct err *e); /* may a write of its programs have failed? */
uint64_t run_bytes_in(const struct run *r);
int run_start(struct blocks *b, struct run *r, struct err *e); /* the planner's chain, on [from, to); or a merge */
/* The words of this program of its chain; count 0: no memory. */
struct region_words run_words(void *run, uint32_t node);
/* Is its block a whole file, that its programs may open? */
bool run_is_file(const struct blocks *b);
/* What it reads, if that is its block or a copy of it: as inlet_sources. */
int run_sources(const struct run *r, struct box_source *out, uint32_t max);
/* What it writes: a descriptor each, the first is `out`; -1: it is not there. */
uint32_t run_outputs(const struct blocks *b);
int *run_output(struct run *r, uint32_t i);
/* A program of the chain ended, here or elsewhere.  If that spoils the stage, r may be gone. */
void run_task_ended(struct run *r, uint32_t task, const struct box_result *end);
extern const struct region_events run_events;
/* How a program of the chain ended is kept: numbers, and `cold_why`. */
void run_note(struct run *r, uint32_t i, const struct box_result *end);
uint32_t run_program_count(const struct run *r); /* of the chain; of a merge one, */
struct box_result *run_result(const struct run *r, uint32_t i); /* ... which is kept as the last of the chain */
/* Its last program has ended, as it must; the outlet may have it. */
void run_complete(struct run *r);
void run_count(struct run *r); /* ... or had, before: how it ended is added to how the stage ends */
void run_free(struct run *r);
void runs_drop(struct blocks *b); /* those that run are killed, and freed when they have ended */
void runs_pop(struct blocks *b);  /* the first, which was given away */
void runs_reverse(struct blocks *b);
void runs_add(struct blocks *b, struct run *r);
int runs_merge(struct blocks *b, struct err *e); /* one level of a tree: neighbours become one */
/* It is to merge these, which are borrowed while it is not over. */
int run_merges(struct run *r, struct region_words by, const struct box_source *source, uint32_t count, struct err *e);

/* blocks_keys.c: the last merge, on all slots. */
bool keys_come(const struct blocks *b); /* will there be one, if it is worth it? */
int keys_begin(struct blocks *b, struct err *e); /* of all runs; 0: it is not */
int keys_step(struct blocks *b, struct err *e);
void keys_drop(struct blocks *b);
uint32_t keys_left(const struct blocks *b); /* ranges whose merge has not begun; 0: there are none */

/* blocks_lent.c */
/* A slot for a run of so many bytes; of one HERE leave was taken (agent_begin_run). */
bool lent_slot(struct blocks *b, uint64_t bytes, enum where *where);
/* -1: and the leave is given back. */
int lent_start(struct blocks *b, struct run *r, enum where where, struct err *e);
int lent_again(struct blocks *b, struct err *e);
void lent_tell_want(struct attempt *t);
/* May a lender have a run of so many bytes? */
bool lent_may(const struct blocks *b, uint64_t bytes);
uint64_t lent_bytes(const struct blocks *b, uint64_t from, uint64_t to); /* of the run of [from, to) */
/* Runs like it, with it, as far as its input is here; 0: that says nothing. */
uint32_t run_expected(const struct run *r);
/* Its input, end to end, MERGE_FAN of them at most; 0: the inlet has it. */
uint32_t lent_input(const struct run *r, struct box_source *out);
/* ... as bytes of files that a lender may have in place; -1: they are not, or too many. */
int lent_places(const struct run *r, struct msg_place *out, uint32_t max);
/* From borrow.c: a lender did not do it (why NULL: and had not begun), or did and wrote these (taken). */
void lent_back(struct run *r, const char *lender, const struct err *why);
void lent_ended(struct run *r, const char *lender, const struct msg_ran *ran, int *fd);

/* blocks_queue.c */
uint32_t queue_slots(const struct blocks *b);    /* that its runs have */
void queue_open(struct run *r);                  /* it has a slot of its own */
bool queue_has_room(const struct blocks *b);
void queue_add(struct run *r);                   /* BEHIND */
void queue_leave(struct run *r);                 /* it has ended: its slot is free, or that of who waited for it */
void queue_note(struct run *r);                  /* how long it took */
int queue_release(struct blocks *b, struct err *e); /* free slots, for which nothing can be cut, take those that wait */

/* blocks_alone.c: adds the command that runs a block of the planner's alone, where there is one that is short enough. */
void blocks_alone(struct run *r, struct err *e);

/* blocks_careful.c: where workers were lost with the stage. */
bool careful_slot(struct blocks *b);           /* leave to run one more here */
void careful_begin(struct run *r);             /* it is about to: the scheduler is told */
bool careful_shuns(const struct run *r);       /* it is not to run anywhere, */
int careful_give_up(struct run *r, struct err *e); /* but to end its stage; 1 */

/* blocks_twice.c */
int twice_hasten(struct blocks *b, struct err *e); /* lent ones, with slots that can do nothing else */
int audit_begin(struct run *r, struct err *e);     /* it was started; if it is one of those that are done twice */
int audits_start(struct blocks *b, struct err *e); /* those that wait, as there are slots */
int twice_ended(struct run *r, struct err *e);     /* an original, as it must: if there is a copy, they are compared */
void copy_ended(struct run *copy);                 /* takes it; also when it was dropped */
void copies_drop(struct blocks *b);                /* they are killed, and not compared */
/* From borrow.c: what a lender wrote whose run is over, and how its last program ended. */
void twice_compare(struct blocks *b, uint64_t number, const int *fd, const struct msg_ran *last, const char *lender,
                   const struct outcome *with);

/* blocks_whole.c */
int whole_start(struct blocks *b, struct err *e);
void whole_feed(struct blocks *b); /* what has come of the input since */
void whole_left(struct blocks *b); /* nobody reads on what it writes */

/* blocks_ends.c */
bool ends_come(const struct blocks *b, uint64_t to); /* are the bytes up to there here? */
bool ends_outside_came(const struct blocks *b);
uint64_t ends_used(const struct blocks *b);          /* bytes of the stream that is read */
int ends_open_input(struct blocks *b, struct err *e);
