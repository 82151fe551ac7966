/* Which edges are spools, a row each; and, of many small graphs, that no waits can go round in a circle. */
#include "tests/lib/test.h"

#include "proto/flow.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define NODES_MAX 9

static struct graph *new_graph(uint32_t nodes)
{
    struct err e;
    struct graph *g = graph_new(&e);
    assert_non_null(g);
    for (uint32_t i = 0; i < nodes; i++)
        assert_int_equal(graph_add_node(g, GRAPH_COMMAND, &e), i);
    return g;
}

static void join(struct graph *g, uint32_t from, uint32_t to)
{
    struct err e;
    assert_int_not_equal(graph_add_edge(g, from, to, &e), GRAPH_NONE);
}

/* "01 12": edges from node 0 to 1, and from 1 to 2; those that are spools are in `spools`. */
static const struct {
    const char *name, *edges, *spools;
} rows[] = {
    {"a pipeline", "01 12 23", ""},
    {"two sources joined", "02 12 23", ""},
    {"a tee to two ends", "01 12 13", ""},
    {"a tee of which both ends are joined again", "01 12 13 24 34 45", "12 13"},
    {"two edges between two nodes", "01 01", "01 01"},
    {"one branch is direct", "01 12 02", "01 02"},
    {"a branch off the circle", "01 02 13 23 04 35", "01 02"},
    {"two circles apart", "01 02 13 23 34 45 46 57 67", "01 02 45 46"},
    {"two forks in one circle", "01 02 31 32", "01 02 31 32"},
    {"three ways", "01 02 03 14 24 34", "01 02 03"},
    {"a fork in a branch", "01 02 13 14 35 45 25", "01 02 13 14"},
};

static void spools_are(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct graph *g = new_graph(NODES_MAX);
        struct arena a = ARENA_INIT(1 << 20);
        struct graph_flow f;
        struct err e;
        char found[80] = "";
        for (const char *at = rows[i].edges; *at; at += at[2] ? 3 : 2)
            join(g, (uint32_t)(at[0] - '0'), (uint32_t)(at[1] - '0'));
        assert_int_equal(graph_flow(g, &a, &f, &e), 0);
        for (uint32_t k = 0; k < g->edge_count; k++)
            if (f.spool[k])
                snprintf(found + strlen(found), sizeof found - strlen(found), "%s%u%u", *found ? " " : "",
                         g->edge[k].from, g->edge[k].to);
        if (strcmp(found, rows[i].spools) != 0)
            fail_msg("%s: '%s' instead of '%s'", rows[i].name, found, rows[i].spools);
        arena_clear(&a);
        graph_free(g);
    }
}

/* What goes into a body goes into its map. */
static void bodies(void **state)
{
    (void)state;
    struct graph *g = new_graph(4);
    struct arena a = ARENA_INIT(1 << 20);
    struct graph_flow f;
    struct err e;
    g->node[2].kind = GRAPH_MAP;
    g->node[3].parent = 2;
    join(g, 0, 1);
    join(g, 0, 2);
    join(g, 1, 3);
    assert_int_equal(graph_flow(g, &a, &f, &e), 0);
    assert_true(f.spool[0] && f.spool[1] && !f.spool[2]);
    arena_clear(&a);
    graph_free(g);
}

/* Where a writer must be stopped at the same byte each time: 0 writes to 1, that to 2 and that to 3; and 1 leaves what
 * the row says. */
static const struct {
    const char *name;
    bool output, pattern, of_words, word, branch, null, sorts; /* sorts: 2 reads everything before it writes */
    int behind1, behind2;
} exact_rows[] = {
    {.name = "nothing"},
    {.name = "a named file", .output = true, .behind1 = GRAPH_EXACT_ALWAYS, .behind2 = GRAPH_EXACT_ALWAYS},
    {.name = "a file of a pattern", .pattern = true, .behind1 = GRAPH_EXACT_ALWAYS, .behind2 = GRAPH_EXACT_ALWAYS},
    {.name = "maybe files of a pattern", .pattern = true, .of_words = true, .behind1 = GRAPH_EXACT_IF_FILES, .behind2 = GRAPH_EXACT_IF_FILES},
    {.name = "maybe a file", .word = true, .behind1 = GRAPH_EXACT_IF_FILES, .behind2 = GRAPH_EXACT_IF_FILES},
    {.name = "what another reads", .branch = true, .behind1 = GRAPH_EXACT_ALWAYS, .behind2 = GRAPH_EXACT_ALWAYS},
    {.name = "what nobody reads", .branch = true, .null = true},
    {.name = "a file, and then it is sorted", .output = true, .sorts = true, .behind1 = GRAPH_EXACT_ALWAYS},
};

static void exact_edges(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof exact_rows / sizeof *exact_rows; i++) {
        static const char *const word[] = {"word"};
        static const struct graph_output output[] = {{"word", 4}};
        struct graph *g = new_graph(5);
        struct arena a = ARENA_INIT(1 << 20);
        struct err e;
        uint8_t *exact;
        for (uint32_t k = 0; k < 3; k++) {
            join(g, k, k + 1);
            assert_int_equal(graph_set_fd(g, k, 1, k, &e), 0);
        }
        g->node[1].keep = word;
        g->node[1].keep_count = exact_rows[i].word;
        g->node[1].out_glob = word;
        g->node[1].out_glob_count = exact_rows[i].pattern;
        g->node[1].word_globs = exact_rows[i].of_words;
        g->node[1].output = output;
        g->node[1].output_count = exact_rows[i].output;
        if (exact_rows[i].branch) {
            join(g, 1, 4);
            assert_int_equal(graph_set_fd(g, 1, 3, 3, &e), 0);
        }
        if (exact_rows[i].null) {
            g->node[4].kind = GRAPH_SINK;
            g->node[4].sink = GRAPH_SINK_NULL;
        }
        if (exact_rows[i].sorts) {
            g->node[2].split.cut = GRAPH_CUT_LINES;
            g->node[2].split.combine = GRAPH_COMBINE_MERGE;
        }
        assert_int_equal(graph_exact(g, &a, &exact, &e), 0);
        if (exact[0] || exact[1] != exact_rows[i].behind1 || exact[2] != exact_rows[i].behind2)
            fail_msg("%s: %d %d %d", exact_rows[i].name, exact[0], exact[1], exact[2]);
        assert_int_equal(graph_may_be_left(g, 2), !exact_rows[i].sorts);
        arena_clear(&a);
        graph_free(g);
    }
}

/* By brute force: from each node along waits, each edge at most once, back to it?  A reader may wait for its
 * writer at any edge, a writer for its reader where the edge is no spool. */
static bool waits_close(const struct graph *g, const bool *spool, uint32_t begin, uint32_t at, uint32_t used)
{
    for (uint32_t i = 0; i < g->edge_count; i++) {
        if (used >> i & 1)
            continue;
        uint32_t next = g->edge[i].to == at                  ? g->edge[i].from
                        : g->edge[i].from == at && !spool[i] ? g->edge[i].to
                                                             : GRAPH_NONE;
        if (next == GRAPH_NONE)
            continue;
        if (next == begin || waits_close(g, spool, begin, next, used | 1u << i))
            return true;
    }
    return false;
}

static void no_circle_of_waits(void **state)
{
    (void)state;
    srand(1);
    for (int round = 0; round < 3000; round++) {
        uint32_t nodes = 3 + (uint32_t)rand() % (NODES_MAX - 3), edges = (uint32_t)rand() % 11, circles = 0;
        struct graph *g = new_graph(nodes);
        struct arena a = ARENA_INIT(1 << 20);
        struct graph_flow f;
        struct err e;
        for (uint32_t i = 0; i < edges; i++) {
            uint32_t from = (uint32_t)rand() % (nodes - 1);
            join(g, from, from + 1 + (uint32_t)rand() % (nodes - 1 - from));
        }
        assert_int_equal(graph_flow(g, &a, &f, &e), 0);
        for (uint32_t i = 0; i < nodes; i++)
            circles += waits_close(g, f.spool, i, i, 0);
        if (circles)
            fail_msg("in graph %d waits can go round", round);
        arena_clear(&a);
        graph_free(g);
    }
}

/* A chain as long as they get, and as many circles. */
static void ceilings(void **state)
{
    (void)state;
    struct graph *g = new_graph(GRAPH_NODES_MAX);
    struct arena a = ARENA_INIT(8 << 20);
    struct graph_flow f;
    struct err e;
    for (uint32_t i = 0; i + 1 < GRAPH_NODES_MAX; i++) {
        join(g, i, i + 1);
        join(g, i, i + 1);
    }
    assert_int_equal(graph_flow(g, &a, &f, &e), 0);
    for (uint32_t i = 0; i < g->edge_count; i++)
        assert_true(f.spool[i]);
    arena_clear(&a);
    graph_free(g);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(spools_are),
        cmocka_unit_test(bodies), cmocka_unit_test(exact_edges),
        cmocka_unit_test(no_circle_of_waits),
        cmocka_unit_test(ceilings),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
