/* See kept.h. */
#include "base/kept.h"

#include <fnmatch.h>
#include <stdlib.h>
#include <string.h>

static int by_bytes(const void *a, const void *b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

void kept_sort(const char **name, uint32_t count)
{
    if (count)
        qsort(name, count, sizeof *name, by_bytes);
}

/* A name that is compared by its first `size` bytes. */
struct part {
    const char *name;
    size_t size;
};

static int by_part(const void *part, const void *item)
{
    const struct part *p = part;
    const char *name = *(const char *const *)item;
    int r = strncmp(p->name, name, p->size);
    return r ? r : name[p->size] ? -1 : 0;
}

static bool has(const struct kept *k, const char *name, size_t size)
{
    const struct part p = {name, size};
    return k->name_count && bsearch(&p, k->name, k->name_count, sizeof *k->name, by_part);
}

bool kept_fits(const struct kept *k, const char *name)
{
    for (size_t size = strcspn(name, "/");; size += 1 + strcspn(name + size + 1, "/")) {
        if (has(k, name, size))
            return true;
        if (!name[size])
            break;
    }
    for (uint32_t i = 0; i < k->pattern_count; i++)
        if (fnmatch(k->pattern[i], name, FNM_PATHNAME | FNM_PERIOD | FNM_LEADING_DIR) == 0)
            return true;
    return false;
}
