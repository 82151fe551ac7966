/* What the owner of a stage and a lender must agree about without asking each other: which stages may be lent,
 * and which files their programs open besides what a run brings.  These the lender asks for once, when its first
 * run needs them; the owner has them already, from the client, and serves them.
 *
 * The two sides: worker/borrow.c, worker/lend.c.  scheduler/plan.c tells of it. */
#pragma once
#include "proto/stages.h"

#define LENT_FILES_MAX      1024                    /* of a stage; one that has more is not lent */
#define LENT_FILES_BYTES    ((uint64_t)1 << 30)     /* together */

/* NULL: it may be lent; else why all of it is run by its owner, a phrase. */
const char *stage_stays_why(const struct graph *g, const struct graph_stages *all, const struct graph_stage *s);
bool stage_may_be_lent(const struct graph *g, const struct graph_stages *all, const struct graph_stage *s);
/* Each of its files, some perhaps twice, while `each` returns true; false: it did not. */
bool lent_files(const struct graph *g, const struct graph_stages *all, const struct graph_stage *s,
                bool (*each)(void *owner, uint32_t file), void *owner);
/* May a lender ask for this one? */
bool lent_file_is(const struct graph *g, const struct graph_stages *all, uint32_t file);
