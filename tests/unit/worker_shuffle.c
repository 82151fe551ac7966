/* Lines dealt out to partitions: against a plain loop over the same lines, in memory, whatever the
 * sizes of lines and of the pieces in which the input comes. */
#include "lib/test.h"
#include "worker/shuffle.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <unistd.h>

struct text {
    char *bytes;
    size_t size, room;
};

static void put(struct text *t, const void *bytes, size_t size)
{
    if (t->size + size > t->room) {
        t->room = 2 * (t->size + size);
        t->bytes = realloc(t->bytes, t->room);
        assert_non_null(t->bytes);
    }
    if (size)
        memcpy(t->bytes + t->size, bytes, size);
    t->size += size;
}

/* What each partition must hold. */
static struct text *plain(const struct key *k, uint32_t count, const char *bytes, size_t size)
{
    struct text *part = calloc(count, sizeof *part);
    for (size_t at = 0; at < size;) {
        const char *stop = memchr(bytes + at, '\n', size - at);
        size_t length = stop ? (size_t)(stop - bytes) - at : size - at;
        struct key_hash h;
        key_begin(&h, k);
        key_add(&h, bytes + at, length);
        struct text *to = &part[key_partition(key_end(&h), count) - 1];
        put(to, bytes + at, length);
        put(to, "\n", 1);
        at += length + 1;
    }
    return part;
}

static void free_parts(struct text *part, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++)
        free(part[i].bytes);
    free(part);
}

/* The pieces of the inlet are the partitions that have lines, one after the other. */
static void compare(struct inlet *in, const struct text *part, uint32_t count)
{
    const struct inlet_rule rule = {.cut = GRAPH_CUT_FILES};
    uint64_t from = 0, to = 0, units = 0;
    struct err e;
    for (uint32_t i = 0; i < count; i++) {
        if (!part[i].size)
            continue;
        assert_int_equal(inlet_cut(in, &rule, from, 1, 0, &units, &to, &e), 1);
        assert_int_equal(to - from, part[i].size);
        assert_int_equal(inlet_file(in, from), i);
        char *got = malloc(part[i].size);
        assert_int_equal(inlet_read(in, from, got, part[i].size, &e), (ssize_t)part[i].size);
        assert_memory_equal(got, part[i].bytes, part[i].size);
        free(got);
        from = to;
    }
    assert_int_equal(from, in->bytes);
}

/* The bytes come in pieces of `step`, in stretches of one file or, if `apart`, of as many files as
 * pieces. */
static void deal(const char *key, uint32_t count, const char *bytes, size_t size, size_t step,
                 bool apart)
{
    struct key k;
    struct err e;
    struct inlet in = {0}, out = {0};
    int fd = memfd_create("in", MFD_CLOEXEC), r;
    assert_int_equal(key_parse(key, -1, &k, &e), 0);
    struct shuffle *s = shuffle_new(&k, count, &e);
    assert_non_null(s);
    assert_int_equal(write(fd, bytes, size), (ssize_t)size);
    if (!apart)
        assert_int_equal(inlet_add(&in, fd, 0, 0, GRAPH_NONE, &e), 0);
    for (size_t at = 0; at < size;) {
        size_t n = size - at < step ? size - at : step;
        if (apart)
            assert_int_equal(inlet_add(&in, dup(fd), at, n, GRAPH_NONE, &e), 0);
        at += n;
        if (!apart)
            inlet_grow(&in, at);
        while ((r = shuffle_turn(s, &in, &e)) > 0)
            inlet_drop(&in, shuffle_spent(s));
        assert_int_equal(r, 0);
    }
    in.ended = true;
    while ((r = shuffle_turn(s, &in, &e)) > 0)
        ;
    assert_int_equal(r, 0);
    assert_int_equal(shuffle_at(s), size);
    struct text *want = plain(&k, count, bytes, size);
    int full = 0;
    for (uint32_t i = 0; i < count; i++)
        full += want[i].size > 0;
    assert_int_equal(shuffle_give(s, &out, &e), full);
    shuffle_free(s);
    compare(&out, want, count);
    free_parts(want, count);
    inlet_clear(&out);
    inlet_clear(&in);
    if (apart)
        close(fd);
}

static void test_small(void **state)
{
    static const char *const texts[] = {
        "", "\n", "a", "a\n", "a\nb\na\n", "a\nb\na", "\n\n\n", "a 1\nb 2\n\na 3\nb", "x\r\ny\r\n"};
    static const uint32_t counts[] = {1, 2, 16, 1000, GRAPH_INTO_MAX};
    (void)state;
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++)
        for (size_t c = 0; c < sizeof counts / sizeof *counts; c++)
            for (size_t step = 1; step < (counts[c] > 1000 ? 2 : 4); step++) {
                deal("1", counts[c], texts[i], strlen(texts[i]), step, false);
                deal("line", counts[c], texts[i], strlen(texts[i]), step, true);
            }
}

static uint32_t seed = 1;

static uint32_t roll(uint32_t below)
{
    seed = seed * 1664525 + 1013904223;
    return (seed >> 8) % below;
}

/* Lines of every length, now and then one longer than what is read at once. */
static void fill(struct text *t, size_t size, uint32_t longest)
{
    while (t->size < size) {
        uint32_t length = roll(200) == 0 ? roll(longest) : roll(60);
        for (uint32_t i = 0; i < length; i++)
            put(t, &"abc  01\0"[roll(8)], 1);
        put(t, "\n", 1);
    }
}

static void test_large(void **state)
{
    static const struct {
        const char *key;
        uint32_t count;
        size_t size, step;
        uint32_t longest;
        bool apart;
    } rows[] = {
        {"1", 16, 1500000, 1500000, 2000, false},     {"1", 1, 1500000, 100000, 2000, true},
        {"2,1n", 1000, 1500000, 77777, 2000, true},   {"line", 65536, 1000000, 1000000, 300, false},
        {"1", 4, 2000000, 200000, 700000, true},      {"line", 3, 2000000, 50000, 700000, false},
        {"1-3f", 7, 2000000, 2000000, 700000, false},
    };
    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct text t = {0};
        fill(&t, rows[i].size, rows[i].longest);
        deal(rows[i].key, rows[i].count, t.bytes, t.size, rows[i].step, rows[i].apart);
        deal(rows[i].key, rows[i].count, t.bytes, t.size - 1, rows[i].step, rows[i].apart);
        free(t.bytes);
    }
}

/* A line around the ceiling of one reading, with and without its newline. */
static void test_long(void **state)
{
    char *line = malloc(2 * SHUFFLE_READ_BYTES + 16);
    (void)state;
    memset(line, 'x', 2 * SHUFFLE_READ_BYTES + 16);
    for (uint32_t times = 1; times <= 2; times++)
        for (int more = -2; more <= 2; more++) {
            size_t size = times * SHUFFLE_READ_BYTES + (size_t)more;
            line[size - 1] = '\n';
            deal("1", 5, line, size, size, false);
            deal("1", 5, line, size, size - 1, true);
            line[size - 1] = 'x';
            deal("1", 5, line, size, size, false);
            deal("line", 5, line, size, SHUFFLE_READ_BYTES, true);
        }
    free(line);
}

/* What cannot be read or written is told, and nothing is lost of it silently. */
static void test_failures(void **state)
{
    struct key k;
    struct err e;
    struct inlet in = {0};
    (void)state;
    assert_int_equal(key_parse("1", -1, &k, &e), 0);
    struct shuffle *s = shuffle_new(&k, 2, &e);
    assert_int_equal(inlet_add(&in, memfd_create("in", MFD_CLOEXEC), 0, 10, GRAPH_NONE, &e), 0);
    in.ended = true;
    assert_int_equal(shuffle_turn(s, &in, &e), -1); /* shorter than announced */
    assert_non_null(strstr(e.text, "cannot read"));
    shuffle_free(s);
    inlet_clear(&in);

    char *bytes = calloc(1, 1 << 20);
    int fd = memfd_create("in", MFD_CLOEXEC);
    assert_int_equal(write(fd, bytes, 1 << 20), 1 << 20);
    free(bytes);
    s = shuffle_new(&k, 2, &e);
    assert_int_equal(inlet_add(&in, fd, 0, 1 << 20, GRAPH_NONE, &e), 0);
    in.ended = true;
    struct rlimit was, small = {1 << 16, 1 << 16};
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &was), 0);
    small.rlim_max = was.rlim_max;
    signal(SIGXFSZ, SIG_IGN);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &small), 0);
    int r;
    while ((r = shuffle_turn(s, &in, &e)) > 0)
        ;
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &was), 0);
    assert_int_equal(r, -1);
    assert_int_equal(e.sys, EFBIG);
    shuffle_free(s);
    inlet_clear(&in);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_small),
        cmocka_unit_test(test_large),
        cmocka_unit_test(test_long),
        cmocka_unit_test(test_failures),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
