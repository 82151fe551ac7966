/* See arena.h. */
#include "base/arena.h"

#include <stdalign.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#define BLOCK_FIRST 1024 /* each is as large as all before it: thousands of arenas hold little */
#define BLOCK_MAX   8192

struct arena_block {
    struct arena_block *next;
    size_t room, used;
    alignas(max_align_t) char data[];
};

void *arena_alloc(struct arena *a, size_t size)
{
    size_t align = alignof(max_align_t);
    if (size > SIZE_MAX - align)
        return NULL;
    size = (size + align - 1) / align * align;
    if (size > a->max || a->used > a->max - size)
        return NULL;
    struct arena_block *b = a->block;
    if (!b || b->room - b->used < size) {
        size_t room = a->used < BLOCK_FIRST ? BLOCK_FIRST : a->used > BLOCK_MAX ? BLOCK_MAX : a->used;
        room = size > room ? size : room;
        b = malloc(sizeof *b + room);
        if (!b) {
            a->no_memory = true;
            return NULL;
        }
        b->room = room;
        b->used = 0;
        b->next = a->block;
        a->block = b;
    }
    void *at = b->data + b->used;
    b->used += size;
    a->used += size;
    return memset(at, 0, size);
}

void *arena_array(struct arena *a, size_t count, size_t size)
{
    if (size && count > SIZE_MAX / size)
        return NULL;
    return arena_alloc(a, count * size);
}

char *arena_bytes(struct arena *a, const void *data, size_t size)
{
    if (size == SIZE_MAX)
        return NULL;
    char *at = arena_alloc(a, size + 1);
    if (at && size)
        memcpy(at, data, size);
    return at;
}

char *arena_string(struct arena *a, const char *text)
{
    return arena_bytes(a, text, strlen(text));
}

void arena_clear(struct arena *a)
{
    while (a->block) {
        struct arena_block *next = a->block->next;
        free(a->block);
        a->block = next;
    }
    a->used = 0;
}
