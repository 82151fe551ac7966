/* See result.c. */
#pragma once
#include "base/buf.h"
#include "sandbox/box.h"

/* Packs all of the result but the files that the program made, which are sent by themselves. */
void result_pack(struct buf *b, const struct box_result *r);
/* The texts in *r borrow from data. */
int result_unpack(const void *data, size_t size, struct box_result *r);
