/* The files named inside a script of sed or awk: `r f`, `w f`, `getline < "f"`, `print > "f"`, `print > $1 ".txt"`, `"sort
 * f" | getline`.  In a script that is not understood, those found up to there. */
#pragma once
#include <stddef.h>

enum script_use {
    SCRIPT_READS,
    SCRIPT_WRITES, /* writes or appends to the file */
    SCRIPT_RUNS,   /* runs it as a text for sh */
    SCRIPT_MAKES,  /* makes files with names that it puts together: known beginning, `*`, known end */
    SCRIPT_ADDS,   /* likewise, but appends to the files */
    SCRIPT_LISTS,  /* opens files whose names it reads */
};
#define SCRIPT_PATTERN_MAX 512 /* bytes of a pattern; a longer one is reported as `*` */

/* `told` is called for each name, which is borrowed; a result other than 0 ends the search. */
struct script_names {
    int (*told)(struct script_names *n, enum script_use use, const char *name, size_t size);
    void *owner;
};

/* Returns what `told` returned, or -1: no memory.  In split_sed.c and names_awk.c. */
int script_names_sed(const char *script, struct script_names *n);
int script_names_awk(const char *script, struct script_names *n);
