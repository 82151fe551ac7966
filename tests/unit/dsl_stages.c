/* Which commands of a pipeline run in blocks together, and why others that may be cut do not. */
#include "tests/lib/test.h"

#include "tests/lib/dsl.h"

#include "proto/stages.h"

/* a.log has half a MiB, b.log a few bytes.  "tr=0 sort=0": in stage 0; "wc: ..." why it runs once;
 * else the command's name alone. */
static const struct {
    const char *text, *stages;
    uint64_t split;
    bool line_reads;
} rows[] = {
    {"tr a b < a.log | sort | uniq -c", "tr=0 sort=0 uniq=1", 0, false},
    {"cat a.log | ./score.py | sort", "./score.py sort=0", 0, false},
    {"sort b.log | uniq",
     "sort: its input is less than 256 KiB; uniq: its input is less than 256 KiB;", 0, false},
    {"sort b.log | uniq", "sort=0 uniq=1", 64, false},
    {"tr a b < a.log | ./score.py", "tr: it does little more than pass its bytes on; ./score.py", 0,
     false},
    {"tr a b < a.log | ./score.py", "tr=0 ./score.py", 64, false},
    {"tr a b < a.log | grep x", "tr=0 grep=0", 0, false},
    {"tr a b < a.log | wc -l",
     "tr: it does little more than pass its bytes on; wc: it does little more than pass its bytes "
     "on;",
     0, false},
    {"grep x a.log | wc -l", "grep=0 wc=0", 0, false},
    /* What has joined lines ends none, whatever comes behind it. */
    {"grep x a.log | tr -d '\\n' | tr a b | rev", "grep=0 tr=0 tr=0 rev=1", 64, false},
    {"tr a b < a.log | awk '{ printf \"%s\", $1 }' | cat -A | sort", "tr=0 awk=0 cat=1 sort=1", 64, false},
    {"wc -w a.log", "wc=0", 0, false},
    {"grep x a.log b.log b.log", "grep=0", 0, false},
    {"sort a.log b.log b.log b.log b.log b.log b.log b.log b.log", "sort: its files are less than 64 KiB on average;", 0, false},
    {"sort a.log b.log b.log b.log b.log b.log b.log b.log b.log", "sort=0", 64, false},
    {"md5sum a.log b.log b.log b.log b.log b.log b.log b.log b.log", "md5sum=0", 0, false},
    {"grep x a.log b.log b.log b.log b.log b.log b.log b.log b.log", "grep=0", 0, false},
    {"wc -lw < a.log", "wc=0", 0, false},
    {"grep -c x < a.log", "grep=0", 0, false},
    {"grep -c x < a.log | cat", "grep=0 cat: it does little more than pass its bytes on;", 0, false},
    /* What it passes on is combined once more: no stage takes its blocks as its own. */
    {"head -c 307200 a.log | sort", "head: it does little more than pass its bytes on; sort=0", 0,
     false},
    /* The first of what blocks become are among the first of each; but not its first bytes, nor what has other ends. */
    {"sort a.log | head", "sort=0 head=0", 0, false},
    {"tr a b < a.log | sort -zn | tail -z -n 2", "tr=0 sort=1 tail=1", 0, false},
    {"sort a.log | uniq -c | sort -rn | head -3 | wc -l", "sort=0 uniq=1 sort=1 head=1 wc: it does little more than pass its bytes on;", 0, false},
    {"uniq -d a.log", "uniq: it does little more than pass its bytes on;", 0, false},
    {"sort a.log | uniq -d", "sort=0 uniq=1", 0, false},
    {"sort a.log | head -c 9", "sort=0 head: it does little more than pass its bytes on;", 0, false},
    {"sort -z a.log | head", "sort=0 head: it does little more than pass its bytes on;", 0, false},
    {"sort a.log | tail -n +3", "sort=0 tail: it does little more than pass its bytes on;", 0, false},
    {"tail -n +3 a.log | sort", "tail=0 sort=0", 0, false},
    {"sort a.log | head b.log", "sort=0 head", 0, false},
    {"tac a.log | head", "tac: it does little more than pass its bytes on; head: it does little more than pass its bytes on;", 0, false},
    {"tac < a.log", "tac=0", 0, false},
    {"grep x a.log", "grep: `--split never`;", GRAPH_SPLIT_NEVER, false},
    {"grep x a.log", "grep: its lines are passed on as they come;", 0, true},
    {"grep x a.log 2> e", "grep", 0, false},
    {"map { cat } < a.log | head -n 3", "map=0 cat=0 head: it may leave before the map has ended;",
     0, false},
};

static void file_grows(const char *name, size_t size)
{
    char path[200], *bytes = calloc(1, size);
    snprintf(path, sizeof path, "%s/%s", case_directory, name);
    int fd = open(path, O_WRONLY | O_CLOEXEC);
    assert_non_null(bytes);
    assert_int_equal(write(fd, bytes, size), size);
    close(fd);
    free(bytes);
}

static void stages_are(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct dsl_input in = {.file = "pipeline",
                               .directory = case_directory,
                               .home = "/home/u",
                               .text = rows[i].text,
                               .size = strlen(rows[i].text)};
        struct arena a = ARENA_INIT(1 << 20);
        struct buf found = BUF_INIT(1 << 16);
        struct graph_stages s;
        struct err e;
        struct graph *g = dsl_graph(&in, &e);
        if (!g)
            fail_msg("%s: %s", rows[i].text, e.text);
        g->split_bytes = rows[i].split;
        g->line_reads = rows[i].line_reads;
        assert_int_equal(graph_stages(g, &a, &s, &e), 0);
        for (uint32_t n = 0; n < g->node_count; n++) {
            const char *label = g->node[n].label;
            if (g->node[n].kind == GRAPH_SOURCE || g->node[n].kind == GRAPH_SINK)
                continue;
            buf_printf(&found, "%s%.*s", found.size ? " " : "", (int)strcspn(label, " "), label);
            if (s.of_node[n] != GRAPH_NONE)
                buf_printf(&found, "=%u", s.of_node[n]);
            else if (*s.once[n])
                buf_printf(&found, ": %s;", s.once[n]);
        }
        char *text = buf_take(&found);
        if (strcmp(text, rows[i].stages) != 0)
            fail_msg("%s:\n  %s\nand not\n  %s", rows[i].text, text, rows[i].stages);
        free(text);
        graph_free(g);
        arena_clear(&a);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(stages_are)};
    case_directory_make();
    file_grows("a.log", 512 << 10);
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    case_directory_remove();
    return failed;
}
