/* What graph_check refuses, a row each with the words it says; what it must not refuse; that graphs
 * at their ceilings are quick; and that a graph can grow, a decoded one too. */
#include "tests/lib/test.h"

#include "proto/graph.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

enum { IN, MAP, OUT, BODY_IN, BODY, BODY_OUT, TEE, TEE_OUT, TEE_FILE };

static const char *const sort_words[] = {"sort", "-u"};
static const char *const tee_words[] = {"tee", "\x01."};
static const struct graph_segment stdin_segment = {.kind = GRAPH_SEGMENT_STDIN, .text = {"", 0}};
static const struct graph_output tee_output = {"copy.txt", TEE_FILE};
static const uint32_t both_files[] = {0, 1};
static const uint32_t files_far[] = {1, 2};
static const char *const named_words[] = {"sort", "\x01{"};
static const char *const environment[] = {"A=b", "C="};

static void join(struct graph *g, uint32_t from, int from_fd, uint32_t to, int to_fd)
{
    struct err e;
    uint32_t edge = graph_add_edge(g, from, to, &e);
    assert_int_not_equal(edge, GRAPH_NONE);
    assert_int_equal(graph_set_fd(g, from, from_fd, edge, &e), 0);
    assert_int_equal(graph_set_fd(g, to, to_fd, edge, &e), 0);
}

/* stdin | map { sort -u } | stdout, and a stage that has a file left in /job. */
static struct graph *sample(void)
{
    static const uint32_t kinds[] = {GRAPH_SOURCE,  GRAPH_MAP,     GRAPH_SINK,
                                     GRAPH_SOURCE,  GRAPH_COMMAND, GRAPH_SINK,
                                     GRAPH_COMMAND, GRAPH_SINK,    GRAPH_SINK};
    struct err e;
    struct graph *g = graph_new(&e);
    assert_non_null(g);
    for (uint32_t i = 0; i < sizeof kinds / sizeof *kinds; i++)
        assert_int_equal(graph_add_node(g, kinds[i], &e), i);
    struct graph_node *n = g->node;
    n[IN].segment = n[BODY_IN].segment = &stdin_segment;
    n[IN].segment_count = n[BODY_IN].segment_count = 1;
    n[BODY_IN].parent = n[BODY].parent = n[BODY_OUT].parent = MAP;
    n[MAP].record_count = 1;
    n[BODY].argv = sort_words;
    n[BODY].argc = 2;
    n[BODY].split = (struct graph_split){.cut = GRAPH_CUT_LINES,
                                         .cut_step = 1,
                                         .combine = GRAPH_COMBINE_MERGE,
                                         .combine_argv = sort_words,
                                         .combine_argc = 2,
                                         .combine_text = "",
                                         .spoils = {"", 0},
                                         .seam = {"", 0},
                                         .ok_status = 1};
    n[TEE].argv = tee_words;
    n[TEE].argc = 2;
    n[TEE].output = &tee_output;
    n[TEE].output_count = 1;
    n[TEE].file = both_files;
    n[TEE].file_count = 2;
    n[TEE].env = environment;
    n[TEE].envc = 2;
    n[TEE_FILE].sink = GRAPH_SINK_FILE;
    n[TEE_FILE].path = "copy.txt";
    join(g, IN, 1, MAP, 0);
    join(g, MAP, 1, OUT, 0);
    join(g, BODY_IN, 1, BODY, 0);
    join(g, BODY, 1, BODY_OUT, 0);
    join(g, TEE, 1, TEE_OUT, 0);
    struct graph_file a = {.name = "a.txt", .path = "/home/u/a.txt", .inode = 1},
                      b = {.name = "/data/b", .path = "/data/b", .inode = 2};
    assert_int_equal(graph_add_file(g, &a, &e), 0);
    assert_int_equal(graph_add_file(g, &b, &e), 1);
    g->env = environment;
    g->envc = 2;
    static struct graph_expect expect = {
        .node = OUT,
        .sha256 = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"};
    g->expect = &expect;
    g->expect_count = 1;
    return g;
}

#define SPOIL(name, ...)                                                                           \
    static void name(struct graph *g)                                                              \
    {                                                                                              \
        struct graph_node *n = g->node;                                                            \
        (void)n;                                                                                   \
        __VA_ARGS__;                                                                               \
    }
SPOIL(nothing, )
SPOIL(no_kind, n[BODY].kind = GRAPH_KINDS)
SPOIL(no_fail, n[BODY].set.fail = GRAPH_FAILS)
SPOIL(parent_far, n[BODY].parent = 99)
SPOIL(parent_itself, n[MAP].parent = MAP)
SPOIL(parent_command, n[TEE].parent = BODY)
SPOIL(parent_nested, n[MAP].parent = BODY)
SPOIL(map_in_map, n[TEE].kind = GRAPH_MAP; n[TEE].record_count = 1; n[TEE].parent = MAP;
      n[TEE_OUT].parent = TEE)
SPOIL(merge_of_none, n[TEE].merge = true)
SPOIL(empty_body, n[BODY_IN].merge = n[BODY].merge = n[BODY_OUT].merge = true)
SPOIL(argv_none, n[BODY].argc = 0)
SPOIL(argv_empty, static const char *const w[] = {""}; n[BODY].argv = w)
SPOIL(argv_many, n[BODY].argc = GRAPH_WORDS_MAX + 1)
SPOIL(words_together, n[TEE].argc = GRAPH_WORDS_MAX; n[TEE].envc = 0; n[TEE].out_glob_count = 1)
SPOIL(shell_words, n[BODY].kind = GRAPH_SHELL; n[BODY].shell = "sh")
SPOIL(shell_name, n[BODY].kind = GRAPH_SHELL; n[BODY].argc = 1; n[BODY].shell = "zsh")
SPOIL(env_name, static const char *const v[] = {"=b"}; n[TEE].env = v; n[TEE].envc = 1)
SPOIL(env_plain, static const char *const v[] = {"ab"}; n[TEE].env = v; n[TEE].envc = 1)
SPOIL(env_of_all, static const char *const v[] = {"ab"}; g->env = v; g->envc = 1)
SPOIL(hole, static const char *const w[] = {"a", "\x01x"}; n[BODY].argv = w; n[BODY].holes = true)
SPOIL(hole_end, static const char *const w[] = {"a", "b\x01"}; n[BODY].argv = w;
      n[BODY].holes = true)
SPOIL(hole_good, static const char *const w[] = {"\x01{", "b\x01#\x01/"}; n[BODY].argv = w;
      n[BODY].holes = true)
SPOIL(file_far, static const uint32_t f[] = {2}; n[TEE].file = f; n[TEE].file_count = 1)
SPOIL(file_up, g->file[0].name = "a/../../b")
SPOIL(file_up_end, g->file[0].name = "a/..")
SPOIL(file_root, g->file[0].name = "/")
SPOIL(file_slashes, g->file[0].name = "//etc/passwd")
SPOIL(file_none, g->file[0].name = "")
SPOIL(file_dots, g->file[0].name = "..a/...")
SPOIL(file_relative, g->file[0].path = "a.txt")
SPOIL(file_clash, g->file[1].name = "a.txt")
SPOIL(file_same, g->file[1].name = "a.txt"; g->file[1].inode = 1)
SPOIL(link, g->file[0].mode = S_IFLNK | 0777; g->file[0].link = "../../etc/passwd")
SPOIL(link_silent, g->file[0].mode = S_IFLNK | 0777)
SPOIL(link_file, g->file[0].link = "b")
SPOIL(link_awaited, g->file[0].mode = S_IFLNK | 0777; g->file[0].link = "b"; g->file[0].awaited = true)
SPOIL(link_clash, g->file[0].mode = g->file[1].mode = S_IFLNK | 0777; g->file[0].link = "b"; g->file[1].link = "c"; g->file[1].name = "a.txt")
SPOIL(output_up, static const struct graph_output o = {"../x", TEE_FILE}; n[TEE].output = &o)
SPOIL(output_absolute, static const struct graph_output o = {"/x", TEE_FILE}; n[TEE].output = &o)
SPOIL(output_far, static const struct graph_output o = {"x", 99}; n[TEE].output = &o)
SPOIL(output_joined, static const struct graph_output o = {"x", OUT}; n[TEE].output = &o)
SPOIL(output_stdout, n[TEE_FILE].sink = GRAPH_SINK_STDOUT)
SPOIL(output_shared, static const struct graph_output o[] = {{"x", TEE_FILE}, {"y", TEE_FILE}};
      n[TEE].output = o; n[TEE].output_count = 2)
SPOIL(record, n[MAP].record = GRAPH_RECORDS)
SPOIL(record_none, n[MAP].record_count = 0)
SPOIL(record_start, n[MAP].record = GRAPH_RECORD_START)
SPOIL(reduce, n[MAP].kind = GRAPH_REDUCE; n[MAP].key = "1,2-3n"; n[MAP].into = 16)
SPOIL(reduce_key, reduce(g); n[MAP].key = "0")
SPOIL(reduce_into, reduce(g); n[MAP].into = 65537)
SPOIL(reduce_none, reduce(g); n[MAP].into = 0)
SPOIL(reduce_byte, reduce(g); n[MAP].key_separator = 256)
SPOIL(split_none, n[BODY].split.cut = GRAPH_CUT_NONE)
SPOIL(split_cut, n[BODY].split.cut = GRAPH_CUTS)
SPOIL(split_run, n[BODY].split.run = GRAPH_RUNS)
SPOIL(split_combine, n[BODY].split.combine = GRAPH_COMBINES)
SPOIL(split_step, n[BODY].split.cut_step = 0)
SPOIL(split_status, n[BODY].split.ok_status = 0)
SPOIL(split_seam, n[BODY].split.seam = ((struct slice){"\n", 1}); n[BODY].split.cut_step = 2)
SPOIL(split_first, n[BODY].split.run = GRAPH_RUN_FIRST)
SPOIL(split_rest, split_first(g); n[BODY].split.rest_argv = sort_words; n[BODY].split.rest_argc = 2)
SPOIL(split_rest_each, split_rest(g); n[BODY].split.run = GRAPH_RUN_EACH)
SPOIL(split_rest_hole, split_rest(g); n[BODY].split.rest_argv = named_words)
SPOIL(split_no_merge, n[BODY].split.combine_argc = 0)
SPOIL(split_no_text, n[BODY].split.combine = GRAPH_COMBINE_NATIVE; n[BODY].split.combine_argc = 0)
SPOIL(split_text, split_no_text(g); n[BODY].split.combine_text = "join 44")
SPOIL(split_bad_text, split_no_text(g); n[BODY].split.combine_text = "join x")
SPOIL(split_words, n[BODY].split.combine_argc = GRAPH_WORDS_MAX)
SPOIL(split_name, static const char *const w[] = {""}; n[BODY].split.combine_argv = w;
      n[BODY].split.combine_argc = 1)
SPOIL(split_no_files, n[BODY].split.cut = GRAPH_CUT_FILES)
SPOIL(split_hole, n[BODY].split.block_argv = named_words; n[BODY].split.block_argc = 2)
SPOIL(split_files, split_hole(g); n[BODY].split.cut = GRAPH_CUT_FILES;
      n[BODY].split.file = both_files; n[BODY].split.file_count = 2)
SPOIL(split_files_far, split_files(g); n[BODY].split.file = files_far)
SPOIL(split_files_unnamed, split_files(g); n[BODY].split.block_argv = sort_words)
SPOIL(split_bad_hole, static const char *const w[] = {"sort", "\x01x"}; split_files(g);
      n[BODY].split.block_argv = w)
SPOIL(split_outputs, n[TEE].split = n[BODY].split)
SPOIL(split_stderr, graph_set_fd(g, BODY, 2, 3, NULL))
SPOIL(split_map, n[MAP].split = n[BODY].split)
SPOIL(segment_kind, static const struct graph_segment s = {.kind = GRAPH_SEGMENTS};
      n[IN].segment = &s)
SPOIL(segment_file, static const struct graph_segment s = {.kind = GRAPH_SEGMENT_FILE, .file = 2};
      n[IN].segment = &s)
SPOIL(source_two, join(g, IN, 2, TEE, 0))
SPOIL(source_fd, static const struct graph_fd f = {0, 0}; n[IN].fd = &f)
SPOIL(sink_kind, n[OUT].sink = GRAPH_SINKS)
SPOIL(sink_path, n[TEE_FILE].path = "")
SPOIL(sink_two, join(g, TEE, 3, OUT, 1))
SPOIL(edge_far, g->edge[0].to = 99)
SPOIL(edge_self, g->edge[0].from = g->edge[0].to = MAP)
SPOIL(edge_backwards, g->edge[0].from = MAP; g->edge[0].to = IN)
SPOIL(edge_loose, n[TEE].fd_count = 0)
SPOIL(edge_twice_read, join(g, TEE, 4, BODY, 5); graph_set_fd(g, BODY, 6, g->edge_count - 1, NULL))
SPOIL(edge_twice_written, graph_set_fd(g, TEE, 2, 4, NULL))
SPOIL(edge_of_others, graph_set_fd(g, TEE, 5, 0, NULL))
SPOIL(edge_none, graph_set_fd(g, TEE, 5, 77, NULL))
SPOIL(edge_out_of_body, join(g, BODY, 5, TEE, 5))
SPOIL(edge_into_body, join(g, TEE, 5, BODY, 5))
SPOIL(edge_to_merge, n[BODY_OUT].merge = true)
SPOIL(fd_low, graph_set_fd(g, TEE, -1, 4, NULL))
SPOIL(fd_high, graph_set_fd(g, TEE, 256, 4, NULL))
SPOIL(fd_twice, static struct graph_fd f[] = {{1, 4}, {1, 4}}; n[TEE].fd = f; n[TEE].fd_count = 2)
SPOIL(seek_stdin, g->edge[2].seekable = true)
SPOIL(seek_text, static const struct graph_segment s = {.kind = GRAPH_SEGMENT_TEXT};
      n[BODY_IN].segment = &s; g->edge[2].seekable = true)
SPOIL(seek_file, static const struct graph_segment s = {.kind = GRAPH_SEGMENT_FILE};
      n[BODY_IN].segment = &s; g->edge[2].seekable = true)
SPOIL(seek_two, static const struct graph_segment s[] = {{.kind = GRAPH_SEGMENT_FILE},
                                                         {.kind = GRAPH_SEGMENT_FILE}};
      n[BODY_IN].segment = s; n[BODY_IN].segment_count = 2; g->edge[2].seekable = true)
SPOIL(cycle, join(g, TEE, 5, TEE_FILE + 1, 0); join(g, TEE_FILE + 1, 1, TEE, 6))
SPOIL(expect_far, g->expect[0].node = 99)
SPOIL(expect_command, g->expect[0].node = TEE)
SPOIL(expect_short, g->expect[0].sha256 = "00")
SPOIL(expect_letters,
      g->expect[0].sha256 = "0123456789ABCDEF0123456789abcdef0123456789abcdef0123456789abcdef")

static const struct row {
    const char *name;
    void (*spoil)(struct graph *g);
    const char *says; /* NULL: good */
} rows[] = {
#define GOOD(name)                                                                                 \
    {                                                                                              \
#name, name, NULL                                                                          \
    }
#define BAD(name, why)                                                                             \
    {                                                                                              \
#name, name, why                                                                           \
    }
    GOOD(nothing),
    GOOD(hole_good),
    GOOD(file_dots),
    GOOD(file_same),
    GOOD(link),
    GOOD(reduce),
    GOOD(edge_twice_written),
    GOOD(edge_into_body),
    GOOD(seek_file),
    GOOD(split_files),
    GOOD(split_rest),
    GOOD(split_text),
    BAD(no_kind, "no known kind"),
    BAD(link_silent, "says nothing"),
    BAD(link_file, "says nothing"),
    BAD(link_awaited, "says nothing"),
    BAD(link_clash, "two files named"),
    BAD(no_fail, "no known kind"),
    BAD(parent_far, "body that cannot be"),
    BAD(parent_itself, "body that cannot be"),
    BAD(parent_command, "body that cannot be"),
    BAD(parent_nested, "body that cannot be"),
    BAD(map_in_map, "body that cannot be"),
    BAD(merge_of_none, "merges for no map"),
    BAD(empty_body, "empty body"),
    BAD(argv_none, "no command"),
    BAD(argv_empty, "empty command"),
    BAD(argv_many, "GRAPH_WORDS_MAX"),
    BAD(words_together, "GRAPH_WORDS_MAX"),
    BAD(shell_words, "no command"),
    BAD(shell_name, "'zsh'"),
    BAD(env_name, "'=b'"),
    BAD(env_plain, "'ab'"),
    BAD(env_of_all, "'ab'"),
    BAD(hole, "among its words"),
    BAD(hole_end, "among its words"),
    BAD(file_far, "file 2 of 2"),
    BAD(file_up, "cannot be"),
    BAD(file_up_end, "cannot be"),
    BAD(file_root, "cannot be"),
    BAD(file_slashes, "cannot be"),
    BAD(file_none, "cannot be"),
    BAD(file_relative, "cannot be"),
    BAD(file_clash, "two files named 'a.txt'"),
    BAD(output_up, "bad output"),
    BAD(output_absolute, "bad output"),
    BAD(output_far, "bad output"),
    BAD(output_joined, "bad output"),
    BAD(output_stdout, "bad output"),
    BAD(output_shared, "one sink"),
    BAD(record, "records"),
    BAD(record_none, "records"),
    BAD(record_start, "records"),
    BAD(reduce_key, "a reduce has"),
    BAD(reduce_into, "a reduce has"),
    BAD(reduce_none, "a reduce has"),
    BAD(reduce_byte, "a reduce has"),
    BAD(split_none, "whole and has blocks"),
    BAD(split_cut, "cut in a way"),
    BAD(split_run, "cut in a way"),
    BAD(split_combine, "cut in a way"),
    BAD(split_step, "cut in a way"),
    BAD(split_status, "cut in a way"),
    BAD(split_seam, "cut in a way"),
    BAD(split_first, "cut in a way"),
    BAD(split_rest_each, "cut in a way"),
    BAD(split_rest_hole, "bad words"),
    BAD(split_no_merge, "cut in a way"),
    BAD(split_no_text, "cut in a way"),
    BAD(split_bad_text, "cannot be combined by `join x`"),
    BAD(split_words, "GRAPH_WORDS_MAX"),
    BAD(split_name, "bad words"),
    BAD(split_no_files, "cut in a way"),
    BAD(split_hole, "bad words"),
    BAD(split_files_far, "file 2 of 2"),
    BAD(split_files_unnamed, "bad words"),
    BAD(split_bad_hole, "bad words"),
    BAD(split_outputs, "cannot be cut"),
    BAD(split_stderr, "cannot be cut"),
    BAD(split_map, "cannot be cut"),
    BAD(segment_kind, "source names"),
    BAD(segment_file, "source names"),
    BAD(source_two, "exactly one end"),
    BAD(source_fd, "exactly one end"),
    BAD(sink_kind, "goes nowhere"),
    BAD(sink_path, "goes nowhere"),
    BAD(sink_two, "more than one end"),
    BAD(edge_far, "joins nothing"),
    BAD(edge_self, "joins nothing"),
    BAD(edge_backwards, "runs backwards"),
    BAD(edge_loose, "not joined"),
    BAD(edge_twice_read, "not joined"),
    BAD(edge_of_others, "somebody else's"),
    BAD(edge_none, "end of no edge"),
    BAD(edge_out_of_body, "leaves the body"),
    BAD(edge_to_merge, "leaves the body"),
    BAD(fd_low, "end of no edge"),
    BAD(fd_high, "end of no edge"),
    BAD(fd_twice, "descriptor 1 twice"),
    BAD(seek_stdin, "no file"),
    BAD(seek_text, "no file"),
    BAD(seek_two, "no file"),
    BAD(cycle, "cycle"),
    BAD(expect_far, "a check names"),
    BAD(expect_command, "a check names"),
    BAD(expect_short, "a check names"),
    BAD(expect_letters, "a check names"),
};
#define ROWS (sizeof rows / sizeof *rows)

static void one_row(void **state)
{
    const struct row *row = *state;
    struct err e = {0};
    struct graph *g = sample();
    if (row->spoil == cycle) {
        static const char *const words[] = {"cat"};
        uint32_t node = graph_add_node(g, GRAPH_COMMAND, &e);
        g->node[node].argv = words;
        g->node[node].argc = 1;
    }
    uint32_t was = g->expect[0].node;
    const char *sha = g->expect[0].sha256;
    row->spoil(g);
    int r = graph_check(g, &e);
    g->expect[0] = (struct graph_expect){.node = was, .sha256 = sha};
    graph_free(g);
    if (row->says ? r == 0 || !strstr(e.text, row->says) : r < 0)
        fail_msg("%s", r < 0 ? e.text : "was accepted");
}

/* What is decoded has no room to spare: adding must make some. */
static void growing(void **state)
{
    (void)state;
    struct err e = {0};
    for (uint32_t extra = 0; extra < 12; extra++) {
        struct graph *g = sample(), *copy;
        struct buf one = BUF_INIT(GRAPH_BYTES_MAX), two = BUF_INIT(GRAPH_BYTES_MAX);
        for (uint32_t i = 0; i < extra; i++)
            graph_add_node(g, GRAPH_SINK, &e);
        assert_int_equal(graph_encode(g, &one, &e), 0);
        copy = graph_decode(one.data, one.size, &e);
        assert_non_null(copy);
        assert_int_equal(graph_encode(copy, &two, &e), 0);
        assert_int_equal(one.size, two.size);
        assert_memory_equal(one.data, two.data, one.size);
        struct graph_file again = copy->file[1], other = {.name = "n", .path = "/n"};
        assert_int_equal(graph_add_file(copy, &again, &e), 1);
        assert_int_equal(graph_add_file(copy, &other, &e), 2);
        assert_int_equal(graph_add_file(copy, &other, &e), 2);
        for (uint32_t i = 0; i < 20; i++) {
            uint32_t node = graph_add_node(copy, GRAPH_COMMAND, &e),
                     sink = graph_add_node(copy, GRAPH_SINK, &e);
            copy->node[node].argv = sort_words;
            copy->node[node].argc = 1;
            join(copy, node, 1, sink, 0);
        }
        if (graph_check(copy, &e) < 0)
            fail_msg("%s", e.text);
        graph_free(g);
        graph_free(copy);
        buf_clear(&one);
        buf_clear(&two);
    }
}

/* A chain of as many stages as may be, each with all of many files. */
static void at_the_ceilings(void **state)
{
    (void)state;
    struct err e = {0};
    struct graph *g = graph_new(&e);
    char name[40];
    struct timespec from, to;
    clock_gettime(CLOCK_MONOTONIC, &from);
    for (uint32_t i = 0; i < GRAPH_NODES_MAX; i++) {
        uint32_t kind = i == 0                     ? GRAPH_SOURCE
                        : i == GRAPH_NODES_MAX - 1 ? GRAPH_SINK
                                                   : GRAPH_COMMAND;
        assert_int_equal(graph_add_node(g, kind, &e), i);
        g->node[i].argv = sort_words;
        g->node[i].argc = kind == GRAPH_COMMAND;
        g->node[i].file = both_files;
        g->node[i].file_count = kind == GRAPH_COMMAND ? 2 : 0;
        if (i)
            join(g, i - 1, 1, i, 0);
    }
    assert_int_equal(graph_add_node(g, GRAPH_SINK, &e), GRAPH_NONE);
    assert_non_null(strstr(e.text, "GRAPH_NODES_MAX"));
    for (uint32_t i = 0; i < GRAPH_FILES_MAX; i++) {
        snprintf(name, sizeof name, "/some/place/%u", i);
        struct graph_file f = {.name = name, .path = name, .inode = i};
        assert_int_equal(graph_add_file(g, &f, &e), i);
    }
    struct graph_file first = {.name = "/some/place/0", .path = "/some/place/0"},
                      new = {.name = "/x", .path = "/x"};
    assert_int_equal(graph_add_file(g, &first, &e), 0);
    assert_int_equal(graph_add_file(g, &new, &e), GRAPH_NONE);
    if (graph_check(g, &e) < 0)
        fail_msg("%s", e.text);
    struct buf bytes = BUF_INIT(GRAPH_BYTES_MAX);
    assert_int_equal(graph_encode(g, &bytes, &e), 0);
    struct graph *copy = graph_decode(bytes.data, bytes.size, &e);
    if (!copy)
        fail_msg("%s", e.text);
    clock_gettime(CLOCK_MONOTONIC, &to);
    assert_true(to.tv_sec - from.tv_sec < 10); /* well under a second without sanitizers */
    graph_free(copy);
    buf_clear(&bytes);
    for (uint32_t i = g->edge_count; i < GRAPH_EDGES_MAX; i++)
        assert_int_equal(graph_add_edge(g, 0, 1, &e), i);
    assert_int_equal(graph_add_edge(g, 0, 1, &e), GRAPH_NONE);
    for (int fd = 2; fd < GRAPH_FDS_MAX + 1; fd++)
        graph_set_fd(g, 1, fd, 0, &e);
    assert_int_equal(graph_set_fd(g, 1, 200, 0, &e), -1);
    assert_non_null(strstr(e.text, "GRAPH_FDS_MAX"));
    assert_int_equal(graph_set_fd(g, GRAPH_NODES_MAX, 0, 0, &e), -1);
    graph_free(g);
}

/* One end to read, some to write, and outside of every body. */
static void broadcasts(void **state)
{
    (void)state;
    enum { SOURCE, SHARED, FIRST, SECOND, NODES };
    static const uint32_t kinds[NODES] = {GRAPH_SOURCE, GRAPH_BROADCAST, GRAPH_SINK, GRAPH_SINK};
    static const struct {
        int in, first, second; /* descriptors of the broadcast; -1: no such edge */
        bool body, good;
    } rows_of[] = {
        {0, 1, 2, false, true},    {0, 7, 200, false, true}, {0, 1, -1, false, true},
        {0, -1, -1, false, false}, {-1, 1, 2, false, false}, {3, 1, 2, false, false},
        {1, 0, 2, false, false},   {0, 1, 2, true, false},
    };
    for (size_t i = 0; i < sizeof rows_of / sizeof *rows_of; i++) {
        struct err e;
        struct graph *g = graph_new(&e);
        assert_non_null(g);
        for (uint32_t k = 0; k < NODES; k++)
            assert_int_equal(graph_add_node(g, kinds[k], &e), k);
        g->node[SOURCE].segment = &stdin_segment;
        g->node[SOURCE].segment_count = 1;
        if (rows_of[i].in >= 0)
            join(g, SOURCE, 1, SHARED, rows_of[i].in);
        if (rows_of[i].first >= 0)
            join(g, SHARED, rows_of[i].first, FIRST, 0);
        if (rows_of[i].second >= 0)
            join(g, SHARED, rows_of[i].second, SECOND, 0);
        if (rows_of[i].in < 0)
            g->node[SOURCE].kind = GRAPH_SINK; /* without an end */
        if (rows_of[i].body) {
            uint32_t map = graph_add_node(g, GRAPH_MAP, &e);
            g->node[map].record_count = 1;
            g->node[SHARED].parent = map;
        }
        bool good = graph_check(g, &e) == 0;
        if (good != rows_of[i].good)
            fail_msg("row %zu: %s", i, good ? "passed" : e.text);
        graph_free(g);
    }
}

int main(void)
{
    struct CMUnitTest tests[ROWS + 3] = {cmocka_unit_test(growing), cmocka_unit_test(at_the_ceilings),
                                         cmocka_unit_test(broadcasts)};
    for (size_t i = 0; i < ROWS; i++)
        tests[3 + i] = (struct CMUnitTest){.name = rows[i].name,
                                           .test_func = one_row,
                                           .initial_state = (void *)(uintptr_t)&rows[i]};
    return _cmocka_run_group_tests("proto_graph", tests, ROWS + 3, NULL, NULL) != 0;
}
