/* Keys of reduce: what of a line is hashed, shown as the bytes that are, for lines given whole and
 * in pieces of every small size; which partition that is, by the manual's examples; and keys that
 * are none. */
#include "tests/lib/test.h"

#include "proto/key.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* `hashed`: `|` is the zero byte behind each field. */
static const struct row {
    const char *key;
    int separator;
    const char *line, *hashed;
} rows[] = {
    {"line", -1, " a  b ", " a  b |"},
    {"line", ',', "a,b", "a,b|"},
    {"line", -1, "", "|"},
    {"1", -1, "a b c", "a|"},
    {"1", -1, " \t a b", "a|"},
    {"2", -1, "a \t b", "b|"},
    {"2", -1, "a \t b ", "b|"},
    {"2", -1, "a", "|"},
    {"2", -1, "a ", "|"},
    {"1", -1, "", "|"},
    {"1", -1, "   ", "|"},
    {"1,3", -1, "a b c d", "a|c|"},
    {"3,1", -1, "a b c d", "a|c|"},
    {"1,1", -1, "a b", "a|"},
    {"2-3", -1, "a b c d", "b|c|"},
    {"2-3,1", -1, "a b c d", "a|b|c|"},
    {"2-9", -1, "a b", "b||||||||"},
    {"1", -1, "a\r", "a\r|"},
    {"1", -1, "a\v\f\xc2\xa0 b", "a\v\f\xc2\xa0|"},
    {"1", ',', "a,b", "a|"},
    {"2", ',', "a,b", "b|"},
    {"2", ',', "a,b,", "b|"},
    {"3", ',', "a,b,", "|"},
    {"1", ',', ",b", "|"},
    {"2", ',', ",,c", "|"},
    {"2", ',', "a b", "|"},
    {"1", ',', "a b", "a b|"},
    {"1", ',', " a ", " a |"},
    {"1-2", '\t', "a b\tc\td", "a b|c|"},
    {"1", ' ', " a", "|"},
    {"1", '\n', "a b", "a b|"},
    {"1", 0xff,
     "a\xff"
     "b",
     "a|"},
    {"1f", -1, "AbZ@[`{ b", "abz@[`{|"},
    {"1f,2", -1, "A B", "a|B|"},
    {"1-3,2f", -1, "A B C", "A|b|C|"},
    {"2f,1-3", -1, "A B C", "A|b|C|"},
    {"1f", -1, "\xc3\x84", "\xc3\x84|"},
    {"1n", -1, "1", "1|"},
    {"1n", -1, "01", "1|"},
    {"1n", -1, "1.0", "1|"},
    {"1n", -1, "1.", "1|"},
    {"1n", -1, "1.50x", "1.5|"},
    {"1n", -1, "0", "|"},
    {"1n", -1, "-0.00", "|"},
    {"1n", -1, "", "|"},
    {"2n", -1, "1", "|"},
    {"1n", -1, "x1", "|"},
    {"1n", -1, "+1", "|"},
    {"1n", -1, "-", "|"},
    {"1n", -1, "--1", "|"},
    {"1n", -1, "-1", "-1|"},
    {"1n", -1, "-007.5", "-7.5|"},
    {"1n", -1, ".5", ".5|"},
    {"1n", -1, "0.50", ".5|"},
    {"1n", -1, "-.005", "-.005|"},
    {"1n", -1, "10.0305", "10.0305|"},
    {"1n", -1, "100", "100|"},
    {"1n", -1, "1e3", "1|"},
    {"1n", -1, "1.2.3", "1.2|"},
    {"1n", -1, "123456789012345678901234567890.10", "123456789012345678901234567890.1|"},
    {"1n", ',', " \t 7 8,x", "7|"},
    {"1n", ',', "- 7", "|"},
    {"1n,2", -1, "-. x", "|x|"},
    {"1-2n", -1, "01 02", "1|2|"},
    {"1nf", -1, "01A", "1|"},
    {"1-2,2n,2f", -1, "01 02", "01|2|"},
};

/* FNV-1a as its authors write it down. */
static uint64_t fnv(const char *bytes, size_t size)
{
    uint64_t h = 14695981039346656037u;
    for (size_t i = 0; i < size; i++) {
        h ^= (unsigned char)bytes[i];
        h *= 1099511628211u;
    }
    return h;
}

static uint64_t hash_of(const struct key *k, const char *line, size_t size, size_t piece)
{
    struct key_hash h;
    key_begin(&h, k);
    for (size_t at = 0; at < size; at += piece)
        key_add(&h, line + at, size - at < piece ? size - at : piece);
    return key_end(&h);
}

static void test_rows(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        const struct row *r = &rows[i];
        struct key k;
        struct err e;
        char want[256];
        size_t size = strlen(r->hashed);
        for (size_t c = 0; c < size; c++)
            want[c] = r->hashed[c] == '|' ? '\0' : r->hashed[c];
        assert_int_equal(key_parse(r->key, r->separator, &k, &e), 0);
        for (size_t piece = 1; piece <= strlen(r->line) + 1; piece++)
            if (hash_of(&k, r->line, strlen(r->line), piece) != fnv(want, size))
                fail_msg("row %zu, by %s of '%s' in pieces of %zu", i, r->key, r->line, piece);
    }
}

static void test_zero_bytes(void **state)
{
    struct key k;
    struct err e;
    (void)state;
    assert_int_equal(key_parse("1", ',', &k, &e), 0);
    assert_true(hash_of(&k, "a\0b,c", 5, 5) == fnv("a\0b", 4));
    assert_int_equal(key_parse("2", 0, &k, &e), 0);
    assert_true(hash_of(&k, "a\0b\0c", 5, 1) == fnv("b", 2));
}

/* Missing fields are zero bytes, however many. */
static void test_missing(void **state)
{
    static char zeros[70000];
    struct key k;
    struct err e;
    (void)state;
    memcpy(zeros, "x", 1);
    assert_int_equal(key_parse("1-69999", -1, &k, &e), 0);
    assert_true(hash_of(&k, "x", 1, 1) == fnv(zeros, 70000));
    assert_int_equal(key_parse("1-4294967295,4294967295n", -1, &k, &e), 0);
    uint64_t end = hash_of(&k, "", 0, 1);
    assert_int_equal(key_parse("1-4294967295", -1, &k, &e), 0);
    assert_true(hash_of(&k, "", 0, 1) == end);
}

static void test_partitions(void **state)
{
    static const struct {
        const char *key, *line;
        uint32_t count, want;
    } vectors[] = {{"1", "a", 16, 4},
                   {"1", "the", 16, 12},
                   {"1-2", "a b", 16, 5},
                   {"line", "a", 16, 4},
                   {"1", "a", 1, 1}};
    (void)state;
    for (size_t i = 0; i < sizeof vectors / sizeof *vectors; i++) {
        struct key k;
        struct err e;
        assert_int_equal(key_parse(vectors[i].key, -1, &k, &e), 0);
        uint64_t h = hash_of(&k, vectors[i].line, strlen(vectors[i].line), 1);
        assert_int_equal(key_partition(h, vectors[i].count), vectors[i].want);
    }
    for (uint64_t h = 0; h < 1000; h++)
        assert_in_range(key_partition(h * 0x9e3779b97f4a7c15u, 7), 1, 7);
}

static void test_bad(void **state)
{
    static const char *const bad[] = {"",
                                      "0",
                                      "01",
                                      "1,",
                                      ",1",
                                      "1,,2",
                                      "3-2",
                                      "1-",
                                      "-1",
                                      "1 ",
                                      " 1",
                                      "lines",
                                      "Line",
                                      "n",
                                      "1x",
                                      "1-2-3",
                                      "1n-2",
                                      "4294967296",
                                      "99999999999999999999999"};
    static char many[2 * KEY_FIELDS_MAX + 2];
    struct key k;
    struct err e;
    (void)state;
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        if (key_parse(bad[i], -1, &k, &e) == 0)
            fail_msg("'%s' is a key", bad[i]);
    for (size_t i = 0; i <= KEY_FIELDS_MAX; i++)
        memcpy(many + 2 * i, "1,", 2);
    many[2 * KEY_FIELDS_MAX + 1] = '\0';
    assert_int_equal(key_parse(many, -1, &k, &e), -1);
    assert_int_equal(e.code, ERR_LIMIT);
    many[2 * KEY_FIELDS_MAX - 1] = '\0';
    assert_int_equal(key_parse(many, -1, &k, &e), 0);
    assert_int_equal(k.count, 1);
}

/* As many spans as there can be: every second field has a letter, and a range has them all. */
static void test_spans(void **state)
{
    static char text[8 * KEY_FIELDS_MAX];
    struct key k;
    struct err e;
    (void)state;
    strcpy(text, "1-4000");
    for (size_t i = 1; i < KEY_FIELDS_MAX; i++)
        sprintf(text + strlen(text), ",%zun", 2 * i);
    assert_int_equal(key_parse(text, -1, &k, &e), 0);
    assert_int_equal(k.count, 2 * KEY_FIELDS_MAX - 1);
    for (uint32_t i = 1; i < k.count; i++)
        assert_true(k.span[i].from == k.span[i - 1].to + 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_rows),    cmocka_unit_test(test_zero_bytes),
        cmocka_unit_test(test_missing), cmocka_unit_test(test_partitions),
        cmocka_unit_test(test_bad),     cmocka_unit_test(test_spans),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
