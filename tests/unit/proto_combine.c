/* Outputs of blocks made one: rows of a text, the parts and what must come of them, fed whole and
 * in pieces of every small size; what must be refused; and that a seam holds no more than a line.
 */
#include "tests/lib/test.h"

#include "proto/combine.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Parts are separated by `|`, inputs of each are 10 lines and 100 bytes. */
static const struct row {
    const char *text, *parts, *result; /* NULL: cannot be combined */
} rows[] = {
    {"columns 0 +", "3\n|4\n", "7\n"},
    {"columns 0 +", "3\n|\n", NULL},
    {"columns 0 +", "3 4\n|1 1\n", NULL},
    {"columns 0 +", "3\n|x\n", NULL},
    {"columns 0 +", "3", NULL},
    {"columns 0 +", "3\n4\n", NULL},
    {"columns 0 +", "1234567890123456789\n", NULL},
    {"columns 7 ++>", "      1       2       9\n|      3       4       5\n",
     "      4       6       9\n"},
    {"columns 0 +  a b", "3\n|4\n", "7 a b\n"},
    {"first", "|a\n|b\n", "a\n"},
    {"first", "||", ""},
    {"all", "a\n|a\n", "a\n"},
    {"all", "a\n||a\n", ""},
    {"join 44", "a,b\n|c\n|\n|d\n", "a,b,c,,d\n"},
    {"join", "a\n|b\n", "ab\n"},
    {"join 44", "a|b\n", NULL},
    {"join 44", "a\n||b\n", NULL},
    {"join 44", "a\nb\n|c\n", "a\nb,c\n"},
    {"number 6 r 1 1", "     1\ta\n     2\tb\n|     1\tc\n|     1\td",
     "     1\ta\n     2\tb\n     3\tc\n     4\td"},
    {"number 6 r 1 1 empty", "     1\ta\n\n|\n\n     1\tc\n", "     1\ta\n\n\n\n     2\tc\n"},
    {"number 6 r 1 1", "     1\ta\n|       \n     1\tb\n", "     1\ta\n       \n     2\tb\n"},
    {"number 6 r 1 1", "     1\ta\n|\n     1\tb\n", NULL},
    {"number 6 r 1 1", "     1\ta\n|x\n", NULL},
    {"number 6 r 1 1", "     1\ta\n|     1", NULL},
    {"number 6 r 1 1", "999999\ta\n|     1\tb\n", "999999\ta\n1000000\tb\n"},
    {"number 3 z 5 10", "005:a\n015:b\n|005:c\n", "005:a\n015:b\n025:c\n"},
    {"number 4 l 1 1", "1   \ta\n9   \tb\n|1   \tc\n", "1   \ta\n9   \tb\n10  \tc\n"},
    {"number 4 l 1 1", "1   \ta\n|1\n2   \tb\n", NULL}, /* whatever piece of the line is here */
    {"number 4 l 1 1", "    \n12345\ta\n|1   \n", "    \n12345\ta\n12346\n"},
    {"lines", "1:a\n9:b\n|3:c\n|10:d\n", "1:a\n9:b\n13:c\n30:d\n"},
    {"lines", "1\n2|1\n", NULL},
    {"lines", "1:a\n|Binary file (standard input) matches\n", NULL},
    {"lines", "1:a\n|\n", NULL},
    {"lines", "1:a\n|  \n", NULL},
    {"bytes", "0:a\n|7:b\n", "0:a\n107:b\n"},
    {"counts -c", "      1 a\n      2 b\n|      3 b\n|      4 b\n      1 c\n",
     "      1 a\n      9 b\n      1 c\n"},
    {"counts -c", "      1 \n|      3 \n", "      4 \n"},
    {"counts -c", "9999999 a\n|      1 a\n", "10000000 a\n"},
    {"counts -c", "      1 a\n|      1 A\n", "      1 a\n      1 A\n"},
    {"counts -c -i", "      1 a\n|      1 A\n", "      2 a\n"},
    {"counts -c -f1", "      1 x a\n|      1 y a\n|      1 y\ta\n", "      2 x a\n      1 y\ta\n"},
    {"counts -c -s1 -w1", "      1 xaz\n|      1 yab\n|      1 ybb\n",
     "      2 xaz\n      1 ybb\n"},
    {"counts -d", "      1 a\n      1 b\n|      1 b\n", "b\n"},
    {"counts -u", "      1 a\n      1 b\n|      1 b\n|      1 c\n", "a\nc\n"},
    {"counts -c -d", "      1 a\n      1 b\n|      1 b\n", "      2 b\n"},
    {"counts -D", "      1 a\n      1 b\n|      2 b\n", "b\nb\nb\n"},
    {"counts --all-repeated=separate", "      2 a\n      1 b\n|      1 b\n|      2 c\n",
     "a\na\n\nb\nb\n\nc\nc\n"},
    {"counts --all-repeated=prepend", "      2 a\n|      2 c\n", "\na\na\n\nc\nc\n"},
    {"counts --group", "      1 a\n|      1 a\n      1 b\n", "a\na\n\nb\n"},
    {"counts --group=both", "      1 a\n|      1 b\n", "\na\n\nb\n\n"},
    {"counts --group=append", "      1 a\n|      1 b\n", "a\n\nb\n\n"},
    {"seams", "a\nb\n|b\nc\n|c\n||c\n|d\nc\n", "a\nb\nc\nd\nc\n"},
    {"seams", "||a\n|a\n|b\n", "a\nb\n"},
    {"seams", "\n|\n|a\n", "\na\n"},
    {"seams", "a\n|ab\n|b\n|a", NULL},
    {"seams", "a\n|b", NULL},
    {"seams", "a\nb", NULL},
    {"seams -i", "a\n|A\nb\n|B\n|c\n", "a\nb\nc\n"},
    {"seams -f1 -s1 -w1", "x aab\n|y acc\nz bb\n|z b\n|u bbb\n|u cbb\n", "x aab\nz bb\nu cbb\n"},
    {"counts -c", "      1 a\n|      1", NULL},
    {"counts -c", "      1 a", NULL},
    {"counts -c", "a\n", NULL},
    {"counts -c", " 1 a\n", NULL},
};

static const char *const no_texts[] = {
    "",
    "column",
    "columns",
    "columns 7",
    "columns x +",
    "columns 0 x",
    "columns 33 +",
    "first x",
    "join x",
    "join 256",
    "number 6 r 1",
    "number 0 r 1 1",
    "number 6 q 1 1",
    "number 6 r 1 1 x",
    "lines 1",
    "counts -x",
    "seams -c",
    "seams -d",
    "seams --group",
    "counts c",
    "counts -f",
    "counts -fx",
    "counts -D -f1",
    "counts --group=x",
    "counts -cd",
    "counts -w99999999999999999999",
};

static int feed(struct combine *c, const struct row *row, size_t piece, struct buf *out,
                struct err *e)
{
    const char *at = row->parts;
    for (;;) {
        const char *end = strchrnul(at, '|');
        if (combine_part(c, 10, 100, out, e) < 0)
            return -1;
        while (at < end) {
            size_t n = (size_t)(end - at) < piece ? (size_t)(end - at) : piece;
            if (combine_add(c, at, n, out, e) < 0)
                return -1;
            at += n;
        }
        if (!*end)
            return combine_end(c, out, e);
        at = end + 1;
    }
}

static void every_row(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        for (size_t piece = 1; piece < 20; piece++) {
            struct err e = {0};
            struct buf out = BUF_INIT(1000);
            struct combine *c = combine_new(rows[i].text, &e);
            if (!c)
                fail_msg("%s", e.text);
            int r = feed(c, &rows[i], piece, &out, &e);
            buf_add(&out, "", 0);
            if ((r == 0) != (rows[i].result != NULL) ||
                (r == 0 && strcmp(out.data, rows[i].result) != 0))
                fail_msg("`%s` of `%s` in pieces of %zu: %d '%s'", rows[i].text, rows[i].parts,
                         piece, r, out.data);
            if (r < 0)
                assert_non_null(strstr(e.text, "cannot be combined"));
            buf_clear(&out);
            combine_free(c);
        }
}

static void refused(void **state)
{
    (void)state;
    char text[COMBINE_TEXT_MAX + 2];
    struct err e;
    for (size_t i = 0; i < sizeof no_texts / sizeof *no_texts; i++)
        if (combine_new(no_texts[i], &e))
            fail_msg("%s", no_texts[i]);
    memset(text, 'x', sizeof text);
    memcpy(text, "columns 0 + ", 12);
    text[sizeof text - 1] = '\0';
    assert_null(combine_new(text, &e));
}

/* What is too large is told, not held. */
static void ceilings(void **state)
{
    (void)state;
    struct err e;
    char *much = malloc(COMBINE_LINE_MAX + 1);
    assert_non_null(much);
    memset(much, '1', COMBINE_LINE_MAX + 1);
    static const char *const texts[] = {"columns 0 +", "first", "lines", "counts -c", "seams"};
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        struct buf out = BUF_INIT(1000);
        struct combine *c = combine_new(texts[i], &e);
        assert_int_equal(combine_part(c, 1, 1, &out, &e), 0);
        assert_int_equal(combine_add(c, much, COMBINE_LINE_MAX + 1, &out, &e), -1);
        buf_clear(&out);
        combine_free(c);
    }
    struct buf out = BUF_INIT(1000);
    struct combine *c = combine_new("counts -D", &e);
    assert_int_equal(combine_part(c, 1, 1, &out, &e), 0);
    assert_int_equal(combine_add(c, "999999999999 a\n", 15, &out, &e), 0);
    assert_int_equal(combine_end(c, &out, &e), -1);
    buf_clear(&out);
    combine_free(c);
    c = combine_new("lines", &e);
    assert_true(combine_counts_lines(c));
    combine_free(c);
    c = combine_new("bytes", &e);
    assert_false(combine_counts_lines(c));
    combine_free(c);
    free(much);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(every_row), cmocka_unit_test(refused),
                                       cmocka_unit_test(ceilings)};
    return cmocka_run_group_tests_name("proto_combine", tests, NULL, NULL) != 0;
}
