/* The names of the files that the tasks of a `map per file` or a `reduce` write.  They are known before anything runs, and
 * no two may be the same. */
#include "dsl/lower_inside.h"
#include "proto/holes.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define NAME_BYTES_MAX 4096

/* Name one output of a body once for each file or each partition. */
static int name_each(struct lower *w, const struct graph_node *node, const char *path, size_t at)
{
    bool reduce = node->kind == GRAPH_REDUCE;
    const struct graph_node *source = reduce ? NULL : &w->g->node[w->g->edge[graph_fd_of(node, 0)->edge].from];
    uint32_t count = reduce ? node->into : source->segment_count;
    for (uint32_t i = 0; i < count; i++) {
        const char *file = reduce ? "" : w->g->file[source->segment[i].file].name;
        struct buf word = BUF_INIT(NAME_BYTES_MAX);
        struct named *n = arena_alloc(w->r->arena, sizeof *n);
        holes_fill(path, &(struct holes){&file, 1, i + 1}, 0, &word);
        const char *copy = word.failed ? NULL : arena_string(w->r->arena, word.data ? word.data : "");
        bool large = word.failed && !word.no_memory;
        buf_clear(&word);
        if (large)
            return FAIL(w, at, NULL, "the output name of the file `%.200s` is longer than %d bytes", file,
                        NAME_BYTES_MAX);
        if (!n || !copy)
            return resolve_no_memory(w->r);
        *n = (struct named){w->named, uses_path(w->r, copy), copy, reduce ? NULL : file, reduce ? i + 1 : 0, at};
        if (!n->path)
            return -1;
        w->named = n;
    }
    return 0;
}

int lower_name_outputs(struct lower *w, uint32_t map, size_t at)
{
    for (uint32_t i = map + 1; i < w->g->node_count; i++)
        if (w->g->node[i].parent == map && graph_is_task_sink(&w->g->node[i]) &&
            name_each(w, &w->g->node[map], w->g->node[i].path, at) < 0)
            return -1;
    return 0;
}

static int by_path(const void *a, const void *b)
{
    const struct named *x = *(const struct named *const *)a, *y = *(const struct named *const *)b;
    int order = strcmp(x->path, y->path);
    order = order ? order : strcmp(x->file ? x->file : "", y->file ? y->file : "");
    return order ? order : (x->partition > y->partition) - (x->partition < y->partition);
}

static bool of_task(const struct named *n)
{
    return n->file || n->partition;
}

static int refuse(struct lower *w, const struct named *a, const struct named *b)
{
    char hint[300];
    const struct named *of = of_task(a) ? a : b;
    if (of->partition)
        return FAIL(w, of->at, "give one of the two another name",
                    "`%.200s` is written twice in this job: here by partition %u", of->word, of->partition);
    if (!a->file || !b->file)
        return FAIL(w, of->at, "give one of the two another name", "`%.200s` is written twice in this job: here for the file `%.200s`", of->word, of->file);
    snprintf(hint, sizeof hint, "`%.100s` and `%.100s`; {} or {#} in the name would tell them apart", a->file, b->file);
    return FAIL(w, of->at, hint, "two files give the output name `%.200s`", of->word);
}

int lower_names_differ(struct lower *w)
{
    size_t count = 0;
    for (const struct named *n = w->named; n; n = n->next)
        count++;
    for (const struct made *m = count ? w->made : NULL; m; m = m->next)
        count++;
    const struct named **list = arena_array(w->r->arena, count + 1, sizeof *list);
    struct named *plain = arena_array(w->r->arena, count + 1, sizeof *plain);
    if (!list || !plain)
        return resolve_no_memory(w->r);
    count = 0;
    for (const struct named *n = w->named; n; n = n->next)
        list[count++] = n;
    for (const struct made *m = w->named ? w->made : NULL; m; m = m->next)
        if (m->sink != GRAPH_NONE && !holes_has(m->path)) {
            plain[count].path = m->path;
            list[count] = &plain[count];
            count++;
        }
    qsort(list, count, sizeof *list, by_path);
    for (size_t i = 1; i < count; i++)
        if ((of_task(list[i]) || of_task(list[i - 1])) && strcmp(list[i]->path, list[i - 1]->path) == 0)
            return refuse(w, list[i - 1], list[i]);
    return 0;
}
