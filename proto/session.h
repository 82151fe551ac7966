/* A link that outlives its connection.  A client may be stopped, and a network may break for a while: what is
 * said meanwhile waits, and what was on its way comes once more, so that neither side's owner notices.
 *
 * Each side keeps what it has sent (the library's own messages, not copies) until the other says with GOT how
 * many messages have come.  When there is a connection again both say so with SESSION, and what lies behind
 * that is sent again: so each message comes once, in order.  Sockets and time are peer.c's.
 *
 * What is kept is bounded: bytes of streams by their credit, and all messages by SESSION_KEPT_MAX. */
#pragma once
#include "base/err.h"
#include "proto/msg.h"

#include <zmq.h>

#define SESSION_KEPT_MAX  90000      /* messages that were not said to have come; fewer than a socket takes */
#define SESSION_GOT_COUNT 64         /* it is told after so many, */
#define SESSION_GOT_BYTES (1u << 20) /* or after so many bytes */

struct session;

struct session *session_new(struct err *e); /* gives */
void session_free(struct session *s);
/* A message of one or two frames is about to be sent, which are borrowed.  ERR_AGAIN: too many are kept. */
int session_keep(struct session *s, zmq_msg_t *frame, int count, struct err *e);
/* So many have come at the other side.  -1 ERR_PROTO: they cannot have. */
int session_forget(struct session *s, uint64_t got, struct err *e);
/* The message `at`, from 0 on, of those that are kept; NULL: there are no more.  Borrowed. */
zmq_msg_t *session_kept(struct session *s, uint32_t at, int *count);
/* One has come; true: the other side should hear so. */
bool session_came(struct session *s, size_t bytes);
/* How many came; told now. */
uint64_t session_got(struct session *s);
