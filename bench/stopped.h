/* The floor of a clone's whole life: a program that stands before its first read of stdin (or its end), is forked there, and the child
 * goes on to its own end in a pid namespace of its own.  The kernel's fork and exit and the program's, and nothing of zpipe. */
#pragma once

int stopped_start(const char *const *word, const char *const *env, int null_fd); /* one at a time; -1: this host does not let us */
double stopped_run(void); /* us of one child, from the request to its end; -1: it could not be made */
void stopped_end(void);
