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

/* The role with this name: "worker", "client", "keeper", "scheduler"; 0: there is none. */
enum msg_role keys_role(const char *name);
const char *keys_role_name(enum msg_role role); /* "?": it is not a role */
/* Adds a key to the list in a scheduler's directory, or removes it wherever it stands.  Running schedulers see the change.
 * Two callers at the same time wait for each other.  The key is text. */
int keys_allow(const char *directory, enum msg_role role, const char *key, const char *name, struct err *e);
int keys_deny(const char *directory, const char *key, struct err *e);
/* Makes a pair for one machine or user, as own.key and own.pub in the directory, which is made if it does not exist.  The
 * pair may connect in whichever role it was allowed. */
int keys_generate_own(const char *directory, char public_key[KEYS_TEXT], struct err *e);

/* Loads the pair of a role, or else the directory's own, and (except for the scheduler) the scheduler's public key. */
int keys_load(const char *directory, enum msg_role role, struct key_pair *own,
              uint8_t scheduler[MSG_KEY_BYTES], struct err *e);
/* Fills list, which has room for NET_KEYS_MAX, and *count.  A key has one role. */
int keys_load_allowed(const char *directory, struct allowed_key *list, size_t *count,
                      struct err *e);
