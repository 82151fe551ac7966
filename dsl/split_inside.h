/* Shared by split.c and the files that read a command's own words (split_sed.c, split_awk.c, split_words.c); not for other
 * files. */
#pragma once
#include "dsl/commands.h"
#include "proto/graph.h"

#include <stdbool.h>

struct split_option {
    const struct command_option *option;
    const char *value; /* or NULL */
};

/* One stage that is examined. */
struct split_case {
    struct graph *g;
    struct graph_node *n;
    struct commands *commands;
    const struct command *k;
    struct err *e;
    struct split_option *option; /* in the order of the words */
    uint32_t option_count;
    const char **operand;
    uint32_t operand_count;
    uint32_t skip;        /* how many operands come before the files */
    const uint32_t *file; /* the other operands, if all are regular files */
    uint32_t file_count;
    bool renamed;          /* some files have other names than their words say */
    bool stdin_alone;      /* there are no file operands, or only `-` */
    bool apart;            /* the form allows several files, with no block spanning two of them */
    struct graph_split *s; /* being filled */
    char why[160];
};

/* Results: the form is known; the stage must run whole, `why` says so; no memory. */
enum { SPLIT_OK = 0, SPLIT_WHOLE = 1, SPLIT_FAILED = -1 };

int split_whole(struct split_case *c, const char *format, ...)
    __attribute__((format(printf, 2, 3))); /* SPLIT_WHOLE */
bool split_has(const struct split_case *c, const char *option);
/* The value of the option's last use; NULL: not given. */
const char *split_value(const struct split_case *c, const char *option);
/* Sets combine NATIVE with this text, if it is a valid one. */
int split_native(struct split_case *c, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
/* A block that contains these bytes may not be cut. */
int split_without(struct split_case *c, const char *bytes, size_t size);
int split_seam(struct split_case *c, const char *bytes, size_t size);

/* split_argv.c.  The words with which blocks run the command: name, options, operands that are not files.  `instead`, if not NULL,
 * replaces the script of sed or awk.  NULL: no memory (e is filled). */
const char *const *split_self(struct split_case *c, const char *instead, uint32_t *count);
/* The words given as arguments, up to NULL. */
const char *const *split_words(struct split_case *c, uint32_t *count, ...);
/* The words of a form, filled.  unnamed: {file} has no value in one of them. */
const char *const *split_filled(struct split_case *c, const char *const *word, uint32_t count, uint32_t *filled, bool *unnamed);

/* For `ask NAME` in the table. */
int split_sed(struct split_case *c);
int split_awk(struct split_case *c);
int split_perl(struct split_case *c);
int split_jq(struct split_case *c);
int split_tr(struct split_case *c);
int split_wc(struct split_case *c);
int split_paste(struct split_case *c);
int split_iconv(struct split_case *c);
int split_xargs(struct split_case *c);
int split_plain(struct split_case *c); /* grep -z: no option that counts lines or names files */
