/* Graphs for tests of the scheduler: stdin | stage | stage ... | stdout, and what the test asks for besides. */
#pragma once
#include "proto/graph.h"

#include <stdlib.h>

struct chain {
    uint32_t stages;
    bool pipefail, negate;
    bool file;         /* the first stage opens a file */
    bool output;       /* the last stage makes a file */
    bool quiet;        /* stderr goes where stdout goes */
    uint64_t memory_bytes; /* memory that each stage declares */
    bool blocks;       /* the last stage is cut into blocks */
    const char *words; /* the only word of each stage; NULL: "stage" */
};

/* Nodes: 0 is the source, 1 to `stages` are the stages, then come stdout and the file that is made.  Edge i leads to node i
 * + 1. */
static inline struct graph *chain_graph(const struct chain *o)
{
    static const struct graph_segment in = {.kind = GRAPH_SEGMENT_STDIN, .text = {"", 0}};
    static const uint32_t files[] = {0};
    struct err e;
    struct graph *g = graph_new(&e);
    uint32_t last = graph_add_node(g, GRAPH_SOURCE, &e);
    char **words = arena_array(&g->arena, 1, sizeof *words);
    words[0] = arena_string(&g->arena, o->words ? o->words : "stage");
    g->node[last].segment = &in;
    g->node[last].segment_count = 1;
    for (uint32_t i = 0; i <= o->stages; i++) {
        bool sink = i == o->stages;
        uint32_t n = graph_add_node(g, sink ? GRAPH_SINK : GRAPH_COMMAND, &e);
        uint32_t edge = graph_add_edge(g, last, n, &e);
        if (!sink) {
            g->node[n].argv = (const char *const *)words;
            g->node[n].argc = 1;
            g->node[n].label = words[0];
            g->node[n].set.memory_bytes = o->memory_bytes;
            if (o->blocks && i + 1 == o->stages)
                g->node[n].split =
                    (struct graph_split){.cut = GRAPH_CUT_LINES, .cut_step = 1, .ok_status = 1, .combine_text = "", .spoils = {"", 0}, .seam = {"", 0}};
            g->node[n].ends = i + 1 == o->stages;
            g->node[n].negate = g->node[n].ends && o->negate;
        }
        graph_set_fd(g, last, 1, edge, &e);
        if (i && o->quiet)
            graph_set_fd(g, last, 2, edge, &e);
        graph_set_fd(g, n, 0, edge, &e);
        last = n;
    }
    if (o->file) {
        struct graph_file f = {.name = "f", .path = "/f", .mode = 0100644};
        graph_add_file(g, &f, &e);
        g->node[1].file = files;
        g->node[1].file_count = 1;
    }
    if (o->output) {
        struct graph_output *made = arena_array(&g->arena, 1, sizeof *made);
        made->name = "made";
        made->sink = graph_add_node(g, GRAPH_SINK, &e);
        g->node[made->sink].sink = GRAPH_SINK_FILE;
        g->node[made->sink].path = "made";
        g->node[o->stages].output = made;
        g->node[o->stages].output_count = 1;
    }
    g->pipefail = o->pipefail;
    return g;
}

/* The same graph, encoded; the caller clears it. */
static inline struct buf chain_bytes(const struct chain *o)
{
    struct buf bytes = BUF_INIT(GRAPH_BYTES_MAX);
    struct graph *g = chain_graph(o);
    struct err e;
    if (graph_encode(g, &bytes, &e) < 0)
        abort();
    graph_free(g);
    return bytes;
}
