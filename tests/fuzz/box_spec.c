/* Any bytes: decoded or refused; what was decoded says the same after another round trip. */
#include "sandbox/spec.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void again(const struct spec *s)
{
    const struct box_region *r = &s->region;
    struct box_region copy = *r;
    struct box_channel *channel = calloc(r->channel_count + 1u, sizeof *channel);
    int(*remote)[2] = calloc(r->channel_count + 1u, sizeof *remote);
    int *fds = NULL;
    struct buf b = BUF_INIT(BOX_SPEC_BYTES_MAX);
    struct spec other;
    struct err e;
    uint32_t count;
    for (uint32_t i = 0; i < r->channel_count; i++) {
        channel[i] = r->channel[i];
        channel[i].sink = 0;
    }
    copy.channel = channel;
    if (spec_encode(&copy, (const int(*)[2])remote, &b, &fds, &count, &e) < 0 || count != s->fd_count ||
        spec_decode((struct slice){b.data, b.size}, &other, &e) < 0)
        abort();
    spec_clear(&other);
    buf_clear(&b);
    free(fds);
    free(remote);
    free(channel);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct spec s;
    struct err e;
    if (spec_decode((struct slice){data, size}, &s, &e) < 0)
        return 0;
    again(&s);
    spec_clear(&s);
    return 0;
}
