/* Any bytes as the words of a command that zpipe knows, the first byte saying which, or as a table
 * of commands.  Nothing may crash or take long; a stage that is cut is one that graph_check passes,
 * and one that is not has a reason. */
#include "dsl/commands.h"
#include "dsl/split.h"
#include "proto/graph.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define WORDS_MAX 12

static void stage(struct commands *c, const char *name, char *text, size_t size)
{
    struct err e = {0};
    struct graph *g = graph_new(&e);
    uint32_t in = g ? graph_add_node(g, GRAPH_SOURCE, &e) : GRAPH_NONE;
    uint32_t node = g ? graph_add_node(g, GRAPH_COMMAND, &e) : GRAPH_NONE;
    uint32_t edge = node == GRAPH_NONE ? GRAPH_NONE : graph_add_edge(g, in, node, &e);
    const char *word[WORDS_MAX] = {name};
    uint32_t count = 1;
    if (edge == GRAPH_NONE || graph_set_fd(g, in, 1, edge, &e) < 0 ||
        graph_set_fd(g, node, 0, edge, &e) < 0)
        abort();
    /* Words end with the byte that cannot be in one of a pipeline's. */
    for (char *at = text, *end; count < WORDS_MAX; at = end + 1) {
        end = memchr(at, GRAPH_HOLE, (size_t)(text + size - at));
        word[count++] = at;
        if (!end)
            break;
        *end = '\0';
    }
    g->node[node].argv = word;
    g->node[node].argc = count;
    g->node[node].label = "stage";
    if (split_graph(g, c, &e) < 0)
        abort();
    if ((g->node[node].split.cut == GRAPH_CUT_NONE) != (g->node[node].why[0] != '\0'))
        abort();
    if (graph_check(g, &e) < 0)
        abort();
    graph_free(g);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const char *const names[] = {"sed",   "awk",  "tr",    "perl", "jq",   "paste",
                                        "xargs", "wc",   "nl",    "grep", "uniq", "sort",
                                        "head",  "tail", "iconv", "cat"};
    struct arena a = ARENA_INIT(64u << 20);
    struct err e = {0};
    if (size == 0)
        return 0;
    char *text = malloc(size);
    if (!text)
        return 0;
    memcpy(text, data + 1, size - 1);
    text[size - 1] = '\0';
    if (data[0] == '#') {
        const struct commands_text table = {"table", text, size - 1};
        struct commands *c = commands_new(&a, &table, 1, &e);
        if (!c && e.code != ERR_INPUT && e.code != ERR_LIMIT && e.code != ERR_NOMEM)
            abort();
        static const char *const tries[] = {"x", "sort"};
        char words[] = "-a\x01-n5\x01p";
        for (size_t i = 0; c && i < 2; i++) {
            char copy[sizeof words];
            memcpy(copy, words, sizeof words);
            stage(c, tries[i], copy, sizeof words - 1);
        }
    } else if (memchr(text, '\0', size - 1) == NULL) {
        stage(commands_new(&a, NULL, 0, &e), names[data[0] % 16], text, size - 1);
    }
    free(text);
    arena_clear(&a);
    return 0;
}
