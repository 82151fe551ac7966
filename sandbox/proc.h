/* What the kernel says in the text files of /proc: about a process, in its directory, and about itself. */
#pragma once
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#define PROC_LINE_MAX 128 /* of a line that proc_status returns; longer ones are cut off */

/* A numeric setting below /proc/sys; `absent`: returned if this kernel has no setting of that name. */
long proc_setting(const char *name, long absent);
/* Reads a process's file `what`, cut off at room - 1 bytes; false, and "": the process is gone, or the file is empty. */
bool proc_read(pid_t pid, const char *what, char *text, size_t room);
/* Reads its status, without the line of the user's groups, which may take 700 KB; false, and "": the process is gone. */
#define PROC_STATUS_ROOM 4096
bool proc_status_text(pid_t pid, char text[PROC_STATUS_ROOM]);
/* The number after `name` in such a text; `name` includes the newline before it if it is at a line's beginning.  `base` as
 * for strtoull.  0: there is none. */
uint64_t proc_number(const char *text, const char *name, int base);
/* The text after `name` ("VmData:") in its status, which is read line by line because the user's groups, before most other
 * lines, may take 700 KB.  False: there is no such line. */
bool proc_status(pid_t pid, const char *name, char value[PROC_LINE_MAX]);
/* Its state as ps shows it, and its parent's number if that is asked for; 'X' with an unchanged parent: the process is
 * gone. */
char proc_state(pid_t pid, pid_t *parent);
/* The same for the process or thread whose directory is open, as its number may have been used again. */
char proc_state_at(int directory);
bool proc_ends(pid_t tid); /* is the thread on its way out, or gone? */
