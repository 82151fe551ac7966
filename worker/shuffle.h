/* The exchange of `reduce by KEY`: lines of an inlet, dealt out to partitions by proto/key.h, as
 * the inlet grows.  Each line keeps its place among those of its partition, and ends with a newline
 * there even if it was the input's last and had none, as with sort.
 *
 * All partitions are in one spool, each in pieces of growing size that it fills one after the
 * other; so neither descriptors nor pieces nor memory grow with what passes.  Lines may be longer
 * than any buffer: such a line is read twice, for its key and then to be copied. */
#pragma once
#include "proto/key.h"
#include "worker/inlet.h"

#define SHUFFLE_TURN_BYTES (1u << 20) /* looked at before others get their turn */
#define SHUFFLE_READ_BYTES (256u << 10)
#define SHUFFLE_HELD_MAX   (32u << 20) /* of all partitions, before it is written */
#define SHUFFLE_PIECE_MIN  (64u << 10)
#define SHUFFLE_PIECE_MAX  (1u << 30)

struct shuffle;

/* Gives.  count: partitions, at most GRAPH_INTO_MAX. */
struct shuffle *shuffle_new(const struct key *k, uint32_t count, struct err *e);
/* Deal out some of what is there.  1: there may be more; 0: not before the inlet has grown or
 * ended, and when it had ended that was all; -1: e. */
int shuffle_turn(struct shuffle *s, struct inlet *in, struct err *e);
/* How far into the inlet it is. */
uint64_t shuffle_at(const struct shuffle *s);
/* ... and what comes before this is not read again. */
uint64_t shuffle_spent(const struct shuffle *s);
/* When all was dealt out: partitions that have lines, in order, each as one piece (inlet_add_more)
 * of `to` with its number, from 0, as the piece's file.  How many they are, or -1. */
int shuffle_give(struct shuffle *s, struct inlet *to, struct err *e);
void shuffle_free(struct shuffle *s);
