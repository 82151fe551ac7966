/* `with NAME=VALUE`: names, kinds and defaults of zpipe-language(5), 4.6. */
#pragma once
#include "base/err.h"
#include "proto/graph.h"

enum setting_kind {
    SETTING_SIZE,
    SETTING_TIME,
    SETTING_NUMBER,
    SETTING_COUNT, /* fits 32 bits, not 0 but for retries */
    SETTING_EPOCH,
    SETTING_FAIL,
    SETTING_SHELL,
    SETTING_WORD,
};

struct setting_kind_of {
    const char *name;
    enum setting_kind kind;
};

/* By name, or NULL. */
const struct setting_kind_of *setting_find(const char *name, size_t size);
/* The name nearest to one that is none, or NULL. */
const char *setting_nearest(const char *name, size_t size);

/* Read value into *number (bytes, ns, seconds or a number).  false: it is none of its kind. */
bool setting_read(const struct setting_kind_of *s, const char *value, uint64_t *number);
const char *setting_kind_name(enum setting_kind kind); /* "a size" */
const char *setting_kind_hint(enum setting_kind kind);

/* Put it into set, if it has a place there (files, out, shell have none). */
void setting_apply(struct graph_settings *set, const struct setting_kind_of *s, const char *value);
