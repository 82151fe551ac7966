/* The record of a task that failed, or that was asked for, to run it again alone.  It is a directory of plain files,
 * written by a client (client/record.c) from what the worker sent (worker/tasks_record.c), and read by `zpipe replay`
 * (client/replay.c), which trusts nothing in it.
 *
 *   task     [RECORD_VERSION, struct record], by the table in record.c
 *   in.N     what the programs read: a file for each stream
 *   out      what the task wrote to stdout until it failed;  err: to stderr, one program after the other
 *
 * The record's graph is a job of its own: the task's programs with the words, settings and random streams that they had.
 * Of the graph's files, RECORD_FILES/in.N are those in the record; the others are where they were, and must be unchanged.
 *
 * On its way to the client a record is one of the indices of a map's files (proto/made.h), with names that begin with
 * RECORD_PREFIX. */
#pragma once
#include "base/arena.h"
#include "base/buf.h"
#include "base/err.h"
#include "proto/graph.h"

#define RECORD_VERSION    2
#define RECORD_BYTES_MAX  (32u << 20)                      /* of in.N, out and err together; with more there is no record */
#define RECORD_TASK_MAX   (GRAPH_BYTES_MAX + (1u << 20))   /* of `task` */
#define RECORD_INPUTS_MAX 64
#define RECORD_PREFIX     "record/"
#define RECORD_FILES      "/zpipe-record/"

/* How one program of the task ended. */
struct record_end {
    uint32_t status;     /* as in sh: for a signal, 128 and its number */
    const char *program; /* SHA-256 of its file on the host where it ran; "": not known */
};

struct record {
    struct slice graph;  /* encoded; its first nodes are the programs, in the order of `end` */
    uint32_t node;       /* the stage in the job's graph */
    uint64_t number;     /* the task's number, from 0 */
    const char *what;    /* the sentence that was printed about it */
    const char *host;    /* record_host where it ran, the same on all workers of a job; "" for a task that ended well */
    bool lost;           /* it did not end: `out` and `err` say nothing */
    const struct record_end *end;
    uint32_t end_count;
};

int record_encode(const struct record *r, struct buf *out, struct err *e);
/* Everything in *out is in the arena.  Says nothing of the graph. */
int record_decode(struct slice bytes, struct arena *a, struct record *out, struct err *e);

/* Is this the name of a file of a record?  in.N: *input is N; else UINT32_MAX. */
bool record_file_name(const char *name, uint32_t *input);

/* What programs may notice of a host: kernel, processor, zpipe. */
void record_host(char *out, size_t size);
/* The SHA-256, in hex, of the program that this word stands for in a sandbox on this host; "": not known. */
void record_program(const char *word, char out[65]);
