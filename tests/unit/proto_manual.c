/* docs/man/zpipe-proto.7.scd holds the tables of the messages as the code has them: compares, or
 * with the argument `write` puts them there. */
#define MANUAL_PAGE      "docs/man/zpipe-proto.7.scd"
#define MANUAL_BEGIN     "; begin: from the tables, by `test_proto_manual write`\n"
#define MANUAL_END       "; end: from the tables\n"
#include "tests/lib/manual.h"


#include "base/buf.h"
#include "proto/codec.h"
#include "proto/graph.h"
#include "proto/msg.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define PARTS_MAX 32

struct parts { /* tables met inside others, each once */
    const struct field_table *table[PARTS_MAX];
    size_t count;
};

static const char *part_name(const struct field_table *t)
{
    const char *name = t->name;
    name += strncmp(name, "msg_", 4) == 0 ? 4 : strncmp(name, "graph_", 6) == 0 ? 6 : 0;
    return name;
}

static void add_part(struct parts *p, const struct field_table *t)
{
    for (size_t i = 0; i < p->count; i++)
        if (p->table[i] == t)
            return;
    assert_true(p->count < PARTS_MAX);
    p->table[p->count++] = t;
}

static void describe_field(const struct field *f, struct buf *out)
{
    static const char *const words[] = {[FIELD_U32] = "unsigned",
                                        [FIELD_U64] = "unsigned",
                                        [FIELD_I32] = "signed, 32 bits",
                                        [FIELD_I64] = "signed, 64 bits",
                                        [FIELD_BOOL] = "boolean",
                                        [FIELD_TEXT] = "text",
                                        [FIELD_BYTES] = "bytes",
                                        [FIELD_U32_LIST] = "array of unsigned",
                                        [FIELD_TEXT_LIST] = "array of texts",
                                        [FIELD_BYTES_LIST] = "array of bytes"};
    buf_printf(out, "|[ %s\n", f->name);
    if (f->kind == FIELD_STRUCT)
        buf_printf(out, ":[ _%s_\n", part_name(f->sub));
    else if (f->kind == FIELD_LIST)
        buf_printf(out, ":[ array of _%s_, at most %" PRIu64 "\n", part_name(f->sub), f->max);
    else if (f->kind == FIELD_U32 && f->max == UINT32_MAX)
        buf_printf(out, ":[ unsigned, 32 bits\n");
    else if (f->kind == FIELD_U64 && f->max == UINT64_MAX)
        buf_printf(out, ":[ unsigned, 64 bits\n");
    else if (f->kind == FIELD_U32 || f->kind == FIELD_U64)
        buf_printf(out, ":[ unsigned, at most %" PRIu64 "\n", f->max);
    else if (f->kind == FIELD_TEXT || f->kind == FIELD_BYTES)
        buf_printf(out, ":[ %s, at most %" PRIu64 " bytes\n", words[f->kind], f->max);
    else if (f->max)
        buf_printf(out, ":[ %s, at most %" PRIu64 "\n", words[f->kind], f->max);
    else
        buf_printf(out, ":[ %s\n", words[f->kind]);
}

static void describe_fields(const struct field_table *t, struct parts *parts, struct buf *out)
{
    buf_text(out, "\n");
    for (size_t i = 0; i < t->count; i++) {
        describe_field(&t->field[i], out);
        if (t->field[i].sub)
            add_part(parts, t->field[i].sub);
    }
    buf_text(out, "\n");
}

static const struct {
    enum msg_role role;
    const char *name;
} roles[] = {{MSG_CLIENT, "client"}, {MSG_WORKER, "worker"}, {MSG_SCHEDULER, "scheduler"}, {MSG_KEEPER, "keeper"}};

#define ROLES (sizeof roles / sizeof *roles)

static void describe_way(uint32_t type, struct buf *out)
{
    bool early = false;
    const char *before = "";
    for (size_t from = 0; from < ROLES; from++) {
        const char *between = " to ";
        for (size_t to = 0; to < ROLES; to++) {
            if (!msg_allowed(type, roles[from].role, roles[to].role, true))
                continue;
            if (between[1] == 't')
                buf_printf(out, "%s%s", before, roles[from].name);
            buf_printf(out, "%s%s", between, roles[to].name);
            between = " or ";
            before = "; ";
            early |= msg_allowed(type, roles[from].role, roles[to].role, false);
        }
    }
    buf_printf(out, "%s%s.\n", early ? ", before the welcome too" : "",
               msg_has_bulk(type) ? "; a second frame may follow" : "");
}

/* Parts may have parts: the list grows while it is walked. */
static void describe_parts(struct parts *parts, const char *heading, struct buf *out)
{
    buf_printf(out, "# %s\n\n", heading);
    for (size_t i = 0; i < parts->count; i++) {
        buf_printf(out, "## %s\n", part_name(parts->table[i]));
        describe_fields(parts->table[i], parts, out);
    }
}

static void describe(struct buf *out)
{
    struct parts of_messages = {0}, of_graph = {0};
    buf_text(out, "# MESSAGES\n\n");
    for (uint32_t type = 0; type < MSG_TYPES; type++) {
        const struct field_table *t = msg_table(type);
        if (!t)
            continue;
        buf_printf(out, "## %u %s\n\n", type, msg_name(type));
        describe_way(type, out);
        describe_fields(t, &of_messages, out);
    }
    describe_parts(&of_messages, "PARTS OF MESSAGES", out);
    buf_text(out, "# THE GRAPH\n");
    describe_fields(graph_table(), &of_graph, out);
    describe_parts(&of_graph, "PARTS OF THE GRAPH", out);
}

static void page_is_right(void **state)
{
    (void)state;
    manual_check(describe);
}

/* What the prose says in numbers. */
static void numbers_are_right(void **state)
{
    (void)state;
    char *page = manual_read();
    char text[10][80];
    int count = 0;
#define NUMBER(...) snprintf(text[count++], sizeof text[0], __VA_ARGS__)
    NUMBER("version is %d", MSG_VERSION);
    NUMBER("first frame is at most %u MiB", MSG_BYTES_MAX >> 20);
    NUMBER("second frame at most %u MiB", MSG_BULK_MAX >> 20);
    NUMBER("DATA at most %u KiB", MSG_DATA_BYTES >> 10);
    NUMBER("%u MiB ahead", MSG_CREDIT_BYTES >> 20);
    NUMBER("graph is at most %u MiB", GRAPH_BYTES_MAX >> 20);
    NUMBER("PING every %d ms", MSG_HEARTBEAT_MS);
    for (int i = 0; i < count; i++)
        if (!strstr(page, text[i]))
            fail_msg("%s does not say \"%s\"", MANUAL_PAGE, text[i]);
    free(page);
}

int main(int argc, char **argv)
{
    int wrote = manual_write(argc, argv, describe);
    if (wrote >= 0)
        return wrote;
    const struct CMUnitTest tests[] = {cmocka_unit_test(page_is_right),
                                       cmocka_unit_test(numbers_are_right)};
    return cmocka_run_group_tests(tests, NULL, NULL) != 0;
}
