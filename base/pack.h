/* Little-endian packing for messages between our own processes on one host (zpipe-box's control
 * socket), where msgpack may not be seen.  Writers append to a buf; readers walk a slice, and after the
 * first impossible value every further read gives 0 and `bad` stays set: look once at the end. */
#pragma once
#include "base/buf.h"

struct unpack {
    const uint8_t *at, *end; /* borrowed */
    bool bad;
};

static inline struct unpack unpack_of(const void *data, size_t size)
{
    return (struct unpack){data, (const uint8_t *)data + size, false};
}

void pack_u32(struct buf *b, uint32_t v);
void pack_u64(struct buf *b, uint64_t v);
void pack_bytes(struct buf *b, const void *data, size_t size); /* u32 size, bytes, NUL */
void pack_string(struct buf *b, const char *text);             /* NULL is written as "" */

uint32_t unpack_u32(struct unpack *u);
uint64_t unpack_u64(struct unpack *u);
/* A count of things that take at least `each` bytes each: refused when the rest cannot hold them. */
uint32_t unpack_count(struct unpack *u, size_t each, uint32_t max);
/* Borrowed from the input, NUL-terminated there; "" when bad.  unpack_string refuses inner NULs. */
struct slice unpack_bytes(struct unpack *u);
const char *unpack_string(struct unpack *u);
/* True when everything was read and nothing was bad. */
bool unpack_end(const struct unpack *u);
