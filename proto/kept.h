/* A submitted job in the form in which it is sent to a keeper, and kept in the keeper's journal: the graph, what else the
 * command line said, and which of its inputs are sent along.  On the stream MSG_KEPT_IN:
 *
 *   u32 bytes of the record (little-endian), the record (KEPT_VERSION, by the table in kept.c), then the
 *   bytes of the files that are carried, in that order, then those of stdin */
#pragma once
#include "base/arena.h"
#include "base/buf.h"
#include "base/err.h"
#include "proto/graph.h"

#define KEPT_VERSION   1
#define KEPT_PREFIX    4 /* bytes that tell the size of the record */
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
/* Everything in *out is in the arena.  The graph is not checked. */
int kept_decode(struct slice record, struct arena *a, struct kept_job *out, struct err *e);
/* The size of the record, from the first KEPT_PREFIX bytes. */
int kept_size(const void *prefix, uint32_t *size, struct err *e);

/* If the path is one of the directories of the list (with colons between), or below one: the size of that part of the path;
 * else 0.  Only the text is compared; nothing is looked up. */
size_t kept_shared_size(const char *list, const char *path);
/* Check that the list holds absolute paths and fits into a HELLO. */
int kept_shared_check(const char *list, struct err *e);
#define KEPT_IN_PLACE_MAX 1000 /* how many files of a job are looked for there, as that takes a worker's time; the others are sent */
