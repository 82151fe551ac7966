/* A link that outlives its connection.  A client may be stopped, and a network may break for a while: messages sent
 * meanwhile wait, and those that were on their way are sent again, so that neither side's owner notices.
 *
 * Each side keeps what it has sent (the library's own messages, not copies) until the other side tells with GOT how many
 * messages have come.  When there is a connection again both sides tell that with SESSION, and later messages are sent
 * again: so each message comes once, in order.  Sockets and time are handled by peer.c.
 *
 * What is kept is bounded: bytes of streams by their credit, and the number of messages by SESSION_KEPT_MAX. */
#pragma once
#include "base/err.h"
#include "proto/msg.h"

#include <zmq.h>

#define SESSION_KEPT_MAX  90000      /* messages kept; fewer than a socket takes */
#define SESSION_GOT_COUNT 64         /* GOT is sent after so many messages, */
#define SESSION_GOT_BYTES (1u << 20) /* or after so many bytes */

struct session;

struct session *session_new(struct err *e); /* gives */
void session_free(struct session *s);
/* Keep a message of one or two frames that is about to be sent; borrowed.  ERR_AGAIN: too many are kept. */
int session_keep(struct session *s, zmq_msg_t *frame, int count, struct err *e);
/* The other side has got so many messages.  -1 ERR_PROTO: it cannot have. */
int session_forget(struct session *s, uint64_t got, struct err *e);
/* The kept message number `at`, from 0; NULL: there are no more.  Borrowed. */
zmq_msg_t *session_kept(struct session *s, uint32_t at, int *count);
/* A message has come; true: tell the other side by GOT. */
bool session_came(struct session *s, size_t bytes);
/* How many messages have come; the caller tells it now. */
uint64_t session_got(struct session *s);
