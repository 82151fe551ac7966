/* Builds the command that runs a single block of a stage that the planner cuts.  Where blocks begin depends on the bytes
 * alone, so a block's position in the input says all about it.  It is for a block with which workers were lost; the task of
 * a map is kept as a record instead (tasks_record.c).  See blocks_inside.h. */
#include "proto/holes.h"
#include "worker/blocks_inside.h"

#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#define COMMANDS_MAX 32 /* commands before the stage; with more of them no command is built */

static void put_words(struct region_words w, struct buf *out)
{
    for (uint32_t i = 0; i < w.count; i++) {
        if (i)
            buf_byte(out, ' ');
        holes_quote(w.word[i], out);
    }
}

static void put_files(const struct graph *g, const uint32_t *file, uint32_t count, struct buf *out)
{
    buf_text(out, "cat");
    for (uint32_t i = 0; i < count; i++) {
        buf_byte(out, ' ');
        holes_quote(g->file[file[i]].name, out);
    }
}

/* Add what produces the source's bytes.  For stdin that is nothing: the user gives the command the same stdin.  false: the
 * source is neither stdin nor files. */
static bool put_source(const struct graph *g, const struct graph_node *n, struct buf *out)
{
    if (n->segment_count == 1 && n->segment[0].kind == GRAPH_SEGMENT_STDIN)
        return true;
    buf_text(out, "cat");
    for (uint32_t i = 0; i < n->segment_count; i++) {
        if (n->segment[i].kind != GRAPH_SEGMENT_FILE)
            return false;
        buf_byte(out, ' ');
        holes_quote(g->file[n->segment[i].file].name, out);
    }
    return n->segment_count > 0;
}

/* The edge that a command reads as its stdin, if it reads no other. */
static bool only_input(const struct graph *g, uint32_t node, uint32_t *edge)
{
    const struct graph_node *n = &g->node[node];
    *edge = GRAPH_NONE;
    for (uint32_t i = 0; i < n->fd_count; i++) {
        if (g->edge[n->fd[i].edge].to != node)
            continue;
        if (n->fd[i].fd || *edge != GRAPH_NONE)
            return false;
        *edge = n->fd[i].edge;
    }
    return true;
}

/* Add all that comes before the edge, as a pipeline.  false: it is not a pipeline. */
static bool put_upstream(const struct graph *g, uint32_t edge, struct buf *out)
{
    uint32_t command[COMMANDS_MAX], count = 0;
    while (edge != GRAPH_NONE && g->node[g->edge[edge].from].kind == GRAPH_COMMAND && count < COMMANDS_MAX) {
        command[count] = g->edge[edge].from;
        if (!only_input(g, command[count++], &edge))
            return false;
    }
    const struct graph_node *source = edge == GRAPH_NONE ? NULL : &g->node[g->edge[edge].from];
    if (source && (source->kind != GRAPH_SOURCE || !put_source(g, source, out)))
        return false;
    while (count) {
        const struct graph_node *n = &g->node[command[--count]];
        if (out->size)
            buf_text(out, " | ");
        put_words((struct region_words){n->argv, n->argc}, out);
    }
    return true;
}

/* Add what produces the stage's whole input. */
static bool put_input(const struct blocks *b, struct buf *out)
{
    const struct graph *g = b->t->graph;
    uint32_t edge = b->stage->in_edge;
    struct buf text = BUF_INIT(out->max);
    if (edge == GRAPH_NONE) {
        put_files(g, b->head->file, b->head->file_count, out);
        return true;
    }
    bool good = put_upstream(g, edge, &text);
    if (good && text.size && g->node[g->edge[edge].from].kind == GRAPH_SOURCE) {
        buf_add(out, text.data, text.size);
    } else if (good && text.size) {
        buf_byte(&text, '\0');
        buf_text(out, "zpipe ");
        holes_quote(text.data ? text.data : "", out);
    }
    out->failed |= text.failed;
    buf_clear(&text);
    return good;
}

static void put_file(const struct blocks *b, uint32_t file, struct buf *out)
{
    buf_text(out, " --with ");
    holes_quote(b->t->graph->file[file].name, out);
}

/* Add one of the stage's commands, in a sandbox with the files that it may open. */
static void put_command(struct run *r, uint32_t i, struct buf *out)
{
    const struct blocks *b = r->b;
    const struct graph_node *n = blocks_node(b, i);
    bool beside = i == 0 && b->beside, own = beside && run_is_file(b);
    buf_text(out, "zpipe box");
    for (uint64_t at = r->from; own && at < r->to; at++)
        put_file(b, inlet_file(&b->in, at), out);
    for (uint32_t k = 0; k < (beside ? b->beside_count : n->file_count); k++)
        put_file(b, beside ? b->beside[k] : n->file[k], out);
    buf_text(out, " -- ");
    put_words(run_words(r, b->node[i]), out);
}

void blocks_alone(struct run *r, struct err *e)
{
    const struct blocks *b = r->b;
    size_t used = strlen(e->text);
    struct buf text = BUF_INIT(sizeof e->text - used);
    buf_text(&text, "\nzpipe: run it alone: ");
    size_t begin = text.size;
    bool good = b->stage->author == GRAPH_NONE && !r->merge.count && (run_is_file(b) || put_input(b, &text));
    if (good && !run_is_file(b))
        buf_printf(&text, "%stail -c +%llu | head -c %llu | ", text.size > begin ? " | " : "", (unsigned long long)r->from + 1,
                   (unsigned long long)(r->to - r->from));
    for (uint32_t i = 0; good && i < b->stage->count; i++) {
        if (i)
            buf_text(&text, " | ");
        put_command(r, i, &text);
    }
    buf_byte(&text, '\0');
    if (good && !text.failed)
        memcpy(e->text + used, text.data, text.size);
    buf_clear(&text);
}
