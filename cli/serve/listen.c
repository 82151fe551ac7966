/* See listen.h. */
#include "cli/serve/listen.h"
#include "cli/cli.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#define BACKLOG 4096 /* the host may allow less */

static struct stat made; /* identifies the unix socket that we made; st_ino 0: none */

static bool is_loopback(const struct sockaddr *a)
{
    if (a->sa_family == AF_INET)
        return ntohl(((const struct sockaddr_in *)a)->sin_addr.s_addr) >> 24 == 127;
    return a->sa_family == AF_INET6 && IN6_IS_ADDR_LOOPBACK(&((const struct sockaddr_in6 *)a)->sin6_addr);
}

static int listen_at(const struct addrinfo *a, const char *address, bool remote)
{
    int one = 1;
    if (!remote && !is_loopback(a->ai_addr))
        return cli_say(-1, "%s is not on this host's loopback; add --allow-remote to serve other hosts", address);
    int fd = socket(a->ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd >= 0 && setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one) == 0 &&
        bind(fd, a->ai_addr, a->ai_addrlen) == 0 && listen(fd, BACKLOG) == 0)
        return fd;
    cli_say(0, "cannot listen on %s: %s", address, strerror(errno));
    if (fd >= 0)
        close(fd);
    return -1;
}

/* Checked here because getaddrinfo takes 65616 for 80. */
static bool is_port(const char *text)
{
    size_t size = strspn(text, "0123456789");
    return !strcmp(text, "*") || (size && size < 6 && !text[size] && strtoul(text, NULL, 10) <= UINT16_MAX);
}

int listen_http(const char *address, bool remote)
{
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_PASSIVE}, *found = NULL;
    char host[256];
    const char *colon = strrchr(address, ':');
    size_t size = colon ? (size_t)(colon - address) : 0;
    if (!size || size >= sizeof host || !is_port(colon + 1))
        return cli_say(-1, "'%s' is not HOST:PORT, as in 127.0.0.1:8080", address);
    bool six = address[0] == '[' && address[size - 1] == ']';
    snprintf(host, sizeof host, "%.*s", (int)(six ? size - 2 : size), six ? address + 1 : address);
    int r = getaddrinfo(host, strcmp(colon + 1, "*") ? colon + 1 : "0", &hints, &found);
    if (r)
        return cli_say(-1, "cannot find %s: %s", address, gai_strerror(r));
    int fd = listen_at(found, address, remote);
    freeaddrinfo(found);
    return fd;
}

static const char *unix_path(const char *address)
{
    return strncmp(address, "unix://", 7) ? NULL : address + 7;
}

/* Is it a socket that nobody listens on any more, as its server was killed? */
static bool is_left_over(const struct sockaddr_un *a)
{
    struct stat s;
    if (lstat(a->sun_path, &s) < 0 || !S_ISSOCK(s.st_mode))
        return false;
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    bool refused = fd >= 0 && connect(fd, (const struct sockaddr *)a, sizeof *a) < 0 && errno == ECONNREFUSED;
    if (fd >= 0)
        close(fd);
    return refused;
}

/* Binds the name.  Replaces a left-over socket, but nothing else. */
static int bind_name(int fd, const struct sockaddr_un *a)
{
    mode_t old = umask(0077); /* only this user may connect */
    int r = bind(fd, (const struct sockaddr *)a, sizeof *a);
    if (r < 0 && errno == EADDRINUSE) {
        if (is_left_over(a) && unlink(a->sun_path) == 0)
            r = bind(fd, (const struct sockaddr *)a, sizeof *a);
        else
            errno = EADDRINUSE;
    }
    umask(old);
    if (r == 0 && lstat(a->sun_path, &made) < 0)
        made.st_ino = 0;
    return r;
}

int listen_plain(const char *address, bool remote)
{
    struct sockaddr_un a = {.sun_family = AF_UNIX};
    const char *path = unix_path(address);
    if (!path && !strncmp(address, "tcp://", 6))
        return listen_http(address + 6, remote);
    if (!path || !*path || strlen(path) >= sizeof a.sun_path)
        return cli_say(-1, "--listen is tcp://HOST:PORT or unix://PATH of less than %zu bytes, not '%s'", sizeof a.sun_path,
                       address);
    strcpy(a.sun_path, path);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd >= 0 && bind_name(fd, &a) == 0 && listen(fd, BACKLOG) == 0)
        return fd;
    cli_say(0, "cannot listen on %s: %s", address,
            errno == EADDRINUSE ? "there is a file of that name, or a server" : strerror(errno));
    if (fd >= 0)
        close(fd);
    return -1;
}

void listen_forget(const char *address)
{
    const char *path = unix_path(address);
    struct stat s;
    if (path && made.st_ino && lstat(path, &s) == 0 && s.st_ino == made.st_ino && s.st_dev == made.st_dev)
        unlink(path);
}

void listen_say(const char *what, int fd)
{
    struct sockaddr_storage a;
    socklen_t size = sizeof a;
    char host[INET6_ADDRSTRLEN + 1] = "", port[8] = "";
    if (getsockname(fd, (struct sockaddr *)&a, &size) < 0)
        return;
    if (a.ss_family == AF_UNIX)
        printf("ready %s unix://%s\n", what, ((struct sockaddr_un *)&a)->sun_path);
    else if (getnameinfo((struct sockaddr *)&a, size, host, sizeof host, port, sizeof port, NI_NUMERICHOST | NI_NUMERICSERV) == 0)
        printf(strchr(host, ':') ? "ready %s [%s]:%s\n" : "ready %s %s:%s\n", what, host, port);
}
