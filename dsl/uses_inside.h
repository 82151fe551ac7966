/* Shared by uses.c and uses_text.c; for nobody else. */
#pragma once
#include "dsl/resolve.h"

/* uses.c: a name that somebody said at `at`; value: the word that it is of, or NULL. */
/* 1: it is an input and was added; 0: it is none.  sure: it stands where files stand. */
int uses_input(struct resolver *r, struct stage *s, const char *word, struct value *v, size_t at, bool directories, bool sure);
int uses_output(struct resolver *r, struct stage *s, const char *word, struct value *v, size_t at);
int uses_maybe(struct resolver *r, struct stage *s, const char *word, size_t at); /* an output, if it makes one of that name */
int uses_maybe_word(struct resolver *r, struct stage *s, const char *word, size_t at);
int uses_changed(struct resolver *r, struct stage *s, const char *name); /* an output if it changes that, or packs it */
/* A word of xargs: it may run what changes the files that it is given.  edits: sed or perl was among them, which is remembered here. */
int uses_xargs_word(struct resolver *r, struct stage *s, size_t at, const char *word, bool *edits);
int uses_prefixes(struct resolver *r, struct stage *s, const struct use *first, const struct command *k, size_t at);

/* uses_text.c: what the texts among a command's words name. */
bool uses_has_scripts(const char *command); /* sed or an awk */
int uses_script(struct resolver *r, struct stage *s, size_t at, const char *command, const char *script);
int uses_script_file(struct resolver *r, struct stage *s, size_t at, const char *command, const char *name);
bool uses_is_dash_c(const char *word); /* behind which a shell has its text */
/* hole: the word in it that stands for another each time (xargs -I{}), or NULL. */
int uses_shell_text(struct resolver *r, struct stage *s, size_t at, const char *text, const char *hole);
/* What a script of awk or sed prints is a text for sh. */
int uses_printed(struct resolver *r, struct stage *s, size_t at, const char *command, const char *script);
int uses_pattern(struct resolver *r, struct stage *s, size_t at, const char *pattern); /* of names that it may make, read or append to */

/* uses_data.c: what a text for an interpreter names, in its strings or as a shell's words. */
/* The bytes of a regular file of the client's, the arena's, with a zero byte behind them; an empty slice: it has none, has more than
 * bytes_max, or cannot be read. */
struct slice uses_text_of(struct resolver *r, const char *path, uint32_t bytes_max);
bool uses_is_open(const char *name); /* relative, and nothing in it hidden or `..` */
int uses_program(struct resolver *r, struct stage *s, size_t at, const char *text, size_t size);
int uses_program_text(struct resolver *r, struct stage *s, size_t at, struct slice text, const char *interpreter);
int uses_program_file(struct resolver *r, struct stage *s, size_t at, const char *name, const char *interpreter); /* NULL: its first line says whose it is */
int uses_program_word(struct resolver *r, struct stage *s, size_t at, const char *word); /* ... that may be run, as in `timeout 9 ./x.sh` */
int uses_said(struct resolver *r, struct stage *s, size_t at, const char *text); /* by echo or printf, for a shell to run */
