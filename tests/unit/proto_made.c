/* The index of the files that a stage left: what was packed comes back, and nothing else is taken. */
#include "tests/lib/test.h"

#include "proto/made.h"

#include <string.h>

static const struct made_file files[] = {{"a", 0644, 0}, {"d/e f", 0700, INT64_MAX}, {".hidden", 0, 7}};

static int unpack(const char *data, size_t size, struct arena *a, const struct made_file **list, uint32_t *count)
{
    struct err e;
    return made_unpack((struct slice){data, size}, a, list, count, &e);
}

static void round_trip(void **state)
{
    struct buf b = BUF_INIT(1000);
    struct arena a = ARENA_INIT(1 << 20);
    const struct made_file *list;
    uint32_t count, size;
    struct err e;
    (void)state;
    assert_int_equal(made_pack(files, 3, &b, &e), 0);
    assert_int_equal(made_size(b.data, &size, &e), 0);
    assert_int_equal(size, b.size - MADE_PREFIX);
    assert_int_equal(unpack(b.data + MADE_PREFIX, size, &a, &list, &count), 0);
    assert_int_equal(count, 3);
    for (uint32_t i = 0; i < 3; i++) {
        assert_string_equal(list[i].name, files[i].name);
        assert_int_equal(list[i].mode, files[i].mode);
        assert_int_equal(list[i].size_bytes, files[i].size_bytes);
    }
    for (uint32_t cut = 0; cut < size; cut++)
        assert_int_equal(unpack(b.data + MADE_PREFIX, cut, &a, &list, &count), -1);
    buf_clear(&b);
    arena_clear(&a);
}

static void bad_names(void **state)
{
    static const char *const bad[] = {"", "/etc/x", "../x", "a/../x", "a/..", ".", "a//b", "a/", "./a"};
    (void)state;
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        struct buf b = BUF_INIT(1000);
        struct arena a = ARENA_INIT(1 << 20);
        const struct made_file one = {bad[i], 0644, 1}, *list;
        uint32_t count;
        struct err e;
        assert_int_equal(made_pack(&one, 1, &b, &e), 0);
        assert_int_equal(unpack(b.data + MADE_PREFIX, b.size - MADE_PREFIX, &a, &list, &count), -1);
        buf_clear(&b);
        arena_clear(&a);
    }
}

static void ceilings(void **state)
{
    static struct made_file many[MADE_FILES_MAX + 1];
    struct buf b = BUF_INIT(8 << 20);
    uint32_t size;
    struct err e;
    (void)state;
    for (uint32_t i = 0; i <= MADE_FILES_MAX; i++)
        many[i] = (struct made_file){"x", 0644, 1};
    assert_int_equal(made_pack(many, MADE_FILES_MAX + 1, &b, &e), -1);
    assert_int_equal(e.code, ERR_LIMIT);
    assert_int_equal(made_pack(many, MADE_FILES_MAX, &b, &e), 0);
    assert_int_equal(made_size("\xff\xff\xff\xff", &size, &e), -1);
    assert_int_equal(made_size("\0\0\0\0", &size, &e), -1);
    buf_clear(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(round_trip),
        cmocka_unit_test(bad_names),
        cmocka_unit_test(ceilings),
    };
    return cmocka_run_group_tests(tests, NULL, NULL) != 0;
}
