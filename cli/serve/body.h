/* A request's or an answer's bytes: in memory while they are few, else in an unlinked file of the store. */
#pragma once
#include "base/buf.h"

#include <sys/types.h>

#define BODY_LITTLE (16u << 10)

struct body {
    struct buf bytes; /* all bytes, or none if they are in the file */
    int file;         /* owned; -1: not used */
    uint64_t size_bytes;
};

#define BODY_INIT ((struct body){.bytes = BUF_INIT(BODY_LITTLE), .file = -1})

/* -1 with errno: there is no memory, or the disk has no room. */
int body_add(struct body *b, const void *data, size_t size_bytes);
/* Sends bytes from offset *at on, as many as `fd` takes now, and moves *at.  Returns how many bytes, 0 at the end, -1 with
 * errno. */
ssize_t body_send(const struct body *b, int fd, off_t *at);
void body_clear(struct body *b);
