/* An author's stage: each block is a task of its own, a run of the body's programs, whatever these do.  See
 * blocks.h; tasks.c runs them, tasks_said.c tells what they say and how they end. */
#pragma once
#include "base/lines.h"
#include "worker/blocks_inside.h"

/* Stderr of the stage: through a pump into a socket, and from there in whole lines. */
struct said {
    struct outlet out;
    struct lines lines;
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
    bool copying;    /* per file, of a stream: the file is being copied to the run's `in` */
    int *errors;     /* per program: a spool for what it says, or where its stdout goes */
    int *status;     /* per program, as sh has it */
    struct task_failure failure; /* of its first program that failed */
};

struct tasks {
    struct said said;
    bool said_out;     /* stderr goes where stdout goes */
    int status;        /* of the blocks so far */
    bool any;          /* there was one */
    struct task_failure failure; /* of the first block that failed */
    struct box_result sum;
};

/* tasks_said.c */
void tasks_note(struct run *r, uint32_t i, const struct box_result *end); /* a program ended */
int tasks_say(struct blocks *b, int fd, struct err *e);                   /* takes fd */
void tasks_report(struct blocks *b, bool early);
