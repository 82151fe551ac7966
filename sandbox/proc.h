/* What the kernel tells in the text files of /proc: of a process, in its directory, and of itself. */
#pragma once
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#define PROC_LINE_MAX 128 /* of a line that proc_status gives; longer ones are cut off */

/* A setting below /proc/sys that is a number; `absent`: this kernel has none of that name. */
long proc_setting(const char *name, long absent);
/* A process's file `what`, cut off at room - 1 bytes; false, and "": it is gone, or the file is empty. */
bool proc_read(pid_t pid, const char *what, char *text, size_t room);
/* Its status, without the line of a user's groups, which can take 700 KB; false, and "": it is gone. */
#define PROC_STATUS_ROOM 4096
bool proc_status_text(pid_t pid, char text[PROC_STATUS_ROOM]);
/* The number behind `name` in such a text; where that is at a line's beginning it includes the newline before.  `base` as strtoull
 * has it.  0: there is none. */
uint64_t proc_number(const char *text, const char *name, int base);
/* What stands behind `name` ("VmData:") in its status, which is read line by line: a user's groups, before most of them, can take 700 KB.
 * False: there is no such line. */
bool proc_status(pid_t pid, const char *name, char value[PROC_LINE_MAX]);
/* Its state as ps shows it, and its parent's number if that is asked for; 'X', and the parent as it was: it is gone. */
char proc_state(pid_t pid, pid_t *parent);
/* The same of the process or thread whose directory is open: its number may be another's by now. */
char proc_state_at(int directory);
