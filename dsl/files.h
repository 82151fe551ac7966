/* What is known of commands by name, as far as the front needs it: which words are files, what is
 * written, who reads stdin.  How they may be split is the scheduler's table, not this one. */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <sys/stat.h>

struct command {
    const char *name;
    const char *takes;  /* the short options that take an argument */
    const char *files;  /* those of them whose argument is a file */
    unsigned skip;      /* operands before the first file (grep's pattern); NO_FILES: all */
    bool silent;        /* never reads stdin */
    bool directories;   /* operands may be directories, `.` too */
    const char *writes; /* the short options that name an output */
    bool writes_all;    /* every operand is an output */
};
#define NO_FILES 1000000u

const struct command *command_find(const char *name); /* NULL: not known */

/* A builtin of sh whose twin on disk is not the same. */
bool command_builtin(const char *name);

/* Is this absolute path the image's own, or no file of anybody's (/dev, /proc)? */
bool path_of_image(const char *path);

/* The name without `.`, doubled and trailing slashes into out (at least strlen + 2).  false: a `..`
 * is left in. */
bool path_normal(const char *path, char *out);
