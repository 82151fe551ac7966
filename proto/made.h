/* The files that a stage left in /job and that the job keeps, as one stream: an index, then the bytes of one file after the
 * other.  A stage that left none has an empty stream.
 *
 *   u32 bytes of the rest of the index, u32 count; per file: u32 size of the name, the name, NUL,
 *   u32 mode, u64 bytes          (all little-endian) */
#pragma once
#include "base/arena.h"
#include "base/buf.h"
#include "base/err.h"

#define MADE_FILES_MAX  4096       /* of one stage */
#define MADE_INDEX_MAX  (4u << 20) /* bytes of an index */
#define MADE_PREFIX     4          /* bytes that tell the size of the rest */

struct made_file {
    const char *name; /* relative to /job */
    uint32_t mode;    /* permission bits */
    uint64_t size_bytes;
};

int made_pack(const struct made_file *file, uint32_t count, struct buf *out, struct err *e);
/* The size of the rest of the index, from the first MADE_PREFIX bytes. */
int made_size(const void *prefix, uint32_t *size, struct err *e);
/* Decode the rest of the index.  Names are relative and hold no `..`; the list is in the arena. */
int made_unpack(struct slice rest, struct arena *a, const struct made_file **file, uint32_t *count,
                struct err *e);
