/* Receives a submitted job: the record, then the inputs, until all of it is on disk. */
#pragma once
#include "client/keeper.h"

struct deposit_in;
struct deposit_in *keeper_in_new(struct visitor *v, struct err *e);
int keeper_in_message(struct deposit_in *in, const struct msg *m, struct slice bulk, struct err *e);
/* Removes a job that did not arrive completely.  NULL is allowed. */
void keeper_in_free(struct deposit_in *in);
