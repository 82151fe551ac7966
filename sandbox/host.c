/* Why a host refused a step, and which command allows it.  The text of the error names the step already; here the reason is
 * looked for, plain settings first. */
#include "base/fds.h"
#include "sandbox/proc.h"
#include "sandbox/zygote.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/utsname.h>
#include <unistd.h>

#define KERNEL_MAJOR 5 /* close_range */
#define KERNEL_MINOR 9

static bool in_container(void)
{
    return access("/.dockerenv", F_OK) == 0 || access("/run/.containerenv", F_OK) == 0;
}

static bool kernel_too_old(char *why, size_t size)
{
    struct utsname u;
    int major = 0, minor = 0;
    if (uname(&u) < 0 || sscanf(u.release, "%d.%d", &major, &minor) != 2 || major > KERNEL_MAJOR ||
        (major == KERNEL_MAJOR && minor >= KERNEL_MINOR))
        return false;
    snprintf(why, size, "this kernel is %s and zpipe needs Linux %d.%d or later", u.release, KERNEL_MAJOR,
             KERNEL_MINOR);
    return true;
}

/* Is a limit of namespaces zero, for any kind of them? */
static bool namespaces_forbidden(char *why, size_t size)
{
    static const char *const kind[] = {"user", "mnt", "pid", "net", "ipc", "uts"};
    char name[64];
    for (size_t i = 0; i < sizeof kind / sizeof *kind; i++) {
        snprintf(name, sizeof name, "user/max_%s_namespaces", kind[i]);
        if (proc_setting(name, -1) != 0)
            continue;
        snprintf(why, size, "this host allows no %s namespaces; allow them with 'sysctl -w user.max_%s_namespaces=15000'",
                 kind[i], kind[i]);
        return true;
    }
    return false;
}

static const char *plain_reason(int sys)
{
    if (sys == ENOSPC)
        return "the limit of namespaces is reached; raise it with 'sysctl -w "
               "user.max_user_namespaces=15000'";
    if (sys == EUSERS)
        return "user namespaces are nested too deeply here; start zpipe outside of them";
    if (proc_setting("kernel/unprivileged_userns_clone", -1) == 0 && geteuid() != 0)
        return "this host allows no user namespaces to ordinary users; allow them with 'sysctl -w "
               "kernel.unprivileged_userns_clone=1'";
    if (proc_setting("kernel/apparmor_restrict_unprivileged_userns", -1) == 1 && geteuid() != 0)
        return "AppArmor restricts user namespaces; allow them with 'sysctl -w "
               "kernel.apparmor_restrict_unprivileged_userns=0'";
    if (proc_setting("kernel/yama/ptrace_scope", -1) == 3)
        return "this host allows no process to look into another, which answering a program's system calls needs; allow it "
               "with 'kernel.yama.ptrace_scope = 1' in /etc/sysctl.d and a restart";
    if (in_container())
        return "this container's profile forbids namespaces or mounts; start it with '--security-opt "
               "seccomp=unconfined --security-opt apparmor=unconfined --security-opt "
               "systempaths=unconfined'";
    return "this host forbids it (a seccomp profile, a chroot or a security module), and the wall cannot be less "
           "than whole; '--isolation=none' runs without one";
}

void host_explain(struct err *e)
{
    static const int refusals[] = {EPERM, EACCES, ENOSPC, EINVAL, EUSERS, ENOSYS, EOPNOTSUPP, ENODEV};
    char why[256];
    bool refused = false;
    for (size_t i = 0; i < sizeof refusals / sizeof *refusals; i++)
        refused |= e->sys == refusals[i];
    if (!refused)
        return;
    if (!kernel_too_old(why, sizeof why) && !namespaces_forbidden(why, sizeof why))
        snprintf(why, sizeof why, "%s", plain_reason(e->sys));
    size_t used = strlen(e->text);
    snprintf(e->text + used, sizeof e->text - used, ": %s", why);
}
