/* ZeroMQ sockets on the loop, as messages.  No other folder sees zmq.h, with its contexts, its edge-triggered descriptor
 * and its identities.
 *
 * A `struct net` is the process's ZeroMQ context with its keys and its allow-list.  A `struct peer` is one socket: a
 * *server* (ROUTER) that many connect to, each over a link with a number; or a *client* (DEALER) with the single link 0.
 * A message that does not decode, or that the message table does not allow from that role, is counted and logged, and
 * closes its link; on_message never sees it. */
#pragma once
#include "base/err.h"
#include "base/loop.h"
#include "proto/msg.h"

struct net;
struct peer;

#define NET_KEYS_MAX    10000  /* in an allow-list */
#define PEER_QUEUE_MAX  100000 /* messages waiting on one link, each way */
#define PEER_LINKS_MAX  20000  /* of one server */
#define PEER_CONNECT_MS 10000  /* a client's connection that has not been made by then is lost */
#define PEER_SILENT_MS  5000   /* the other side is gone if nothing comes for so long: a client counts ZeroMQ's PONG, a server answers of TCP */
#define PEER_AWAY_MS    60000  /* a link that outlives its connection is lost after so long without one */
#define NET_HOLD_MS     5000   /* how long a worker waits for a key to be admitted */
#define PEER_TRIES_MAX  5      /* how often a handshake may be cut off before the connection is lost */
#define PEER_TURN_MAX   64     /* messages handled in one turn of the loop */
#define PEER_TURN_NS    5000000 /* and no further one is begun after so long */
/* What waits to be sent is bounded in bytes, too; otherwise a client could fill a scheduler's memory by not reading. */
#define PEER_UNREAD_MAX     (64u << 20)  /* bytes that one link of a scheduler has not taken: the next message fails */
#define PEER_UNREAD_ALL_MAX (512u << 20) /* bytes of all links together: beyond it, messages fail for links that have not taken PEER_UNREAD_FEW */
#define PEER_UNREAD_FEW     (1u << 20)
#define PEER_IN_MAX         64   /* frames from one link that a scheduler has not handled; more stay with the sender */
#define PEER_DATA_IN_MAX    1024 /* the same for links that carry streams */

/* CURVE keys.  A directory as `zpipe keygen --dir` makes it:
 *   NAME.key (secret and public, mode 0600), NAME.pub for NAME in scheduler, worker, client, keeper, and
 *   `allow`: lines "worker PUBLIC NAME", "client PUBLIC NAME" and "keeper PUBLIC NAME".  A machine or user may have a pair of its own
 *   instead, own.key, beside scheduler.pub (keys.h). */
int keys_generate(const char *directory, struct err *e);

struct net_options {
    const char *keys;   /* directory, or NULL: no CURVE: only inproc:// urls are accepted */
    enum msg_role role; /* which pair of the directory is ours */
    bool owner;         /* for a client: the pair is the scheduler's own, which only its operator has */
    /* Without keys: also accept tcp://127.0.0.1 and tcp://[::1], unencrypted.  Everybody on this host can then connect and
     * be what their HELLO says: for tests and single-user machines, and only when asked for. */
    bool insecure_loopback;
};
struct net *net_new(struct loop *l, const struct net_options *o, struct err *e); /* gives */
void net_free(struct net *n); /* call after its peers were closed; waits at most 100 ms for unsent messages */
/* Admit or forget a public key for a role, in addition to the allow-list (for a job's peers at a worker).  Admissions are
 * counted: a key is out when it was forgotten as often as it was admitted.  Existing connections stay. */
int net_admit(struct net *n, enum msg_role role, struct slice key, struct err *e);
void net_forget(struct net *n, enum msg_role role, struct slice key);
/* For a scheduler: read the allow-list again if the file has changed.  True: it has, since the last call. */
bool net_refresh(struct net *n);
/* Is a key that came in still allowed for its role? */
bool net_allows(const struct net *n, enum msg_role role, struct slice key);
struct slice net_public_key(const struct net *n); /* empty without keys */

struct peer_events {
    /* m and bulk are borrowed for the call.  role: what the other side is, by its key or, without keys, by its HELLO; on a
     * worker's data port without keys it is both client and worker. */
    void (*on_message)(void *owner, struct peer *p, uint64_t link, enum msg_role role,
                       const struct msg *m, struct slice bulk);
    /* The link is dead: closed by the other side, in breach of the protocol, or unreachable.  Called once per link, after
     * all messages that came before.  On inproc only called for breach of the protocol, as both ends are ours. */
    void (*on_lost)(void *owner, struct peer *p, uint64_t link, const struct err *why);
};

/* Server.  url may end in port *; peer_url then has the real one.  `as` is our role on this socket. */
struct peer *peer_listen(struct net *n, const char *url, enum msg_role as,
                         const struct peer_events *ev, void *owner, struct err *e);
/* Client.  server_key empty: the scheduler's key in the keys directory.  `to` is the other side's role. */
struct peer *peer_connect(struct net *n, const char *url, struct slice server_key, enum msg_role as,
                          enum msg_role to, const struct peer_events *ev, void *owner,
                          struct err *e);
/* A client whose link outlives its connection.  What is sent while there is none waits, and on_lost is called only after
 * PEER_AWAY_MS without one, or when the other side does not know the link any more.  away, or NULL, is called when the
 * connection is lost and when there is one again.  The server's on_lost waits in the same way.  On inproc like
 * peer_connect. */
struct peer *peer_connect_lasting(struct net *n, const char *url, struct slice server_key, enum msg_role as, enum msg_role to,
                                  const struct peer_events *ev, void (*away)(void *owner, struct peer *p, bool away, const struct err *why),
                                  void *owner, struct err *e);
/* Wait so long, instead of PEER_AWAY_MS. */
void peer_patience(struct peer *p, uint64_t ns);
const char *peer_url(const struct peer *p);
/* peer_check_url: could we listen at this URL, or connect to it?  peer_check_data_url: could others connect to it? */
int peer_check_url(const struct net *n, const char *url, bool server, struct err *e);
int peer_check_data_url(const char *url, struct err *e);
/* For a client: is the connection made, and have both sides shown their keys? */
bool peer_through(const struct peer *p);
void peer_close(struct peer *p);

/* Send; never blocks.  ERR_AGAIN: too much waits for the other side (PEER_QUEUE_MAX or PEER_UNREAD_MAX); ERR_GONE: the link
 * is dead.  bulk is copied; size 0: none. */
int peer_send(struct peer *p, uint64_t link, const struct msg *m, struct slice bulk, struct err *e);
/* The same, but bulk is not copied: it comes from malloc, and is taken, also on failure. */
int peer_give(struct peer *p, uint64_t link, const struct msg *m, void *bulk, size_t size, struct err *e);
/* The CURVE public key of a server's link; empty without keys. */
struct slice peer_link_key(const struct peer *p, uint64_t link);
/* A key as text, as in the allow-list; "none" if it is empty. */
#define PEER_KEY_TEXT 41
const char *peer_key_text(struct slice key, char text[PEER_KEY_TEXT]);
/* Drop one link of a server: what it sends from now on is refused. */
void peer_drop(struct peer *p, uint64_t link);

/* Counters, for tests and logs. */
struct peer_stats {
    uint64_t sent, refused;
    uint32_t links; /* for a server: how many there are now */
};
struct peer_stats peer_stats(const struct peer *p);
