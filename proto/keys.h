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
};

/* The pair of a role, and (for others than the scheduler) the scheduler's public key. */
int keys_load(const char *directory, enum msg_role role, struct key_pair *own, uint8_t scheduler[MSG_KEY_BYTES],
              struct err *e);
/* Gives an array (free it); *count entries. */
struct allowed_key *keys_load_allowed(const char *directory, size_t *count, struct err *e);
