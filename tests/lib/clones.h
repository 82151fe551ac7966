/* For tests: runs programs in a box until they are cloned from templates, and compares the clones with the first run, which
 * started cold. */
#pragma once
#include "lib/boxed.h"

#include <sys/types.h>

#define RUNS_MAX 400 /* so many runs, and a template must have been made; a busy machine is slow to make one */

extern struct boxed b;
extern int input, empty; /* files to be read, with LINES lines and with nothing (clones_inputs) */
extern bool refused;     /* this host makes no second user namespace */

#define LINES 500

struct seen {
    enum box_end end;
    int status;
    size_t size;
    char output[BOXED_OUTPUT_MAX], errors[4096];
    char why[256];
};

void clones_inputs(void);
/* Runs the plan once; a file that is its stdin is read from its beginning. */
void run(const struct boxed_plan *p);
void keep(struct seen *s);
void assert_same(const struct seen *s, const char *line);
/* Runs the plan until so many runs were clones; fails if two runs differ.  False: the program is not cloned. */
bool clones_are_same(const struct boxed_plan *p, int clones);
bool have(const char *program);
/* The text after a name in /proc/PID/status; "": there is no such line. */
void line_of(pid_t pid, const char *name, char *value, size_t size);
