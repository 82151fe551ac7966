/* Bytes between a descriptor and a stream: out, from descriptors read end to end into a stream; in,
 * from a stream to a descriptor.  Workers and clients move everything that crosses a process with
 * these.
 *
 * Descriptors are taken, and closed with the carry.  Those that can wait (sockets, pipes) should be
 * non-blocking descriptions of the caller's own; regular files are read and written as they are. */
#pragma once
#include "base/err.h"
#include "base/loop.h"
#include "proto/peer.h"
#include "proto/stream.h"

struct carry;

enum carry_end {
    CARRY_DONE,   /* everything was moved, and the end too; out: and has arrived */
    CARRY_LEFT,   /* the side that takes the bytes wants no more */
    CARRY_FAILED, /* the side that makes the bytes broke, or the protocol was: err */
};

struct carry_events {
    /* Once, and once more each time that an `in` which had ended was begun anew: with CARRY_FAILED, if its bytes
     * were other ones than before.  The owner frees the carry later, not within this call. */
    void (*ended)(void *owner, struct carry *c, enum carry_end end, const struct err *why);
    /* Out, or NULL: what was read of the fds[which], before it is sent; nothing: its end. */
    void (*was_read)(void *owner, struct carry *c, size_t which, const void *data, size_t size);
};

/* Gives; count is 1 at least.  On failure the descriptors are closed too. */
struct carry *carry_out(struct loop *l, const int *fds, size_t count,
                        const struct stream_name *name, const struct carry_events *ev, void *owner,
                        struct err *e);
/* One more at the end of an outgoing carry that has not ended; taken. */
int carry_append(struct carry *c, int fd, struct err *e);
/* Bytes that somebody else holds: read puts `size` bytes from `at` on into `to`, or says why not.
 * fd only tells when the loop is free for more: a regular file. */
struct carry_bytes {
    uint64_t size;
    int (*read)(void *owner, uint64_t at, void *to, size_t size, struct err *e);
    void *owner;
};
struct carry *carry_out_bytes(struct loop *l, int fd, const struct carry_bytes *bytes,
                              const struct stream_name *name, const struct carry_events *ev,
                              void *owner, struct err *e);
/* fd -1: swallow. */
struct carry *carry_in(struct loop *l, int fd, const struct stream_name *name,
                       const struct carry_events *ev, void *owner, struct err *e);

/* In: nothing of it is wanted.  The other side hears so when it is there, before it has sent a byte: CARRY_LEFT. */
void carry_decline(struct carry *c);

/* So many bytes must come in, no more and no fewer: before carry_bind. */
void carry_expect(struct carry *c, uint64_t bytes);

/* The other side is there: begin. */
int carry_bind(struct carry *c, struct peer *p, uint64_t link, struct err *e);
bool carry_bound(const struct carry *c);
/* In: the other side was lost, and this one in its place begins at the first byte, under `name`.  What is
 * here already is compared and dropped; a carry that has ended does that, and ends again. */
int carry_again(struct carry *c, struct peer *p, uint64_t link, const struct stream_name *name,
                struct err *e);
/* That nothing more can be read, or that nobody reads, is no end before it is allowed: who was killed closes
 * his descriptor too. */
void carry_hold_end(struct carry *c);
int carry_allow_end(struct carry *c, struct err *e);
/* The link is gone, and its peer may be closed. */
void carry_cut(struct carry *c);
/* A CREDIT, DATA or LEAVE that bears the name. */
void carry_message(struct carry *c, const struct msg *m, struct slice bulk);
const struct stream_name *carry_name(const struct carry *c);
uint64_t carry_bytes(const struct carry *c);
bool carry_is_in(const struct carry *c);
/* It has ended: its descriptors are closed.  An `in` still knows what came, for carry_again. */
void carry_rest(struct carry *c);
void carry_free(struct carry *c);

/* The name that a data message bears; false if it is none of them. */
bool carry_message_name(const struct msg *m, struct stream_name *out);
bool stream_name_equal(const struct stream_name *a, const struct stream_name *b);
