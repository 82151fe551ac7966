/* Awk programs, cut into tokens and rules: for split_awk.c, split_awk_whole.c and names_awk.c.  What is not understood is said once, in
 * `bad`. */
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
    bool changed; /* a name that something is done to here */
};

struct awk_rule {
    uint32_t pattern, pattern_end; /* tokens */
    uint32_t action, action_end;   /* without the braces; equal: none */
    bool braces;
};

struct awk {
    const char *text;
    struct awk_token token[AWK_TOKENS_MAX];
    uint32_t count;
    struct awk_rule rule[AWK_RULES_MAX];
    uint32_t rules;
    char bad[120]; /* why it is whole */

    bool counts; /* NR is compared: lines up to `most` are special */
    uint64_t most;
    uint64_t step; /* of NR % N */
    bool numbers;  /* output begins with NR */
    bool stops;    /* exit behind a line number */
    bool joined;   /* output need not end lines */
};

/* Always false: why it is whole; fails_at: the same, of a piece of the program. */
bool awk_fails(struct awk *a, const char *why);
bool awk_fails_at(struct awk *a, const struct awk_token *t, const char *why);

/* Of a->text, borrowed; false: it is not understood. */
bool awk_read_tokens(struct awk *a);
bool awk_read_rules(struct awk *a);

bool awk_is(const struct awk_token *t, const char *text); /* a name or a sign, no string */
bool awk_among(const struct awk_token *t, const char *const *list, size_t count);
#define AWK_AMONG(t, list) awk_among(t, list, sizeof list / sizeof *list)
bool awk_same(const struct awk_token *a, const struct awk_token *b); /* one name */
bool awk_is_rule(const struct awk *a, const struct awk_rule *r, const char *name); /* BEGIN, END */
uint32_t awk_closed(const struct awk *a, uint32_t i); /* behind the bracket that closes the one at i, or past `count` */
