/* See pack.h. */
#include "base/pack.h"

void pack_u32(struct buf *b, uint32_t v)
{
    uint8_t raw[4] = {(uint8_t)v, (uint8_t)(v >> 8), (uint8_t)(v >> 16), (uint8_t)(v >> 24)};
    buf_add(b, raw, sizeof raw);
}

void pack_u64(struct buf *b, uint64_t v)
{
    pack_u32(b, (uint32_t)v);
    pack_u32(b, (uint32_t)(v >> 32));
}

void pack_bytes(struct buf *b, const void *data, size_t size)
{
    if (size > UINT32_MAX) {
        b->failed = true;
        return;
    }
    pack_u32(b, (uint32_t)size);
    buf_add(b, data, size);
    buf_byte(b, '\0');
}

void pack_string(struct buf *b, const char *text)
{
    pack_bytes(b, text ? text : "", text ? strlen(text) : 0);
}

static const uint8_t *need(struct unpack *u, size_t size)
{
    if (u->bad || (size_t)(u->end - u->at) < size) {
        u->bad = true;
        return NULL;
    }
    const uint8_t *at = u->at;
    u->at += size;
    return at;
}

uint32_t unpack_u32(struct unpack *u)
{
    const uint8_t *p = need(u, 4);
    return p ? (uint32_t)p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24 : 0;
}

uint64_t unpack_u64(struct unpack *u)
{
    uint64_t low = unpack_u32(u);
    return low | (uint64_t)unpack_u32(u) << 32;
}

uint32_t unpack_count(struct unpack *u, size_t each, uint32_t max)
{
    uint32_t count = unpack_u32(u);
    if (count > max || (each && count > (size_t)(u->end - u->at) / each)) {
        u->bad = true;
        return 0;
    }
    return count;
}

struct slice unpack_bytes(struct unpack *u)
{
    uint32_t size = unpack_u32(u);
    const uint8_t *p = need(u, (size_t)size + 1);
    if (!p || p[size] != '\0') {
        u->bad = true;
        return (struct slice){"", 0};
    }
    return (struct slice){p, size};
}

const char *unpack_string(struct unpack *u)
{
    struct slice s = unpack_bytes(u);
    if (memchr(s.data, '\0', s.size)) {
        u->bad = true;
        return "";
    }
    return s.data;
}

bool unpack_end(const struct unpack *u)
{
    return !u->bad && u->at == u->end;
}
