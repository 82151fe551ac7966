/* A pipeline by hand: box_pipe [-n TIMES] 'PROGRAM WORD | PROGRAM' < in > out; its programs' statuses,
 * as a shell's, on stderr.  For measurements. */
#include "lib/boxed.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int main(int argc, char **argv)
{
    static struct boxed b;
    int times = 1, at = 1;
    if (argc > 2 && !strcmp(argv[1], "-n")) {
        times = atoi(argv[2]);
        at = 3;
    }
    if (at >= argc)
        return 2;
    struct boxed_plan p = {.line = argv[at], .in = 0, .out = 1};
    boxed_open(&b, BOX_ISOLATION_FULL);
    while (times--) {
        if (boxed_run(&b, &p) < 0)
            return 1;
        for (uint32_t i = 0; i < b.results; i++)
            fprintf(stderr, "%d%c", b.stage[i].status, i + 1 < b.results ? ' ' : '\n');
        fputs(b.errors, stderr);
    }
    boxed_close(&b);
    return 0;
}
