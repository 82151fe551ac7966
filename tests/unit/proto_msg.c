/* Messages and graphs on the wire: what is encoded decodes to the same, and what cannot be is
 * refused before anything is allocated for it. */
#include "tests/lib/test.h"

#include "proto/graph.h"
#include "proto/msg.h"
#include "proto/wire.h"

#include <stdio.h>
#include <stdlib.h>

static const struct msg_route route = {.what = MSG_FILE,
                                       .index = 3,
                                       .node = GRAPH_NONE,
                                       .via = MSG_VIA_LISTEN,
                                       .fd = -1,
                                       .url = "tcp://[::1]:1",
                                       .key = {"01234567890123456789012345678901", 32}};
static const struct msg_port port = {UINT32_MAX, -1};
static const struct msg_job_row job_row = {8, "runs", "cat | sort", "w1 w2", 1, 2, 1, UINT64_MAX};
static const struct msg_worker_row worker_row = {"w1", 4, 2, true, "an image", "a kernel", 1ull << 34, 1 << 30};
static const struct msg_plan_row plan_row = {1, "sort \"x\"", "merge", "", "", "lines", "sort -m"};
static const uint32_t numbers[] = {0, UINT32_MAX};
static const struct slice admit[] = {{"k", 1}, {"", 0}};

static const struct msg_ran ran[] = {{MSG_END_EXITED, 1, 0, 1, 2, 3, UINT64_MAX, true, "", "", "", ""},
                                     {MSG_END_SIGNALLED, 0, 9, 0, 0, 0, 0, false, "output", "it said so", "it left `x`", "templates are switched off"}};
static const struct msg_piece piece[] = {{true, UINT64_MAX, 0777}, {false, 0, 0}};
static const uint32_t part[] = {1, UINT32_MAX};
static const struct msg_place place[] = {{0, 0, 1}, {UINT32_MAX, UINT64_MAX, UINT64_MAX}};

static const struct msg rows[] = {
    {.type = MSG_HELLO, .hello = {1, MSG_WORKER, "näme", {"0123456789abcdef", 16}, "", UINT32_MAX, UINT64_MAX, "tcp://x:1", {"", 0}, "/a:/b", "a kernel", 3}},
    {.type = MSG_WELCOME, .welcome = {1, UINT64_MAX, 1000, 5000}},
    {.type = MSG_REFUSE, .refuse = {ERR_DENIED, "no"}},
    {.type = MSG_PING, .ping = {UINT64_MAX}},
    {.type = MSG_BYE, .bye = {""}},
    {.type = MSG_SUBMIT, .submit = {7, MSG_SUBMIT_SPREAD, "cat | sort", &port, 1, 9, 8, {"0123456789abcdef", 16}}},
    {.type = MSG_ACCEPT, .accept = {7, 8}},
    {.type = MSG_PLAN, .plan = {7, &plan_row, 1}},
    {.type = MSG_ROUTE, .route = {8, 1, {"0123456789abcdef", 16}, &route, 1, 2, "lost"}},
    {.type = MSG_CANCEL, .cancel = {8, 7, "why"}},
    {.type = MSG_RUN, .run = {8, 1, {"0123456789abcdef", 16}, numbers, 2, &route, 1, admit, 2, {"", 0}, UINT64_MAX, 2, 3, UINT64_MAX, "why"}},
    {.type = MSG_STOP, .stop = {8, 1, "x"}},
    {.type = MSG_STARTED, .started = {8, 1}},
    {.type = MSG_TASK, .task = {8, 1, 2, MSG_END_SIGNALLED, 141, 13, 1, 2, 3, UINT64_MAX, true, false, "text", "tail\n", "", UINT64_MAX}},
    {.type = MSG_PROGRESS, .progress = {8, 1, 2, 3, true}},
    {.type = MSG_BLOCK, .block = {8, 1, 2, 3, UINT64_MAX, 141, 13, 5, 6, 1, 2, 3, 4, true, "w1", "it has no template yet"}},
    {.type = MSG_FAIL, .fail = {8, 1, ERR_IO, "disk", true}},
    {.type = MSG_STOPPED, .stopped = {8, 1, 2}},
    {.type = MSG_RESULT, .result = {7, 8, 255, true, 0, "", true}},
    {.type = MSG_ATTACH, .attach = {8, 1, {"0123456789abcdef", 16}, MSG_STDERR, 1, 2}},
    {.type = MSG_CREDIT, .credit = {8, 1, MSG_EDGE, 1, GRAPH_NONE, UINT64_MAX}},
    {.type = MSG_DATA, .data = {8, 1, MSG_EDGE, 1, 2, UINT64_MAX, MSG_DATA_END, {"0123456789abcdef", 16}}},
    {.type = MSG_LEAVE, .leave = {8, 1, MSG_OUTPUT, 1, 2, 3}},
    {.type = MSG_WANT, .want = {8, 1, UINT32_MAX}},
    {.type = MSG_LEND, .lend = {8, 1, 5, {"0123456789abcdef", 16}, 4, "tcp://x:1", {"k", 1}}},
    {.type = MSG_LENT, .lent = {8, 1, 5, {"0123456789abcdef", 16}, 4, "w2", {"", 0}}},
    {.type = MSG_RECALL, .recall = {8, 1, 5, true, "another job waits", true}},
    {.type = MSG_RETURNED, .returned = {8, 1, 5, false}},
    {.type = MSG_WORK, .work = {8, 1, 5, 6, 0, UINT32_MAX, 7, true, false, UINT64_MAX, part, 2, place, 2}},
    {.type = MSG_DONE, .done = {8, 1, 5, 6, MSG_HOW_RAN, false, UINT64_MAX, ran, 2, "", piece, 2}},
    {.type = MSG_ASK, .ask = {7, MSG_ASK_CANCEL, 8, "w1"}},
    {.type = MSG_DRAINED, .drained = {"done"}},
    {.type = MSG_REMAINS, .remains = {8, 1, {"0123456789abcdef", 16}, numbers, 2}},
    {.type = MSG_GO_ON, .go_on = {8, 1}},
    {.type = MSG_HOLDS, .holds = {9, 1}},
    {.type = MSG_BEGINS, .begins = {8, 2, 3, UINT64_MAX, "zpipe box -- sort"}},
    {.type = MSG_ANSWER,
     .answer = {7, ERR_NOENT, "no such job", &job_row, 1, &worker_row, 1, 9, "tcp://x:1", {"", 0}, {"0123456789abcdef", 16}, "/a", 3, "r", 2}},
    {.type = MSG_VISIT, .visit = {3, 7, MSG_ASK_TAKE, 9, {"01234567890123456789012345678901", 32}, {"0123456789abcdef", 16}}},
    {.type = MSG_VISITED, .visited = {3, 7, 9, 0, "", {"0123456789abcdef", 16}, UINT64_MAX, "head 1 2 3 /out", 5}},
    {.type = MSG_HELD, .held = {9, {"", 0}, "ended with status 0", "sort", UINT64_MAX, true}},
    {.type = MSG_KEPT, .kept = {9, true, 1, "", true, 125, ERR_IO, "disk", "/home"}},
    {.type = MSG_LOST, .lost = {8, 1, MSG_EDGE, 1, GRAPH_NONE, "closed"}},
};

static void round_trip(void **state)
{
    const struct msg *m = *state;
    struct arena a = ARENA_INIT(1 << 20);
    struct buf one = BUF_INIT(MSG_BYTES_MAX), two = BUF_INIT(MSG_BYTES_MAX), text = BUF_INIT(10000),
               again = BUF_INIT(10000);
    struct msg got;
    struct err e;
    assert_int_equal(msg_encode(m, &one, &e), 0);
    assert_int_equal(msg_decode(one.data, one.size, &a, &got, &e), 0);
    assert_int_equal(msg_encode(&got, &two, &e), 0);
    assert_int_equal(one.size, two.size);
    assert_memory_equal(one.data, two.data, one.size);
    msg_print(m, &text);
    msg_print(&got, &again);
    assert_string_equal(text.data, again.data);
    for (size_t cut = 0; cut < one.size; cut++) /* no truncation passes */
        assert_int_equal(msg_decode(one.data, cut, &a, &got, &e), -1);
    for (size_t at = 0; at < one.size; at++) { /* no changed byte crashes */
        for (int bit = 0; bit < 8; bit++) {
            one.data[at] ^= (char)(1 << bit);
            msg_decode(one.data, one.size, &a, &got, &e);
            one.data[at] ^= (char)(1 << bit);
            arena_clear(&a);
        }
    }
    buf_byte(&one, '\0');
    assert_int_equal(msg_decode(one.data, one.size, &a, &got, &e), -1);
    arena_clear(&a);
    buf_clear(&one);
    buf_clear(&two);
    buf_clear(&text);
    buf_clear(&again);
}

static void bombs(void **state)
{
    (void)state;
    struct err e;
    const struct {
        const char *bytes;
        size_t size;
    } bomb[] = {
        {"\xdd\x00\xff\xff\xff", 5},                          /* an array of 16.7 million */
        {"\xdf\x00\xff\xff\xff", 5},                          /* a map */
        {"\xdb\xff\xff\xff\xff", 5},                          /* a string of 4 GiB */
        {"\xc6\xff\xff\xff\xff", 5},                          /* bytes */
        {"\x91\x91\x91\x91\x91\x91\x91\x91\x91\x91\x01", 11}, /* too deep */
        {"\xc7\x01\x01\x01", 4},                              /* an extension */
        {"\xcb\0\0\0\0\0\0\0\0", 9},                          /* a float */
        {"\x01\x01", 2},                                      /* two values */
        {"", 0},
    };
    for (size_t i = 0; i < sizeof bomb / sizeof *bomb; i++)
        assert_int_equal(wire_check(bomb[i].bytes, bomb[i].size, &e), -1);
    assert_int_equal(wire_check("\x91\x91\x91\x91\x91\x91\x91\x91\x01", WIRE_DEPTH_MAX + 1, &e), 0);
    assert_int_equal(wire_check("\x91\x91\x91\x91\x91\x91\x91\x91\x91\x01", WIRE_DEPTH_MAX + 2, &e),
                     -1);
    assert_int_equal(wire_check("\x93\x01\xc3\xa1x", 5, &e), 0);
}

static void who_may(void **state)
{
    (void)state;
    assert_true(msg_allowed(MSG_HELLO, MSG_CLIENT, MSG_SCHEDULER, false));
    assert_false(msg_allowed(MSG_SUBMIT, MSG_CLIENT, MSG_SCHEDULER, false));
    assert_true(msg_allowed(MSG_SUBMIT, MSG_CLIENT, MSG_SCHEDULER, true));
    assert_false(msg_allowed(MSG_SUBMIT, MSG_WORKER, MSG_SCHEDULER, true));
    assert_false(msg_allowed(MSG_TASK, MSG_CLIENT, MSG_SCHEDULER, true));
    assert_false(msg_allowed(MSG_TASK, MSG_SCHEDULER, MSG_WORKER, true));
    assert_false(msg_allowed(MSG_RUN, MSG_CLIENT, MSG_WORKER, true));
    assert_false(msg_allowed(MSG_WORK, MSG_CLIENT, MSG_WORKER, true));
    assert_false(msg_allowed(MSG_DONE, MSG_CLIENT, MSG_WORKER, true));
    assert_false(msg_allowed(MSG_NONE, MSG_CLIENT, MSG_SCHEDULER, true));
    assert_false(msg_allowed(12345, MSG_CLIENT, MSG_SCHEDULER, true));
}

/* ---- graphs */

static struct graph *small(void)
{
    struct err e;
    static const char *const argv[] = {"sort"};
    struct graph *g = graph_new(&e);
    uint32_t in = graph_add_node(g, GRAPH_SOURCE, &e), sort = graph_add_node(g, GRAPH_COMMAND, &e),
             out = graph_add_node(g, GRAPH_SINK, &e);
    static const struct graph_segment segment = {.kind = GRAPH_SEGMENT_STDIN, .text = {"", 0}};
    g->node[in].segment = &segment;
    g->node[in].segment_count = 1;
    g->node[sort].argv = argv;
    g->node[sort].argc = 1;
    uint32_t a = graph_add_edge(g, in, sort, &e), b = graph_add_edge(g, sort, out, &e);
    graph_set_fd(g, in, 1, a, &e);
    graph_set_fd(g, sort, 0, a, &e);
    graph_set_fd(g, sort, 1, b, &e);
    graph_set_fd(g, out, 0, b, &e);
    struct graph_file f = {.name = "a.txt", .path = "/tmp/a.txt", .size_bytes = 1, .mode = 0100644};
    assert_int_equal(graph_add_file(g, &f, &e), 0);
    assert_int_equal(graph_add_file(g, &f, &e), 0);
    return g;
}

static void graph_trip(void **state)
{
    (void)state;
    struct err e;
    struct graph *g = small();
    struct buf one = BUF_INIT(GRAPH_BYTES_MAX), two = BUF_INIT(GRAPH_BYTES_MAX);
    assert_int_equal(graph_check(g, &e), 0);
    assert_int_equal(graph_encode(g, &one, &e), 0);
    struct graph *again = graph_decode(one.data, one.size, &e);
    assert_non_null(again);
    assert_int_equal(graph_encode(again, &two, &e), 0);
    assert_int_equal(one.size, two.size);
    assert_memory_equal(one.data, two.data, one.size);
    for (size_t cut = 0; cut < one.size; cut++)
        assert_null(graph_decode(one.data, cut, &e));
    graph_free(g);
    graph_free(again);
    buf_clear(&one);
    buf_clear(&two);
}

static void spoil_edge(struct graph *g)
{
    g->edge[0].to = 99;
}
static void spoil_end(struct graph *g)
{
    g->node[1].fd_count = 1;
}
static void spoil_kind(struct graph *g)
{
    g->node[1].kind = GRAPH_KINDS;
}
static void spoil_argv(struct graph *g)
{
    g->node[1].argc = 0;
}
static void spoil_parent(struct graph *g)
{
    g->node[1].parent = 0;
}
static void spoil_file(struct graph *g)
{
    g->file[0].name = "../a.txt";
}
static void spoil_path(struct graph *g)
{
    g->file[0].path = "a.txt";
}
static void spoil_seek(struct graph *g)
{
    g->edge[0].seekable = true;
}
static void spoil_backwards(struct graph *g)
{
    g->edge[0].from = 1;
    g->edge[0].to = 0;
}
static void spoil_cycle(struct graph *g)
{
    struct err e;
    uint32_t edge = graph_add_edge(g, 1, 3, &e);
    static const char *const argv[] = {"cat"};
    uint32_t other = graph_add_node(g, GRAPH_COMMAND, &e);
    g->node[other].argv = argv;
    g->node[other].argc = 1;
    graph_set_fd(g, 1, 5, edge, &e);
    graph_set_fd(g, other, 0, edge, &e);
    uint32_t back = graph_add_edge(g, other, 1, &e);
    graph_set_fd(g, other, 1, back, &e);
    graph_set_fd(g, 1, 6, back, &e);
}

static void refused_graphs(void **state)
{
    (void)state;
    static void (*const spoil[])(struct graph *) = {
        spoil_edge, spoil_end,  spoil_kind, spoil_argv,      spoil_parent,
        spoil_file, spoil_path, spoil_seek, spoil_backwards, spoil_cycle};
    for (size_t i = 0; i < sizeof spoil / sizeof *spoil; i++) {
        struct err e = {0};
        struct graph *g = small();
        spoil[i](g);
        if (graph_check(g, &e) == 0)
            fail_msg("row %zu passed", i);
        assert_true(e.text[0]);
        graph_free(g);
    }
}

#define ROWS (sizeof rows / sizeof *rows)

int main(void)
{
    struct CMUnitTest tests[ROWS + 5] = {cmocka_unit_test(bombs), cmocka_unit_test(who_may),
                                         cmocka_unit_test(graph_trip),
                                         cmocka_unit_test(refused_graphs)};
    for (size_t i = 0; i < ROWS; i++)
        tests[4 + i] = (struct CMUnitTest){.name = msg_name(rows[i].type),
                                           .test_func = round_trip,
                                           .initial_state = (void *)(uintptr_t)&rows[i]};
    (void)tests[ROWS + 4];
    return _cmocka_run_group_tests("proto_msg", tests, ROWS + 4, NULL, NULL) != 0;
}
