/* Combines the outputs of blocks where that takes more than putting them end to end or running a command over them: the
 * NATIVE way of graph.h.  It is pure: bytes in, bytes out, and the same however the bytes are cut into pieces.
 *
 * A text says which, words with one blank between them:
 *   columns WIDTH OPS [TEXT]  each part is one line of numbers, a column for each letter of OPS: `+` adds,
 *                             `>` takes the largest.  Written at the end, each at least WIDTH wide, a blank
 *                             between them, TEXT behind the last (wc, grep -c)
 *   first                     the first part that is not empty (grep -l)
 *   all                       the first part, if none is empty (grep -L)
 *   join [BYTE]               the newline at the end of a part becomes BYTE, that of the last stays (paste -s)
 *   number WIDTH HOW FIRST STEP [empty]
 *                             numbers at the beginning of lines run on from part to part: WIDTH wide, HOW is
 *                             l, r or z (zeros), as nl makes them.  Lines of blanks alone have none; an empty
 *                             line is an error but for `empty` (cat -b)
 *   lines, bytes              to the number at the beginning of each line is added how many lines
 *                             or bytes of input came before the part's (grep -n, grep -b)
 *   counts OPTIONS            each part is what `uniq -c` wrote with the same -f -i -s -w -z; at a
 *                             seam equal keys are one; written as uniq does with -c -d -u -D or
 *                             --group=HOW, --all-repeated=HOW
 *   seams OPTIONS             each part is what uniq wrote with the same -f -i -s -w -z, and no others; at a seam one of
 *                             two lines with equal keys goes
 */
#pragma once
#include "base/buf.h"
#include "base/err.h"

#include <stdbool.h>
#include <stdint.h>

/* Ceilings: larger things cannot be combined here. */
#define COMBINE_TEXT_MAX 4096        /* of a text */
#define COMBINE_LINE_MAX (64u << 20) /* of a line that must be kept: the last one of `counts` and `seams` */
#define COMBINE_PART_MAX 65536       /* of a part of `columns`, `first` and `all` */

struct combine;

/* Gives; NULL: the text names no way to combine. */
struct combine *combine_new(const char *text, struct err *e);
void combine_free(struct combine *c);

/* Is it `columns`, whose output is written when all parts are known, and (wc) is wider for a file than for a stream? */
bool combine_adds(const char *text);

/* Must the lines of the input be counted for it? */
bool combine_counts_lines(const struct combine *c);
/* Does this text need to know the input of each part, its lines or its bytes? */
bool combine_counts_input(const char *text);

/* Begins the next part, in input order: the output of a block of that many lines and bytes of input.  What is to be written
 * is added to `out`, which the caller empties.  -1: the parts are not what they should be, or too large to hold: then the
 * blocks are spoilt, and the stage must run whole. */
int combine_part(struct combine *c, uint64_t input_lines, uint64_t input_bytes, struct buf *out,
                 struct err *e);
int combine_add(struct combine *c, const void *data, size_t size, struct buf *out, struct err *e);
/* After the last part. */
int combine_end(struct combine *c, struct buf *out, struct err *e);
