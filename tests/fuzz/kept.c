/* What a keeper takes from the wire and finds in its journal, and what zpipe finds in a record: a submitted job (`k` and its
 * bytes), a task that failed (`r`), an index of files (`m`).  Refused, or it survives a round trip to the same bytes, and names
 * nothing outside. */
#include "base/pack.h"
#include "proto/kept.h"
#include "proto/made.h"
#include "proto/record.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void look_at_graph(struct slice bytes)
{
    struct err e;
    struct graph *g = graph_decode(bytes.data, bytes.size, &e);
    for (uint32_t i = 0; g && i < g->file_count; i++)
        if (g->file[i].path[0] != '/')
            abort();
    graph_free(g);
}

static void kept(struct slice bytes)
{
    struct arena a = ARENA_INIT(2 * (size_t)KEPT_BYTES_MAX);
    struct buf first = BUF_INIT(KEPT_BYTES_MAX), second = BUF_INIT(KEPT_BYTES_MAX);
    struct kept_job k, again;
    struct err e;
    if (kept_decode(bytes, &a, &k, &e) == 0) {
        if (kept_encode(&k, &first, &e) < 0 || kept_decode((struct slice){first.data, first.size}, &a, &again, &e) < 0 ||
            kept_encode(&again, &second, &e) < 0 || first.size != second.size || memcmp(first.data, second.data, first.size))
            abort();
        look_at_graph(k.graph);
    }
    buf_clear(&first);
    buf_clear(&second);
    arena_clear(&a);
}

static void record(struct slice bytes)
{
    struct arena a = ARENA_INIT(4 * (size_t)RECORD_TASK_MAX);
    struct buf first = BUF_INIT(RECORD_TASK_MAX), second = BUF_INIT(RECORD_TASK_MAX);
    struct record r, again;
    struct err e;
    if (record_decode(bytes, &a, &r, &e) == 0) {
        if (record_encode(&r, &first, &e) < 0 || record_decode((struct slice){first.data, first.size}, &a, &again, &e) < 0 ||
            record_encode(&again, &second, &e) < 0 || first.size != second.size || memcmp(first.data, second.data, first.size))
            abort();
        look_at_graph(r.graph);
    }
    buf_clear(&first);
    buf_clear(&second);
    arena_clear(&a);
}

static void made(struct slice bytes)
{
    struct arena a = ARENA_INIT(4 * (size_t)MADE_INDEX_MAX);
    const struct made_file *file;
    uint32_t count, input;
    struct err e;
    if (made_unpack(bytes, &a, &file, &count, &e) == 0)
        for (uint32_t i = 0; i < count; i++)
            if (file[i].name[0] == '/' || strstr(file[i].name, "/../") || (record_file_name(file[i].name, &input) && strchr(file[i].name, '/')))
                abort();
    arena_clear(&a);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct slice rest = {data + 1, size - 1};
    if (size && data[0] == 'k')
        kept(rest);
    else if (size && data[0] == 'r')
        record(rest);
    else if (size && data[0] == 'm')
        made(rest);
    return 0;
}
