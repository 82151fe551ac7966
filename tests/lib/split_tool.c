/* For tests/e2e/classes.py: asks the planner how a command is cut, and joins outputs of blocks.
 * Requests and answers on stdin and stdout, one after the other:
 *   C SIZE\n TEXT             how the commands of a pipeline are cut: a JSON array
 *   J SIZE PARTS\n TEXT       joins PARTS parts, each LINES BYTES SIZE\n DATA
 * Its argument is a table of commands.  An answer is SIZE\n and so many bytes; SIZE -1: it could
 * not be. */
#include "dsl/dsl.h"
#include "proto/combine.h"
#include "proto/graph.h"

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

static void json_bytes(struct buf *b, const char *text, size_t size)
{
    buf_byte(b, '"');
    for (size_t i = 0; i < size; i++)
        buf_printf(b, "\\u%04x", (unsigned char)text[i]);
    buf_byte(b, '"');
}

static void json_text(struct buf *b, const char *name, const char *text)
{
    buf_printf(b, ", \"%s\": ", name);
    json_bytes(b, text, strlen(text));
}

static void json_words(struct buf *b, const char *name, const char *const *word, uint32_t count)
{
    buf_printf(b, ", \"%s\": [", name);
    for (uint32_t i = 0; i < count; i++) {
        buf_text(b, i ? ", " : "");
        json_bytes(b, word[i], strlen(word[i]));
    }
    buf_byte(b, ']');
}

static void json_split(struct buf *b, const struct graph *g, const struct graph_node *n)
{
    static const char *const cuts[] = {"none", "bytes", "lines", "nuls", "files"};
    static const char *const runs[] = {"each", "first", "last"};
    static const char *const combines[] = {"concat", "reverse", "rerun", "merge", "native"};
    const struct graph_split *s = &n->split;
    buf_printf(b, "{\"class\": \"%s\", \"cut\": \"%s\", \"step\": %llu, \"run\": \"%s\"",
               graph_class(n), cuts[s->cut], (unsigned long long)s->cut_step, runs[s->run]);
    buf_printf(b, ", \"first\": %llu, \"ok\": %u, \"ends_lines\": %d, \"combine\": \"%s\"",
               (unsigned long long)s->first_units, s->ok_status, s->ends_lines,
               combines[s->combine]);
    json_text(b, "why", n->why);
    json_text(b, "text", s->combine_text);
    buf_text(b, ", \"spoils\": ");
    json_bytes(b, s->spoils.data, s->spoils.size);
    buf_text(b, ", \"seam\": ");
    json_bytes(b, s->seam.data, s->seam.size);
    json_words(b, "argv", n->argv, n->argc);
    json_words(b, "block", s->block_argv, s->block_argc);
    json_words(b, "rest", s->rest_argv, s->rest_argc);
    json_words(b, "again", s->combine_argv, s->combine_argc);
    json_words(b, "order", s->order_argv, s->order_argc);
    buf_text(b, ", \"files\": [");
    for (uint32_t i = 0; i < s->file_count; i++) {
        buf_text(b, i ? ", " : "");
        json_bytes(b, g->file[s->file[i]].name, strlen(g->file[s->file[i]].name));
    }
    buf_text(b, "]}");
}

static struct commands_text table;

static void read_table(const char *path)
{
    static char text[COMMANDS_FILE_MAX];
    FILE *f = fopen(path, "r");
    table = (struct commands_text){path, text, f ? fread(text, 1, sizeof text, f) : 0};
    if (!f || fclose(f) != 0)
        exit(2);
}

static int classify(const char *text, size_t size, struct buf *out)
{
    char directory[4096];
    struct err e;
    struct dsl_input in = {.text = text,
                           .size = size,
                           .file = "pipeline",
                           .directory = directory,
                           .commands = &table,
                           .commands_count = table.file != NULL};
    struct graph *g = getcwd(directory, sizeof directory) ? dsl_graph(&in, &e) : NULL;
    if (!g)
        return buf_text(out, e.text), -1;
    bool any = false;
    for (uint32_t i = 0; i < g->node_count; i++)
        if (g->node[i].kind == GRAPH_COMMAND || g->node[i].kind == GRAPH_SHELL) {
            buf_text(out, any ? ", " : "[");
            json_split(out, g, &g->node[i]);
            any = true;
        }
    buf_byte(out, ']');
    graph_free(g);
    return any ? 0 : -1;
}

static char *take(size_t size)
{
    char *data = malloc(size + 1);
    if (!data || fread(data, 1, size, stdin) != size)
        exit(2);
    data[size] = '\0';
    return data;
}

static int join(const char *text, unsigned long parts, struct buf *out)
{
    struct err e;
    struct combine *c = combine_new(text, &e);
    int r = c ? 0 : -1;
    for (unsigned long i = 0; i < parts; i++) {
        unsigned long lines, bytes, size;
        if (scanf("%lu %lu %lu", &lines, &bytes, &size) != 3 || getchar() != '\n')
            exit(2);
        char *data = take(size);
        if (r == 0 &&
            (combine_part(c, lines, bytes, out, &e) < 0 || combine_add(c, data, size, out, &e) < 0))
            r = -1;
        free(data);
    }
    if (r == 0)
        r = combine_end(c, out, &e);
    combine_free(c);
    return r;
}

int main(int argc, char **argv)
{
    char kind;
    if (argc > 1)
        read_table(argv[1]);
    unsigned long size, parts = 0;
    while (scanf(" %c %lu", &kind, &size) == 2) {
        if (kind == 'J' && scanf("%lu", &parts) != 1)
            return 2;
        getchar();
        char *text = take(size);
        struct buf out = BUF_INIT(1u << 30);
        int r = kind == 'C' ? classify(text, size, &out) : join(text, parts, &out);
        if (r < 0)
            buf_clear(&out);
        printf("%ld\n", r < 0 ? -1 : (long)out.size);
        if (out.size)
            fwrite(out.data, 1, out.size, stdout);
        fflush(stdout);
        buf_clear(&out);
        free(text);
    }
    return 0;
}
