/* Shared by blocks.c, blocks_*.c, tasks.c, tasks_*.c and the two sides of lending slots, borrow*.c and lend*.c.  Not for
 * other files. */
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
#define SORT_BYTES_MAX  (32u << 20)  /* for runs that are merged afterwards: fewer, larger ones */
#define MERGE_BYTES_MAX (128u << 20) /* ... where there would be more than MERGE_FAN runs */
#define LEFT_DOUBLED    4            /* where the reader may leave early, runs begin small and are doubled so often */
#define RUNS_PER_SLOT   4            /* at least, where the input is large enough: so that all slots end at about the same time */
#define RUNS_LEFT_PER_SLOT 2         /* ... of what is left, once all of the input has come */
#define RUNS_APART      512          /* with `--split always`: so many runs of one block, then as many of two, of four, and so on */
#define HELD_MAX        256          /* runs that were started and are not in the outlet yet, where the output is given away as it comes */
#define BACKLOG_MAX     (256u << 20) /* bytes in the outlet that its reader has not taken yet */
#define SPOIL_AHEAD     (256u << 10) /* more than any command of the table reads at once */
#define LEFT_BYTES      (2u << 20)   /* so much, and this part of the input, must have been read to know how much of it runs leave to a command */
#define LEFT_KNOWN      32           /* that reads it again */
#define LEFT_USELESS    3            /* more than this part of it: the command might as well read the input itself */
#define LEFT_LARGE      16           /* more than this part of it: larger runs leave less, */
#define LEFT_SLOTS      3            /* ... and with fewer slots than this, and no more than so many bytes for each, blocks bring nothing */
#define LEFT_FAR        (64u << 20)
#define PASS_PIECES_MAX 64           /* stretches that are passed on as one run */
#define SOURCES_MAX     16384        /* pieces that the input of one run may consist of */
#define RUN_ARENA_MAX   (64u << 20)
#define MERGE_FAN       64           /* as --batch-size for `sort` in the table of commands */
#define RUN_TRIES_MAX   3            /* how often a run may be lost with its sandbox or lender */
#define AUDITS_MAX      64           /* audits of one stage that have not ended */
#define RESTING_MAX     64           /* runs of one stage whose programs have ended and whose sandboxes have not */
#define KEPT_INPUT_MAX (64u << 10)   /* a task that reads more than this writes to a file from the beginning */
#define PUT_BYTES_MIN   (1u << 20)   /* passed on at a time, of a spool that is still being written */

enum blocks_state { CUTTING, DEALING, COMBINING, WHOLE, ENDED };

/* The outcome of a run, as audits compare it: a digest of all that it wrote and of how its last program ended. */
struct outcome {
    bool is; /* the run has ended, and the rest is set */
    uint8_t digest[16];
    char worker[64]; /* cut off, for people */
};

struct run {
    struct run *next;
    struct blocks *b;
    struct arena arena;
    struct region_watch watch;
    uint64_t began_ns; /* when it was given a slot or a lender */
    uint64_t number, from, to;
    uint32_t file;    /* the graph's file that the bytes [from, to), or the first of them, are of; GRAPH_NONE */
    int in;           /* a file with its input; -1: the input is in the stage's inlet, or in */
    struct box_source *placed; /* these pieces, in the arena; fds owned */
    uint32_t placed_count;
    struct box_result *result; /* per node of the chain, in the arena: valid when all have ended */
    struct region_words merge; /* not count 0: no run of blocks, but this command with files as operands, */
    struct box_source *source; /* namely these, in the arena; fds borrowed.  `to` is their size together */
    uint32_t source_count;
    struct run *part;          /* owned: the runs whose outputs are merged */
    uint32_t part_count;
    struct box_source *piece;  /* its output are these stretches of files, in the arena; fds borrowed */
    uint32_t piece_count;      /* 0: its output is in `out` */
    int out;            /* owned: its output; -1: no file, the output is `kept` */
    struct slice kept;  /* in the arena */
    int status;       /* of the chain's last command */
    bool first, last, ended;
    uint32_t tasks_ended;
    bool rests;  /* all tasks have ended and the slot was given back; the region is being taken down */
    bool orphan; /* in no list: to be freed when its region has ended */
    const char *worker;    /* the worker that ran it; NULL: this one */
    struct run_lent *lent; /* not NULL: it is lent to another worker */
    struct run *copy;      /* it is done twice: this is its copy */
    struct run *of;        /* of a copy: the original; NULL: the original has ended, with the outcome in `seen` */
    struct outcome seen;   /* the outcome of the other one of the two, if that has ended */
    struct run *behind;    /* the run for whose end, and slot, this one waits in the box; NULL */
    struct run *follower;  /* the run that waits in the box for this one's; NULL */
    uint32_t tries;
    uint32_t copied; /* how many copies of it were begun because it, or the one before, was late */
    const char *lost; /* in the arena: why its sandbox failed, so that it is to run again; NULL */
    bool waiting; /* it waits for a slot: a run that came back to be run again, or an audit */
    bool is_copy, is_audit;
    bool stays;   /* it must run here: it reads several files, or a lender that is alive could not run it (its disk may be full), or it audits a lent run */
    struct task *task; /* of a map or reduce, in the arena */
};

enum where { HERE, BEHIND /* in the slot of the last run that was started here */, ELSEWHERE };

/* The functions in which the two sorts of stages differ: those that the planner cuts, and an author's (map, reduce), in
 * which each block is a task of its own.  A function that has nothing to do is NULL. */
struct blocks_way {
    bool joins;  /* a run may be several adjacent blocks */
    bool spoils; /* if a block does not end as it should, the stage runs again, whole */
    int (*open)(struct blocks *b, struct err *e); /* called before the first run */
    int (*prepare)(struct run *r, struct err *e); /* called for each run, wherever it will run */
    int (*start)(struct blocks *b, struct run *r, struct err *e);
    /* The outputs of a run besides `out`: how many there are, and the descriptor number i. */
    uint32_t (*outputs)(const struct blocks *b);
    int *(*output)(struct run *r, uint32_t i);
    /* A program ended: take the files that it left as outputs, or make a sentence about them; `dropped` is where that
     * sentence is kept. */
    int (*take_left)(struct run *r, uint32_t task, const struct box_result *end, struct err *e);
    const char **(*dropped)(struct run *r, uint32_t task);
    void (*task_ended)(struct run *r, uint32_t task, const struct box_result *end);
    int (*kept)(struct run *r, uint32_t channel, const struct box_kept *k, struct err *e); /* takes k->fd */
    bool (*goes_on)(struct run *r); /* a region of the run has ended: was another one started? */
    bool (*queues)(const struct run *r); /* may other runs wait behind this one? */
    bool (*gave_up)(struct run *r, const struct err *why); /* it was lost too often: end the task with this reason.  false: the job fails */
    /* Pass on the run's output, in block order.  1: no more is wanted.  It must not change the list of runs. */
    int (*give)(struct blocks *b, struct run *r, struct err *e);
    int (*nothing)(struct blocks *b, struct err *e); /* called when there is no input */
    void (*report)(struct blocks *b, bool early);    /* report how the stage ended */
    void (*stop)(struct blocks *b);
    void (*free)(struct blocks *b);
    void (*free_run)(struct run *r);
};
extern const struct blocks_way blocks_planner, blocks_author;

/* A spool through which a stream gets into the outlet: a pump fills it. */
struct spooled {
    int fd;
    uint64_t bytes, taken;
};

struct blocks {
    struct attempt *t;
    const struct graph_stage *stage;
    const struct blocks_way *way;
    const uint32_t *node; /* the stage's nodes, stage->count of them, then those of the merge body */
    const struct graph_split *head, *tail, *last; /* of its first program, of the one whose outputs are joined (stage->joins), of its last */
    uint64_t run_memory; /* the memory that one run needs, as its programs declare */
    enum blocks_state state;
    struct inlet in;
    struct intake intake; /* fills `in`, unless files do */
    uint32_t *beside;  /* files that the first command opens beside those that the runs are of; NULL: all its files */
    uint32_t beside_count;
    uint64_t files_bytes; /* for a stage that is cut between files: how much work they all are, see files_work; else 0 */
    uint64_t *file_at; /* for tasks per file of a streamed input: where each file begins in it, and where the last ends */
    struct outlet out;
    struct inlet_rule rule;
    uint64_t from, units, number; /* the next run: its start, in bytes and in units of the cut, and its number */
    bool starved;                 /* the next run needs more input than has come */
    uint64_t looked;              /* no byte before this one spoils the stage */
    struct run *run, *run_last; /* the list, in order, of runs that run or are not in the outlet yet */
    uint32_t held, running; /* held: all in the list; running: those that run here, copies included */
    struct run *orphans;    /* runs that nobody needs any more, while their regions are being taken down */
    uint32_t resting;       /* how many of `running` have no program left */
    uint32_t queued;        /* how many of `running` wait in the box for another one's end */
    struct run *queue_end;  /* the run behind which the next may wait, and how many more may do so; NULL: none */
    uint32_t queue_room;
    uint64_t task_ns;       /* how long a run takes, judging by the last ones; 0: none has ended */
    uint64_t noted;         /* how many have ended */
    uint32_t away, waiting; /* away: runs, and copies, that lenders have, or that were lost; waiting: those that wait for a slot again */
    struct run *copies;     /* copies of runs that are done twice, and audits */
    uint32_t copying, audits; /* copying: those that are no audits; audits: those that have not ended, wherever they are */
    uint64_t compared;
    bool may_be_lent;
    bool may_be_left; /* its reader, or a later one, may end before it has read all */
    bool lacks_slots;       /* there was no slot here for some run, so slots of other workers would help */
    bool its_own;               /* the command that made its outputs puts them together, and could take any input as it is */
    bool read_again;            /* one command reads again, after all of them, what the runs leave */
    uint64_t kept_in, kept_out; /* then: what the runs that have ended have read and written */
    struct combine *native; /* NULL: not needed */
    struct keys *keys;      /* the merge by ranges of keys; NULL: none */
    bool keys_lost;         /* a merge by ranges of keys was tried and given up */
    int errors; /* the stderr of the planner's blocks: one that writes to it spoils the stage */
    struct box_result *sum; /* for the planner's stages, per node of the chain: all its blocks' results added up */
    bool *seen;

    struct group whole;
    uint64_t whole_fed, whole_used;
    uint32_t whole_drain; /* the channel by which its output comes */
    struct spooled whole_out;
    struct running_digest *given; /* of the bytes that blocks have put into the outlet */
    struct running_digest *again; /* of the same bytes, when the stage runs whole */
    uint64_t given_bytes;
    bool unread; /* nobody wants the output, but the stage goes on until it writes */
    bool undecided; /* it has ended, by itself or, if its reader leaves before it has taken all, by SIGPIPE */
    bool stopping, reported, out_ended;
    struct tasks *tasks; /* for a map or reduce */
    struct deal *deal;   /* for a reduce */
    uint64_t dealt;      /* bytes of a reduce's input that were dealt out; `in` has none before all were */
};

/* blocks.c */
void blocks_fail(struct blocks *b, const struct err *why);
const struct graph_node *blocks_node(const struct blocks *b, uint32_t i);
bool blocks_per_file(const struct blocks *b); /* is it a map with a task per file? */
/* A block did not end as it should: run the stage again, whole. */
void blocks_spoil(struct blocks *b, const char *why); /* why: for the log; NULL: not logged */
/* Begin the run of [b->from, to), for which a slot was taken. */
int blocks_begin(struct blocks *b, uint64_t to, enum where where, struct err *e);
/* The node wrote nothing to stderr.  If that goes to a client elsewhere, its stream must still be ended. */
void blocks_end_stderr(struct blocks *b, uint32_t node);
void blocks_leave(struct blocks *b); /* nobody reads what it writes: it ends as by SIGPIPE */
void blocks_end(struct blocks *b); /* all output was put into the outlet */
int blocks_dup(int fd, struct err *e); /* duplicates it; gives */
bool blocks_room_for_more(const struct blocks *b);
bool blocks_wait_for_all(const struct blocks *b); /* must all runs have ended before any output can be passed on? */
bool blocks_make_files(const struct blocks *b); /* its tasks may leave files */

/* blocks_give.c */
int blocks_put(struct blocks *b, int fd, struct err *e); /* put it into the outlet; takes fd */
int blocks_size_of(int fd, uint64_t *size, struct err *e);
int blocks_digest(struct running_digest *d, int fd, uint64_t from, uint64_t size, struct err *e);
/* The output of the next run, where it is planned how outputs meet.  1: there is enough; -1: e. */
int blocks_give(struct blocks *b, struct run *r, struct err *e);
/* What is still to be put out when all runs were given. */
int blocks_give_end(struct blocks *b, struct err *e);
/* Pass on the outputs of the runs at the front of the list that have ended. */
int blocks_give_all(struct blocks *b, struct err *e);

/* blocks_runs.c */
struct run *run_new(struct blocks *b, struct err *e); /* gives; its `out` is not open */
struct run *run_like(const struct run *r, struct err *e); /* gives; a run of the same piece of input, in no list */
void run_replace(const struct run *r, struct run *by);    /* replace r in the list of runs; r is the caller's then */
int run_open_out(struct run *r, struct err *e);
int run_check_room(struct run *r, struct err *e); /* fails if a write of its programs may have failed for want of room */
uint64_t run_bytes_in(const struct run *r);
int run_start(struct blocks *b, struct run *r, struct err *e); /* start the planner's chain on [from, to), or a merge */
/* The words of this program of the run's chain; count 0: no memory. */
struct region_words run_words(void *run, uint32_t node);
/* Is each block a whole file, which its programs may open? */
bool run_is_file(const struct blocks *b);
/* The run's input, if that is its block or a copy of it: like inlet_sources. */
int run_sources(const struct run *r, struct box_source *out, uint32_t max);
/* The run's outputs, one descriptor each; the first is `out`.  -1: not open. */
uint32_t run_outputs(const struct blocks *b);
int *run_output(struct run *r, uint32_t i);
/* A program of the chain ended, here or elsewhere.  If that spoils the stage, r may have been freed. */
void run_task_ended(struct run *r, uint32_t task, const struct box_result *end);
extern const struct region_events run_events;
/* Keep how a program of the chain ended: numbers, and `cold_why`. */
void run_note(struct run *r, uint32_t i, const struct box_result *end);
uint32_t run_program_count(const struct run *r); /* of the chain; a merge has one program, */
struct box_result *run_result(const struct run *r, uint32_t i); /* whose result is kept as that of the chain's last */
/* Its last program has ended as it should: the outlet may have its output. */
void run_complete(struct run *r);
void run_count(struct run *r); /* add its results to the stage's */
void run_free(struct run *r);
void runs_drop(struct blocks *b); /* kill those that run; they are freed when they have ended */
void runs_pop(struct blocks *b);  /* remove the first, whose output was passed on */
void runs_reverse(struct blocks *b);
void runs_add(struct blocks *b, struct run *r);
int runs_merge(struct blocks *b, struct err *e); /* begin one level of a tree: merge neighbours */
/* Make it a run that merges these, which are borrowed until it is over. */
int run_merges(struct run *r, struct region_words by, const struct box_source *source, uint32_t count, struct err *e);

/* blocks_keys.c: the last merge, by ranges of keys, on all slots. */
bool keys_come(const struct blocks *b); /* can the stage have one? */
int keys_begin(struct blocks *b, struct err *e); /* with the outputs of all runs; 0: it is not worth it */
int keys_step(struct blocks *b, struct err *e);
void keys_drop(struct blocks *b);
uint32_t keys_left(const struct blocks *b); /* how many ranges have not begun to be merged */

/* blocks_lent.c */
/* Find a slot for a run of so many bytes, which may have to stay here; if it is HERE, it was taken (agent_begin_run). */
bool lent_slot(struct blocks *b, uint64_t bytes, bool stays, enum where *where);
/* Start the run there.  On -1 the slot was given back. */
int lent_start(struct blocks *b, struct run *r, enum where where, struct err *e);
int lent_again(struct blocks *b, struct err *e);
void lent_tell_want(struct attempt *t);
/* May a run of so many bytes be lent to another worker? */
bool lent_may(const struct blocks *b, uint64_t bytes);
bool lent_width(const struct blocks *b); /* does the user's -j leave room for one more run elsewhere? */
uint64_t lent_bytes(const struct blocks *b, uint64_t from, uint64_t to); /* bytes of the run [from, to) */
/* How many runs like this one, with it, are to come, as far as the input is here; 0: cannot be told. */
uint32_t run_expected(const struct run *r);
/* The run's input, in at most MERGE_FAN pieces; 0: the inlet has it. */
uint32_t lent_input(const struct run *r, struct box_source *out);
/* The same as parts of files that a lender may have, too; -1: it is not in such files, or in too many pieces. */
int lent_places(const struct run *r, struct msg_place *out, uint32_t max);
/* Called by borrow.c.  lent_back: a lender did not do the run (why NULL: it had not begun).  lent_ended: the run ended
 * there, and wrote these (takes them). */
void lent_back(struct run *r, const char *lender, const struct err *why);
void lent_ended(struct run *r, const char *lender, const struct msg_ran *ran, int *fd);

/* blocks_queue.c */
uint32_t queue_slots(const struct blocks *b);    /* slots that the stage's runs have */
void queue_open(struct run *r);                  /* the run has a slot of its own */
bool queue_has_room(const struct blocks *b);
void queue_add(struct run *r);                   /* it is started BEHIND the last one */
void queue_leave(struct run *r);                 /* it has ended: its slot is free, or belongs to the run that waited for it */
void queue_note(struct run *r);                  /* note how long it took */
bool queue_is_brief(const struct blocks *b);     /* are its runs many, and very short? */
int queue_release(struct blocks *b, struct err *e); /* runs that wait take free slots for which nothing can be cut */

/* blocks_alone.c: add the command that runs a block of the planner's alone to the message, if there is such a command and
 * it is short enough. */
void blocks_alone(struct run *r, struct err *e);

/* blocks_careful.c: for a stage with which workers were lost. */
bool careful_slot(struct blocks *b);           /* may one more run here? */
void careful_begin(struct run *r);             /* tell the scheduler that it begins */
bool careful_shuns(const struct run *r);       /* it must not run anywhere; */
int careful_give_up(struct run *r, struct err *e); /* its stage ends with it instead; returns 1 */

/* blocks_twice.c */
int twice_hasten(struct blocks *b, struct err *e); /* start copies of runs, in slots that would be idle otherwise */
uint32_t twice_late(const struct blocks *b);       /* how many runs here are to be copied elsewhere */
int audit_begin(struct run *r, struct err *e);     /* the run was started: start its audit, if it is to have one */
int audits_start(struct blocks *b, struct err *e); /* start audits that wait, while there are slots */
int twice_ended(struct run *r, struct err *e);     /* an original has ended as it should: if it has a copy, compare them */
void copy_ended(struct run *copy);                 /* takes the copy; also called when it was dropped */
/* Takes the copy, which will not end; why NULL: it had not begun. */
void copy_lost(struct run *copy, const char *worker, const struct err *why);
void copies_yield(struct blocks *b);               /* a slot is wanted: kill copies that go on only to be compared */
void copies_drop(struct blocks *b);                /* kill them without comparing */
/* Called by borrow.c: a lender ended a run that is over already; compare what it wrote, and how its last program ended. */
void twice_compare(struct blocks *b, uint64_t number, const int *fd, const struct msg_ran *last, const char *lender,
                   const struct outcome *with);

/* blocks_whole.c */
int whole_start(struct blocks *b, struct err *e);
void whole_feed(struct blocks *b); /* pass on input that has come since */
void whole_left(struct blocks *b); /* nobody reads its output any more */

/* blocks_files.c, for a stage of the planner's that is cut between files. */
uint64_t files_work(const struct blocks *b, uint64_t at); /* its bytes, and what it costs to be there at all */
uint64_t files_end(const struct blocks *b, uint64_t size); /* where the next run ends, if it is to have so much work */
bool run_has_files(const struct run *r);                   /* several */
/* The files that it is of, one or several, in the arena; NULL: no memory. */
uint32_t *run_files(const struct run *r, struct arena *a, uint32_t *count);

/* blocks_ends.c */
bool ends_come(const struct blocks *b, uint64_t to); /* have the bytes up to there come? */
bool ends_outside_came(const struct blocks *b);
uint64_t ends_used(const struct blocks *b);          /* bytes of the input stream that are no longer needed */
int ends_open_input(struct blocks *b, struct err *e);
