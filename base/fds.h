/* File descriptors: closing, whole reads and writes, passing over a unix socket. */
#pragma once
#include "base/err.h"

#include <stddef.h>
#include <sys/types.h>

#define FDS_PASS_MAX 250 /* the kernel's SCM_MAX_FD is 253 */

/* Close *fd if it is open and set it to -1. */
void fd_close(int *fd);

/* All of it, or -1 with errno; interrupted calls go on.  For blocking descriptors. */
int fd_write_all(int fd, const void *data, size_t size);
/* As write, but no SIGPIPE: EPIPE alone. */
ssize_t fd_write_quietly(int fd, const void *data, size_t size);
/* Up to size bytes until end of file: the count, or -1 with errno. */
ssize_t fd_read_all(int fd, void *data, size_t size);

/* One message with descriptors over a unix socket.  send borrows the fds.  recv gives them to the
 * caller, close-on-exec, at most FDS_PASS_MAX, in *fd_count; more than fd_max are closed and the call
 * fails with EMSGSIZE.  Returns bytes (0 at end of stream), or -1 with errno. */
struct iovec;
ssize_t fds_send_parts(int socket, struct iovec *part, size_t part_count, const int *fds, size_t fd_count, int flags);
ssize_t fds_send(int socket, const void *data, size_t size, const int *fds, size_t fd_count, int flags);
ssize_t fds_recv(int socket, void *data, size_t size, int *fds, size_t fd_max, size_t *fd_count,
                 int flags);
