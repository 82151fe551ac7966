/* A carry moves bytes between descriptors and a stream: *out*, from descriptors, one after the other, into a stream; *in*,
 * from a stream to a descriptor.  Workers and clients use carries for all bytes that go to or come from another process.
 *
 * Descriptors are taken, and closed with the carry.  Sockets and pipes should be non-blocking, and open files of the
 * caller's own; regular files are read and written as they are. */
#pragma once
#include "base/err.h"
#include "base/loop.h"
#include "proto/peer.h"
#include "proto/stream.h"

struct carry;

enum carry_end {
    CARRY_DONE,   /* everything was moved, the end included; out: and has arrived */
    CARRY_LEFT,   /* the reading side wants no more */
    CARRY_FAILED, /* the writing side failed, or the protocol was broken: see `why` */
};

struct carry_events {
    /* Called once; and once more each time that an `in` which had ended was begun again: with CARRY_FAILED if its bytes
     * differed from before.  The owner frees the carry later, not within this call. */
    void (*ended)(void *owner, struct carry *c, enum carry_end end, const struct err *why);
    /* For `out`; may be NULL: the bytes that were read from fds[which], before they are sent; no bytes: its end. */
    void (*was_read)(void *owner, struct carry *c, size_t which, const void *data, size_t size);
};

/* Gives; count is at least 1.  On failure the descriptors are closed, too. */
struct carry *carry_out(struct loop *l, const int *fds, size_t count,
                        const struct stream_name *name, const struct carry_events *ev, void *owner,
                        struct err *e);
/* Add a descriptor to an outgoing carry that has not ended; taken. */
int carry_append(struct carry *c, int fd, struct err *e);
/* Bytes that the caller provides: `read` puts `size` bytes from offset `at` into `to`, or says why not.  fd only tells when
 * the loop is free for more: a regular file. */
struct carry_bytes {
    uint64_t size;
    int (*read)(void *owner, uint64_t at, void *to, size_t size, struct err *e);
    void *owner;
};
struct carry *carry_out_bytes(struct loop *l, int fd, const struct carry_bytes *bytes,
                              const struct stream_name *name, const struct carry_events *ev,
                              void *owner, struct err *e);
/* fd -1: drop the bytes. */
struct carry *carry_in(struct loop *l, int fd, const struct stream_name *name,
                       const struct carry_events *ev, void *owner, struct err *e);

/* For `in`: none of the bytes are wanted.  The other side is told when it attaches, before it has sent a byte: CARRY_LEFT. */
void carry_decline(struct carry *c);

/* Exactly so many bytes must come in; call before carry_bind. */
void carry_expect(struct carry *c, uint64_t bytes);

/* The other side is there: begin to move bytes. */
int carry_bind(struct carry *c, struct peer *p, uint64_t link, struct err *e);
bool carry_bound(const struct carry *c);
/* For `in`: the other side was lost, and another one begins in its place at the first byte, under `name`.  Bytes that are
 * here already are compared and dropped; a carry that has ended does that, too, and ends again. */
int carry_again(struct carry *c, struct peer *p, uint64_t link, const struct stream_name *name,
                struct err *e);
/* Until carry_allow_end, the end of what can be read, or the loss of the reader, does not end the stream: the descriptors
 * of a program that was killed are closed, too. */
void carry_hold_end(struct carry *c);
int carry_allow_end(struct carry *c, struct err *e);
/* The link is gone; its peer may be closed now. */
void carry_cut(struct carry *c);
/* A CREDIT, DATA or LEAVE message with the stream's name. */
void carry_message(struct carry *c, const struct msg *m, struct slice bulk);
const struct stream_name *carry_name(const struct carry *c);
uint64_t carry_bytes(const struct carry *c);
bool carry_is_in(const struct carry *c);
/* Call when it has ended: closes its descriptors.  An `in` remembers what came, for carry_again. */
void carry_rest(struct carry *c);
void carry_free(struct carry *c);

/* The name of the stream that a data message is about; false: it is no data message. */
bool carry_message_name(const struct msg *m, struct stream_name *out);
bool stream_name_equal(const struct stream_name *a, const struct stream_name *b);
