/* CURVE keys on disk, and the allow-list: see peer.h for the directory's files. */
#pragma once
#include "base/buf.h"
#include "base/err.h"
#include "proto/msg.h"

struct key_pair {
    uint8_t public_key[MSG_KEY_BYTES], secret_key[MSG_KEY_BYTES];
};
struct allowed_key {
    enum msg_role role;
    uint8_t key[MSG_KEY_BYTES];
    uint32_t uses; /* see net_admit */
};

#define KEYS_TEXT     41 /* a key as text: 40 characters and NUL */
#define KEYS_NAME_MAX 128

/* "worker", "client", "keeper", "scheduler"; 0: it is none. */
enum msg_role keys_role(const char *name);
const char *keys_role_name(enum msg_role role); /* "?": it is none */
/* One more key for the list of a scheduler's directory, or one less, wherever it stands; schedulers that run see it, and who changes it
 * at the same time waits.  The key is text. */
int keys_allow(const char *directory, enum msg_role role, const char *key, const char *name, struct err *e);
int keys_deny(const char *directory, const char *key, struct err *e);
/* A pair for one machine or user, which connects as a worker, a client or a keeper, whichever it was allowed as: own.key and own.pub
 * in the directory, which is made if need be. */
int keys_generate_own(const char *directory, char public_key[KEYS_TEXT], struct err *e);

/* The pair of a role, or the directory's own, and (for others than the scheduler) the scheduler's public key. */
int keys_load(const char *directory, enum msg_role role, struct key_pair *own,
              uint8_t scheduler[MSG_KEY_BYTES], struct err *e);
/* Fills list, which has room for NET_KEYS_MAX, and *count.  A key has one role. */
int keys_load_allowed(const char *directory, struct allowed_key *list, size_t *count,
                      struct err *e);
