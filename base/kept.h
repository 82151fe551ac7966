/* Which of the files that a program left behind are outputs: a file with a given name, or below a directory with a given
 * name; and a file that matches a pattern, or lies below a directory that matches.  The worker that sends the files and the
 * client that takes them both ask here, so that they agree. */
#pragma once
#include <stdbool.h>
#include <stdint.h>

struct kept {
    const char *const *name; /* borrowed, sorted by kept_sort */
    uint32_t name_count;
    const char *const *pattern; /* borrowed; `*` does not match `/` and a dot at the beginning, as in sh */
    uint32_t pattern_count;
};

void kept_sort(const char **name, uint32_t count);
/* `name`: relative, without `.` and `..`. */
bool kept_fits(const struct kept *k, const char *name);
