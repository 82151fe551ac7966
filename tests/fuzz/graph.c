/* Any bytes as a graph: refused, or a graph that passes graph_check and survives a round trip. */
#include "proto/graph.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct err e;
    struct buf bytes = BUF_INIT(GRAPH_BYTES_MAX);
    struct graph *g = graph_decode(data, size, &e), *again = NULL;
    if (g && graph_encode(g, &bytes, &e) == 0 && !(again = graph_decode(bytes.data, bytes.size, &e)))
        abort();
    graph_free(g);
    graph_free(again);
    buf_clear(&bytes);
    return 0;
}
