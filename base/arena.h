/* Memory freed all at once: a parse, a graph, a run. */
#pragma once
#include <stdbool.h>
#include <stddef.h>

struct arena {
    struct arena_block *block; /* owned; newest first */
    size_t used;               /* bytes handed out, all blocks */
    size_t max;                /* ceiling on used */
    bool no_memory;            /* a NULL was the system's, not the ceiling's */
};

#define ARENA_INIT(ceiling) ((struct arena){.max = (ceiling)})

/* Zeroed memory, aligned for anything; NULL when the ceiling or the system says no. */
void *arena_alloc(struct arena *a, size_t size);
/* count * size, refusing overflow. */
void *arena_array(struct arena *a, size_t count, size_t size);
char *arena_string(struct arena *a, const char *text);
char *arena_bytes(struct arena *a, const void *data, size_t size); /* NUL-terminated copy */

void arena_clear(struct arena *a);
