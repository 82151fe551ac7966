/* `with NAME=VALUE`: names, kinds and defaults of zpipe-language(5), 4.6. */
#pragma once
#include "base/err.h"
#include "proto/graph.h"

enum setting_kind {
    SETTING_SIZE,
    SETTING_TIME,
    SETTING_NUMBER,
    SETTING_COUNT, /* least to most */
    SETTING_EPOCH,
    SETTING_FAIL,
    SETTING_SHELL,
    SETTING_WORD,
};

struct setting_kind_of {
    const char *name;
    enum setting_kind kind;
    uint32_t least, most;      /* of a count */
    const char *wanted, *hint; /* NULL: those of its kind */
};

/* By name, or NULL. */
const struct setting_kind_of *setting_find(const char *name, size_t size);
/* The name nearest to one that is none, or NULL. */
const char *setting_nearest(const char *name, size_t size);
/* All of them, with commas, as a string in text. */
void setting_names(char *text, size_t room);

/* Read value into *number (bytes, ns, seconds or a number).  false: it is none of its kind. */
bool setting_read(const struct setting_kind_of *s, const char *value, uint64_t *number);
const char *setting_wanted(const struct setting_kind_of *s); /* "a size" */
const char *setting_hint(const struct setting_kind_of *s);

/* Put it into set, if it has a place there (files, out, shell have none). */
void setting_apply(struct graph_settings *set, const struct setting_kind_of *s, const char *value);
