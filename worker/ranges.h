/* Finds where sorted files may be cut so that the parts between two cuts can be merged separately: at ranges of keys, the
 * same in every file.
 *
 * Only the command knows the order, so it is asked in rounds.  It merges lists of lines, each in the command's order, and
 * of equal lines it keeps those of the first list first.  So the bytes of its output tell which list each line came from:
 * the first list whose next line looks like it.  The first round orders samples of the files and chooses *splitters* among
 * them.  The other rounds use finer and finer samples to find where, in each file, the lines that are equal to a splitter
 * begin and end.  For that the splitter is given twice: in a list before all others it comes before the lines equal to it,
 * and in a list after all others it comes after them.
 *
 * Equal lines are never divided.  If many are equal to one splitter they are a range of their own, in which nothing must be
 * merged: the files' parts of it are put one after another.  (Not if the command keeps only one of equal lines, but then no
 * file holds two.) */
#pragma once
#include "base/buf.h"
#include "base/err.h"

#define RANGES_BYTES_MAX  (32u << 20) /* bytes of lines that one round asks about */
#define RANGES_ROUNDS_MAX 12

struct ranges;

/* The files are borrowed, and are read by offset.  Each consists of lines that end with `end`; not all are empty.
 * `wanted`: how many ranges; there may be more or fewer.  NULL: no memory. */
struct ranges *ranges_new(const int *fd, const uint64_t *size, uint32_t count, char end, uint32_t wanted,
                          struct err *e);
void ranges_free(struct ranges *g);

/* Prepares the next round's lists, ranges_lists() of them, some empty.  0: they would be too many bytes, or the files are
 * not as they should be; -1: e. */
int ranges_ask(struct ranges *g, struct err *e);
uint32_t ranges_lists(const struct ranges *g);
struct slice ranges_list(const struct ranges *g, uint32_t i);

/* Takes the command's output for these lists.  RANGES_LOST: it is not a merge of them. */
enum ranges_state { RANGES_LOST, RANGES_MORE, RANGES_KNOWN };
enum ranges_state ranges_answer(struct ranges *g, struct slice merged);

/* When the ranges are known: the cuts, count + 1 of them, from the files' beginnings to their ends.  `equals`: all lines of
 * range i are equal, and there are many; otherwise no two ranges hold equal lines. */
uint32_t ranges_count(const struct ranges *g);
uint64_t ranges_cut(const struct ranges *g, uint32_t cut, uint32_t file);
bool ranges_equals(const struct ranges *g, uint32_t i);
