/* Tree to canonical text (zpipe-language(5)): parsing it again gives the same text and graph. */
#pragma once
#include "dsl/ast.h"
#include "dsl/text.h"

/* Both give a string, NULL when there is no memory. */
char *print_tree(const struct text *text, const struct tree *tree);
char *print_stage(const struct text *text, const struct tree *tree, const struct stage *s);
/* One word, in the same spelling. */
void print_word(const struct word *w, struct buf *out);
