/* See fds.h. */
#include "base/fds.h"

#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

void fd_close(int *fd)
{
    if (*fd >= 0)
        close(*fd);
    *fd = -1;
}

int fd_reopen(int fd, int flags)
{
    char path[32];
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    return open(path, flags | O_CLOEXEC);
}

int fd_write_all(int fd, const void *data, size_t size)
{
    const char *at = data;
    while (size) {
        ssize_t n = write(fd, at, size);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return -1;
        at += n;
        size -= (size_t)n;
    }
    return 0;
}

ssize_t fd_write_quietly(int fd, const void *data, size_t size)
{
    sigset_t pipe, before, waiting;
    sigemptyset(&pipe);
    sigaddset(&pipe, SIGPIPE);
    sigpending(&waiting);
    pthread_sigmask(SIG_BLOCK, &pipe, &before);
    ssize_t n = write(fd, data, size);
    int sys = errno;
    if (n < 0 && sys == EPIPE && !sigismember(&waiting, SIGPIPE))
        sigtimedwait(&pipe, NULL, &(struct timespec){0});
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    errno = sys;
    return n;
}

ssize_t fd_read_all(int fd, void *data, size_t size)
{
    char *at = data;
    size_t got = 0;
    while (got < size) {
        ssize_t n = read(fd, at + got, size - got);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return -1;
        if (n == 0)
            break;
        got += (size_t)n;
    }
    return (ssize_t)got;
}

ssize_t fd_read_text(int directory, const char *path, char *text, size_t size)
{
    int fd = openat(directory, path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    ssize_t n = fd < 0 ? -1 : fd_read_all(fd, text, size - 1);
    int saved = errno;
    fd_close(&fd);
    errno = saved;
    text[n < 0 ? 0 : n] = '\0';
    return n;
}

union control {
    struct cmsghdr header;
    char room[CMSG_SPACE(sizeof(int) * FDS_PASS_MAX)];
};

ssize_t fds_send_parts(int socket, struct iovec *part, size_t part_count, const int *fds, size_t fd_count, int flags)
{
    if (fd_count > FDS_PASS_MAX) {
        errno = EMSGSIZE;
        return -1;
    }
    union control control;
    struct msghdr message = {.msg_iov = part, .msg_iovlen = part_count};
    if (fd_count) {
        memset(&control, 0, sizeof control);
        message.msg_control = &control;
        message.msg_controllen = CMSG_SPACE(sizeof(int) * fd_count);
        struct cmsghdr *c = CMSG_FIRSTHDR(&message);
        c->cmsg_level = SOL_SOCKET;
        c->cmsg_type = SCM_RIGHTS;
        c->cmsg_len = CMSG_LEN(sizeof(int) * fd_count);
        memcpy(CMSG_DATA(c), fds, sizeof(int) * fd_count);
    }
    ssize_t n;
    do
        n = sendmsg(socket, &message, flags | MSG_NOSIGNAL);
    while (n < 0 && errno == EINTR);
    return n;
}

int fd_check_directory(const char *path, const char *what, struct err *e)
{
    struct stat s;
    char parent[4096];
    if (stat(path, &s) == 0 && !S_ISDIR(s.st_mode))
        return err_set(e, ERR_INPUT, "%s '%s' is no directory", what, path);
    if (faccessat(AT_FDCWD, path, R_OK | W_OK | X_OK, AT_EACCESS) == 0)
        return 0;
    if (errno != ENOENT)
        return err_sys(e, "cannot use %s '%s'", what, path);
    snprintf(parent, sizeof parent, "%s", path);
    if (faccessat(AT_FDCWD, dirname(parent), W_OK | X_OK, AT_EACCESS) < 0)
        return err_sys(e, "cannot make %s '%s'", what, path);
    return 0;
}
