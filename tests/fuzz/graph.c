/* Any bytes as a graph: refused, or a graph that passes graph_check, survives a round trip to the
 * same bytes, and can grow. */
#include "proto/graph.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_again(struct graph *g)
{
    struct err e;
    struct buf first = BUF_INIT(GRAPH_BYTES_MAX), second = BUF_INIT(GRAPH_BYTES_MAX);
    struct graph_file f = {.name = "x", .path = "/x"};
    if (graph_encode(g, &first, &e) < 0)
        abort();
    struct graph *again = graph_decode(first.data, first.size, &e);
    if (!again || graph_encode(again, &second, &e) < 0 || first.size != second.size ||
        memcmp(first.data, second.data, first.size) != 0)
        abort();
    uint32_t node = graph_add_node(again, GRAPH_SINK, &e);
    if (node != GRAPH_NONE && graph_add_file(again, &f, &e) != GRAPH_NONE &&
        graph_check(again, &e) < 0)
        abort();
    graph_free(again);
    buf_clear(&first);
    buf_clear(&second);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct err e;
    struct graph *g = graph_decode(data, size, &e);
    if (g)
        check_again(g);
    graph_free(g);
    return 0;
}
