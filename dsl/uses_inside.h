/* Shared by uses.c, uses_text.c and uses_data.c; not for other files. */
#pragma once
#include "dsl/resolve.h"

/* uses.c.  `at`: where the name stands in the text; value: the word that contains it, or NULL. */
/* 1: it is an input and was added; 0: it is not an input.  sure: it stands where the command takes files. */
int uses_input(struct resolver *r, struct stage *s, const char *word, struct value *v, size_t at, bool directories, bool sure);
int uses_output(struct resolver *r, struct stage *s, const char *word, struct value *v, size_t at);
int uses_maybe(struct resolver *r, struct stage *s, const char *word, size_t at); /* an output, if the stage makes a file of that name */
int uses_maybe_word(struct resolver *r, struct stage *s, const char *word, size_t at);
int uses_changed(struct resolver *r, struct stage *s, const char *name); /* an output, if the stage changes or packs that file */
bool uses_runs_words(const char *command); /* its words are another command: xargs, find, timeout */
/* A command, or a word of one of those, that may change the files it is given.  named: these are words, too; edits: remembers that sed or
 * perl was among the words. */
int uses_run_word(struct resolver *r, struct stage *s, size_t at, const char *word, bool named, bool *edits);
/* The placeholder in the words of `xargs -I{}` and `find -exec`, or NULL.  What names a word that contains it stands for is a pattern. */
const char *uses_hole(const char *command, const char *const *text, size_t count);
int uses_hole_word(struct resolver *r, struct stage *s, size_t at, const char *text, const char *hole);
int uses_prefixes(struct resolver *r, struct stage *s, const struct use *first, const struct command *k, size_t at);

/* uses_text.c: files named in scripts and shell texts among a command's words. */
bool uses_has_scripts(const char *command); /* sed or an awk */
int uses_script(struct resolver *r, struct stage *s, size_t at, const char *command, const char *script);
int uses_script_file(struct resolver *r, struct stage *s, size_t at, const char *command, const char *name);
bool uses_is_dash_c(const char *word); /* the next word is a text for the shell */
/* hole: the placeholder that is replaced in each run (xargs -I{}), or NULL. */
int uses_shell_text(struct resolver *r, struct stage *s, size_t at, const char *text, const char *hole);
/* The same for a script of awk or sed whose output is a text for sh. */
int uses_printed(struct resolver *r, struct stage *s, size_t at, const char *command, const char *script);
int uses_pattern(struct resolver *r, struct stage *s, size_t at, const char *pattern); /* a pattern of names that the stage may make, read or append to */

/* uses_data.c: files named in a text for an interpreter: in its strings, or as a shell's words. */
/* The bytes of a regular file on the client's host, in the arena, with a zero byte after them.  An empty slice: the file is
 * empty, larger than bytes_max, or cannot be read. */
struct slice uses_text_of(struct resolver *r, const char *path, uint32_t bytes_max);
bool uses_is_open(const char *name); /* relative, without hidden parts and `..` */
int uses_program(struct resolver *r, struct stage *s, size_t at, const char *text, size_t size);
int uses_program_text(struct resolver *r, struct stage *s, size_t at, struct slice text, const char *interpreter);
/* interpreter NULL: the file's first line names it. */
int uses_program_file(struct resolver *r, struct stage *s, size_t at, const char *name, const char *interpreter);
/* The same if the word names a program file, as in `timeout 9 ./x.sh`. */
int uses_program_word(struct resolver *r, struct stage *s, size_t at, const char *word);
int uses_said(struct resolver *r, struct stage *s, size_t at, const char *text); /* a text that echo or printf prints for a shell to run */
