/* Facts about names: which are builtins of sh, which paths belong to the image, how dots in a path are removed. */
#pragma once
#include <stdbool.h>
#include <stddef.h>

/* Does this command take directories as operands (cp -r d e), though it is not in the table of commands? */
bool command_takes_directories(const char *name);
/* Does its first operand name a program that it runs (python3 x.py)? */
bool command_interprets(const char *name);
bool command_is_shell(const char *name);

/* Is it a builtin of sh that behaves differently from the program of that name? */
bool command_builtin(const char *name);
bool command_builtin_reads(const char *name); /* a builtin: itself, or what it runs, may read stdin */

/* Does this absolute path belong to the image, or to a virtual file system (/dev, /proc)? */
bool path_of_image(const char *path);

/* Write the name without `.` and without doubled and trailing slashes to out (at least strlen + 2 bytes).  false: it still
 * holds a `..`. */
bool path_normal(const char *path, char *out);
