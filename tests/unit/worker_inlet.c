/* Where blocks begin: a matter of the bytes alone.  Cut in any order of arrival, in runs of any length, the
 * boundaries are those of the table. */
#include "lib/test.h"
#include "worker/inlet.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

static void test_nominal(void **state)
{
    static const struct {
        uint64_t split, at, want;
    } rows[] = {
        {0, 0, 0}, {0, 1, 65536}, {0, 65536, 65536}, {0, 65537, 131072}, {0, 1048576, 1048576},
        {0, 1048577, 1179648}, {0, 2097153, 2359296}, {0, 33554432, 33554432}, {0, 33554433, 37748736}, {64, 1, 64},
        {64, 128, 128}, {64, 129, 192}, {1, 77, 77}, {0, UINT64_MAX - 1, UINT64_MAX},
    };
    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        assert_int_equal(graph_nominal(rows[i].split, rows[i].at), rows[i].want);
    uint64_t at = 0;
    for (uint64_t count = 0; at < (100u << 20); at = graph_nominal(0, at + 1), count++)
        assert_true(graph_nominal_count(at) == count && graph_nominal_count(at + 1) == count + 1);
    assert_int_equal(graph_nominal_count(200186685), 96);
}

static int file_of(const char *bytes, size_t size)
{
    int fd = memfd_create("in", MFD_CLOEXEC);
    assert_int_equal(write(fd, bytes, size), (ssize_t)size);
    return fd;
}

static struct inlet whole(const char *text)
{
    struct inlet in = {0};
    struct err e;
    assert_int_equal(inlet_add(&in, file_of(text, strlen(text)), 0, strlen(text), GRAPH_NONE, &e), 0);
    in.ended = true;
    return in;
}

/* Boundaries as "2 4 9", in runs of at least `size`. */
static void cuts(struct inlet *in, struct inlet_rule rule, uint64_t size, uint64_t least, char *out, size_t room)
{
    uint64_t from = 0, to, units = 0;
    struct err e;
    *out = '\0';
    while (from < in->bytes && inlet_cut(in, &rule, from, size, from ? 0 : least, &units, &to, &e) == 1) {
        assert_true(to > from);
        snprintf(out + strlen(out), room - strlen(out), "%s%llu", *out ? " " : "", (unsigned long long)to);
        from = to;
    }
}

static const struct {
    const char *text;
    uint32_t cut;
    uint64_t step, split, size, least;
    const char *seam, *want;
} rows[] = {
    {"a\nb\nc\n", GRAPH_CUT_LINES, 1, 1, 1, 0, "", "2 4 6"},
    {"a\nb\nc", GRAPH_CUT_LINES, 1, 1, 1, 0, "", "2 4 5"},
    {"\n\n\n", GRAPH_CUT_LINES, 1, 1, 1, 0, "", "1 2 3"},
    {"abc", GRAPH_CUT_LINES, 1, 1, 1, 0, "", "3"},
    {"a\nb\nc\nd\n", GRAPH_CUT_LINES, 1, 4, 1, 0, "", "4 8"},
    {"a\nbbbbbbb\nc\n", GRAPH_CUT_LINES, 1, 4, 1, 0, "", "10 12"},
    {"a\nb\nc\nd\ne\n", GRAPH_CUT_LINES, 2, 1, 1, 0, "", "4 8 10"},
    {"a\nb\nc\nd\ne\n", GRAPH_CUT_LINES, 1, 1, 1, 3, "", "6 8 10"},
    {"a\nb\nc\nd\ne\n", GRAPH_CUT_LINES, 1, 2, 6, 0, "", "6 10"},
    {"abcdefg", GRAPH_CUT_BYTES, 1, 2, 1, 0, "", "2 4 6 7"},
    {"abcdefg", GRAPH_CUT_BYTES, 3, 1, 1, 0, "", "3 6 7"},
    {"abcdefg", GRAPH_CUT_BYTES, 1, 1, 1, 5, "", "5 6 7"},
    {"a\n\nb\n\n\nc\n", GRAPH_CUT_LINES, 1, 1, 1, 0, "\n", "3 7 9"},
    {"\n\na\n", GRAPH_CUT_LINES, 1, 1, 1, 0, "\n", "2 4"},
    {"a, b,,c", GRAPH_CUT_LINES, 1, 1, 1, 0, " ,", "3 6 7"},
    {"aaaa", GRAPH_CUT_LINES, 1, 1, 1, 0, "a", "4"},
    {"a b c d e", GRAPH_CUT_LINES, 1, 4, 1, 0, " ", "4 8 9"},
};

/* Records of maps. */
static const struct {
    const char *text;
    struct inlet_rule rule;
    const char *want;
} maps[] = {
    /* A block of at least so many bytes, from wherever it begins. */
    {"a\nbb\nc\nd\n", {GRAPH_CUT_LINES, 1, 0, {"", 0}, 3, {"", sizeof "" - 1}}, "5 9"},
    {"a\nbb\nc\nd\ne", {GRAPH_CUT_LINES, 2, 0, {"", 0}, 1, {"", sizeof "" - 1}}, "5 9 10"},
    {"aaaaaaaaa\nb\n", {GRAPH_CUT_LINES, 1, 0, {"", 0}, 3, {"", sizeof "" - 1}}, "10 12"},
    {"abcdefg", {GRAPH_CUT_BYTES, 2, 0, {"", 0}, 3, {"", sizeof "" - 1}}, "4 7"},
    /* Paragraphs end with all the blank lines behind them; those in front belong to the first. */
    {"a\nb\n\nc\n", {GRAPH_CUT_PARAGRAPHS, 1, 1, {"", 0}, 0, {"", sizeof "" - 1}}, "5 7"},
    {"a\n\n\n\nb\n\n", {GRAPH_CUT_PARAGRAPHS, 1, 1, {"", 0}, 0, {"", sizeof "" - 1}}, "5 8"},
    {"\n\n\na\n\nb", {GRAPH_CUT_PARAGRAPHS, 1, 1, {"", 0}, 0, {"", sizeof "" - 1}}, "6 7"},
    {"\n\n\n", {GRAPH_CUT_PARAGRAPHS, 1, 1, {"", 0}, 0, {"", sizeof "" - 1}}, "3"},
    {"a\n \nb\n\nc", {GRAPH_CUT_PARAGRAPHS, 1, 1, {"", 0}, 0, {"", sizeof "" - 1}}, "7 8"},
    {"a\n\nb\n\nc\n\nd", {GRAPH_CUT_PARAGRAPHS, 1, 4, {"", 0}, 0, {"", sizeof "" - 1}}, "6 9 10"},
    {"a\n\nb\n\nc\n\nd", {GRAPH_CUT_PARAGRAPHS, 1, 0, {"", 0}, 4, {"", sizeof "" - 1}}, "6 10"},
    /* What comes before the first of them belongs to the first. */
    {">a\nx\n>b\n>c\ny", {GRAPH_CUT_STARTS, 1, 1, {"", 0}, 0, {">", sizeof ">" - 1}}, "5 8 12"},
    {"x\n>a\n>b\n", {GRAPH_CUT_STARTS, 1, 1, {"", 0}, 0, {">", sizeof ">" - 1}}, "2 5 8"},
    {"x>\n >\n>", {GRAPH_CUT_STARTS, 1, 1, {"", 0}, 0, {">", sizeof ">" - 1}}, "6 7"},
    {"From a\nFro\n\nFrom b\nFrom", {GRAPH_CUT_STARTS, 1, 1, {"", 0}, 0, {"From ", sizeof "From " - 1}}, "12 23"},
    {"ab\n\nab\naab\nab", {GRAPH_CUT_STARTS, 1, 1, {"", 0}, 0, {"ab", sizeof "ab" - 1}}, "4 11 13"},
    {"xx", {GRAPH_CUT_STARTS, 1, 1, {"", 0}, 0, {">", sizeof ">" - 1}}, "2"},
    /* Ends do not share bytes. */
    {"a;b;c", {GRAPH_CUT_ENDS, 1, 1, {"", 0}, 0, {";", sizeof ";" - 1}}, "2 4 5"},
    {"a--b-c---d", {GRAPH_CUT_ENDS, 1, 1, {"", 0}, 0, {"--", sizeof "--" - 1}}, "3 8 10"},
    {"aaaaa", {GRAPH_CUT_ENDS, 1, 1, {"", 0}, 0, {"aa", sizeof "aa" - 1}}, "2 4 5"},
    {"abababac", {GRAPH_CUT_ENDS, 1, 1, {"", 0}, 0, {"abac", sizeof "abac" - 1}}, "8"},
    {"aabaaabaab", {GRAPH_CUT_ENDS, 1, 1, {"", 0}, 0, {"aaab", sizeof "aaab" - 1}}, "7 10"},
    {";;;", {GRAPH_CUT_ENDS, 1, 1, {"", 0}, 0, {";", sizeof ";" - 1}}, "1 2 3"},
};

static void test_cuts(void **state)
{
    char got[256];
    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct inlet in = whole(rows[i].text);
        cuts(&in, (struct inlet_rule){.cut = rows[i].cut, .step = rows[i].step, .split_bytes = rows[i].split,
                                      .seam = slice_of(rows[i].seam)},
             rows[i].size, rows[i].least, got, sizeof got);
        if (strcmp(got, rows[i].want))
            fail_msg("row %zu: %s, not %s", i, got, rows[i].want);
        inlet_clear(&in);
    }
    for (size_t i = 0; i < sizeof maps / sizeof *maps; i++) {
        struct inlet in = whole(maps[i].text);
        cuts(&in, maps[i].rule, 1, 0, got, sizeof got);
        if (strcmp(got, maps[i].want))
            fail_msg("map row %zu: %s, not %s", i, got, maps[i].want);
        inlet_clear(&in);
    }
}

/* A stream that comes in drops has its boundaries where the whole file has them. */
static void grow(struct inlet_rule rule, const char *text, size_t size)
{
    uint32_t r = 1;
    int fd = file_of(text, size);
    struct inlet all = {0}, some = {0};
    struct err e;
    assert_int_equal(inlet_add(&all, dup(fd), 0, size, GRAPH_NONE, &e), 0);
    assert_int_equal(inlet_add(&some, fd, 0, 0, GRAPH_NONE, &e), 0);
    all.ended = true;
    uint64_t from = 0, come = 0;
    while (from < size) {
        uint64_t want, to, u1 = 0, u2 = 0;
        assert_int_equal(inlet_cut(&all, &rule, from, 1, 0, &u1, &want, &e), 1);
        while (inlet_cut(&some, &rule, from, 1, 0, &u2, &to, &e) == 0) {
            come += 1 + (r = r * 1664525 + 1013904223) % 700;
            inlet_grow(&some, come > size ? size : come);
            some.ended = come >= size;
        }
        assert_int_equal(to, want);
        from = to;
    }
    inlet_clear(&all);
    inlet_clear(&some);
}

static void test_growing(void **state)
{
    enum { SIZE = 300000 };
    static char text[SIZE];
    static const struct inlet_rule rules[] = {
        {GRAPH_CUT_LINES, 1, 1000, {"", 0}, 0, {"", 0}},
        {GRAPH_CUT_LINES, 1, 1000, {"\n", 1}, 0, {"", 0}},
        {GRAPH_CUT_LINES, 1, 1000, {"x\n", 2}, 0, {"", 0}},
        {GRAPH_CUT_LINES, 1, 1000, {"y", 1}, 0, {"", 0}},
        {GRAPH_CUT_PARAGRAPHS, 1, 1000, {"", 0}, 0, {"", 0}},
        {GRAPH_CUT_STARTS, 1, 1000, {"", 0}, 0, {"xzx", 3}},
        {GRAPH_CUT_ENDS, 1, 1000, {"", 0}, 0, {"x\nx", 3}},
        {GRAPH_CUT_ENDS, 1, 0, {"", 0}, 5000, {"\n\n\n", 3}},
        {GRAPH_CUT_BYTES, 7, 0, {"", 0}, 5000, {"", 0}}};
    uint32_t r = 1;
    (void)state;
    for (int i = 0; i < SIZE; i++) {
        uint32_t roll = (r = r * 1664525 + 1013904223) >> 24;
        bool again = i && text[i - 1] == '\n' && roll < 100; /* blank lines, and several of them */
        text[i] = roll < 3 || again ? '\n' : roll < 40 ? 'z' : 'x';
    }
    memset(text + 100000, 'y', 90000); /* one record longer than a block */
    for (size_t i = 0; i < sizeof rules / sizeof *rules; i++)
        grow(rules[i], text, SIZE);
}

/* Several files: a run's pieces, and runs that must end with their file. */
static void test_stretches(void **state)
{
    static const char *const text[] = {"a\nb", "", "c\nd\n", "e"};
    struct inlet in = {0};
    struct box_source s[8];
    struct err e;
    char got[64];
    (void)state;
    for (uint32_t i = 0; i < 4; i++)
        assert_int_equal(inlet_add(&in, file_of(text[i], strlen(text[i])), 0, strlen(text[i]), i, &e), 0);
    in.ended = true;
    struct inlet_rule rule = {.cut = GRAPH_CUT_LINES, .step = 1, .split_bytes = 1};
    cuts(&in, rule, 1, 0, got, sizeof got);
    assert_string_equal(got, "2 5 7 8"); /* a line may span two files */
    in.apart = true;
    cuts(&in, rule, 1, 0, got, sizeof got);
    assert_string_equal(got, "2 3 5 7 8");
    cuts(&in, rule, 6, 0, got, sizeof got);
    assert_string_equal(got, "3 7 8"); /* runs longer than what is left */
    assert_int_equal(inlet_file(&in, 3), 2);
    assert_int_equal(inlet_sources(&in, 2, 6, s, 8), 2);
    assert_int_equal(s[0].offset, 2);
    assert_int_equal(s[0].size, 1);
    assert_int_equal(s[1].offset, 0);
    assert_int_equal(s[1].size, 3);
    assert_int_equal(inlet_sources(&in, 0, 8, s, 2), -1);
    uint64_t lines;
    assert_int_equal(inlet_lines(&in, 1, 6, &lines, &e), 0);
    assert_int_equal(lines, 2);
    inlet_clear(&in);
    for (uint32_t i = 0; i < 4; i++) {
        assert_int_equal(inlet_add(&in, file_of(text[i], strlen(text[i])), 0, strlen(text[i]), i, &e), 0);
        inlet_join(&in);
    }
    in.apart = in.ended = true;
    cuts(&in, rule, 6, 0, got, sizeof got);
    assert_string_equal(got, "3 8"); /* only "a\nb" ends inside a line */
    inlet_clear(&in);
}

/* Pieces that come: each is a block when it is complete. */
static void test_pieces(void **state)
{
    static const struct {
        const char *text;
        bool goes_on;
    } part[] = {{"a\nb\n", false}, {"c\n", true}, {"d\n", false}, {"e\n", true}};
    struct inlet in = {.pieces = true, .apart = true};
    struct inlet_rule rule = {.cut = GRAPH_CUT_LINES, .step = 1};
    struct err e;
    uint64_t units = 0, to = 0;
    (void)state;
    for (uint32_t i = 0; i < 4; i++) {
        assert_int_equal(inlet_add(&in, file_of(part[i].text, strlen(part[i].text)), 0, strlen(part[i].text), GRAPH_NONE, &e), 0);
        in.stretch[i].goes_on = part[i].goes_on;
        assert_int_equal(inlet_cut(&in, &rule, 0, 1, 0, &units, &to, &e), i > 1); /* also when more is there */
        in.whole = i == 1 ? in.bytes : in.whole;
    }
    assert_int_equal(to, 6);
    assert_int_equal(inlet_cut(&in, &rule, 6, 1, 0, &units, &to, &e), 0);
    in.ended = true;
    assert_int_equal(inlet_cut(&in, &rule, 6, 1, 0, &units, &to, &e), 1);
    assert_int_equal(to, 10);
    inlet_clear(&in);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {cmocka_unit_test(test_pieces), cmocka_unit_test(test_nominal), cmocka_unit_test(test_cuts),
                                              cmocka_unit_test(test_growing), cmocka_unit_test(test_stretches)};
    return cmocka_run_group_tests(tests, NULL, NULL) != 0;
}
