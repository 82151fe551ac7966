/* Translates nodes of an attempt's graph into a region for zpipe-box: one task per command, one channel per edge.  What an
 * edge becomes is decided only here; see region.c. */
#pragma once
#include "proto/graph.h"
#include "sandbox/box.h"

struct attempt;

/* One end of a program's edge for which the attempt's routes do not apply: where the bytes come from, or go to. */
struct region_end {
    enum { REGION_FEED, REGION_NOTHING, REGION_DRAIN, REGION_FILE, REGION_KEEP } how;
    uint32_t edge; /* the edge, of which a program of the region has the other end; GRAPH_NONE: the stdin of */
    uint32_t node;
    const struct box_source *source; /* FEED */
    uint32_t source_count;
    bool more; /* FEED: more sources will come */
    bool lines; /* FEED: its reads need not be full */
    int fd;    /* DRAIN: where the bytes go (`moved` is called); FILE: the program's own descriptor, for reading or writing */
    uint32_t channel; /* out, for FEED, DRAIN and KEEP: the region's channel; GRAPH_NONE until then */
};

struct region_words {
    const char *const *word;
    uint32_t count;
};

struct region_scope {
    const uint32_t *node; /* the nodes to run */
    uint32_t count;
    struct region_end *end;
    uint32_t end_count;
    const int *stderr_fd; /* per node: where its stderr goes; NULL: each one's to its route */
    uint32_t *stderr_kept; /* out, per node: the KEEP channel of its stderr; GRAPH_NONE: none.  NULL: as stderr_fd says */
    uint64_t block;
    uint32_t expected; /* as in box.h, for each node whose words and files are the same in every run */
    const uint32_t *beside; /* instead of its own files, the first node gets these, */
    uint32_t beside_count;
    const uint32_t *own;         /* and these */
    uint32_t own_count;
    const struct box_file *part; /* more files */
    uint32_t part_count;
    bool part_words;             /* there is one node: append their names to its words */
    bool part_holes;             /* only nodes whose words have holes get them */
    struct region_words (*words)(void *owner, uint32_t node); /* NULL: argv */
    struct region_words (*outputs)(void *owner, uint32_t node); /* of a task: which names in /job are outputs; NULL: none */
    void *owner;
};

struct region {
    struct arena *arena; /* borrowed: holds what the region is made of */
    struct box_region plan;
    uint32_t *node_of_task;
    uint32_t *channel_of_edge; /* GRAPH_NONE: none */
    int *opened; /* descriptors to close once the box has the region */
    uint32_t opened_count, opened_room;
};

int region_build(struct attempt *t, const struct region_scope *scope, struct region *r, struct err *e);
void region_close(struct region *r); /* closes `opened` */
/* Is the reader of this edge to get bytes as they come?  `map ./slow | head -1` is to end with the first line, not only
 * when enough tasks have ended to fill a read. */
bool region_wants_lines(const struct graph *g, uint32_t edge);
/* Open a client's file and check that it is the one that was submitted: in the client's own process, or where it is read in
 * place.  Gives. */
int region_open_file(const struct attempt *t, const struct graph_file *f, struct err *e);
