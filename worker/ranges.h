/* Where sorted files may be cut so that what lies between two cuts can be merged by itself: at ranges of
 * keys, the same in every file.
 *
 * Nobody here knows the order; a command does.  It is asked in rounds: it merges lists of lines, each in its
 * order, and keeps of equal lines those of the first list first.  So the bytes of what it writes tell which
 * list each line came from: the first one whose next line looks so.  The first round orders samples of the
 * files and chooses *splitters* among them.  The others find, in finer and finer samples, where in each file
 * the lines begin and end that are equal to a splitter: as a list before all others it comes before these,
 * as a list behind all others it comes behind them.
 *
 * Equal lines are never divided.  Where many are equal to one splitter they are a range of their own, in
 * which nothing is left to be merged: the files' parts of it stand in order end to end.  (Not where the command
 * keeps one of equal lines; but then no file holds two.) */
#pragma once
#include "base/buf.h"
#include "base/err.h"

#define RANGES_BYTES_MAX  (32u << 20) /* of lines that one round asks about */
#define RANGES_ROUNDS_MAX 12

struct ranges;

/* The files are borrowed and readable by offset.  Each is lines that end with `end`; not all are empty.
 * `wanted`: how many ranges; there may be more or fewer.  NULL: no memory. */
struct ranges *ranges_new(const int *fd, const uint64_t *size, uint32_t count, char end, uint32_t wanted,
                          struct err *e);
void ranges_free(struct ranges *g);

/* The next round's lists, ranges_lists() of them, some empty.  0: they would be too many bytes, or the
 * files are not what they should be; -1: e. */
int ranges_ask(struct ranges *g, struct err *e);
uint32_t ranges_lists(const struct ranges *g);
struct slice ranges_list(const struct ranges *g, uint32_t i);

/* What the command made of them.  RANGES_LOST: it is no merge of these lists. */
enum ranges_state { RANGES_LOST, RANGES_MORE, RANGES_KNOWN };
enum ranges_state ranges_answer(struct ranges *g, struct slice merged);

/* When they are known: the cuts, count + 1 of them, the first at the files' beginnings, the last at their
 * ends.  `equals`: all lines of range i are equal, and many; else never two ranges hold equal lines. */
uint32_t ranges_count(const struct ranges *g);
uint64_t ranges_cut(const struct ranges *g, uint32_t cut, uint32_t file);
bool ranges_equals(const struct ranges *g, uint32_t i);
