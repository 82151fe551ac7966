/* A resolved tree as a line of text: what the tests compare and `zpipe check` prints. */
#pragma once
#include "dsl/resolve.h"

/* The caller frees the string; NULL: no memory. */
char *notation_tree(const struct resolver *r);
