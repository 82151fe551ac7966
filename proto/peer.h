/* ZeroMQ sockets on the loop, as messages.  Nobody else sees zmq.h: not its contexts, its
 * edge-triggered descriptor, nor its identities.
 *
 * A `struct net` is the process's context with its keys and its allow-list.  A `struct peer` is one
 * socket: a *server* (ROUTER) that many connect to, each a link with a number; or a *client*
 * (DEALER) with the one link 0.  Messages that do not decode, or that the table does not allow from
 * that role, are counted and logged and close nothing but the link: on_message never sees them. */
#pragma once
#include "base/err.h"
#include "base/loop.h"
#include "proto/msg.h"

struct net;
struct peer;

#define NET_KEYS_MAX    10000  /* in an allow-list */
#define PEER_QUEUE_MAX  100000 /* messages waiting on one link, each way */
#define PEER_LINKS_MAX  20000  /* of one server */
#define PEER_CONNECT_MS 10000  /* a client socket that has not come through by then is lost */
#define PEER_SILENT_MS  5000   /* nobody is there when nothing comes for so long: to a client ZeroMQ's own PONG, to a server what TCP answers */
#define PEER_AWAY_MS    60000  /* a link that outlives its connection is lost after so long without one */
#define NET_HOLD_MS     5000   /* how long a worker waits for a key to be admitted */
#define PEER_TRIES_MAX  5      /* ... or whose handshake was cut off so often */
#define PEER_TURN_MAX   64     /* messages handled per turn of the loop */
#define PEER_TURN_NS    5000000 /* ... and no more begun after so long */
/* What waits is bounded by bytes, too, or who is let in could fill a scheduler's memory: */
#define PEER_UNREAD_MAX     (64u << 20)  /* of a scheduler's messages that a link has not taken: the next one fails */
#define PEER_UNREAD_ALL_MAX (512u << 20) /* ... of all links together: then those of a link that has not taken PEER_UNREAD_FEW, too */
#define PEER_UNREAD_FEW     (1u << 20)
#define PEER_IN_MAX         64   /* frames from one link that a scheduler has not come to; more stay with the sender */
#define PEER_DATA_IN_MAX    1024 /* likewise where streams move */

/* CURVE keys.  A directory as `zpipe keygen --dir` makes it:
 *   NAME.key (secret and public, mode 0600), NAME.pub for NAME in scheduler, worker, client, keeper, and
 *   `allow`: lines "worker PUBLIC NAME", "client PUBLIC NAME" and "keeper PUBLIC NAME".  A machine or user may have a pair of its own
 *   instead, own.key, beside scheduler.pub (keys.h). */
int keys_generate(const char *directory, struct err *e);

struct net_options {
    const char *keys;   /* directory, or NULL: no CURVE: only inproc:// urls are accepted */
    enum msg_role role; /* which pair of the directory is ours */
    bool owner;         /* a client's: it is the scheduler's own pair, which only who runs that has */
    /* Without keys: accept tcp://127.0.0.1 and tcp://[::1] too, in the clear.  Everybody on this
     * host can connect and be what their HELLO says: for tests and single-user machines, and only
     * when asked. */
    bool insecure_loopback;
};
struct net *net_new(struct loop *l, const struct net_options *o, struct err *e); /* gives */
void net_free(struct net *n); /* after its peers; does not wait for unsent messages beyond 100 ms */
/* Admit or forget a public key for a role, beside the allow-list (job peers at a worker).
 * Admissions are counted: a key is out when it was forgotten as often.  Connections that exist
 * stay. */
int net_admit(struct net *n, enum msg_role role, struct slice key, struct err *e);
void net_forget(struct net *n, enum msg_role role, struct slice key);
/* A scheduler's: read the allow-list again, if it is another one now.  Is it, since the last time? */
bool net_refresh(struct net *n);
/* Is a key that came in still allowed for its role? */
bool net_allows(const struct net *n, enum msg_role role, struct slice key);
struct slice net_public_key(const struct net *n); /* empty without keys */

struct peer_events {
    /* m and bulk are borrowed for the call.  role: whom the key (or, without keys, the HELLO) says
     * this is; on a worker's data port without keys everybody is both. */
    void (*on_message)(void *owner, struct peer *p, uint64_t link, enum msg_role role,
                       const struct msg *m, struct slice bulk);
    /* The link is dead: closed by the other side, broke the protocol, or unreachable.  Once per
     * link, after every message that came before.  On inproc only for the protocol: both ends are
     * ours. */
    void (*on_lost)(void *owner, struct peer *p, uint64_t link, const struct err *why);
};

/* Server: url may end in port *: peer_url tells the real one.  `as` is our role on this socket. */
struct peer *peer_listen(struct net *n, const char *url, enum msg_role as,
                         const struct peer_events *ev, void *owner, struct err *e);
/* Client: server_key empty: that of the scheduler in the keys directory.  `to` is the other side's
 * role. */
struct peer *peer_connect(struct net *n, const char *url, struct slice server_key, enum msg_role as,
                          enum msg_role to, const struct peer_events *ev, void *owner,
                          struct err *e);
/* ... whose link outlives its connection: what is said over it waits while there is none, and on_lost comes only when
 * there was none for PEER_AWAY_MS, or the other side knows nothing of it any more.  away, or NULL, is told when the
 * connection is lost, and when there is one again.  The server's on_lost waits likewise.  On inproc as peer_connect. */
struct peer *peer_connect_lasting(struct net *n, const char *url, struct slice server_key, enum msg_role as, enum msg_role to,
                                  const struct peer_events *ev, void (*away)(void *owner, struct peer *p, bool away, const struct err *why),
                                  void *owner, struct err *e);
/* PEER_AWAY_MS is so long. */
void peer_patience(struct peer *p, uint64_t ns);
const char *peer_url(const struct peer *p);
/* Could it be listened at, or connected to?  Of what others are told, could they connect? */
int peer_check_url(const struct net *n, const char *url, bool server, struct err *e);
int peer_check_data_url(const char *url, struct err *e);
/* A client's connection: have both sides shown their keys? */
bool peer_through(const struct peer *p);
void peer_close(struct peer *p);

/* Send; never blocks.  ERR_AGAIN when the other side's queue is full (named ceiling
 * PEER_QUEUE_MAX, or PEER_UNREAD_MAX), ERR_GONE when the link is dead.  bulk is copied; `size` 0: none. */
int peer_send(struct peer *p, uint64_t link, const struct msg *m, struct slice bulk, struct err *e);
/* ... and is not copied: it is from malloc, and taken, also on failure. */
int peer_give(struct peer *p, uint64_t link, const struct msg *m, void *bulk, size_t size, struct err *e);
/* The CURVE public key of a server's link; empty without keys. */
struct slice peer_link_key(const struct peer *p, uint64_t link);
/* ... as in the allow-list, "none" if it is none. */
#define PEER_KEY_TEXT 41
const char *peer_key_text(struct slice key, char text[PEER_KEY_TEXT]);
/* Drop one link of a server: what it sends from now on is refused. */
void peer_drop(struct peer *p, uint64_t link);

/* Counters, for tests and logs. */
struct peer_stats {
    uint64_t sent, refused;
    uint32_t links; /* of a server: now */
};
struct peer_stats peer_stats(const struct peer *p);
