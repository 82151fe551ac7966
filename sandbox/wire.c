/* See wire.h. */
#include "sandbox/wire.h"
#include "base/fds.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

union control {
    struct cmsghdr header;
    char room[CMSG_SPACE(sizeof(int) * WIRE_FDS_MAX) + CMSG_SPACE(sizeof(struct ucred))];
};

static int send_flags(int socket, struct wire head, const void *data, size_t size, const int *fds,
                      size_t fd_count, int flags)
{
    head.version = WIRE_VERSION;
    struct iovec part[2] = {{&head, sizeof head}, {(void *)(uintptr_t)data, size}};
    if (size > WIRE_DATA_MAX || fd_count > WIRE_FDS_MAX) {
        errno = EMSGSIZE;
        return -1;
    }
    return fds_send_parts(socket, part, size ? 2 : 1, fds, fd_count, flags) < 0 ? -1 : 0;
}

int wire_send(int socket, struct wire head, const void *data, size_t size, const int *fds, size_t fd_count)
{
    return send_flags(socket, head, data, size, fds, fd_count, 0);
}

static void take_control(struct msghdr *message, struct wire_packet *p)
{
    for (struct cmsghdr *c = CMSG_FIRSTHDR(message); c; c = CMSG_NXTHDR(message, c)) {
        if (c->cmsg_level != SOL_SOCKET)
            continue;
        if (c->cmsg_type == SCM_CREDENTIALS) {
            struct ucred who;
            memcpy(&who, CMSG_DATA(c), sizeof who);
            p->from = who.pid;
        } else if (c->cmsg_type == SCM_RIGHTS) {
            size_t count = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);
            for (size_t i = 0; i < count; i++) {
                int fd;
                memcpy(&fd, CMSG_DATA(c) + i * sizeof fd, sizeof fd);
                if (p->fd_count < WIRE_FDS_MAX)
                    p->fd[p->fd_count++] = fd;
                else
                    close(fd);
            }
        }
    }
}

int wire_receive(int socket, struct wire_packet *p, int flags)
{
    union control control;
    struct iovec part[2] = {{&p->head, sizeof p->head}, {p->data, WIRE_DATA_MAX}};
    struct msghdr message = {.msg_iov = part,
                             .msg_iovlen = 2,
                             .msg_control = &control,
                             .msg_controllen = sizeof control};
    ssize_t n;
    int reset = 0;
    p->fd_count = 0;
    p->size = 0;
    p->from = 0;
    do
        n = recvmsg(socket, &message, flags | MSG_CMSG_CLOEXEC);
    /* The other side closed with something of ours unread: the kernel says so once, before its last words. */
    while (n < 0 && (errno == EINTR || (errno == ECONNRESET && !reset && (reset = 1))));
    if (n < 0)
        return errno == ECONNRESET ? 0 : -1;
    take_control(&message, p);
    if (n == 0)
        return 0;
    if ((message.msg_flags & (MSG_TRUNC | MSG_CTRUNC)) || (size_t)n < sizeof p->head ||
        p->head.version != WIRE_VERSION) {
        wire_close_fds(p);
        errno = EPROTO;
        return -1;
    }
    p->size = (size_t)n - sizeof p->head;
    p->data[p->size] = '\0';
    return 1;
}

void wire_close_fds(struct wire_packet *p)
{
    for (size_t i = 0; i < p->fd_count; i++)
        fd_close(&p->fd[i]);
    p->fd_count = 0;
}

int wire_take_fd(struct wire_packet *p, size_t i)
{
    int fd = i < p->fd_count ? p->fd[i] : -1;
    if (fd >= 0)
        p->fd[i] = -1;
    return fd;
}

struct link_kept {
    struct link_kept *next;
    struct wire head;
    size_t size, fd_count;
    int fd[WIRE_FDS_MAX]; /* owned */
    char data[];
};

static void free_kept(struct link_kept *k)
{
    for (size_t i = 0; i < k->fd_count; i++)
        close(k->fd[i]);
    free(k);
}

static int keep(struct link *l, struct wire head, const void *data, size_t size, const int *fds,
                size_t fd_count)
{
    struct link_kept *k = l->kept < LINK_QUEUE_MAX ? malloc(sizeof *k + size) : NULL;
    if (!k) {
        errno = ENOBUFS;
        return -1;
    }
    k->next = NULL;
    k->head = head;
    k->size = size;
    k->fd_count = 0;
    if (size)
        memcpy(k->data, data, size);
    for (; k->fd_count < fd_count; k->fd_count++) {
        int fd = fcntl(fds[k->fd_count], F_DUPFD_CLOEXEC, 0);
        if (fd < 0) {
            free_kept(k);
            return -1;
        }
        k->fd[k->fd_count] = fd;
    }
    if (l->last)
        l->last->next = k;
    else
        l->first = k;
    l->last = k;
    l->kept++;
    return 0;
}

/* ETOOMANYREFS: too many descriptors are under way for this user; like no room, it passes. */
static int no_room(void)
{
    return errno == EAGAIN || errno == ETOOMANYREFS || errno == ENOBUFS;
}

int link_send(struct link *l, struct wire head, const void *data, size_t size, const int *fds,
              size_t fd_count)
{
    if (l->fd < 0) {
        errno = EPIPE;
        return -1;
    }
    if (!l->first && send_flags(l->fd, head, data, size, fds, fd_count, MSG_DONTWAIT) == 0)
        return 0;
    if (!l->first && !no_room())
        return -1;
    return keep(l, head, data, size, fds, fd_count);
}

int link_flush(struct link *l)
{
    while (l->first) {
        struct link_kept *k = l->first;
        if (send_flags(l->fd, k->head, k->data, k->size, k->fd, k->fd_count, MSG_DONTWAIT) < 0)
            return no_room() ? 0 : -1;
        l->first = k->next;
        if (!l->first)
            l->last = NULL;
        l->kept--;
        free_kept(k);
    }
    return 0;
}

void link_clear(struct link *l)
{
    while (l->first) {
        struct link_kept *k = l->first;
        l->first = k->next;
        free_kept(k);
    }
    fd_close(&l->fd);
    *l = LINK_INIT;
}
