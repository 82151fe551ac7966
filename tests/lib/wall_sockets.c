/* Talking to others.  See wall_probe.h. */
#include "wall_probe.h"

int named_socket(void)
{
    struct sockaddr_un a = {.sun_family = AF_UNIX, .sun_path = "\0zpipe-probe"};
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    int bound = fd >= 0 && bind(fd, (struct sockaddr *)&a, sizeof a) == 0;
    if (fd >= 0)
        close(fd);
    return bound;
}

int network_socket(void)
{
    return got_fd(socket(AF_INET, SOCK_STREAM, 0));
}

int network6_socket(void)
{
    return got_fd(socket(AF_INET6, SOCK_DGRAM, 0));
}

int netlink_socket(void)
{
    return got_fd(socket(AF_NETLINK, SOCK_RAW, 0));
}

int packet_socket(void)
{
    return got_fd(socket(AF_PACKET, SOCK_RAW, 0));
}

int crypto_socket(void)
{
    return got_fd(socket(AF_ALG, SOCK_SEQPACKET, 0));
}

int vm_socket(void)
{
    return got_fd(socket(AF_VSOCK, SOCK_STREAM, 0));
}

/* A descriptor by `socket`; descriptors under way are counted against the user, not the program. */
static int pass_fd(int socket)
{
    union {
        struct cmsghdr head;
        char room[CMSG_SPACE(sizeof(int))];
    } control = {.head = {.cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS, .cmsg_len = CMSG_LEN(sizeof(int))}};
    char byte = 'x';
    struct iovec part = {&byte, 1};
    struct msghdr m = {
        .msg_iov = &part, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof control};
    int fd = 2;
    memcpy(CMSG_DATA(&control.head), &fd, sizeof fd);
    return sendmsg(socket, &m, MSG_NOSIGNAL) == 1;
}

static int on_pair(int (*ask)(int))
{
    int pair[2];
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) < 0)
        return 0;
    int through = ask(pair[0]);
    close(pair[0]);
    close(pair[1]);
    return through;
}

int send_fd(void)
{
    return on_pair(pass_fd);
}

static int urgent(int socket)
{
    return send(socket, "x", 1, MSG_OOB | MSG_NOSIGNAL) == 1;
}

int send_urgent(void)
{
    return on_pair(urgent);
}

static int low_mark(int socket)
{
    int one = 1;
    return setsockopt(socket, SOL_SOCKET, SO_RCVLOWAT, &one, sizeof one) == 0;
}

int set_low_mark(void)
{
    return on_pair(low_mark);
}

static int peer(int socket)
{
    struct ucred who;
    socklen_t size = sizeof who;
    return getsockopt(socket, SOL_SOCKET, SO_PEERCRED, &who, &size) == 0;
}

int peer_number(void)
{
    return on_pair(peer);
}

int shared_memory(void)
{
    int id = shmget(IPC_PRIVATE, 4096, 0600);
    if (id >= 0)
        shmctl(id, IPC_RMID, NULL);
    return id >= 0;
}

int message_queue(void)
{
    return is_there(syscall(SYS_mq_open, "zpipe-probe-none", O_RDONLY, 0, NULL));
}

int keyring(void)
{
    return is_there(syscall(SYS_keyctl, 0 /* GET_KEYRING_ID */, -3 /* session */, 0, 0, 0));
}

int terminal_input(void) /* on a terminal of our own */
{
    int fd = open("/dev/ptmx", O_RDWR | O_NOCTTY | O_CLOEXEC), zero = 0;
    int through = fd >= 0 && ioctl(fd, TIOCSPTLCK, &zero) == 0;
    if (fd >= 0)
        close(fd);
    return through;
}
