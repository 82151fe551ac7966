/* An author's stage: each block is a task of its own, a run of the body's programs, whatever these do.  See
 * blocks.h; tasks.c runs them, tasks_out.c takes what they say and make to where it
 * should go and tells how they end. */
#pragma once
#include "base/lines.h"
#include "worker/blocks_inside.h"

/* What goes out besides stdout, in block order: stderr, in whole lines, and the files that tasks make. */
struct task_stream {
    struct blocks *b;
    struct outlet out;
    struct lines lines; /* where its pump leads into one of this process */
    bool open, over;
};

/* What makes a task, or the stage, fail. */
struct task_failure {
    bool is;          /* else nothing does */
    uint32_t program; /* of the body */
    enum box_end end;
    int status, signal;
    const char *limit, *text;
    uint64_t number; /* of the task, from 0 */
    uint32_t file;   /* per file: which; else GRAPH_NONE */
};

struct task {
    uint32_t first, count; /* its programs, in blocks.node */
    bool copying;    /* per file, of a stream: the file is being copied to the run's `in` */
    bool keeps;      /* the box has what its programs write to stdout, until they have ended; else it goes into a file of ours */
    int *errors;     /* per program: a spool for what it says, or where its stdout goes; -1: nothing was said */
    uint32_t *said;  /* per program: the channel of a stderr that it names nowhere; GRAPH_NONE */
    struct region_end *end; /* where its programs read and write */
    uint32_t end_count;
    int *status;     /* per program, as sh has it */
    int *made;       /* per sink of the body that is a file: what the task wrote there; -1: nothing */
    const char *const **output; /* per program: the names of its node->output, filled */
    struct task_failure failure; /* of its first program that failed */
    const char **dropped;        /* per program: what is said of files that it left and nobody keeps; or NULL */
};

struct tasks {
    struct task_stream said, made;
    char tail[LINES_TAIL_MAX + 1]; /* the last that was said, wherever it goes */
    bool said_out;     /* stderr goes where stdout goes */
    bool may_keep;     /* each of the body's streams has one writer */
    uint32_t *sink;    /* nodes: the sinks of the body that are files */
    uint32_t sink_count;
    struct merge_item *tree; /* of a map with a merge: what is to become one, in order */
    uint64_t leaves;         /* tasks that came into it */
    uint32_t leaves_kept;    /* and are in no merge yet */
    struct task_failure merge_failure; /* of the first merge that failed */
    int status;        /* of the blocks so far */
    bool any;          /* there was one */
    struct task_failure failure; /* of the first block that failed */
    const char *dropped; /* of the first task that left such files: it is said once */
    struct box_result sum;
};

/* tasks.c */
struct region_words tasks_words(void *run, uint32_t node); /* of its program, filled; count 0: no memory */
int tasks_fill_outputs(struct run *r, struct err *e);
bool tasks_reads_block(const struct graph_node *n); /* is it the SOURCE of a body at which the block is read? */

/* tasks_record.c */
/* Of one that failed: what it takes to run it again alone goes to the client, before what it wrote is given away. */
int tasks_record(struct run *r, struct err *e);

/* tasks_out.c */
const char *tasks_sentence(const struct blocks *b, const struct task_failure *f); /* for a person */
void tasks_note(struct run *r, uint32_t i, const struct box_result *end); /* a program ended */
int tasks_say(struct blocks *b, int fd, struct err *e);                   /* these two take fd; -1: nothing */
int tasks_put_made(struct blocks *b, int fd, struct err *e);
int tasks_put_stretch(struct blocks *b, int fd, uint64_t offset, uint64_t size, struct err *e); /* likewise, a part of it */
void tasks_report(struct blocks *b, bool early);
bool tasks_have_room(const struct blocks *b);
bool tasks_over(const struct blocks *b); /* all that they said and made is where it should go */
void tasks_stop_streams(struct blocks *b);

/* tasks_kept.c */
bool tasks_may_keep(const struct blocks *b);
int tasks_open_streams(struct run *r, struct err *e); /* where its programs write, before they start */
/* Of an edge from program i; false: it leads nowhere else than the graph says. */
bool tasks_end_of(struct run *r, uint32_t i, const struct graph_node *to, struct region_end *end);
int tasks_kept(struct run *r, uint32_t channel, const struct box_kept *k, struct err *e); /* takes k->fd */
int tasks_give_out(struct run *r, struct err *e);

/* tasks_made.c */
int tasks_find_sinks(struct blocks *b, struct err *e);
int tasks_open_made(struct run *r, struct err *e); /* before its programs start */
int tasks_made_fd(const struct run *r, uint32_t sink); /* the spool for what is redirected to it; -1: no such sink */
/* A program ended: the files that it left in /job under its outputs' names. */
int tasks_take_made(struct run *r, uint32_t i, const struct box_result *end, struct err *e);
int tasks_give_made(struct run *r, struct err *e);
void tasks_note_dropped(struct run *r, uint32_t i, const struct box_result *end); /* the others */

/* tasks_merge.c */
int tasks_merge_add(struct blocks *b, int out, struct err *e); /* what the next task wrote; takes out */
int tasks_merge_step(struct blocks *b, struct err *e);         /* begin what can be merged */
int tasks_merge_end(struct blocks *b, struct err *e);          /* no more tasks; 1: all is one, and given away */
void tasks_drop_merges(struct blocks *b);                      /* those that run are killed, and go when they have ended */
void tasks_free_merges(struct blocks *b);
