/* The text being read, and messages that point into it. */
#pragma once
#include "base/arena.h"
#include "base/err.h"

#include <stdbool.h>
#include <stdint.h>

struct text {
    const char *data; /* borrowed, NUL-terminated */
    size_t size;
    const char *file;   /* for messages */
    bool job;           /* a job file */
    const size_t *line; /* where each line starts */
    size_t line_count;
};

/* Borrows data and file; the line table is the arena's. */
int text_init(struct text *t, struct arena *a, const char *data, size_t size, const char *file,
              struct err *e);

/* Line and column, in bytes from 1, of the byte at `at`. */
void text_place(const struct text *t, size_t at, uint32_t *line, uint32_t *column);

/* Fill e with the whole message (see dsl.h); hint may be NULL.  Returns -1. */
int text_fail(const struct text *t, size_t at, struct err *e, const char *hint, const char *format,
              ...) __attribute__((format(printf, 5, 6)));
