/* Shared by split_awk.c and split_awk_whole.c; for nobody else. */
#pragma once
#include "dsl/awk.h"
#include "dsl/split_inside.h"

/* May what the rule does be done of each line without the others?  `files`: there are several.  Else a->bad says why not. */
bool split_awk_rule(struct awk *a, const struct awk_rule *r, bool files);
void split_awk_marks(struct awk *a); /* the names that rules change; what BEGIN sets is a constant */
bool split_awk_function(const struct awk_token *t); /* one whose value is its arguments' alone */
bool split_awk_plain(const struct awk_token *t); /* of a string: no newline can come of it */

/* A program that is known as a whole; -2: it is none of these. */
int split_awk_whole(struct split_case *c, struct awk *a);
