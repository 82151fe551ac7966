/* Expands patterns against the file system, as sh does: `*`, `?`, `[...]`; no leading dot, `/` explicit. */
#pragma once
#include "base/arena.h"
#include "base/err.h"

#include <stdbool.h>
#include <stddef.h>

#define GLOB_NAMES_MAX 100000 /* names that one pattern may give */

struct glob_names {
    const char **name; /* in the arena, sorted by bytes */
    size_t count, room;
};

/* Does the path match the pattern, part by part?  Both are relative, or both absolute. */
bool glob_fits(const char *pattern, const char *path);

/* Finds all names that match, relative to `directory` unless the pattern is absolute.  None is no error. */
int glob_expand(struct arena *a, const char *directory, const char *pattern, bool caret,
                struct glob_names *out, struct err *e);
