/* A job that is brought to a keeper: the record and the inputs as they come, until all of it is on disk. */
#pragma once
#include "client/keeper.h"

struct deposit_in;
struct deposit_in *keeper_in_new(struct visitor *v, struct err *e);
int keeper_in_message(struct deposit_in *in, const struct msg *m, struct slice bulk, struct err *e);
/* What was not wholly taken in is removed.  NULL is allowed. */
void keeper_in_free(struct deposit_in *in);
