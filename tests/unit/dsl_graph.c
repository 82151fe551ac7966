/* Texts to graphs, printed one node a line: which fd has which edge, what is an input, what an
 * output, whose status counts. */
#include "lib/test.h"
#include "lib/dsl.h"
#include "base/buf.h"
#include "proto/graph.h"

struct row {
    const char *text, *want;
    bool job;
};

/* NAME or KIND, words, fd:peer.fd..., then what else is set. */
static char *print_graph(const struct graph *g)
{
    static const char *const kinds[] = {"run", "sh", "source", "sink", "map", "reduce", "broadcast"};
    static const char *const sinks[] = {"stdout", "stderr", "file", "append", "null"};
    struct buf b = BUF_INIT(100000);
    for (uint32_t i = 0; i < g->node_count; i++) {
        const struct graph_node *n = &g->node[i];
        buf_printf(&b, "%u %s", i, kinds[n->kind]);
        if (n->parent != GRAPH_NONE)
            buf_printf(&b, " in %u%s", n->parent, n->merge ? " merge" : "");
        for (uint32_t k = 0; k < n->argc; k++)
            buf_printf(&b, " [%s]", n->argv[k]);
        for (uint32_t k = 0; k < n->envc; k++)
            buf_printf(&b, " env %s", n->env[k]);
        if (n->kind == GRAPH_SINK)
            buf_printf(&b, " %s%s%s", sinks[n->sink], *n->path ? " " : "", n->path);
        for (uint32_t k = 0; k < n->segment_count; k++)
            if (n->segment[k].kind == GRAPH_SEGMENT_FILE)
                buf_printf(&b, " file %s", g->file[n->segment[k].file].name);
            else if (n->segment[k].kind == GRAPH_SEGMENT_TEXT)
                buf_printf(&b, " text %.*s", (int)n->segment[k].text.size,
                           (const char *)n->segment[k].text.data);
            else
                buf_text(&b, " stdin");
        for (uint32_t k = 0; k < n->fd_count; k++) {
            const struct graph_edge *e = &g->edge[n->fd[k].edge];
            bool reads = e->to == i;
            buf_printf(&b, " %d%s%u%s", n->fd[k].fd, reads ? "<" : ">", reads ? e->from : e->to,
                       reads && e->seekable ? "!" : "");
        }
        for (uint32_t k = 0; k < n->file_count; k++)
            buf_printf(&b, " needs %s", g->file[n->file[k]].name);
        for (uint32_t k = 0; k < n->output_count; k++)
            buf_printf(&b, " makes %s:%u", n->output[k].name, n->output[k].sink);
        for (uint32_t k = 0; k < n->out_glob_count; k++)
            buf_printf(&b, " out %s", n->out_glob[k]);
        if (*n->why && n->kind == GRAPH_SHELL)
            buf_printf(&b, " (%s)", n->why);
        if (n->set.memory_bytes)
            buf_printf(&b, " memory %llu", (unsigned long long)n->set.memory_bytes);
        buf_printf(&b, "%s%s%s", n->negate ? " !" : "", n->ends ? " ends" : "",
                   n->drain ? " drain" : "");
        if (n->phase)
            buf_printf(&b, " phase %u", n->phase);
        buf_byte(&b, '\n');
    }
    for (uint32_t i = 0; i < g->expect_count; i++)
        buf_printf(&b, "expect %u %.4s\n", g->expect[i].node, g->expect[i].sha256);
    return buf_take(&b);
}

static const struct row rows[] = {
    {"wc -l < a.log",
     "0 source file a.log 1>1\n"
     "1 run [wc] [-l] 0<0! 1>2 ends\n"
     "2 sink stdout 0<1\n",
     false},
    {"cat a.log", "0 source file a.log 1>1\n1 sink stdout 0<0\n", false},
    {"sh -c 'cat src/x.c src/.z.c'",
     "0 source stdin 1>1\n"
     "1 run [sh] [-c] [cat src/x.c src/.z.c] 0<0 1>2 needs src/x.c needs src/.z.c ends\n"
     "2 sink stdout 0<1\n",
     false},
    {"sh <<E\ncat src/x.c src/.z.c ./a.log\nE", /* nothing hidden for a script */
     "0 source text cat src/x.c src/.z.c ./a.log\n 1>1\n"
     "1 run [sh] 0<0 1>2 needs src/x.c needs a.log ends\n"
     "2 sink stdout 0<1\n",
     false},
    {"cat a.log | ./score.py b.log",
     "0 source file a.log 1>1\n"
     "1 run [./score.py] [b.log] 0<0 1>2 needs score.py needs b.log ends\n"
     "2 sink stdout 0<1\n",
     false},
    {"ls nope 2>&1 >/dev/null | wc -l",
     "0 sink null 0<1\n"
     "1 run [ls] [nope] 1>0 2>2\n"
     "2 run [wc] [-l] 0<1 1>3 ends\n"
     "3 sink stdout 0<2\n",
     false},
    {"sort a.log > o 2>&1", "0 sink file o 0<1\n1 run [sort] [a.log] 1>0 2>0 needs a.log ends\n",
     false},
    {"sort a.log > x > o",
     "0 sink file x 0<3\n1 sink file o 0<2\n2 run [sort] [a.log] 1>1 needs a.log ends\n3 source "
     "1>0\n",
     false},
    {"grep x a.log >&2", "0 run [grep] [x] [a.log] 1>1 2>1 needs a.log ends\n1 sink stderr 0<0\n",
     false},
    {"sort a.log > /dev/stderr",
     "0 run [sort] [a.log] 1>1 2>1 needs a.log ends\n1 sink stderr 0<0\n", false},
    {"echo 'a\\tb' \"it's\" > o",
     "0 sink file o 0<1\n1 sh [echo 'a\\tb' 'it'\\''s'] 1>0 (`echo` is a builtin of sh) ends\n",
     false},
    {"seq 3 | sort < a.log",
     "0 run [seq] [3] 1>2\n"
     "1 source file a.log 1>4\n"
     "2 run [true] 0<0 1>3 drain\n"
     "3 sink null 0<2\n"
     "4 run [sort] 0<1! 1>5 ends\n"
     "5 sink stdout 0<4\n",
     false},
    {"cat a.log | tee copy | sort -o s",
     "0 source file a.log 1>1\n"
     "1 run [tee] [copy] 0<0 1>3 makes copy:2\n"
     "2 sink file copy\n"
     "3 run [sort] [-o] [s] 0<1 1>5 makes s:4 ends\n"
     "4 sink file s\n"
     "5 sink stdout 0<3\n",
     false},
    {"sort --output=/var/x a.log",
     "0 run [sort] [--output=.zpipe-out-1] [a.log] 1>2 needs a.log makes .zpipe-out-1:1 ends\n"
     "1 sink file /var/x\n"
     "2 sink stdout 0<0\n",
     false},
    {"comm a.log <(sort b.log | uniq)",
     "0 run [comm] [a.log] [/dev/fd/63] 63<2 1>3 needs a.log ends\n"
     "1 run [sort] [b.log] 1>2 needs b.log drain\n"
     "2 run [uniq] 0<1 1>0 drain\n"
     "3 sink stdout 0<0\n",
     false},
    {"tee >(wc -l > n) < a.log",
     "0 source file a.log 1>1\n"
     "1 run [tee] [/dev/fd/63] 0<0! 63>3 1>4 ends\n"
     "2 sink file n 0<3\n"
     "3 run [wc] [-l] 0<1 1>2 drain\n"
     "4 sink stdout 0<1\n",
     false},
    {"! grep -q x a.log",
     "0 run [grep] [-q] [x] [a.log] 1>1 needs a.log ! ends\n1 sink stdout 0<0\n", false},
    {"X=1 sort a.log && ls",
     "0 source stdin 1>1\n"
     "1 sh [X=1 sort a.log && ls] 0<0 1>2 needs . needs a.log (`&&` at 1:16) ends\n"
     "2 sink stdout 0<1\n",
     false},
    {"LC_ALL=C sort a.log",
     "0 run [sort] [a.log] env LC_ALL=C 1>1 needs a.log ends\n1 sink stdout 0<0\n", false},
    {"with memory=2KiB out='p*' { split a.log p | cat }",
     "0 run [split] [a.log] [p] 1>1 needs a.log out p* out x* out p* out a.log* memory 2048\n"
     "1 run [cat] 0<0 1>2 out p* memory 2048 ends\n"
     "2 sink stdout 0<1\n",
     false},
    {"cat *.gz | map per file { gunzip > {.} }",
     "0 source file c.gz file d.gz 1>1\n"
     "1 map 0<0 1>5 ends\n"
     "2 source in 1 stdin 1>4\n"
     "3 sink in 1 file \001. 0<4\n"
     "4 run in 1 [gunzip] 0<2 1>3\n"
     "5 sink stdout 0<1\n",
     false},
    {"cat a.log | map { sort } merge { sort -m {} }",
     "0 source file a.log 1>1\n"
     "1 map 0<0 1>8 ends\n"
     "2 source in 1 stdin 1>3\n"
     "3 run in 1 [sort] 0<2 1>4\n"
     "4 sink in 1 stdout 0<3\n"
     "5 source in 1 merge stdin 1>6\n"
     "6 run in 1 merge [sort] [-m] [\001{] 0<5 1>7\n"
     "7 sink in 1 merge stdout 0<6\n"
     "8 sink stdout 0<1\n",
     false},
    {"cat *.log | map per file { grep x && echo \"a {/}\" '{}' }",
     "0 source file B.log file a.log file b.log 1>1\n"
     "1 map 0<0 1>5 ends\n"
     "2 source in 1 stdin 1>3\n"
     "3 sh in 1 [grep x && echo \"a \"\001/\"\" '{}'] 0<2 1>4 (`&&` at 1:35)\n"
     "4 sink in 1 stdout 0<3\n"
     "5 sink stdout 0<1\n",
     false},
    {"up = tr a-z A-Z\ncat a.log | up\ncat b.log | up | sort > s",
     "0 source file a.log 1>1\n"
     "1 run [tr] [a-z] [A-Z] 0<0 1>2 ends\n"
     "2 sink stdout 0<1\n"
     "3 source file b.log 1>4\n"
     "4 run [tr] [a-z] [A-Z] 0<3 1>6\n"
     "5 sink file s 0<6\n"
     "6 run [sort] 0<4 1>5 ends\n",
     true},
    {"sort a.log > s\nwc -l < s",
     "0 sink file s 0<1\n"
     "1 run [sort] [a.log] 1>0 needs a.log ends\n"
     "2 source file s 1>3 phase 1\n"
     "3 run [wc] [-l] 0<2! 1>4 ends phase 1\n"
     "4 sink stdout 0<3 phase 1\n",
     true},
    {"w = sort a.log\ncheck w sha256 "
     "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855\nw > o\n"
     "check o sha256 f3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
     "0 run [sort] [a.log] 1>1 needs a.log ends\n"
     "1 broadcast 0<0 1>2 2>3\n"
     "2 sink null 0<1\n"
     "3 sink file o 0<1\n"
     "expect 2 e3b0\nexpect 3 f3b0\n",
     true},
    {"cat <<A - a.log | cat -A\nx\nA\n",
     "0 source text x\n 1>1\n"
     "1 run [cat] [-] [a.log] 0<0 1>2 needs a.log\n"
     "2 run [cat] [-A] 0<1 1>3 ends\n"
     "3 sink stdout 0<2\n",
     false},
};

static void row_graph(void **state)
{
    const struct row *r = *state;
    struct err e = {0};
    struct dsl_input in = {.text = r->text,
                           .size = strlen(r->text),
                           .file = "t",
                           .jobfile = r->job,
                           .directory = case_directory};
    struct graph *g = dsl_graph(&in, &e);
    if (!g)
        fail_msg("%s", e.text);
    char *got = print_graph(g);
    graph_free(g);
    assert_string_equal(got, r->want);
    free(got);
}

/* A name that goes up is given, and said, absolutely. */
static void goes_up(void **state)
{
    (void)state;
    char text[200], directory[200], real[200];
    struct err e = {0};
    snprintf(text, sizeof text, "grep x ../a.log src/../b.log");
    snprintf(directory, sizeof directory, "%s/src", case_directory);
    snprintf(real, sizeof real, "%s/a.log", case_directory);
    struct dsl_input in = {.text = text, .size = strlen(text), .file = "t", .directory = directory};
    struct graph *g = dsl_graph(&in, &e);
    assert_non_null(g);
    assert_string_equal(g->node[0].argv[2], real);
    assert_string_equal(g->file[0].name, real);
    assert_string_equal(g->file[0].path, real);
    graph_free(g);
}

/* Each `(`, `|`, quote, ... many times: an answer, soon.  The time limit of the test is the
 * assertion. */
static void hostile(void **state)
{
    (void)state;
    static const char *const units[] = {"(",
                                        "|",
                                        "`",
                                        "``",
                                        "{ ",
                                        "<( ",
                                        "$(",
                                        "\"",
                                        "'",
                                        "\\",
                                        "a|",
                                        "$x",
                                        "a;",
                                        "${",
                                        "map ",
                                        "<<a ",
                                        "a<<b;",
                                        "if ",
                                        "[",
                                        "a&&",
                                        "\n",
                                        "a\n",
                                        "with memory=1K ",
                                        "''",
                                        "> a ",
                                        "case x in ",
                                        "2>&1 ",
                                        "! ",
                                        "time ",
                                        "command ",
                                        "=",
                                        "a = b\n",
                                        "a=b\n",
                                        "{}",
                                        "cat <<E\nE\n"};
    size_t size = 200000;
    char *text = malloc(size + 1);
    assert_non_null(text);
    for (size_t u = 0; u < sizeof units / sizeof *units; u++)
        for (int job = 0; job < 2; job++) {
            size_t n = strlen(units[u]);
            for (size_t i = 0; i < size; i++)
                text[i] = units[u][i % n];
            text[size] = '\0';
            struct dsl_input in = {.text = text,
                                   .size = size,
                                   .file = "t",
                                   .jobfile = job,
                                   .directory = case_directory};
            struct err e = {0};
            char *canonical = dsl_canonical(&in, &e);
            assert_true(canonical || e.text[0]);
            free(canonical);
            struct graph *g = dsl_graph(&in, &e);
            assert_true(g || e.text[0]);
            if (g)
                graph_free(g);
        }
    free(text);
}

static void refuse(const char *text, size_t size, bool job, const char *why)
{
    struct err e = {0};
    struct dsl_input in = {
        .text = text, .size = size, .file = "t", .jobfile = job, .directory = "/"};
    assert_null(dsl_graph(&in, &e));
    assert_int_equal(e.code, ERR_INPUT);
    if (!strstr(e.text, why))
        fail_msg("'%s' is not in: %s", why, e.text);
}

static void ceilings(void **state)
{
    (void)state;
    char *big = malloc(DSL_TEXT_MAX + 2);
    assert_non_null(big);
    memset(big, 'a', DSL_TEXT_MAX + 1);
    big[DSL_TEXT_MAX + 1] = '\0';
    refuse(big, DSL_TEXT_MAX + 1, false, "t:1:1: error: the text has more than 1048576 bytes");
    for (size_t i = 0; i < DSL_TEXT_MAX; i += 2)
        big[i] = ' ';
    refuse(big, DSL_TEXT_MAX, false, "there are more than 400000 words");
    free(big);
    refuse("a\0b", 3, false, "there is a byte 0 here");
    refuse("a\rb", 3, false, "there is a carriage return here");
    refuse("", 0, false, "there is nothing to run");
    refuse("\n# x\n", 5, true, "there is nothing to run");
}

int main(void)
{
    enum { ROWS = sizeof rows / sizeof *rows };
    struct CMUnitTest t[ROWS + 3] = {cmocka_unit_test(goes_up), cmocka_unit_test(hostile),
                                     cmocka_unit_test(ceilings)};
    for (size_t i = 0; i < ROWS; i++)
        t[i + 3] = (struct CMUnitTest){rows[i].text, row_graph, NULL, NULL, (void *)&rows[i]};
    case_directory_make();
    int failed = cmocka_run_group_tests(t, NULL, NULL);
    case_directory_remove();
    return failed != 0;
}
