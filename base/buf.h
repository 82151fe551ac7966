/* Borrowed bytes (struct slice) and growing bytes with a stated ceiling (struct buf). */
#pragma once
#include "base/err.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

struct slice {
    const void *data; /* borrowed; may hold any bytes */
    size_t size;
};

static inline struct slice slice_of(const char *text)
{
    return (struct slice){text, strlen(text)};
}

static inline bool slice_equal(struct slice a, struct slice b)
{
    return a.size == b.size && (a.size == 0 || memcmp(a.data, b.data, a.size) == 0);
}

/* Start with BUF_INIT(ceiling).  An append that would pass the ceiling, or finds no memory, sets
 * `failed` and changes nothing; callers append freely and look once at the end. */
struct buf {
    char *data;  /* owned; NUL-terminated after every append, the NUL not counted */
    size_t size; /* bytes in use */
    size_t room; /* bytes allocated */
    size_t max;  /* ceiling on size */
    bool failed; /* some append did not happen */
    bool no_memory; /* it failed because there was no memory */
};

#define BUF_INIT(ceiling) ((struct buf){.max = (ceiling)})

void buf_add(struct buf *b, const void *data, size_t size);
void buf_text(struct buf *b, const char *text);
void buf_byte(struct buf *b, char byte);
void buf_printf(struct buf *b, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* 0, or -1 when some append did not happen: what the bytes are ("the graph") is too large, or no memory. */
int buf_check(const struct buf *b, const char *what, struct err *e);

/* Make room for `size` more bytes and return where they go; they count when buf_grew says so.
 * NULL (and failed) when there is no room. */
void *buf_reserve(struct buf *b, size_t size);
void buf_grew(struct buf *b, size_t size);

/* Drop the first `size` bytes. */
void buf_drop(struct buf *b, size_t size);

/* Free the bytes; the ceiling stays.  buf_take gives the bytes to the caller (free them), never NULL
 * unless it failed. */
void buf_clear(struct buf *b);
char *buf_take(struct buf *b);
