/* File descriptors: closing, whole reads and writes, passing over a unix socket. */
#pragma once
#include "base/err.h"

#include <stddef.h>
#include <sys/types.h>

#define FDS_PASS_MAX 250 /* the kernel's SCM_MAX_FD is 253 */

/* Close *fd if it is open and set it to -1. */
void fd_close(int *fd);

/* Opens the file behind a descriptor again, with `flags`, close-on-exec, and an offset of its own; -1 with errno.  For
 * files that have no name. */
int fd_reopen(int fd, int flags);

/* Writes everything, or -1 with errno; continues after interruptions.  For blocking descriptors. */
int fd_write_all(int fd, const void *data, size_t size);
/* Like write, but without SIGPIPE: only EPIPE. */
ssize_t fd_write_quietly(int fd, const void *data, size_t size);
/* Reads up to size bytes or to the end of the file: the count, or -1 with errno. */
ssize_t fd_read_all(int fd, void *data, size_t size);
/* Reads the text of a small file in a directory (or AT_FDCWD), cut off at size - 1 bytes: the number of bytes, or -1 with
 * errno and "". */
ssize_t fd_read_text(int directory, const char *path, char *text, size_t size);

/* Sends one message with descriptors over a unix socket; the fds are borrowed.  Returns bytes, or -1 with errno; no
 * SIGPIPE. */
struct iovec;
ssize_t fds_send_parts(int socket, struct iovec *part, size_t part_count, const int *fds, size_t fd_count, int flags);
/* Checks, without making anything, that this is a directory that may be read and written, or that it could be made.
 * `what`: its name in the message. */
int fd_check_directory(const char *path, const char *what, struct err *e);
