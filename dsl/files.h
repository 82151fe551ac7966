/* Names that are not as they look: builtins of sh, paths of the image, paths with dots. */
#pragma once
#include <stdbool.h>
#include <stddef.h>

/* One that is not in the table and takes directories as operands (cp -r d e). */
bool command_takes_directories(const char *name);
/* Does its first operand name a program that it runs (python3 x.py)? */
bool command_interprets(const char *name);
bool command_is_shell(const char *name);

/* A builtin of sh whose twin on disk is not the same. */
bool command_builtin(const char *name);

/* Is this absolute path the image's own, or no file of anybody's (/dev, /proc)? */
bool path_of_image(const char *path);

/* The name without `.`, doubled and trailing slashes into out (at least strlen + 2).  false: a `..`
 * is left in. */
bool path_normal(const char *path, char *out);
