/* Which of the files that a program left behind are outputs: one under a name that was given, or below
 * it where it is a directory's; and one that a pattern fits, or that lies below a directory that it fits.
 * Who hands the files over and who takes them ask here, so that both say the same. */
#pragma once
#include <stdbool.h>
#include <stdint.h>

struct kept {
    const char *const *name; /* borrowed, sorted by kept_sort */
    uint32_t name_count;
    const char *const *pattern; /* borrowed; `*` leaves out `/` and a dot at the beginning, as in sh */
    uint32_t pattern_count;
};

void kept_sort(const char **name, uint32_t count);
/* `name`: relative, without `.` and `..`. */
bool kept_fits(const struct kept *k, const char *name);
