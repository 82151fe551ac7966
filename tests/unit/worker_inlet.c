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
        {0, 0, 0}, {0, 1, 65536}, {0, 65536, 65536}, {0, 65537, 131072}, {0, 4194304, 4194304},
        {0, 4194305, 5242880}, {0, 268435456, 268435456}, {0, 268435457, 272629760}, {64, 1, 64},
        {64, 128, 128}, {64, 129, 192}, {1, 77, 77}, {0, UINT64_MAX - 1, UINT64_MAX},
    };
    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        assert_int_equal(inlet_nominal(rows[i].split, rows[i].at), rows[i].want);
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

static void test_cuts(void **state)
{
    char got[256];
    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct inlet in = whole(rows[i].text);
        cuts(&in, (struct inlet_rule){rows[i].cut, rows[i].step, rows[i].split, slice_of(rows[i].seam)}, rows[i].size,
             rows[i].least, got, sizeof got);
        if (strcmp(got, rows[i].want))
            fail_msg("row %zu: %s, not %s", i, got, rows[i].want);
        inlet_clear(&in);
    }
}

/* A stream that comes in drops has its boundaries where the whole file has them. */
static void grow(const char *seam)
{
    enum { SIZE = 300000 };
    static char text[SIZE];
    uint32_t r = 1;
    for (int i = 0; i < SIZE; i++)
        text[i] = (r = r * 1664525 + 1013904223) >> 24 < 3 ? '\n' : 'x';
    memset(text + 100000, 'y', 90000); /* one line longer than a block */
    int fd = file_of(text, SIZE);
    struct inlet all = {0}, some = {0};
    struct err e;
    struct inlet_rule rule = {GRAPH_CUT_LINES, 1, 1000, slice_of(seam)};
    assert_int_equal(inlet_add(&all, dup(fd), 0, SIZE, GRAPH_NONE, &e), 0);
    assert_int_equal(inlet_add(&some, fd, 0, 0, GRAPH_NONE, &e), 0);
    all.ended = true;
    uint64_t from = 0, come = 0;
    while (from < SIZE) {
        uint64_t want, to, u1 = 0, u2 = 0;
        assert_int_equal(inlet_cut(&all, &rule, from, 1, 0, &u1, &want, &e), 1);
        while (inlet_cut(&some, &rule, from, 1, 0, &u2, &to, &e) == 0) {
            come += 1 + (r = r * 1664525 + 1013904223) % 700;
            inlet_grow(&some, come > SIZE ? SIZE : come);
            some.ended = come >= SIZE;
        }
        assert_int_equal(to, want);
        from = to;
    }
    inlet_clear(&all);
    inlet_clear(&some);
}

static void test_growing(void **state)
{
    (void)state;
    grow("");
    grow("\n");
    grow("x\n");
    grow("y");
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
    struct inlet_rule rule = {GRAPH_CUT_LINES, 1, 1, slice_of("")};
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
}

int main(void)
{
    static const struct CMUnitTest tests[] = {cmocka_unit_test(test_nominal), cmocka_unit_test(test_cuts),
                                              cmocka_unit_test(test_growing), cmocka_unit_test(test_stretches)};
    return cmocka_run_group_tests(tests, NULL, NULL) != 0;
}
