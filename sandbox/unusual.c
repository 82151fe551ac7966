/* What makes a host one on which programs see what varies, whatever they do: looked for once, at
 * the start.  Then no result is certified, and the reason is told with each. */
#include "base/fds.h"
#include "sandbox/zygote.h"

#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/auxv.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <unistd.h>

#define PAGE_BYTES 4096

bool unusual_sealed(const void *page, int protection)
{
    return mprotect((void *)(uintptr_t)page, PAGE_BYTES, protection) < 0 &&
           errno == EPERM; /* as it is: without effect */
}

/* The kernel's clocks lie before its vDSO, of which a kernel seals all or nothing. */
static bool clocks_sealed(void)
{
    const void *vdso = (const void *)(uintptr_t)getauxval(AT_SYSINFO_EHDR);
    return vdso && unusual_sealed(vdso, PROT_READ | PROT_EXEC);
}

/* Then a status tells that a core was dumped, unless the limit is one byte (limits.c), to which
 * none of zero can be raised. */
static bool cores_leave(void)
{
    struct rlimit core;
    char first = 0;
    int fd = open("/proc/sys/kernel/core_pattern", O_RDONLY | O_CLOEXEC);
    bool handed = fd >= 0 && read(fd, &first, 1) == 1 && first == '|';
    fd_close(&fd);
    return handed && getrlimit(RLIMIT_CORE, &core) == 0 && core.rlim_max == 0;
}

/* A setting of the kernel's; 0 where it has none. */
static long setting(const char *path)
{
    char text[24] = "";
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t n = fd < 0 ? 0 : read(fd, text, sizeof text - 1);
    fd_close(&fd);
    return n > 0 ? strtol(text, NULL, 10) : 0;
}

const char *unusual_host(void)
{
    if (setting("/proc/sys/vm/overcommit_memory") == 2)
        return "this host grants memory by what others have taken (vm.overcommit_memory=2)";
    if (setting("/proc/sys/vm/memfd_noexec") != 0)
        return "files in memory cannot be run on this host (vm.memfd_noexec)";
    if (setting("/proc/sys/vm/legacy_va_layout") != 0)
        return "this host lays out memory in the old way (vm.legacy_va_layout)";
    if (cores_leave())
        return "this host hands cores to a program, and zpipe-box was started without the right to "
               "forbid it (ulimit -Hc 0)";
    if (clocks_sealed())
        return "this kernel seals its clocks in the memory of programs "
               "(CONFIG_MSEAL_SYSTEM_MAPPINGS)";
    return limits_unusual();
}
