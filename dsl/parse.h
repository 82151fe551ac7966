/* Tokens to a tree (ast.h).  The grammar is zpipe-language(5)'s; each production stands above its
 * function. */
#pragma once
#include "dsl/lex.h"

#define PARSE_NAMES_MAX 1000 /* named pipelines of one job: each word is compared with them */

/* What surrounds a pipeline. */
struct context {
    char close;       /* what ends it: '}', ')', '\n' (a statement), 0 (the text) */
    const char *body; /* "map", "reduce", "merge": the body it is in, or NULL */
    bool loose;       /* a map's body without braces */
    int depth;
};

struct parser {
    const struct text *text;
    struct arena *arena;
    struct err *e;
    struct lexer lex;
    struct token t;   /* the next token */
    size_t last;      /* the end of the last token that was taken and is not a line end */
    const char *word; /* the last of zpipe's own words in the pipeline being read */
    struct tree *tree;
    struct definition **last_definition;
};

/* The AST borrows from text and lives in the arena; the parser may be cleared afterwards.
 * each: the one-liner is run per file of these words. */
int parse_text(struct parser *p, const struct text *text, struct arena *a, const char *const *each,
               size_t each_count, struct tree *tree, struct err *e);
void parse_clear(struct parser *p);

/* Fails with a message at this place of the text. */
#define FAIL(p, at, hint, ...) text_fail((p)->text, at, (p)->e, hint, __VA_ARGS__)

/* The next functions are for the parser's own files. */
int parse_advance(struct parser *p);
bool parse_op(const struct parser *p, const char *op);
bool parse_word(const struct parser *p, const char *word); /* the next token is this bare word */
/* The end word of a heredoc whose operator was at `op` is the next token: take it. */
int parse_heredoc_end(struct parser *p, size_t op, bool dash, struct heredoc **out);

int parse_skip_lines(struct parser *p);
int parse_set_back(struct parser *p, struct lex_mark mark); /* R: to the start of a token */
void *parse_make(struct parser *p, size_t size); /* memory from the arena, zeroed; NULL with the message */
char *parse_literal(struct parser *p, const struct word *w); /* "" for a word that has none */
int parse_settings(struct parser *p, struct setting **out);
int parse_pipeline(struct parser *p, struct context c, struct pipeline **out);
int parse_stage(struct parser *p, struct context c, struct stage **out);
const char *parse_shown(const struct parser *p, int *size); /* the next token, as a message shows it */

/* own_words.c: the word itself is the next token. */
int parse_with(struct parser *p, struct context c, struct stage *s);
int parse_map(struct parser *p, struct context c, struct stage *s);
int parse_reduce(struct parser *p, struct context c, struct stage *s);

/* redir.c.  *odd is set to the sign that only sh can do, if there is one; *end moves behind the
 * last. */
bool parse_at_redir(const struct parser *p);
int parse_redir(struct parser *p, struct redir **out, const char **odd);
int parse_redirs(struct parser *p, struct redir **last, const char **odd, size_t *odd_at,
                 size_t *end);
int parse_outer_redirs(struct parser *p, struct stage *s);

/* list, compound, subst: read for their shape only (shape.c).  They begin at the current token. */
int shape_list(struct parser *p, struct context c, size_t *end);
int shape_compound(struct parser *p, int depth, size_t *end);
int shape_subst(struct parser *p, int depth); /* `<(` list `)` */
bool shape_starts_compound(const struct parser *p);
