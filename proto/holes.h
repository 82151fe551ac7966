/* Fills the holes of a map's words, of its text for sh, and of the names of its outputs: {} {.} {/} {//} {/.} {#}.  How a
 * hole stands in a text is described in graph.h.  The worker that runs a task, the client that names its outputs, and the
 * check that no two names are the same all use these functions, so that they agree. */
#pragma once
#include "base/buf.h"

#include <stdbool.h>
#include <stdint.h>

struct holes {
    const char *const *name; /* what {} stands for; the other holes are made from one of these */
    uint32_t count;
    uint64_t number; /* {#} */
};

bool holes_has(const char *text);
/* The text with the holes filled by name[i]. */
void holes_fill(const char *text, const struct holes *h, uint32_t i, struct buf *out);
/* A text for sh: values are quoted as the place where they stand wants it, several with blanks between. */
void holes_fill_shell(const char *text, const struct holes *h, struct buf *out);
/* One word, as sh reads it. */
void holes_quote(const char *word, struct buf *out);
