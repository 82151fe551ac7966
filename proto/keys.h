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

/* The pair of a role, and (for others than the scheduler) the scheduler's public key. */
int keys_load(const char *directory, enum msg_role role, struct key_pair *own,
              uint8_t scheduler[MSG_KEY_BYTES], struct err *e);
/* Fills list, which has room for NET_KEYS_MAX, and *count.  A key has one role. */
int keys_load_allowed(const char *directory, struct allowed_key *list, size_t *count,
                      struct err *e);
