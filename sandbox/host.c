/* What a host's refusal means and which command allows it. */
#include "base/fds.h"
#include "sandbox/zygote.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* A number in /proc/sys; -1 when there is no such setting. */
static long setting(const char *path)
{
    char text[32];
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t n = fd < 0 ? -1 : read(fd, text, sizeof text - 1);
    fd_close(&fd);
    if (n <= 0)
        return -1;
    text[n] = '\0';
    return atol(text);
}

static const char *remedy(int sys)
{
    if (setting("/proc/sys/user/max_user_namespaces") == 0)
        return "this host allows no user namespaces; allow them with 'sysctl -w "
               "user.max_user_namespaces=15000'";
    if (setting("/proc/sys/kernel/unprivileged_userns_clone") == 0)
        return "this host allows no user namespaces to ordinary users; allow them with 'sysctl -w "
               "kernel.unprivileged_userns_clone=1'";
    if (setting("/proc/sys/kernel/apparmor_restrict_unprivileged_userns") == 1)
        return "AppArmor restricts user namespaces; allow them with 'sysctl -w "
               "kernel.apparmor_restrict_unprivileged_userns=0'";
    if (access("/.dockerenv", F_OK) == 0 || access("/run/.containerenv", F_OK) == 0)
        return "this container's profile forbids namespaces or mounts; start it with '--security-opt "
               "seccomp=unconfined --security-opt apparmor=unconfined --security-opt "
               "systempaths=unconfined'";
    if (sys == ENOSPC)
        return "the limit of namespaces is reached; raise it with 'sysctl -w "
               "user.max_user_namespaces=15000'";
    return NULL;
}

void host_explain(struct err *e)
{
    const char *why;
    if (e->sys != EPERM && e->sys != EACCES && e->sys != ENOSPC && e->sys != EINVAL && e->sys != EUSERS)
        return;
    why = remedy(e->sys);
    if (!why)
        return;
    size_t used = strlen(e->text), more = strlen(why);
    if (used + more + 3 > sizeof e->text)
        return;
    memcpy(e->text + used, ": ", 2);
    memcpy(e->text + used + 2, why, more + 1);
}
