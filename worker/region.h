/* From nodes of an attempt's graph to what zpipe-box shall start: one task per command, one channel per
 * edge.  What an edge becomes is decided here and nowhere else; see region.c. */
#pragma once
#include "proto/graph.h"
#include "sandbox/box.h"

struct attempt;

/* Where what a program reads comes from, or what it writes goes to, other than as the attempt's routes
 * say. */
struct region_end {
    enum { REGION_FEED, REGION_NOTHING, REGION_DRAIN, REGION_FILE, REGION_KEEP } how;
    uint32_t edge; /* of which a program of the region has one end; GRAPH_NONE: stdin of */
    uint32_t node;
    const struct box_source *source; /* FEED */
    uint32_t source_count;
    bool more; /* FEED: others are to come */
    bool lines; /* FEED: its reads need not be full */
    int fd;    /* DRAIN: where to, and news is wanted; FILE: the program's own descriptor, either way */
    uint32_t channel; /* out, FEED, DRAIN and KEEP: of the region; GRAPH_NONE before */
};

struct region_words {
    const char *const *word;
    uint32_t count;
};

struct region_scope {
    const uint32_t *node; /* what runs */
    uint32_t count;
    struct region_end *end;
    uint32_t end_count;
    const int *stderr_fd; /* per node: where it writes stderr; NULL: each to its route */
    uint32_t *stderr_kept; /* out, per node: the KEEP channel of its stderr, GRAPH_NONE: it has none; NULL: as above */
    uint64_t block;
    uint32_t expected; /* as in box.h, of each of them whose words and files are the same in all */
    const struct box_file *part; /* more files */
    uint32_t part_count;
    bool part_words;             /* of a single node: words at the end name them */
    bool part_holes;             /* they are there for nodes only whose words have holes */
    struct region_words (*words)(void *owner, uint32_t node); /* NULL: argv */
    struct region_words (*outputs)(void *owner, uint32_t node); /* of a block: names in /job, NULL: none */
    void *owner;
};

struct region {
    struct arena *arena; /* borrowed: what the plan is made of */
    struct box_region plan;
    uint32_t *node_of_task;
    uint32_t *channel_of_edge; /* GRAPH_NONE: none */
    int *opened; /* descriptors to be closed when the box has the region */
    uint32_t opened_count, opened_room;
};

int region_build(struct attempt *t, const struct region_scope *scope, struct region *r, struct err *e);
void region_close(struct region *r); /* what was opened */
/* Shall the reader of this edge have what there is at once?  `map ./slow | head -1` shall end with the line that
 * it wants, not when so many tasks have ended that a read is full. */
bool region_wants_lines(const struct graph *g, uint32_t edge);
/* A client's file, checked to be the one that was submitted: in its own process, or where it is read in place.  Gives. */
int region_open_file(const struct attempt *t, const struct graph_file *f, struct err *e);
