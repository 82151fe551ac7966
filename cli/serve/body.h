/* What a client sends and is sent: in memory while it is little, else in an unlinked file of the store's. */
#pragma once
#include "base/buf.h"

#include <sys/types.h>

#define BODY_LITTLE (16u << 10)

struct body {
    struct buf bytes; /* all, or none when they are in the file */
    int file;         /* owned; -1: none is needed */
    uint64_t size_bytes;
};

#define BODY_INIT ((struct body){.bytes = BUF_INIT(BODY_LITTLE), .file = -1})

/* -1 with errno: there is no memory, or the disk has no room. */
int body_add(struct body *b, const void *data, size_t size_bytes);
/* As much of what is behind *at as fd takes now, which *at then is behind, too: how many bytes, 0 at the end, -1 with errno. */
ssize_t body_send(const struct body *b, int fd, off_t *at);
void body_clear(struct body *b);
