/* See wire.h.  The walk keeps, per depth, how many items are still to come. */
#include "proto/wire.h"

#include <stdint.h>

struct walk {
    const uint8_t *at, *end;
    uint64_t left[WIRE_DEPTH_MAX + 1];
    int depth;
    uint64_t items;
};

static int refuse(struct err *e, const char *why)
{
    return err_set(e, ERR_PROTO, "a frame was refused: %s", why);
}

static int take(struct walk *w, size_t size, uint64_t *value, struct err *e)
{
    if ((size_t)(w->end - w->at) < size)
        return refuse(e, "it is cut short");
    *value = 0;
    for (size_t i = 0; i < size; i++)
        *value = *value << 8 | *w->at++;
    return 0;
}

static int skip(struct walk *w, uint64_t size, struct err *e)
{
    if ((uint64_t)(w->end - w->at) < size)
        return refuse(e, "a string is longer than the frame");
    w->at += size;
    return 0;
}

static int enter(struct walk *w, uint64_t count, struct err *e)
{
    if (count > (uint64_t)(w->end - w->at))
        return refuse(e, "an array claims more items than there are bytes");
    if (w->depth == WIRE_DEPTH_MAX)
        return refuse(e, "arrays are nested too deeply");
    w->left[++w->depth] = count;
    return 0;
}

/* One value's head, and a string's body. */
static int step(struct walk *w, struct err *e)
{
    uint64_t v = 0;
    if (take(w, 1, &v, e) < 0)
        return -1;
    uint8_t head = (uint8_t)v;
    if (head <= 0x7f || head >= 0xe0 || head == 0xc2 || head == 0xc3)
        return 0;
    if ((head & 0xf0) == 0x90)
        return enter(w, head & 15, e);
    if ((head & 0xe0) == 0xa0)
        return skip(w, head & 31, e);
    switch (head) {
    case 0xc4: /* bin 8, 16, 32 */
    case 0xc5:
    case 0xc6:
        return take(w, (size_t)1 << (head - 0xc4), &v, e) < 0 ? -1 : skip(w, v, e);
    case 0xd9: /* str 8, 16, 32 */
    case 0xda:
    case 0xdb:
        return take(w, (size_t)1 << (head - 0xd9), &v, e) < 0 ? -1 : skip(w, v, e);
    case 0xcc: /* unsigned */
    case 0xcd:
    case 0xce:
    case 0xcf:
        return take(w, (size_t)1 << (head - 0xcc), &v, e);
    case 0xd0: /* signed */
    case 0xd1:
    case 0xd2:
    case 0xd3:
        return take(w, (size_t)1 << (head - 0xd0), &v, e);
    case 0xdc: /* array 16, 32 */
        return take(w, 2, &v, e) < 0 ? -1 : enter(w, v, e);
    case 0xdd:
        return take(w, 4, &v, e) < 0 ? -1 : enter(w, v, e);
    default:
        return refuse(e, "it holds a kind of value that no message has");
    }
}

int wire_check(const void *data, size_t size, struct err *e)
{
    struct walk w = {.at = data, .end = (const uint8_t *)data + size};
    w.left[0] = 1;
    for (;;) {
        while (w.left[w.depth] == 0 && w.depth > 0)
            w.depth--;
        if (w.left[w.depth] == 0)
            break;
        w.left[w.depth]--;
        if (++w.items > WIRE_ITEMS_MAX)
            return refuse(e, "it holds more than WIRE_ITEMS_MAX values");
        if (step(&w, e) < 0)
            return -1;
    }
    return w.at == w.end ? 0 : refuse(e, "bytes follow its end");
}
