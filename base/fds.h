/* File descriptors: closing, whole reads and writes, passing over a unix socket. */
#pragma once
#include "base/err.h"

#include <stddef.h>
#include <sys/types.h>

#define FDS_PASS_MAX 250 /* the kernel's SCM_MAX_FD is 253 */

/* Close *fd if it is open and set it to -1. */
void fd_close(int *fd);

/* What it stands for, opened once more: with `flags`, close-on-exec, and an offset of its own; -1 with errno.  For what has no name. */
int fd_reopen(int fd, int flags);

/* All of it, or -1 with errno; interrupted calls go on.  For blocking descriptors. */
int fd_write_all(int fd, const void *data, size_t size);
/* As write, but no SIGPIPE: EPIPE alone. */
ssize_t fd_write_quietly(int fd, const void *data, size_t size);
/* Up to size bytes until end of file: the count, or -1 with errno. */
ssize_t fd_read_all(int fd, void *data, size_t size);
/* The text of a small file, from its directory (or AT_FDCWD), cut off at size - 1 bytes: how many there are, or -1 with
 * errno and "". */
ssize_t fd_read_text(int directory, const char *path, char *text, size_t size);

/* One message with descriptors over a unix socket; the fds are borrowed.  Returns bytes, or -1 with errno; no SIGPIPE. */
struct iovec;
ssize_t fds_send_parts(int socket, struct iovec *part, size_t part_count, const int *fds, size_t fd_count, int flags);
/* Is it a directory that may be read and written, or may it be made?  Nothing is.  `what`: how the sentence calls it. */
int fd_check_directory(const char *path, const char *what, struct err *e);
