/* Programs in a box until they are cloned from templates, beside their first run, which started cold: for tests. */
#pragma once
#include "lib/boxed.h"

#include <sys/types.h>

#define RUNS_MAX 400 /* until a template must be there; a busy machine is slow to make one */

extern struct boxed b;
extern int input, empty; /* to be read: LINES lines, and nothing (clones_inputs) */
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
/* One run; its stdin from its beginning. */
void run(const struct boxed_plan *p);
void keep(struct seen *s);
void assert_same(const struct seen *s, const char *line);
/* Runs it until so many of its runs were clones; all runs are the same.  False: it is not cloned. */
bool clones_are_same(const struct boxed_plan *p, int clones);
bool have(const char *program);
/* What /proc/PID/status says behind a name; "". */
void line_of(pid_t pid, const char *name, char *value, size_t size);
