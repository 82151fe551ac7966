/* The bytes that a stage in blocks reads: stretches of files, end to end, the last of which may still grow (a stream being
 * spooled).  Where blocks may begin depends on the bytes alone, never on when they came: block k begins at the first
 * boundary at or after the k-th nominal offset. */
#pragma once
#include "base/err.h"
#include "proto/graph.h"
#include "proto/msg.h"
#include "sandbox/box.h"

#include <sys/types.h>

#define INLET_STRETCHES_MAX 1000000
#define INLET_JOINED_MAX    4096 /* stretches that one block may span because they are joined */

struct stretch {
    int fd; /* owned, unless it is the fd of the stretch before; readable by offset */
    uint64_t offset, size; /* the part of fd */
    uint64_t at;           /* the offset of its first byte in the whole input */
    uint32_t file;         /* the graph's file that it is of; or GRAPH_NONE */
    uint32_t place;        /* fd is this file of the graph itself, which other workers may have, too; GRAPH_NONE: it is not */
    bool same_fd;
    bool goes_on; /* it belongs to the same piece as the stretch before */
    bool joins;   /* a block may go on from this stretch to the next one, though no block spans two stretches */
};

struct inlet {
    struct stretch *stretch; /* owned */
    uint32_t count, room;
    uint64_t bytes;  /* so far */
    bool ended;      /* that is all */
    bool apart;      /* no block spans two stretches, unless they are one piece, or joined */
    bool pieces;     /* each piece is one block, whatever the rule says about cuts; */
    uint64_t whole;  /* pieces up to this offset are complete; all are when `ended` */
    struct {         /* a search for a boundary that ran out of bytes: it continues where it was */
        uint64_t begin, want, at, seen;
        uint32_t state; /* the state of a search for a text */
    } search;
    uint32_t dropped; /* how many stretches were dropped */
};

/* Add a stretch.  Takes fd, also on failure. */
int inlet_add(struct inlet *in, int fd, uint64_t offset, uint64_t size, uint32_t file, struct err *e);
/* Add a stretch of the same fd as the last one; goes_on: it belongs to the same piece and file. */
int inlet_add_more(struct inlet *in, uint64_t offset, uint64_t size, uint32_t file, bool goes_on, struct err *e);
/* Blocks may go on from the last stretch to the next one, if it ends with a newline (or is empty). */
void inlet_join(struct inlet *in);
/* The last stretch is of this file of the graph itself. */
void inlet_in_place(struct inlet *in, uint32_t file);
/* [from, to) as parts of such files: how many; -1: some bytes are in no such file, or it takes more than max. */
int inlet_places(const struct inlet *in, uint64_t from, uint64_t to, struct msg_place *out, uint32_t max);
/* The last stretch has grown to so many bytes. */
void inlet_grow(struct inlet *in, uint64_t size);

/* How the input may be cut into blocks. */
struct inlet_rule {
    uint32_t cut;         /* enum graph_cut */
    uint64_t step;        /* in units of `cut` */
    uint64_t split_bytes; /* nominal size of blocks; 0: the table */
    struct slice seam;    /* as in graph_split; borrowed */
    uint64_t block_bytes; /* not 0: each block is as short as it can be with at least so many bytes */
    struct slice text;    /* STARTS, ENDS: GRAPH_RECORD_TEXT_MAX bytes at most */
};

/* Find the end of a run of blocks that begins at `from` (a boundary; `units`: how many units of `step` come before it) and
 * is at least `size` bytes and `min_units` units long, if the input is.  1: *to is the end, and *units is moved on; 0: more
 * bytes must come first; -1: e. */
int inlet_cut(struct inlet *in, const struct inlet_rule *rule, uint64_t from, uint64_t size,
              uint64_t min_units, uint64_t *units, uint64_t *to, struct err *e);
/* [from, to) as sources for a pump, borrowed: how many; -1: more than max. */
int inlet_sources(const struct inlet *in, uint64_t from, uint64_t to, struct box_source *out, uint32_t max);
/* Read up to `size` bytes from `at` on: how many, fewer only at the end; -1: e. */
ssize_t inlet_read(const struct inlet *in, uint64_t at, void *out, size_t size, struct err *e);
/* Nothing before `upto` will be read again: close files that are not needed any more. */
void inlet_drop(struct inlet *in, uint64_t upto);
/* The bytes from `from` on that lie together in one file, at most `max`; `from` lies before the end. */
struct box_source inlet_piece(const struct inlet *in, uint64_t from, uint64_t max);
/* Make `to`, which nothing else fills, hold the same bytes as `in`, with descriptors of its own. */
int inlet_follow(struct inlet *to, const struct inlet *in, struct err *e);
uint32_t inlet_left(const struct inlet *in, uint64_t at); /* how many stretches there are from that byte on */
/* Count the newlines in [from, to). */
int inlet_lines(const struct inlet *in, uint64_t from, uint64_t to, uint64_t *lines, struct err *e);
/* Does [from, to) hold one of these bytes?  1, 0, or -1. */
int inlet_holds(const struct inlet *in, uint64_t from, uint64_t to, struct slice bytes, struct err *e);
/* The file of the graph that this byte is in. */
uint32_t inlet_file(const struct inlet *in, uint64_t at);
void inlet_clear(struct inlet *in);
