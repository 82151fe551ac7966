/* Shared by peer.c, peer_links.c, peer_watch.c and peer_send.c; not for other files. */
#pragma once
#include "proto/net.h"
#include "proto/peer.h"
#include "proto/session.h"

#include <stdatomic.h>
#include <zmq.h>

#define TABLE_SIZE     65536 /* slots for links: a power of two, more than twice PEER_LINKS_MAX */
#define PEER_FDS_MAX   (1u << 20) /* the highest descriptor number */
#define ROUTING_SIZE   5    /* a routing id that libzmq made: 0 and four bytes */
#define AGAIN_NS       ((uint64_t)100000000)  /* how long a client waits before it tries again */
#define LOST_TEXT      "the connection was closed by the other side"

/* Bytes that were given to the library and are not sent yet.  The library's thread tells when they are, perhaps after the
 * end of the link. */
struct unread {
    _Atomic size_t bytes;
    _Atomic size_t users; /* users of this struct: a link or the peer, and each frame */
    struct unread *all;   /* the same for all links together; NULL: this one is that */
};

struct link {
    uint64_t id; /* 0: empty slot; else 1 + routing number */
    enum msg_role role;
    int fd; /* the connection's descriptor; -1 on inproc */
    bool welcomed;
    bool dead; /* on_lost was called, or the owner dropped it: messages are ignored */
    bool has_key;
    uint8_t key[MSG_KEY_BYTES];
    bool begun;  /* some message has come over it */
    uint64_t of; /* the entry is for a later connection of the link with this id, and only fd counts; 0: it is a link itself */
    /* For a link that outlives its connection: */
    struct session *session; /* owned; NULL: the link has no session */
    uint64_t route;          /* server: the id of its present connection; 0: there is none */
    uint64_t away_ns;        /* since when there is no connection, or none that answers; 0: there is one */
    bool ends;               /* it will not come back */
    uint8_t token[MSG_TOKEN_BYTES];
    struct unread *unread; /* NULL: nothing was counted yet */
};

struct peer {
    struct net *net;
    void *socket;
    bool server;
    enum msg_role as, to;
    char url[256];
    const struct peer_events *ev;
    void *owner;
    struct loop_hook hook, monitor_hook;
    void *monitor; /* not on inproc */
    /* client */
    struct loop_timer connect;
    bool reached, through, lost; /* TCP was there; the handshake too; on_lost was called */
    uint32_t tries;              /* handshakes that were cut off */
    /* both */
    bool running, closed; /* closed from inside its own callback: freed when that returns */
    struct link *links;   /* server: TABLE_SIZE slots; client: 1 */
    uint32_t link_count;
    bool full;       /* said so once */
    uint64_t *by_fd; /* server: the id of the link on a descriptor; of fd_room */
    uint32_t fd_room;
    uint64_t *gone; /* server: links whose connection ended and whose end was not reported yet; gone_room entries */
    uint32_t gone_count, gone_room;
    uint64_t *lasting; /* server: the ids of links with a session; lasting_room entries */
    uint32_t lasting_count, lasting_room;
    struct loop_timer look; /* server: runs while there are such links; client: until it tries again */
    uint64_t patience_ns;
    bool lasting_link; /* client: the link outlives its connection */
    bool known;     /* the server has told `number`, by which it knows the link */
    uint64_t number;
    void (*away)(void *owner, struct peer *p, bool away, const struct err *why);
    uint8_t server_key[MSG_KEY_BYTES]; /* client */
    size_t bulk_max;
    struct unread *unread; /* a scheduler's, for all links; else NULL: bytes are not counted */
    struct peer_stats stats;
};

/* ---- peer.c */

/* Call after code that may call the owner: if the owner closed the peer in there, the peer is freed here. */
void peer_leave(struct peer *p, bool was_running);
/* Receive one message, of at most two frames (and the routing id).  false: there is none. */
bool peer_receive(struct peer *p);
void peer_print(const char *way, const struct peer *p, uint64_t link, const struct msg *m); /* for debugging */

/* ---- peer_links.c: the links, and those that may come back */

/* The link's slot, or the empty one in which it would be put. */
struct link *peer_slot(const struct peer *p, uint64_t link);
struct link *peer_new_link(struct peer *p, uint64_t link, zmq_msg_t *first); /* NULL: there are too many links */
void peer_say_got(struct peer *p, const struct link *l);
/* Handle SESSION and GOT; -1: they must not come now. */
int peer_serve_session(struct peer *p, uint64_t link, struct link *l, const struct msg *m, struct err *e);
int peer_client_session(struct peer *p, struct link *l, const struct msg *m, struct err *e);
/* Nothing is left to read: report the links that ended. */
void peer_mourn(struct peer *p);

/* ---- peer_watch.c: connections */

int peer_watch(struct peer *p, struct err *e);
void peer_read_monitor(struct peer *p);
void peer_connect_late(struct loop_timer *w); /* a client's connection was not made in time */
void peer_lose(struct peer *p, int code, const char *why); /* a client's link is over */
void peer_set_number(void *socket, int option, int value);

/* ---- peer_send.c */

/* Send a message of the session itself, which is not kept. */
void peer_send_now(struct peer *p, uint64_t route, const struct msg *m);
/* Send once more, over a new connection, what the other side has not got. */
void peer_send_kept(struct peer *p, struct link *l);
struct unread *unread_new(struct unread *all); /* gives; NULL: no memory */
void unread_leave(struct unread *u);
