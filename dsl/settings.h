/* `with NAME=VALUE`: names, kinds and defaults of zpipe-language(5), 4.6. */
#pragma once
#include "base/err.h"
#include "proto/graph.h"

enum setting_kind {
    SETTING_SIZE,
    SETTING_TIME,
    SETTING_NUMBER,
    SETTING_COUNT, /* a number from `least` to `most` */
    SETTING_EPOCH,
    SETTING_FAIL,
    SETTING_SHELL,
    SETTING_WORD,
};

struct setting_kind_of {
    const char *name;
    enum setting_kind kind;
    uint32_t least, most;      /* for a count */
    const char *wanted, *hint; /* for messages; NULL: those of its kind */
};

/* The setting with this name, or NULL. */
const struct setting_kind_of *setting_find(const char *name, size_t size);
/* The setting's name that is most similar to a wrong name, or NULL. */
const char *setting_nearest(const char *name, size_t size);
/* Writes all names to `text`, with commas. */
void setting_names(char *text, size_t room);

/* Reads the value into *number (bytes, ns, seconds or a number).  false: it is not of the setting's kind. */
bool setting_read(const struct setting_kind_of *s, const char *value, uint64_t *number);
const char *setting_wanted(const struct setting_kind_of *s); /* "a size" */
const char *setting_hint(const struct setting_kind_of *s);

/* Stores the value in `set`, if it has a field there (files, out and shell have none). */
void setting_apply(struct graph_settings *set, const struct setting_kind_of *s, const char *value);
