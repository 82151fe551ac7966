/* Every field of every message and of a graph, by the tables that encode them: at its extremes it
 * comes back as it was; one over its ceiling it is refused on both sides by name; a field that is
 * missing is refused, one that is too much is ignored. */
#include "tests/lib/test.h"

#include "proto/codec.h"
#include "proto/graph.h"
#include "proto/msg.h"

#include <stdio.h>
#include <stdlib.h>

#define LONG_MAX_BYTES 100000 /* texts with higher ceilings are not tried at them */

/* A copy of a table and all below, whose ceilings can be changed. */
static struct field_table *copy_table(const struct field_table *t, struct arena *a)
{
    struct field_table *copy = arena_alloc(a, sizeof *copy);
    struct field *field = arena_array(a, t->count, sizeof *field);
    memcpy(field, t->field, t->count * sizeof *field);
    for (size_t i = 0; i < t->count; i++)
        if (field[i].sub)
            field[i].sub = copy_table(field[i].sub, a);
    *copy = *t;
    copy->field = field;
    return copy;
}

static void fill(const struct field_table *t, char *to, const struct field *over, struct arena *a);

static uint32_t list_count(const struct field *f, const struct field *over)
{
    return f == over ? (uint32_t)f->max : f->max < 2 ? (uint32_t)f->max : 2;
}

static void fill_list(const struct field *f, char *base, const struct field *over, struct arena *a)
{
    uint32_t count = list_count(f, over);
    size_t size = f->kind == FIELD_U32_LIST     ? sizeof(uint32_t)
                  : f->kind == FIELD_TEXT_LIST  ? sizeof(char *)
                  : f->kind == FIELD_BYTES_LIST ? sizeof(struct slice)
                                                : f->sub->size;
    char *items = arena_array(a, count, size);
    assert_non_null(items);
    for (uint32_t i = 0; i < count; i++)
        if (f->kind == FIELD_U32_LIST)
            ((uint32_t *)items)[i] = UINT32_MAX;
        else if (f->kind == FIELD_TEXT_LIST)
            ((const char **)items)[i] = i ? "\xff\n" : "";
        else if (f->kind == FIELD_BYTES_LIST)
            ((struct slice *)items)[i] = (struct slice){"\0\xff", i ? 2 : 0};
        else if (f != over)
            fill(f->sub, items + i * size, over, a);
    *(char **)(base + f->offset) = items;
    *(uint32_t *)(base + f->count_offset) = count;
}

/* Everything at its ceiling; `over` was raised by one already. */
static void fill(const struct field_table *t, char *to, const struct field *over, struct arena *a)
{
    for (size_t i = 0; i < t->count; i++) {
        const struct field *f = &t->field[i];
        size_t size = f->max > LONG_MAX_BYTES && f != over ? 1000 : (size_t)f->max;
        char *at = to + f->offset, *text;
        switch (f->kind) {
        case FIELD_U32:
            *(uint32_t *)at = (uint32_t)f->max;
            break;
        case FIELD_U64:
            *(uint64_t *)at = f->max;
            break;
        case FIELD_I32:
            *(int32_t *)at = INT32_MIN;
            break;
        case FIELD_I64:
            *(int64_t *)at = INT64_MIN;
            break;
        case FIELD_BOOL:
            *(bool *)at = true;
            break;
        case FIELD_TEXT:
        case FIELD_BYTES:
            text = arena_alloc(a, size + 1);
            assert_non_null(text);
            memset(text, 0xe9, size);
            if (f->kind == FIELD_TEXT)
                *(char **)at = text;
            else
                *(struct slice *)at = (struct slice){text, size};
            break;
        case FIELD_STRUCT:
            fill(f->sub, at, over, a);
            break;
        default:
            fill_list(f, to, over, a);
        }
    }
}

/* What is being tried: the tables as they are, and as the sender has them. */
static const struct field_table *real;
static const struct field_table *real_of(uint32_t number)
{
    return number == 1 ? real : NULL;
}

static int decode(const struct buf *bytes, void *to, struct arena *a, struct err *e)
{
    uint32_t number;
    return codec_decode(bytes->data, bytes->size, a, &number, real_of, to, e);
}

static void extremes(const struct field_table *t)
{
    struct arena a = ARENA_INIT(200u << 20);
    struct buf one = BUF_INIT(32u << 20), two = BUF_INIT(32u << 20), text = BUF_INIT(1 << 20),
               again = BUF_INIT(1 << 20);
    struct err e = {0};
    void *from = arena_alloc(&a, t->size), *to = arena_alloc(&a, t->size);
    fill(t, from, NULL, &a);
    if (codec_encode(t, 1, from, &one, &e) < 0 || decode(&one, to, &a, &e) < 0 ||
        codec_encode(t, 1, to, &two, &e) < 0)
        fail_msg("%s: %s", t->name, e.text);
    assert_int_equal(one.size, two.size);
    assert_memory_equal(one.data, two.data, one.size);
    codec_print(t, from, &text);
    codec_print(t, to, &again);
    assert_string_equal(text.data, again.data);
    for (size_t i = 0; i < t->count; i++)
        assert_non_null(strstr(text.data, t->field[i].name));
    buf_clear(&one);
    buf_clear(&two);
    buf_clear(&text);
    buf_clear(&again);
    arena_clear(&a);
}

/* Fields missing at the end, and fields that are not known yet. */
static void other_versions(const struct field_table *t)
{
    for (size_t count = 0; count <= t->count + 1; count++) {
        struct arena a = ARENA_INIT(200u << 20);
        struct buf bytes = BUF_INIT(32u << 20);
        struct err e = {0};
        struct field_table *theirs = copy_table(t, &a);
        struct field *more = arena_array(&a, t->count + 1, sizeof *more);
        void *from = arena_alloc(&a, t->size), *to = arena_alloc(&a, t->size);
        fill(t, from, NULL, &a);
        memcpy(more, theirs->field, t->count * sizeof *more);
        more[t->count] = more[0];
        theirs->field = more;
        theirs->count = count;
        assert_int_equal(codec_encode(theirs, 1, from, &bytes, &e), 0);
        assert_int_equal(decode(&bytes, to, &a, &e), count < t->count ? -1 : 0);
        if (count < t->count)
            assert_int_equal(e.code, ERR_PROTO);
        buf_clear(&bytes);
        arena_clear(&a);
    }
}

/* Is there a ceiling that can be passed, in a time that a test has? */
static bool can_pass(const struct field *f)
{
    switch (f->kind) {
    case FIELD_U32:
        return f->max < UINT32_MAX;
    case FIELD_TEXT:
    case FIELD_BYTES:
        return f->max <= LONG_MAX_BYTES;
    case FIELD_U32_LIST:
    case FIELD_TEXT_LIST:
    case FIELD_BYTES_LIST:
    case FIELD_LIST:
        return true;
    default:
        return false;
    }
}

/* part is `whole` or one of its parts; both are copies, made by copy_table. */
static size_t over_ceilings(const struct field_table *whole, const struct field_table *part)
{
    size_t tried = 0;
    for (size_t i = 0; i < part->count; i++) {
        struct field *f = (struct field *)(uintptr_t)&part->field[i];
        if (f->sub)
            tried += over_ceilings(whole, f->sub);
        if (!can_pass(f))
            continue;
        struct arena a = ARENA_INIT(300u << 20);
        struct buf bytes = BUF_INIT(64u << 20), none = BUF_INIT(64u << 20);
        struct err e = {0};
        char name[200];
        void *from = arena_alloc(&a, whole->size), *to = arena_alloc(&a, whole->size);
        snprintf(name, sizeof name, "%s.%s ", part->name, f->name);
        f->max++;
        fill(whole, from, f, &a);
        assert_int_equal(codec_encode(whole, 1, from, &bytes, &e), 0);
        f->max--;
        if (codec_encode(whole, 1, from, &none, &e) == 0 || e.code != ERR_LIMIT ||
            !strstr(e.text, name))
            fail_msg("%s was encoded over its ceiling: %s", name, e.text);
        if (decode(&bytes, to, &a, &e) == 0 || e.code != ERR_PROTO || !strstr(e.text, name))
            fail_msg("%s was decoded over its ceiling: %s", name, e.text);
        buf_clear(&bytes);
        buf_clear(&none);
        arena_clear(&a);
        tried++;
    }
    return tried;
}

static void one_table(void **state)
{
    struct arena a = ARENA_INIT(1 << 20);
    real = *state;
    extremes(real);
    other_versions(real);
    const struct field_table *copy = copy_table(real, &a);
    over_ceilings(copy, copy);
    arena_clear(&a);
}

/* The tests above try something. */
static void ceilings_are_there(void **state)
{
    (void)state;
    struct arena a = ARENA_INIT(1 << 20);
    real = msg_table(MSG_RUN);
    const struct field_table *copy = copy_table(real, &a);
    assert_int_equal(over_ceilings(copy, copy),
                     10); /* token, node, route; what, via, url, key of it; admit, client, bad_why */
    arena_clear(&a);
}

int main(void)
{
    struct CMUnitTest tests[MSG_TYPES + 2] = {0};
    size_t count = 0;
    tests[count++] = (struct CMUnitTest)cmocka_unit_test(ceilings_are_there);
    for (uint32_t type = 0; type <= MSG_TYPES; type++) {
        const struct field_table *t = type == MSG_TYPES ? graph_table() : msg_table(type);
        if (!t)
            continue;
        tests[count++] = (struct CMUnitTest){
            .name = t->name, .test_func = one_table, .initial_state = (void *)(uintptr_t)t};
    }
    return _cmocka_run_group_tests("proto_tables", tests, count, NULL, NULL) != 0;
}
