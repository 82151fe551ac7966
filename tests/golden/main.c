/* golden NAME: runs the golden program of that name. */
#include "golden/golden.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

void say(const char *format, ...)
{
    va_list args;
    va_start(args, format);
    vprintf(format, args);
    va_end(args);
}

void say_bytes(const void *data, size_t size)
{
    for (size_t i = 0; i < size; i++)
        say("%02x", ((const unsigned char *)data)[i]);
    say("\n");
}

int main(int argc, char **argv)
{
    static const struct golden *const tables[] = {golden_time,  golden_random,  golden_memory,  golden_process,
                                                  golden_files, golden_streams, golden_parallel, golden_turns,
                                                  golden_threads, golden_own};

    for (size_t i = 0; i < sizeof tables / sizeof *tables; i++)
        for (const struct golden *g = tables[i]; g->name; g++)
            if (argc > 1 && !strcmp(g->name, argv[1])) {
                g->show();
                return fflush(stdout) ? 1 : 0;
            }
    fprintf(stderr, "golden: no such program\n");
    return 2;
}
