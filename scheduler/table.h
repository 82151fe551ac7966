/* A hash table from a number to a pointer, which grows.  Zeroed, it is empty. */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct table {
    struct table_slot {
        uint64_t key;
        void *item; /* borrowed; NULL: the slot is free */
    } * slot;       /* owned */
    size_t room;    /* a power of two, or 0 */
    size_t count;
};

void *table_get(const struct table *t, uint64_t key);
/* The key must not be in the table.  false: no memory, and nothing has changed. */
bool table_put(struct table *t, uint64_t key, void *item);
/* Returns the item that was removed, or NULL. */
void *table_remove(struct table *t, uint64_t key);
void table_clear(struct table *t);
