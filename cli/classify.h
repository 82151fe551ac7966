/* What zpipe classify feeds to a command: inputs made to break it. */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define BYTES_MAX       (32u << 20) /* of an input or an output */
#define INPUT_LINE_MAX  4400
#define INPUT_LINES_MAX 500000 /* a number that the command names is tried with more lines than it says, up to this one */
#define INPUT_WORDS_MAX 2000

struct bytes {
    char *data; /* NULL: none yet; else with a zero byte behind it */
    size_t size, room;
    bool failed; /* no memory, or more than BYTES_MAX */
};
void bytes_add(struct bytes *b, const void *data, size_t size);

/* The lines of MIXED are of all the kinds before ZEROS; those of MANY and LETTERS are short. */
enum input_kind {
    INPUT_WORDS, INPUT_RUNS, INPUT_EMPTY, INPUT_NUMBERS, INPUT_PARAGRAPHS, INPUT_OPEN, INPUT_KEYS, INPUT_SORTED, INPUT_SAME, INPUT_LONG,
    INPUT_QUOTES, INPUT_BRACKETS, INPUT_MARKS, INPUT_PAIRS, INPUT_CONTROLS, INPUT_HIGH, INPUT_VALUES, INPUT_JSON, INPUT_LOG, INPUT_OWN,
    INPUT_ZEROS, INPUT_MIXED, INPUT_MANY, INPUT_LETTERS, INPUT_KINDS
};

struct inputs {
    uint64_t random;
    char *word[INPUT_WORDS_MAX]; /* what the command's words, and the files that they name, speak of */
    size_t words, clear_words;   /* of these so many are not from binaries */
    unsigned number;             /* the largest among them */
};

void inputs_read(struct inputs *in, char *const *word, size_t count);
void inputs_clear(struct inputs *in);
unsigned inputs_random(struct inputs *in, unsigned n); /* below n */
/* So many lines of a kind; OPEN's and MIXED's last one has no newline.  -1: no memory; out is to be freed in any case. */
int inputs_make(struct inputs *in, enum input_kind kind, unsigned lines, struct bytes *out);
