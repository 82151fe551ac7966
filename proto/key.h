/* The KEY of `reduce by KEY`: which fields of a line decide the partition that gets it, and which
 * one that is. Pure: the same bytes and the same number of partitions give the same partition,
 * everywhere and always.
 *
 *   KEY = "line" | field { "," field }       field = NUMBER [ "-" NUMBER ] { "f" | "n" }
 *
 * Read as by `cut -f`: fields count from 1, in whatever order they are named they are taken in the
 * line's, each once. Fields are runs of bytes other than blank and tab, as in awk, or with a
 * separator what stands between two of it. A field that is missing is empty. `f` folds A to Z to
 * small letters. `n` takes the number at the field's beginning, as `sort -n` reads it: blanks, a
 * `-`, digits, a `.`, digits; it stands for itself without zeros at its beginning and, behind a
 * `.`, at its end, and 0 is empty.
 *
 * The hash is FNV-1a of 64 bits over the fields, each followed by a zero byte. */
#pragma once
#include "base/buf.h"
#include "base/err.h"

#include <stdbool.h>
#include <stdint.h>

#define KEY_FIELDS_MAX 256 /* fields and ranges of one KEY */

struct key_span {
    uint32_t from, to; /* fields */
    bool fold, number;
};

struct key {
    bool line;     /* all of it is one field */
    int separator; /* a byte, or -1: blanks */
    uint32_t count;
    struct key_span span[2 * KEY_FIELDS_MAX]; /* ascending, none overlaps another */
};

/* -1: `text` is none. */
int key_parse(const char *text, int separator, struct key *k, struct err *e);

/* The hash of a line (its newline is no part of it) that comes in pieces, however it is cut into
 * them. */
struct key_hash {
    const struct key *key; /* borrowed */
    uint64_t hash;
    uint64_t field; /* that the next byte is in or behind, from 1 */
    uint32_t span;  /* the first that does not end before it */
    bool inside;    /* a field: else between two, where blanks separate them */
    struct {        /* of a number, as far as it was read */
        uint8_t part;
        bool minus;     /* not hashed yet: a digit must come */
        uint64_t zeros; /* behind the point, likewise */
    } number;
};

void key_begin(struct key_hash *h, const struct key *k);
void key_add(struct key_hash *h, const void *bytes, size_t size);
uint64_t key_end(struct key_hash *h);

/* Of 1 to `count`. */
uint32_t key_partition(uint64_t hash, uint32_t count);
