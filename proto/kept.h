/* A submitted job as it goes to a keeper, and lies in its journal: the graph, what the command line said
 * beside it, and which of its inputs come along.  On the stream MSG_KEPT_IN:
 *
 *   u32 bytes of the record (little-endian), the record (KEPT_VERSION, by the table in kept.c), then the
 *   bytes of the files that are carried, in that order, then those of stdin */
#pragma once
#include "base/arena.h"
#include "base/buf.h"
#include "base/err.h"
#include "proto/graph.h"

#define KEPT_VERSION   1
#define KEPT_PREFIX    4 /* bytes that say how long the record is */
#define KEPT_BYTES_MAX (GRAPH_BYTES_MAX + (2u << 20))

struct kept_job {
    const char *text;      /* as typed, for people */
    const char *directory; /* the client's, absolute: where its output files belong */
    bool spread;           /* as MSG_SUBMIT_SPREAD */
    struct slice graph;    /* encoded */
    const uint32_t *carried; /* files of the graph whose bytes follow; the others are on shared directories */
    uint32_t carried_count;
    bool has_stdin;
    uint64_t stdin_bytes;
};

int kept_encode(const struct kept_job *k, struct buf *out, struct err *e);
/* Everything in *out is in the arena.  Says nothing of the graph. */
int kept_decode(struct slice record, struct arena *a, struct kept_job *out, struct err *e);
/* From the first KEPT_PREFIX bytes: how long the record is. */
int kept_size(const void *prefix, uint32_t *size, struct err *e);

/* Is the path a directory of the list (colons between), or below one?  Then how much of it that is.  As it is written: nothing is looked up. */
size_t kept_shared_size(const char *list, const char *path);
/* Absolute paths, and not longer than a HELLO may say; or why not. */
int kept_shared_check(const char *list, struct err *e);
#define KEPT_IN_PLACE_MAX 1000 /* files of a job that are looked for there, which takes a worker's time: what is beyond is sent */
