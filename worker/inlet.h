/* The bytes that a stage in blocks reads: stretches of files, end to end, the last of which may still grow
 * (a stream being spooled).  Where blocks may begin is a matter of the bytes alone, never of when they
 * came: block k begins at the first boundary at or behind the k-th nominal offset. */
#pragma once
#include "base/err.h"
#include "proto/graph.h"
#include "proto/msg.h"
#include "sandbox/box.h"

#include <sys/types.h>

#define INLET_STRETCHES_MAX 1000000

struct stretch {
    int fd; /* owned, but where it is that of the one before; readable by offset */
    uint64_t offset, size; /* in fd */
    uint64_t at;           /* of its first byte, in the whole input */
    uint32_t file;         /* of the graph, or GRAPH_NONE */
    uint32_t place;        /* fd is this file of the graph, which others may have too; GRAPH_NONE: it is not */
    bool same_fd;
    bool goes_on; /* it and the one before are one piece */
};

struct inlet {
    struct stretch *stretch; /* owned */
    uint32_t count, room;
    uint64_t bytes;  /* so far */
    bool ended;      /* that is all */
    bool apart;      /* no block spans two stretches, but where they are one piece */
    bool pieces;     /* ... and each piece is one, whatever the rule says of cuts: */
    uint64_t whole;  /* those up to here; all, when it has ended */
    struct {         /* a search for a boundary that found too few bytes: it goes on where it was */
        uint64_t begin, want, at, seen;
        uint32_t state; /* of a search for a text */
    } search;
    uint32_t dropped; /* stretches */
};

/* Takes fd, also on failure. */
int inlet_add(struct inlet *in, int fd, uint64_t offset, uint64_t size, uint32_t file, struct err *e);
/* ... of the same fd as the last stretch; of the same piece, with its file, if it goes on. */
int inlet_add_more(struct inlet *in, uint64_t offset, uint64_t size, uint32_t file, bool goes_on, struct err *e);
/* The last stretch is of this very file. */
void inlet_in_place(struct inlet *in, uint32_t file);
/* [from, to) as pieces of such files: their number, or -1 when it is more than those, or more than max. */
int inlet_places(const struct inlet *in, uint64_t from, uint64_t to, struct msg_place *out, uint32_t max);
/* The last stretch has so many bytes now. */
void inlet_grow(struct inlet *in, uint64_t size);

/* How blocks may be cut. */
struct inlet_rule {
    uint32_t cut;         /* enum graph_cut */
    uint64_t step;        /* in units of `cut` */
    uint64_t split_bytes; /* nominal size of blocks; 0: the table */
    struct slice seam;    /* as in graph_split; borrowed */
    uint64_t block_bytes; /* not 0: a block is the shortest that is so large, whatever came before it */
    struct slice text;    /* STARTS, ENDS: GRAPH_RECORD_TEXT_MAX bytes at most */
};

/* The end of a run of blocks that begins at `from` (a boundary; units of step before it: `units`) and is
 * at least `size` bytes and `min_units` units long, if the input is.  1: *to is it, and *units is moved on;
 * 0: more bytes must come first; -1: e. */
int inlet_cut(struct inlet *in, const struct inlet_rule *rule, uint64_t from, uint64_t size,
              uint64_t min_units, uint64_t *units, uint64_t *to, struct err *e);
/* [from, to) as sources for a pump, borrowed; their number, or -1 when there are more than max. */
int inlet_sources(const struct inlet *in, uint64_t from, uint64_t to, struct box_source *out, uint32_t max);
/* Up to `size` bytes from `at` on, fewer only where they end: their number; -1: e. */
ssize_t inlet_read(const struct inlet *in, uint64_t at, void *out, size_t size, struct err *e);
/* What comes before `upto` is not read again: files that nobody needs any more are closed. */
void inlet_drop(struct inlet *in, uint64_t upto);
/* What of it is in one piece from there: `from` lies before the end, and at most `max` bytes are wanted. */
struct box_source inlet_piece(const struct inlet *in, uint64_t from, uint64_t max);
/* `to`, which nothing else fills, holds what `in` holds, with descriptors of its own. */
int inlet_follow(struct inlet *to, const struct inlet *in, struct err *e);
uint32_t inlet_left(const struct inlet *in, uint64_t at); /* stretches, with the one of that byte */
/* Newlines in [from, to). */
int inlet_lines(const struct inlet *in, uint64_t from, uint64_t to, uint64_t *lines, struct err *e);
/* Is one of these bytes in [from, to)?  1, 0, or -1. */
int inlet_holds(const struct inlet *in, uint64_t from, uint64_t to, struct slice bytes, struct err *e);
/* The file of the graph that holds this byte. */
uint32_t inlet_file(const struct inlet *in, uint64_t at);
void inlet_clear(struct inlet *in);
