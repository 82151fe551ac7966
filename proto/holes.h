/* Filling the holes of a map's words, of its text for sh, and of the names of its outputs: {} {.} {/} {//}
 * {/.} {#}.  How a hole stands in a text is graph.h's.  Who runs a task, who names its outputs and who looks
 * whether two names are the same ask here, so that all say the same. */
#pragma once
#include "base/buf.h"

#include <stdbool.h>
#include <stdint.h>

struct holes {
    const char *const *name; /* what {} stands for; each of the others is made of one of them */
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
