/* What the owner of a stage and a lender must agree on without asking each other: which stages may be lent, and which files
 * their programs open besides the input that comes with a run.  The lender asks for these once, when its first run needs
 * them; the owner has them from the client, and sends them.
 *
 * The two sides are worker/borrow.c and worker/lend.c; scheduler/plan.c shows it. */
#pragma once
#include "proto/stages.h"

#define LENT_FILES_MAX      1024                    /* of one stage; a stage with more is not lent */
#define LENT_FILES_BYTES    ((uint64_t)1 << 30)     /* of these files together */

/* NULL: the stage may be lent; else why its owner must run all of it, as a phrase. */
const char *stage_stays_why(const struct graph *g, const struct graph_stages *all, const struct graph_stage *s);
bool stage_may_be_lent(const struct graph *g, const struct graph_stages *all, const struct graph_stage *s);
/* Call `each` for every file of the stage, some perhaps twice, while it returns true.  false: it did not. */
bool lent_files(const struct graph *g, const struct graph_stages *all, const struct graph_stage *s,
                bool (*each)(void *owner, uint32_t file), void *owner);
/* May a lender ask for this one? */
bool lent_file_is(const struct graph *g, const struct graph_stages *all, uint32_t file);
