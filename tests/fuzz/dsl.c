/* Any bytes as a pipeline, or behind a byte `J` as a job file.  Nothing may crash; what is accepted
 * has a canonical text that gives itself, means the same, and lowers to a graph that graph_check
 * passes. */
#include "dsl/dsl.h"
#include "proto/graph.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* The text is in the way of the sanitizers' stack when it is printed first. */
static void check_again(const struct dsl_input *in, const char *first, bool wild)
{
    struct err e = {0};
    struct dsl_input again = *in;
    again.text = first;
    again.size = strlen(first);
    char *second = dsl_canonical(&again, &e);
    if (!second || strcmp(first, second) != 0)
        abort();
    free(second);
    if (wild)
        return;
    char *a = dsl_notation(in, &e);
    char *b = dsl_notation(&again, &e);
    if (!a != !b || (a && strcmp(a, b) != 0))
        abort();
    free(a);
    free(b);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const char *const parameters[] = {"X=a b*", "Y="};
    bool job = size > 0 && data[0] == 'J';
    char *text = malloc(size + 1);
    if (!text)
        return 0;
    memcpy(text, data + job, size - job);
    text[size - job] = '\0';
    struct dsl_input in = {.text = text,
                           .size = size - job,
                           .file = "fuzz",
                           .jobfile = job,
                           .directory = "/usr/share/doc",
                           .home = "/home/u",
                           .env = parameters,
                           .env_count = 2};
    /* Patterns read the file system, which is neither quick nor the same everywhere. */
    bool wild = memchr(data, '*', size) || memchr(data, '?', size) || memchr(data, '[', size);
    struct err e = {0};
    char *canonical = dsl_canonical(&in, &e);
    if (canonical)
        check_again(&in, canonical, wild);
    else if (e.code != ERR_INPUT || !strstr(e.text, "error: "))
        abort();
    free(canonical);
    struct graph *g = wild ? NULL : dsl_graph(&in, &e);
    if (g)
        graph_free(g);
    free(text);
    return 0;
}
