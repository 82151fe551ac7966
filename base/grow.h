/* Arrays that double as they fill.  The caller keeps the array, how many items it holds, and for how many there is room. */
#pragma once
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#define GROW_FIRST 4 /* items: the first room; there are many small arrays */

/* Makes room for one more item of `each` bytes in an array of `count`; `array` is the address of the pointer to it, which
 * may move.  false: there are `max` items already, or there is no memory; then nothing has changed. */
static inline bool grow(void *array, uint32_t *room, uint32_t count, uint32_t max, size_t each)
{
    if (count < *room)
        return true;
    uint32_t wanted = *room > max / 2 ? max : *room ? 2 * *room : GROW_FIRST < max ? GROW_FIRST : max;
    void *items;
    memcpy(&items, array, sizeof items);
    if (count >= max || !(items = realloc(items, wanted * each)))
        return false;
    memcpy(array, &items, sizeof items);
    *room = wanted;
    return true;
}
