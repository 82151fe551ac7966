/* A look at a msgpack value before anybody allocates for it: msgpack-c reserves half a gigabyte for
 * five bytes that claim a large array. */
#pragma once
#include "base/err.h"

#include <stddef.h>

#define WIRE_DEPTH_MAX 8
#define WIRE_ITEMS_MAX 2000000

/* 0 when `data` is exactly one value made of arrays, integers, booleans, strings and byte strings,
 * in which every count can be held by the bytes that follow. */
int wire_check(const void *data, size_t size, struct err *e);
