/* See result.c. */
#pragma once
#include "base/buf.h"
#include "sandbox/box.h"

/* Not what it made: that travels by itself. */
void result_pack(struct buf *b, const struct box_result *r);
/* Texts borrow from data. */
int result_unpack(const void *data, size_t size, struct box_result *r);
