/* Patterns against the file system, as sh does it: `*`, `?`, `[...]`, no leading dot, `/` explicit.
 */
#pragma once
#include "base/arena.h"
#include "base/err.h"

#include <stdbool.h>
#include <stddef.h>

#define GLOB_NAMES_MAX 100000 /* names one pattern may give */

struct glob_names {
    const char **name; /* the arena's; sorted by bytes */
    size_t count, room;
};

/* A path against a pattern, part by part: both relative, or both absolute. */
bool glob_fits(const char *pattern, const char *path);

/* All names that fit, relative to directory unless the pattern is absolute.  None is no error. */
int glob_expand(struct arena *a, const char *directory, const char *pattern, bool caret,
                struct glob_names *out, struct err *e);
