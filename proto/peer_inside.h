/* Shared by peer.c and what it consists of besides: peer_links.c, peer_watch.c, peer_send.c; for nobody else. */
#pragma once
#include "proto/net.h"
#include "proto/peer.h"
#include "proto/session.h"

#include <stdatomic.h>
#include <zmq.h>

#define TABLE_SIZE     65536 /* slots for links: a power of two, more than twice PEER_LINKS_MAX */
#define PEER_FDS_MAX   (1u << 20) /* descriptors that are told apart */
#define ROUTING_SIZE   5    /* a routing id that libzmq made: 0 and four bytes */
#define AGAIN_NS       ((uint64_t)100000000)  /* a client tries again after so long */
#define LOST_TEXT      "the connection was closed by the other side"

/* Bytes that were given to the library and are not sent yet.  Its thread says when they are, maybe after the link's end. */
struct unread {
    _Atomic size_t bytes;
    _Atomic size_t users; /* who has it: a link or a peer, and each of the frames */
    struct unread *all;   /* likewise, of all links; NULL: this is it */
};

struct link {
    uint64_t id; /* 0: empty slot; else 1 + routing number */
    enum msg_role role;
    int fd; /* of the connection; -1 on inproc */
    bool welcomed;
    bool dead; /* on_lost was called, or the owner dropped it: what comes is not heard */
    bool has_key;
    uint8_t key[MSG_KEY_BYTES];
    bool begun;  /* a message has come over it */
    uint64_t of; /* a later connection of the link with this id: nothing else counts but fd; 0: it is a link itself */
    /* of a link that outlives its connection */
    struct session *session; /* owned; NULL: it is none */
    uint64_t route;          /* server: the id of the connection's place; 0: there is none */
    uint64_t away_ns;        /* since when there is none, or none that answers; 0: there is */
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
    uint64_t *gone; /* server: links whose connection ended, not yet mourned; of gone_room */
    uint32_t gone_count, gone_room;
    uint64_t *lasting; /* server: the ids of links with a session; of lasting_room */
    uint32_t lasting_count, lasting_room;
    struct loop_timer look; /* server: while there are such; client: before it tries again */
    uint64_t patience_ns;
    bool lasting_link; /* client: it outlives its connection */
    bool known;     /* the server has said `number`, under which it knows the link */
    uint64_t number;
    void (*away)(void *owner, struct peer *p, bool away, const struct err *why);
    uint8_t server_key[MSG_KEY_BYTES]; /* client */
    size_t bulk_max;
    struct unread *unread; /* a scheduler's, of all links; else NULL: nothing is counted */
    struct peer_stats stats;
};

/* ---- peer.c */

/* Around what may call the owner, who may close the peer in that call: it is freed here then. */
void peer_leave(struct peer *p, bool was_running);
/* One message, of two frames at most (and the routing id).  false: none is there. */
bool peer_receive(struct peer *p);
void peer_print(const char *way, const struct peer *p, uint64_t link, const struct msg *m); /* for whoever debugs */

/* ---- peer_links.c: who is there, and who may come back */

/* The link's slot, or the empty one where it would go. */
struct link *peer_slot(const struct peer *p, uint64_t link);
struct link *peer_new_link(struct peer *p, uint64_t link, zmq_msg_t *first); /* NULL: there are too many */
void peer_say_got(struct peer *p, const struct link *l);
/* SESSION and GOT; -1: they are not for this moment. */
int peer_serve_session(struct peer *p, uint64_t link, struct link *l, const struct msg *m, struct err *e);
int peer_client_session(struct peer *p, struct link *l, const struct msg *m, struct err *e);
/* Nothing is left to read: those who left have been heard. */
void peer_mourn(struct peer *p);

/* ---- peer_watch.c: connections */

int peer_watch(struct peer *p, struct err *e);
void peer_read_monitor(struct peer *p);
void peer_connect_late(struct loop_timer *w); /* a client's connection was not made in time */
void peer_lose(struct peer *p, int code, const char *why); /* a client's is over */
void peer_set_number(void *socket, int option, int value);

/* ---- peer_send.c */

/* Beside what links carry. */
void peer_send_now(struct peer *p, uint64_t route, const struct msg *m);
/* What the other side has not got, over a new connection. */
void peer_send_kept(struct peer *p, struct link *l);
struct unread *unread_new(struct unread *all); /* gives; NULL: no memory */
void unread_leave(struct unread *u);
