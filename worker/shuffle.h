/* The exchange of `reduce by KEY`: deals out the lines of an inlet to partitions, by proto/key.h, as the inlet grows.  The
 * lines of a partition keep their order, and each ends with a newline, even the input's last line if it had none, as with
 * sort.
 *
 * All partitions are in one spool, each in pieces of growing size, filled one after the other; so neither descriptors nor
 * pieces nor memory grow with the amount of data.  Lines may be longer than any buffer: such a line is read twice, first for
 * its key and then to be copied. */
#pragma once
#include "proto/key.h"
#include "worker/inlet.h"

#define SHUFFLE_TURN_BYTES (1u << 20) /* dealt out in one turn of the loop */
#define SHUFFLE_READ_BYTES (256u << 10)
#define SHUFFLE_HELD_MAX   (32u << 20) /* of all partitions, held in memory before it is written */
#define SHUFFLE_PIECE_MIN  (64u << 10)
#define SHUFFLE_PIECE_MAX  (1u << 30)

struct shuffle;

/* Gives.  count: partitions, at most GRAPH_INTO_MAX. */
struct shuffle *shuffle_new(const struct key *k, uint32_t count, struct err *e);
/* Deal out some of what has come.  1: there may be more; 0: not before the inlet grows or ends; if it had ended, that was
 * all; -1: e. */
int shuffle_turn(struct shuffle *s, struct inlet *in, struct err *e);
/* The offset in the inlet up to which lines were dealt out. */
uint64_t shuffle_at(const struct shuffle *s);
/* The offset before which nothing will be read again. */
uint64_t shuffle_spent(const struct shuffle *s);
/* When all was dealt out: add the partitions that have lines to `to`, in order, each as one piece (inlet_add_more) whose
 * file is the partition's number, from 0.  Returns how many they are, or -1. */
int shuffle_give(struct shuffle *s, struct inlet *to, struct err *e);
void shuffle_free(struct shuffle *s);
