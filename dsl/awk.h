/* Awk programs, cut into tokens and rules: for split_awk.c, split_awk_whole.c and names_awk.c.  The first thing that is not
 * understood is noted in `bad`. */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define AWK_TOKENS_MAX 512
#define AWK_RULES_MAX  64

enum awk_token_kind { AWK_NUMBER, AWK_STRING, AWK_REGEX, AWK_NAME, AWK_PUNCTUATION, AWK_NEWLINE };

struct awk_token {
    enum awk_token_kind kind;
    const char *text;
    size_t size;
    bool changed; /* a name whose value changes here */
};

struct awk_rule {
    uint32_t pattern, pattern_end; /* from token to token */
    uint32_t action, action_end;   /* without the braces; equal if there is none */
    bool braces;
};

struct awk {
    const char *text;
    struct awk_token token[AWK_TOKENS_MAX];
    uint32_t count;
    struct awk_rule rule[AWK_RULES_MAX];
    uint32_t rules;
    char bad[120]; /* why the stage runs whole */

    bool counts; /* NR is compared with numbers; only lines up to `most` are special */
    uint64_t most;
    uint64_t step; /* N of `NR % N` */
    bool numbers;  /* output lines begin with NR */
    bool stops;    /* it exits at or after a line number */
    bool joined;   /* output need not end with a newline */
};

/* Always false.  Notes why the stage runs whole; fails_at: with a piece of the program. */
bool awk_fails(struct awk *a, const char *why);
bool awk_fails_at(struct awk *a, const struct awk_token *t, const char *why);

/* Reads a->text, which is borrowed; false: it is not understood. */
bool awk_read_tokens(struct awk *a);
bool awk_read_rules(struct awk *a);

bool awk_is(const struct awk_token *t, const char *text); /* for a name or a sign, not a string */
bool awk_among(const struct awk_token *t, const char *const *list, size_t count);
#define AWK_AMONG(t, list) awk_among(t, list, sizeof list / sizeof *list)
bool awk_same(const struct awk_token *a, const struct awk_token *b); /* are both the same name? */
bool awk_is_rule(const struct awk *a, const struct awk_rule *r, const char *name); /* `name` is BEGIN or END */
uint32_t awk_closed(const struct awk *a, uint32_t i); /* the token after the bracket that closes the one at i, or past `count` */
