/* Shared by split_awk.c and split_awk_whole.c; not for other files. */
#pragma once
#include "dsl/awk.h"
#include "dsl/split_inside.h"

/* May the rule be applied to each line without the others?  `files`: there are several files.  If not, a->bad says why. */
bool split_awk_rule(struct awk *a, const struct awk_rule *r, bool files);
void split_awk_marks(struct awk *a); /* marks the names that rules change; a name that only BEGIN sets is a constant */
bool split_awk_function(const struct awk_token *t); /* a function whose value depends only on its arguments */
bool split_awk_plain(const struct awk_token *t); /* for a string: it cannot produce a newline */

/* A program of a known form as a whole; -2: it is none of these. */
int split_awk_whole(struct split_case *c, struct awk *a);
