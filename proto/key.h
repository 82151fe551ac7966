/* The KEY of `reduce by KEY`: which fields of a line decide its partition, and which partition that is.  Pure: the same
 * bytes and the same number of partitions always give the same partition, on every host.
 *
 *   KEY = "line" | field { "," field }       field = NUMBER [ "-" NUMBER ] { "f" | "n" }
 *
 * Read as by `cut -f`: fields count from 1, and are used in the order of the line, each once, in whatever order they are
 * named.  A field is a run of bytes other than blank and tab, as in awk; with a separator it is what stands between two
 * separators.  A missing field is empty.  `f` turns A to Z into small letters.  `n` uses the number at the field's
 * beginning, as `sort -n` reads it: blanks, a `-`, digits, a `.`, digits.  The number counts without zeros at its beginning
 * and, after a `.`, at its end; 0 counts as empty.
 *
 * The hash is FNV-1a of 64 bits over the fields, each followed by a zero byte. */
#pragma once
#include "base/buf.h"
#include "base/err.h"

#include <stdbool.h>
#include <stdint.h>

#define KEY_FIELDS_MAX 256 /* fields and ranges of one KEY */

struct key_span {
    uint32_t from, to; /* from field to field */
    bool fold, number;
};

struct key {
    bool line;     /* the whole line is one field */
    int separator; /* a byte, or -1: fields are separated by blanks */
    uint32_t count;
    struct key_span span[2 * KEY_FIELDS_MAX]; /* ascending, without overlaps */
};

/* -1: `text` is not a KEY. */
int key_parse(const char *text, int separator, struct key *k, struct err *e);

/* The hash of a line without its newline.  The line may come in any pieces. */
struct key_hash {
    const struct key *key; /* borrowed */
    uint64_t hash;
    uint64_t field; /* the field that contains the next byte, or precedes it; from 1 */
    uint32_t span;  /* the first span that does not end before this field */
    bool inside;    /* inside a field; if not, between two (when blanks separate) */
    struct {        /* the part of a number that was read so far */
        uint8_t part;
        bool minus;     /* a `-` that is hashed only when a digit comes */
        uint64_t zeros; /* zeros after the point, likewise */
    } number;
};

void key_begin(struct key_hash *h, const struct key *k);
void key_add(struct key_hash *h, const void *bytes, size_t size);
uint64_t key_end(struct key_hash *h);

/* The partition, from 1 to `count`. */
uint32_t key_partition(uint64_t hash, uint32_t count);
