/* The inside of a struct net, for net.c and peer.c. */
#pragma once
#include "base/loop.h"
#include "proto/keys.h"
#include "proto/peer.h"

#include <sys/stat.h>

struct net {
    void *context;
    struct loop *loop;
    enum msg_role role;
    bool secure;   /* there are keys: TCP uses CURVE */
    bool loopback; /* there are no keys, and unencrypted TCP within this host is allowed */
    struct key_pair own;
    uint8_t scheduler_key[MSG_KEY_BYTES];
    struct allowed_key *allowed; /* owned: room for NET_KEYS_MAX; when secure */
    size_t allowed_count;
    char keys[4096];      /* for a scheduler: the directory with the list */
    struct stat list;     /* the list's file when it was read */
    bool changed;         /* the list has changed since net_refresh told so */
    void *zap; /* the handler's socket, once a server listens */
    struct loop_hook zap_hook;
    struct held
        *held; /* for a worker: questions about keys that may still be admitted, the oldest first */
    size_t held_count;
    struct loop_timer held_timer;
    uint64_t monitors; /* how many monitors were made: used for their names */
};

/* Begin to answer the library's questions about keys.  Must be called before the first CURVE server listens, as that would
 * let everybody in. */
int net_guard(struct net *n, struct err *e);

/* A socket's ZMQ_EVENTS and ZMQ_FD. */
bool net_readable(void *socket);
/* As zmq_bind, zmq_connect and zmq_socket_monitor, which a signal may interrupt before they have begun. */
int net_bind(void *socket, const char *url);
int net_connect(void *socket, const char *url);
int net_monitor(void *socket, const char *url, int events);
int net_fd(void *socket);
