/* See dsl.h.  text.c and lex.c, parse.c and shape.c make a tree; resolve.c, words.c and uses.c ask
 * the parameters and the file system; lower.c makes the graph, print.c and notation.c make text. */
#include "dsl/dsl.h"
#include "dsl/lower.h"
#include "dsl/notation.h"
#include "dsl/parse.h"
#include "dsl/print.h"

#include <stdlib.h>
#include <string.h>

#define ARENA_MAX (1u << 30) /* the tree of one text with all its words */

struct reading {
    struct arena arena;
    struct text text;
    struct parser parser;
    struct tree tree;
    struct resolver resolver;
};

static int begin(struct reading *d, const struct dsl_input *in, struct err *e)
{
    *d = (struct reading){.arena = ARENA_INIT(ARENA_MAX)};
    size_t most = in->jobfile ? DSL_JOB_MAX : DSL_TEXT_MAX;
    if (in->size > most)
        return err_set(e, ERR_INPUT, "%.100s:1:1: error: the text has more than %zu bytes%s",
                       in->file, most,
                       in->jobfile ? "" : "\n    hint: keep the job in a file and use `zpipe run`");
    if (in->jobfile && in->each_count)
        return err_set(e, ERR_INPUT,
                       "%.100s:1:1: error: `:::` goes with a pipeline, not with a job file",
                       in->file);
    if (text_init(&d->text, &d->arena, in->text, in->size, in->file, e) < 0)
        return -1;
    d->text.job = in->jobfile;
    return parse_text(&d->parser, &d->text, &d->arena, in->each, in->each_count, &d->tree, e);
}

static int resolve(struct reading *d, const struct dsl_input *in, struct err *e)
{
    return resolve_tree(&d->resolver, in, &d->text, &d->tree, &d->arena, e);
}

static void end(struct reading *d)
{
    parse_clear(&d->parser);
    arena_clear(&d->arena);
}

struct graph *dsl_graph(const struct dsl_input *in, struct err *e)
{
    struct reading d;
    struct graph *g = NULL;
    if (begin(&d, in, e) == 0 && resolve(&d, in, e) == 0)
        g = lower_tree(&d.resolver, e);
    end(&d);
    return g;
}

char *dsl_canonical(const struct dsl_input *in, struct err *e)
{
    struct reading d;
    char *text = NULL;
    if (begin(&d, in, e) == 0) {
        text = print_tree(&d.text, &d.tree);
        if (!text)
            err_nomem(e);
    }
    end(&d);
    return text;
}

char *dsl_notation(const struct dsl_input *in, struct err *e)
{
    struct reading d;
    char *text = NULL;
    if (begin(&d, in, e) == 0 && resolve(&d, in, e) == 0) {
        text = notation_tree(&d.resolver);
        if (!text)
            err_nomem(e);
    }
    end(&d);
    return text;
}
