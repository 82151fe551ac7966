/* The files that a script of sed or awk names itself: `r f`, `w f`, `getline < "f"`, `print > "f"`, `print > $1 ".txt"`, `"sort f" | getline`.  A script that is
 * not understood names what is found up to there. */
#pragma once
#include <stddef.h>

enum script_use {
    SCRIPT_READS,
    SCRIPT_WRITES, /* or appends to */
    SCRIPT_RUNS,   /* a text for sh */
    SCRIPT_MAKES,  /* names that it puts together: how they begin, `*`, and how they end */
    SCRIPT_ADDS,   /* likewise, and appends to them */
    SCRIPT_LISTS,  /* it opens files by names that it reads */
};
#define SCRIPT_PATTERN_MAX 512 /* bytes; of a longer one only `*` is told */

/* Told of each, borrowed; not 0 ends it. */
struct script_names {
    int (*told)(struct script_names *n, enum script_use use, const char *name, size_t size);
    void *owner;
};

/* What `told` returned, or -1: no memory.  In split_sed.c and names_awk.c. */
int script_names_sed(const char *script, struct script_names *n);
int script_names_awk(const char *script, struct script_names *n);
