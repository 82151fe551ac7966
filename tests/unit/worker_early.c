/* ATTACHes that come before what they are about: each is found once, with its credit, and who sends more than his share loses his own
 * only. */
#include "tests/lib/test.h"

#include "worker/early.h"

#include <string.h>

static struct early_list list;

static const struct slice honest = {"honest key", 10}, hostile = {"hostile key", 11};

static void attach(uint64_t link, struct slice key, uint64_t job, uint32_t index)
{
    struct msg_attach m = {.job = job, .attempt = 1, .token = {"0123456789abcdef", 16}, .what = MSG_EDGE, .index = index};
    early_keep(&list, link, key, &m);
}

static bool take(uint64_t job, uint32_t index, struct early *out)
{
    return early_take(&list, &(struct stream_name){job, 1, MSG_EDGE, index, 0}, out);
}

static void found_once(void **state)
{
    (void)state;
    struct early e;
    attach(1, honest, 7, 0);
    attach(2, hostile, 7, 0); /* says that it is about the same */
    early_of(&list, &(struct stream_name){7, 1, MSG_EDGE, 0, 0}, 1)->upto_bytes = 5;
    assert_null(early_of(&list, &(struct stream_name){7, 1, MSG_EDGE, 0, 0}, 3));
    assert_true(take(7, 0, &e));
    assert_int_equal(e.link, 1);
    assert_int_equal(e.upto_bytes, 5);
    assert_memory_equal(e.token, "0123456789abcdef", 16);
    assert_true(take(7, 0, &e));
    assert_int_equal(e.link, 2);
    assert_false(take(7, 0, &e));
    attach(1, honest, 7, 0);
    attach(2, honest, 7, 1);
    attach(1, honest, 7, 2);
    early_forget(&list, 1);
    assert_int_equal(list.count, 1);
    assert_true(take(7, 1, &e));
}

static void a_flood_drives_out_nobody(void **state)
{
    (void)state;
    struct early e;
    attach(1, hostile, 1, 1);
    for (uint32_t i = 0; i < 100; i++)
        attach(2, honest, 7, i);
    for (uint32_t i = 0; i < 3 * EARLY_PER_KEY_MAX; i++)
        attach(3 + i % 50, hostile, 1000, i);
    assert_int_equal(list.count, EARLY_PER_KEY_MAX + 100);
    for (uint32_t i = 0; i < 100; i++)
        assert_true(take(7, i, &e));
    assert_false(take(1, 1, &e)); /* the oldest of theirs went */
    assert_true(take(1000, 3 * EARLY_PER_KEY_MAX - 1, &e));
    for (uint32_t i = 0; i < 2 * EARLY_MAX; i++) { /* of many keys, each of which has few */
        char key[8] = {(char)(i % 100), 1};
        attach(3, (struct slice){key, sizeof key}, 2000, i);
    }
    assert_int_equal(list.count, EARLY_MAX);
    assert_true(take(2000, 2 * EARLY_MAX - 1, &e));
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(found_once), cmocka_unit_test(a_flood_drives_out_nobody)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
