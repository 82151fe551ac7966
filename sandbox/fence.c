/* Landlock is called by raw system calls: there is no library for it, and headers may be older than the kernel.  Each task
 * has its own ruleset, since its writable places are its own file system.  The zygote cannot enter a ruleset for all, nor the
 * init one for its tasks, because a process under a ruleset may not mount.  So the fence costs 20 to 40 us of each start (measured, of 800). */
#include "sandbox/fence.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/syscall.h>
#include <unistd.h>

#define ASK_VERSION  1u
#define PATH_BENEATH 1
#define VERSION_MIN  2 /* earlier versions forbid any rename between directories */

enum { /* rights on a file */
    EXECUTE = 1 << 0,
    WRITE_FILE = 1 << 1,
    READ_FILE = 1 << 2,
    READ_DIR = 1 << 3,
    MAKE_CHAR = 1 << 6,
    MAKE_SOCK = 1 << 9,
    MAKE_BLOCK = 1 << 11,
    TRUNCATE = 1 << 14,  /* version 3 */
    IOCTL_DEV = 1 << 15, /* version 5 */
};
#define LOOK    (EXECUTE | READ_FILE | READ_DIR)
#define FILE_13 ((1 << 14) - 1) /* all rights of version 2 */

struct ruleset_attr {
    uint64_t files, network, scope;
};

struct path_rule {
    uint64_t allowed;
    int32_t directory;
} __attribute__((packed));

int fence_version(struct err *e)
{
    long version = syscall(SYS_landlock_create_ruleset, NULL, 0, ASK_VERSION);
    if (version >= VERSION_MIN)
        return (int)version;
    if (version >= 0 || errno == ENOSYS || errno == EOPNOTSUPP)
        return 0;
    return err_sys(e, "cannot ask for Landlock's version");
}

static uint64_t handled(int version)
{
    return FILE_13 | (version >= 3 ? TRUNCATE : 0) | (version >= 5 ? IOCTL_DEV : 0);
}

static int add(int ruleset, int version, const struct fence_rule *rule)
{
    struct path_rule r = {.allowed = LOOK};
    if (rule->write)
        r.allowed |= WRITE_FILE | (TRUNCATE & handled(version));
    if (rule->make)
        r.allowed |= handled(version) & ~(uint64_t)(MAKE_CHAR | MAKE_BLOCK | MAKE_SOCK | IOCTL_DEV);
    r.directory = open(rule->path, O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (r.directory < 0)
        return -1;
    int result = (int)syscall(SYS_landlock_add_rule, ruleset, PATH_BENEATH, &r, 0);
    int saved = errno;
    close(r.directory);
    errno = saved;
    return result;
}

int fence_make(int version, const struct fence_rule *rule, unsigned count, struct err *e)
{
    struct ruleset_attr a = {handled(version), 3 /* bind, connect */, 1 /* abstract sockets */};
    size_t size = version >= 6 ? sizeof a : version >= 4 ? 2 * sizeof a.files : sizeof a.files;
    int ruleset = (int)syscall(SYS_landlock_create_ruleset, &a, size, 0);
    if (ruleset < 0)
        return err_sys(e, "cannot make a Landlock ruleset");
    int result = 0;
    for (unsigned i = 0; i < count && result == 0; i++)
        result = add(ruleset, version, &rule[i]);
    if (result == 0)
        return ruleset;
    err_sys(e, "cannot add a Landlock rule");
    close(ruleset);
    return -1;
}

int fence_enter(int version, const struct fence_rule *rule, unsigned count, struct err *e)
{
    if (version == 0)
        return 0;
    int ruleset = fence_make(version, rule, count, e);
    int result = ruleset < 0 ? -1 : (int)syscall(SYS_landlock_restrict_self, ruleset, 0);
    if (ruleset >= 0 && result < 0)
        err_sys(e, "cannot enter the Landlock ruleset");
    if (ruleset >= 0)
        close(ruleset);
    return result;
}
