/* Ranges of keys: merged one by one and put end to end they are what one merge of everything makes, whatever
 * the order is, however many lines are equal; and an answer that is no merge is found out. */
#include "lib/test.h"
#include "worker/ranges.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define FILES_MAX 9

/* The order: by some bytes from the front, up or down, or by length. */
static struct order {
    size_t from, to;
    bool down, length;
    char end;
} order;

struct text {
    const char *at;
    size_t size; /* with its end */
    size_t number;
};

static int compare(const struct text *a, const struct text *b)
{
    size_t m = a->size - 1, n = b->size - 1;
    int r;
    if (order.length)
        return (m > n) - (m < n);
    m = m < order.from ? 0 : (m < order.to ? m : order.to) - order.from;
    n = n < order.from ? 0 : (n < order.to ? n : order.to) - order.from;
    r = memcmp(a->at + order.from, b->at + order.from, m < n ? m : n);
    r = r ? r : (m > n) - (m < n);
    return order.down ? -r : r;
}

static int stable(const void *a, const void *b)
{
    const struct text *p = a, *q = b;
    int r = compare(p, q);
    return r ? r : (p->number > q->number) - (p->number < q->number);
}

/* The lines of some texts, in order, equal ones as they stand: what the command makes of files. */
static struct buf merge(const struct slice *part, uint32_t count)
{
    struct buf all = BUF_INIT(1u << 30), out = BUF_INIT(1u << 30);
    size_t lines = 0, k = 0;
    for (uint32_t i = 0; i < count; i++)
        buf_add(&all, part[i].data, part[i].size);
    for (size_t i = 0; i < all.size; i++)
        lines += all.data[i] == order.end;
    struct text *line = calloc(lines + 1, sizeof *line);
    for (const char *at = all.data; k < lines; k++) {
        const char *end = memchr(at, order.end, (size_t)(all.data + all.size - at));
        line[k] = (struct text){at, (size_t)(end + 1 - at), k};
        at = end + 1;
    }
    qsort(line, lines, sizeof *line, stable);
    for (k = 0; k < lines; k++)
        buf_add(&out, line[k].at, line[k].size);
    free(line);
    buf_clear(&all);
    return out;
}

static struct buf file[FILES_MAX];
static int fd[FILES_MAX];
static uint64_t size[FILES_MAX];
static uint32_t files;

/* Files of lines with `keys` different beginnings. */
static void make(uint32_t count, size_t lines, unsigned keys, size_t longest)
{
    files = count;
    for (uint32_t i = 0; i < count; i++) {
        struct buf text = BUF_INIT(1u << 30);
        for (size_t k = rand() % 4 ? 0 : lines / 2; k < lines; k++) {
            buf_printf(&text, "%05u", (unsigned)rand() % keys);
            for (size_t n = longest ? (size_t)rand() % longest : 0; n > 0; n--)
                buf_byte(&text, "ab\t \xff"[rand() % 5]);
            buf_byte(&text, order.end);
            if (rand() % 50 == 0)
                buf_byte(&text, order.end); /* an empty line */
        }
        file[i] = merge(&(struct slice){text.data, text.size}, 1);
        buf_clear(&text);
        fd[i] = memfd_create("sorted", MFD_CLOEXEC);
        size[i] = file[i].size;
        assert_int_equal(write(fd[i], file[i].data, file[i].size), (ssize_t)file[i].size);
    }
}

static void clear(void)
{
    for (uint32_t i = 0; i < files; i++) {
        close(fd[i]);
        buf_clear(&file[i]);
    }
}

static struct buf answer(struct ranges *g)
{
    struct slice list[FILES_MAX + 2];
    assert_true(ranges_lists(g) <= FILES_MAX + 2);
    for (uint32_t i = 0; i < ranges_lists(g); i++)
        list[i] = ranges_list(g, i);
    return merge(list, ranges_lists(g));
}

static struct ranges *find(uint32_t wanted)
{
    enum ranges_state state = RANGES_MORE;
    struct err e;
    struct ranges *g = ranges_new(fd, size, files, order.end, wanted, &e);
    assert_non_null(g);
    while (state == RANGES_MORE) {
        assert_int_equal(ranges_ask(g, &e), 1);
        struct buf merged = answer(g);
        state = ranges_answer(g, (struct slice){merged.data, merged.size});
        buf_clear(&merged);
    }
    assert_int_equal(state, RANGES_KNOWN);
    return g;
}

/* The largest range, as a share of all. */
static double check(struct ranges *g)
{
    struct slice part[FILES_MAX];
    struct buf is = BUF_INIT(1u << 30), was;
    uint64_t largest = 0;
    for (uint32_t i = 0; i < files; i++) {
        part[i] = (struct slice){file[i].data, file[i].size};
        assert_int_equal(ranges_cut(g, 0, i), 0);
        assert_int_equal(ranges_cut(g, ranges_count(g), i), size[i]);
    }
    was = merge(part, files);
    for (uint32_t r = 0; r < ranges_count(g); r++) {
        size_t before = is.size;
        for (uint32_t i = 0; i < files; i++) {
            uint64_t from = ranges_cut(g, r, i), to = ranges_cut(g, r + 1, i);
            assert_true(from <= to);
            part[i] = (struct slice){file[i].data + from, to - from};
            if (ranges_equals(g, r))
                buf_add(&is, part[i].data, part[i].size);
        }
        struct buf one = merge(part, files);
        if (!ranges_equals(g, r))
            buf_add(&is, one.data, one.size);
        if (is.size - before > largest)
            largest = is.size - before;
        buf_clear(&one);
    }
    assert_int_equal(is.size, was.size);
    assert_memory_equal(is.data, was.data, was.size);
    /* No line of a range is equal to one of the next. */
    for (uint32_t r = 0, at = 0; r + 1 < ranges_count(g); r++) {
        for (uint32_t i = 0; i < files; i++)
            at += (uint32_t)(ranges_cut(g, r + 1, i) - ranges_cut(g, r, i));
        const char *last = is.data + at - 1, *end = memchr(is.data + at, order.end, is.size - at);
        while (last > is.data && last[-1] != order.end)
            last--;
        struct text a = {last, (size_t)(is.data + at - last), 0}, b = {is.data + at, (size_t)(end + 1 - is.data - at), 0};
        assert_true(compare(&a, &b) < 0);
    }
    double share = (double)largest / (double)was.size;
    buf_clear(&is);
    buf_clear(&was);
    return share;
}

static void test_random(void **state)
{
    static const unsigned keys[] = {1, 2, 3, 10, 1000, 99999};
    (void)state;
    for (int round = 0; round < 60; round++) {
        order = (struct order){.from = (size_t)rand() % 3, .to = 3 + (size_t)rand() % 9, .down = rand() % 2,
                               .length = rand() % 5 == 0, .end = rand() % 4 ? '\n' : '\0'};
        make(1 + (uint32_t)rand() % FILES_MAX, 1 + (size_t)rand() % (round % 10 ? 400 : 5000), keys[rand() % 6],
             rand() % 3 ? 12 : 300);
        struct ranges *g = find(2 + (uint32_t)rand() % 20);
        check(g);
        ranges_free(g);
        clear();
    }
}

/* Different lines come in ranges of nearly one size; where most are equal these are one, and nothing to merge. */
static void test_balance(void **state)
{
    (void)state;
    order = (struct order){.to = 99, .end = '\n'};
    make(8, 8000, 99999, 20);
    struct ranges *g = find(8);
    assert_int_equal(ranges_count(g), 8);
    assert_true(check(g) < 0.16);
    ranges_free(g);
    clear();
    order.to = 5;
    make(8, 8000, 2, 20);
    g = find(8);
    check(g);
    for (uint32_t i = 0, equals = 0; i < ranges_count(g); i++) {
        equals += ranges_equals(g, i);
        if (i + 1 == ranges_count(g))
            assert_int_equal(equals, 2);
    }
    ranges_free(g);
    clear();
}

/* Lines longer than what is read at once. */
static void test_long_lines(void **state)
{
    (void)state;
    order = (struct order){.to = 99, .end = '\n'};
    make(3, 60, 50, 150000);
    struct ranges *g = find(4);
    assert_true(check(g) < 0.6);
    ranges_free(g);
    clear();
}

/* A command that keeps one of equal lines: no file has two, and no range is taken as it is. */
static void test_once(void **state)
{
    (void)state;
    order = (struct order){.to = 5, .end = '\n'};
    files = 4;
    for (uint32_t i = 0; i < files; i++) {
        file[i] = BUF_INIT(1u << 20);
        buf_printf(&file[i], "00001%d\n00002%0*d\n00003%d\n", (int)i, 9000, 1, (int)i);
        fd[i] = memfd_create("sorted", MFD_CLOEXEC);
        size[i] = file[i].size;
        assert_int_equal(write(fd[i], file[i].data, file[i].size), (ssize_t)file[i].size);
    }
    struct ranges *g = find(4);
    assert_true(ranges_count(g) > 1);
    for (uint32_t i = 0; i < ranges_count(g); i++)
        assert_false(ranges_equals(g, i));
    check(g);
    ranges_free(g);
    clear();
}

/* Answers that are damaged: refused, or the damage is to lines that look alike and changes nothing. */
static void test_damage(void **state)
{
    (void)state;
    unsigned lost = 0;
    order = (struct order){.to = 99, .end = '\n'};
    make(4, 500, 300, 8);
    for (int round = 0; round < 150; round++) {
        enum ranges_state now = RANGES_MORE;
        struct err e;
        struct ranges *g = ranges_new(fd, size, files, order.end, 6, &e);
        assert_non_null(g);
        for (int step = 0; now == RANGES_MORE && ranges_ask(g, &e) > 0; step++) {
            struct buf merged = answer(g);
            if (step == round % 4 && merged.size) {
                size_t at = (size_t)rand() % merged.size;
                if (round % 3 == 0)
                    merged.size = at;
                else
                    merged.data[at] = round % 3 == 1 ? '\n' : (char)rand();
            }
            now = ranges_answer(g, (struct slice){merged.data, merged.size});
            buf_clear(&merged);
        }
        if (now == RANGES_KNOWN)
            check(g);
        lost += now == RANGES_LOST;
        ranges_free(g);
    }
    assert_true(lost > 100);
    clear();
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_random), cmocka_unit_test(test_balance), cmocka_unit_test(test_long_lines),
        cmocka_unit_test(test_once),   cmocka_unit_test(test_damage),
    };
    srand(20);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
