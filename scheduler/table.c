/* See table.h.  Open addressing, at most half full; a removal moves what follows back, so there are
 * no tombstones and a table that was once large is not slow for ever. */
#include "scheduler/table.h"

#include <stdlib.h>

#define ROOM_MIN 8

/* The finishing step of splitmix64. */
static uint64_t mix(uint64_t z)
{
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9ull;
    z = (z ^ z >> 27) * 0x94d049bb133111ebull;
    return z ^ z >> 31;
}

/* Where the key is, or the free slot where it would go. */
static size_t find(const struct table *t, uint64_t key)
{
    size_t at = mix(key) & (t->room - 1);
    while (t->slot[at].item && t->slot[at].key != key)
        at = (at + 1) & (t->room - 1);
    return at;
}

void *table_get(const struct table *t, uint64_t key)
{
    return t->count ? t->slot[find(t, key)].item : NULL;
}

static bool grow(struct table *t)
{
    struct table bigger = {.room = t->room ? 2 * t->room : ROOM_MIN, .count = t->count};
    bigger.slot = calloc(bigger.room, sizeof *bigger.slot);
    if (!bigger.slot)
        return false;
    for (size_t i = 0; i < t->room; i++)
        if (t->slot[i].item)
            bigger.slot[find(&bigger, t->slot[i].key)] = t->slot[i];
    free(t->slot);
    *t = bigger;
    return true;
}

bool table_put(struct table *t, uint64_t key, void *item)
{
    if (2 * (t->count + 1) > t->room && !grow(t))
        return false;
    t->slot[find(t, key)] = (struct table_slot){key, item};
    t->count++;
    return true;
}

void *table_remove(struct table *t, uint64_t key)
{
    if (!t->count)
        return NULL;
    size_t hole = find(t, key);
    void *item = t->slot[hole].item;
    if (!item)
        return NULL;
    for (size_t at = (hole + 1) & (t->room - 1); t->slot[at].item; at = (at + 1) & (t->room - 1)) {
        size_t home = mix(t->slot[at].key) & (t->room - 1);
        /* It may move back unless its home lies behind the hole. */
        if (((at - home) & (t->room - 1)) >= ((at - hole) & (t->room - 1))) {
            t->slot[hole] = t->slot[at];
            hole = at;
        }
    }
    t->slot[hole] = (struct table_slot){0};
    t->count--;
    return item;
}

void table_clear(struct table *t)
{
    free(t->slot);
    *t = (struct table){0};
}
