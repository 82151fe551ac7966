/* Any bytes as a message: refused, or decoded; what decodes encodes to something that decodes the
 * same. */
#include "proto/msg.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct arena a = ARENA_INIT(64u << 20), b = ARENA_INIT(64u << 20);
    struct buf first = BUF_INIT(MSG_BYTES_MAX), second = BUF_INIT(MSG_BYTES_MAX),
               text = BUF_INIT(MSG_BYTES_MAX);
    struct msg m, n;
    struct err e;
    if (msg_decode(data, size, &a, &m, &e) == 0 && msg_encode(&m, &first, &e) == 0) {
        if (msg_decode(first.data, first.size, &b, &n, &e) < 0 || msg_encode(&n, &second, &e) < 0 ||
            first.size != second.size || memcmp(first.data, second.data, first.size))
            abort();
        msg_print(&n, &text);
    }
    buf_clear(&first);
    buf_clear(&second);
    buf_clear(&text);
    arena_clear(&a);
    arena_clear(&b);
    return 0;
}
