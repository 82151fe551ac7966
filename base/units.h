/* Amounts as people write them.  All refuse a text that is not completely an amount, and values above INT64_MAX. */
#pragma once
#include <stdbool.h>
#include <stdint.h>

bool units_size(const char *text, uint64_t *bytes); /* 1.5, 64K, 64MiB, 100MB, ...: K is 1024 */
bool units_time(const char *text, uint64_t *ns);    /* 30, 300ms, 1.5s, 2m, 1h, 7d: alone it is seconds */
bool units_count(const char *text, uint64_t *count);
bool units_named(const char *text); /* is there a unit, whichever? */
