/* A map or reduce: each block is a task of its own, a run of the body's programs, whatever these do.  See blocks.h.  tasks.c
 * runs the tasks; tasks_out.c passes on their stderr and files, and reports how they end. */
#pragma once
#include "base/lines.h"
#include "worker/blocks_inside.h"

/* A stream that goes out besides stdout, in block order: stderr, in whole lines; or the files that tasks make. */
struct task_stream {
    struct blocks *b;
    struct outlet out;
    struct lines lines; /* used if the stream goes to a descriptor of this process */
    bool open, over;
};

/* The failure of a task, or of the stage. */
struct task_failure {
    bool is;          /* there is a failure, and the rest is set */
    uint32_t program; /* the program of the body that failed */
    enum box_end end;
    int status, signal;
    const char *limit, *text;
    uint64_t number; /* the task's number, from 0 */
    uint32_t file;   /* for a task per file: the file; else GRAPH_NONE */
};

struct task {
    uint32_t first, count; /* its programs, in blocks.node */
    bool copying;    /* for a task per file of a streamed input: the file is being copied to the run's `in` */
    bool keeps;      /* the box keeps what its programs write to stdout until they have ended; otherwise it goes into a file of ours */
    int *errors;     /* per program: a spool for its stderr, or for where its stdout goes; -1: nothing was written */
    uint32_t *said;  /* per program: the channel of its stderr, if no edge of the body is for it; GRAPH_NONE */
    struct region_end *end; /* the ends that its programs read from and write to */
    uint32_t end_count;
    int *status;     /* per program: the status, as in sh */
    int *made;       /* per sink of the body that is a file: what the task wrote there; -1: nothing */
    const char *const **output; /* per program: the names of its node->output, with holes filled */
    struct task_failure failure; /* of the first of its programs that failed */
    const char **dropped;        /* per program: a sentence about files that it left and that are not kept; or NULL */
};

struct tasks {
    struct task_stream said, made;
    char tail[LINES_TAIL_MAX + 1]; /* the last bytes that were written to stderr, wherever it goes */
    bool said_out;     /* stderr goes where stdout goes */
    bool may_keep;     /* each of the body's streams has one writer */
    uint32_t *sink;    /* nodes: the sinks of the body that are files */
    uint32_t sink_count;
    struct merge_item *tree; /* for a map with a merge: what is to be merged, in order */
    uint64_t leaves;         /* how many tasks' outputs came into it */
    uint32_t leaves_kept;    /* how many of these are in no merge yet */
    struct task_failure merge_failure; /* of the first merge that failed */
    int status;        /* the status of the blocks so far */
    bool any;          /* there was a block */
    struct task_failure failure; /* of the first block that failed */
    const char *dropped; /* the sentence of the first task that left such files: it is printed once */
    struct box_result sum;
};

/* tasks.c */
struct region_words tasks_words(void *run, uint32_t node); /* the words of its program, with holes filled; count 0: no memory */
int tasks_fill_outputs(struct run *r, struct err *e);
bool tasks_reads_block(const struct graph_node *n); /* is it the SOURCE of a body at which the block is read? */

/* tasks_record.c */
/* For a task that failed: send what is needed to run it again alone to the client, before its output is passed on. */
int tasks_record(struct run *r, struct err *e);

/* tasks_out.c */
const char *tasks_sentence(const struct blocks *b, const struct task_failure *f); /* a sentence about the failure */
void tasks_note(struct run *r, uint32_t i, const struct box_result *end); /* a program ended */
int tasks_say(struct blocks *b, int fd, struct err *e);                   /* these two take fd; -1: there is nothing */
int tasks_put_made(struct blocks *b, int fd, struct err *e);
int tasks_put_stretch(struct blocks *b, int fd, uint64_t offset, uint64_t size, struct err *e); /* the same for a part of a file */
void tasks_report(struct blocks *b, bool early);
bool tasks_have_room(const struct blocks *b);
bool tasks_over(const struct blocks *b); /* have all stderr and files of tasks arrived? */
void tasks_stop_streams(struct blocks *b);

/* tasks_kept.c */
bool tasks_may_keep(const struct blocks *b);
int tasks_open_streams(struct run *r, struct err *e); /* opens what its programs write to, before they start */
/* Set the end of an edge from program i; false: the edge goes where the graph says. */
bool tasks_end_of(struct run *r, uint32_t i, const struct graph_node *to, struct region_end *end);
int tasks_kept(struct run *r, uint32_t channel, const struct box_kept *k, struct err *e); /* takes k->fd */
int tasks_give_out(struct run *r, struct err *e);

/* tasks_made.c */
int tasks_find_sinks(struct blocks *b, struct err *e);
int tasks_open_made(struct run *r, struct err *e); /* call before its programs start */
int tasks_made_fd(const struct run *r, uint32_t sink); /* the spool for what is redirected to this sink; -1: no such sink */
/* A program ended: take the files that it left in /job under the names of its outputs. */
int tasks_take_made(struct run *r, uint32_t i, const struct box_result *end, struct err *e);
int tasks_give_made(struct run *r, struct err *e);
void tasks_note_dropped(struct run *r, uint32_t i, const struct box_result *end); /* notes other files that it left */

/* tasks_merge.c */
int tasks_merge_add(struct blocks *b, int out, struct err *e); /* adds the next task's output; takes out */
int tasks_merge_step(struct blocks *b, struct err *e);         /* begins the merges that can begin */
int tasks_merge_end(struct blocks *b, struct err *e);          /* there are no more tasks; 1: all is merged and passed on */
void tasks_drop_merges(struct blocks *b);                      /* kills merges that run; they are freed when they have ended */
void tasks_free_merges(struct blocks *b);
