/* One edge's bytes between two processes, with credit in bytes.  A stream is bound to a peer's link
 * and to the stream's name (job, attempt, what, index, node); the owner passes it the CREDIT, DATA
 * and LEAVE messages that bear this name.
 *
 * The sender sends frames of at most MSG_DATA_BYTES while it has credit.  An end is a flag with the total and the digest of
 * all bytes, never a closed connection; it has arrived when the receiver answers it.  The receiver grants
 * MSG_CREDIT_BYTES beyond what its owner has consumed, and refuses bytes beyond the credit, gaps and wrong digests.
 *
 * If a sender is lost another one begins at the first byte again: the receiver compares the bytes that it has already by
 * their digest, and drops them; its owner does not notice. */
#pragma once
#include "base/err.h"
#include "proto/msg.h"
#include "proto/peer.h"

struct stream_name {
    uint64_t job;
    uint32_t attempt, what, index, node;
};

struct stream_sender;
struct stream_receiver;

struct stream_sender_events {
    void (*writable)(void *owner); /* there is credit again */
    void (*left)(void *owner);     /* the receiver wants no more */
    void (*arrived)(void *owner);  /* the receiver has all bytes and the end; NULL: the owner need not know */
};
struct stream_sender *stream_sender_new(struct peer *p, uint64_t link,
                                        const struct stream_name *name,
                                        const struct stream_sender_events *ev, void *owner,
                                        struct err *e);
/* How many bytes may be sent now; 0 once it ended or was left. */
uint64_t stream_sender_window(const struct stream_sender *s);
/* size <= window and <= MSG_DATA_BYTES. */
int stream_send(struct stream_sender *s, const void *data, size_t size, struct err *e);
/* The same, but the bytes are not copied: they come from malloc, and are taken, also on failure. */
int stream_give(struct stream_sender *s, void *data, size_t size, struct err *e);
int stream_send_end(struct stream_sender *s, bool failed, struct err *e);
int stream_sender_message(
    struct stream_sender *s, const struct msg *m,
    struct err *e); /* CREDIT, LEAVE; ERR_PROTO: a credit that the receiver cannot have granted */
void stream_sender_cut(struct stream_sender *s); /* the peer is about to be closed: send nothing more */
uint64_t stream_sender_bytes(const struct stream_sender *s);
void stream_sender_free(struct stream_sender *s);

struct stream_receiver_events {
    /* The owner must take all bytes (or keep a copy), and call stream_consumed as it uses them up. */
    void (*data)(void *owner, struct slice bytes);
    void (*end)(void *owner,
                bool failed); /* all bytes are here and the digest is right; or the producer failed */
};
struct stream_receiver *stream_receiver_new(struct peer *p, uint64_t link,
                                            const struct stream_name *name,
                                            const struct stream_receiver_events *ev, void *owner,
                                            struct err *e);
/* Grant fewer bytes ahead than MSG_CREDIT_BYTES (at least 1); call before the start. */
void stream_receiver_ahead(struct stream_receiver *r, uint32_t bytes);
int stream_receiver_start(struct stream_receiver *r, struct err *e); /* grants the first credit */
/* Another sender has begun, under this name; otherwise like start.  Also allowed after the end had come, or we had left:
 * then what comes is only compared. */
int stream_receiver_again(struct stream_receiver *r, struct peer *p, uint64_t link,
                          const struct stream_name *name, struct err *e);
int stream_receiver_message(struct stream_receiver *r, const struct msg *m, struct slice bulk,
                            struct err *e); /* DATA; -1 ERR_PROTO: gap, over credit, wrong digest */
int stream_consumed(struct stream_receiver *r, size_t size, struct err *e);
int stream_leave(struct stream_receiver *r, struct err *e); /* tell the sender that we want no more */
void stream_receiver_cut(struct stream_receiver *r); /* receive nothing more from this peer, until the stream begins again */
/* Nothing more is expected of the sender: it was told that all is here, or that we left. */
bool stream_receiver_over(const struct stream_receiver *r);
uint64_t stream_receiver_bytes(const struct stream_receiver *r);
void stream_receiver_free(struct stream_receiver *r);
