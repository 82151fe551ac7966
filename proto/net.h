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
    bool secure;   /* there are keys: TCP is CURVE */
    bool loopback; /* there are none, and TCP within this host is allowed without */
    struct key_pair own;
    uint8_t scheduler_key[MSG_KEY_BYTES];
    struct allowed_key *allowed; /* owned; of NET_KEYS_MAX; when secure */
    size_t allowed_count;
    char keys[4096];      /* of a scheduler: where the list is */
    struct stat list;     /* as it was when it was read */
    bool changed;         /* since net_refresh told so last */
    void *zap; /* the handler's socket, once somebody listens */
    struct loop_hook zap_hook;
    struct held
        *held; /* of a worker: questions about keys that may yet be admitted; oldest first */
    size_t held_count;
    struct loop_timer held_timer;
    uint64_t monitors; /* how many were made: their names */
};

/* Begin to answer the library's question whose keys may connect.  Before the first CURVE server
 * listens: it would let everybody in. */
int net_guard(struct net *n, struct err *e);

/* A socket's ZMQ_EVENTS and ZMQ_FD. */
bool net_readable(void *socket);
int net_fd(void *socket);
