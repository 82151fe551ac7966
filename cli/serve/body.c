/* See body.h. */
#include "cli/serve/body.h"

#include "base/fds.h"
#include "zpipe.h"

#include <errno.h>
#include <unistd.h>

#define SEND_BYTES (64u << 10) /* sent by one call */

static int write_all(int file, const void *data, size_t size)
{
    int r = fd_write_all(file, data, size);
    if (r < 0 && errno == EFBIG)
        errno = ENOSPC; /* the file is at the server's limit for files, not at the body's own limit */
    return r;
}

static int move_to_file(struct body *b)
{
    struct zpipe_error e;
    b->file = zpipe_file(&e);
    if (b->file < 0) {
        errno = e.sys ? e.sys : EIO;
        return -1;
    }
    if (write_all(b->file, b->bytes.data, b->bytes.size) < 0)
        return -1;
    buf_clear(&b->bytes);
    return 0;
}

int body_add(struct body *b, const void *data, size_t size_bytes)
{
    bool little = b->file < 0 && size_bytes <= BODY_LITTLE - b->bytes.size;
    if (little) {
        buf_add(&b->bytes, data, size_bytes);
        if (b->bytes.failed) {
            errno = ENOMEM;
            return -1;
        }
    } else if ((b->file < 0 && move_to_file(b) < 0) || write_all(b->file, data, size_bytes) < 0) {
        return -1;
    }
    b->size_bytes += size_bytes;
    return 0;
}

ssize_t body_send(const struct body *b, int fd, off_t *at)
{
    static char part[SEND_BYTES]; /* a copy: sendfile would wait for room in a pipe, even if the pipe is non-blocking */
    ssize_t rest = b->file >= 0 ? pread(b->file, part, sizeof part, *at) : (ssize_t)b->bytes.size - (ssize_t)*at;
    ssize_t n = rest > 0 ? write(fd, b->file >= 0 ? part : b->bytes.data + *at, (size_t)rest) : rest;
    if (n > 0)
        *at += n;
    return n;
}

void body_clear(struct body *b)
{
    buf_clear(&b->bytes);
    fd_close(&b->file);
}
