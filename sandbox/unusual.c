/* Does something on this host vary that programs can see, whatever they do?  Looked for once, at the start.  If so no result is
 * certified, and the reason is told with each. */
#include "base/fds.h"
#include "base/fds.h"
#include "sandbox/proc.h"
#include "sandbox/zygote.h"

#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <sys/auxv.h>
#include <sys/mman.h>
#include <sys/resource.h>

#define PAGE_BYTES 4096

bool unusual_sealed(const void *page, int protection)
{
    return mprotect((void *)(uintptr_t)page, PAGE_BYTES, protection) < 0 &&
           errno == EPERM; /* the protection is the one that the page has: the call changes nothing */
}

/* Can the kernel's clocks not be taken away?  They lie before its vDSO, and a kernel seals both or none. */
static bool clocks_sealed(void)
{
    const void *vdso = (const void *)(uintptr_t)getauxval(AT_SYSINFO_EHDR);
    return vdso && unusual_sealed(vdso, PROT_READ | PROT_EXEC);
}

/* Does a status tell that a core was dumped?  It does if the host hands cores to a program, unless the limit is one byte
 * (limits.c), and a hard limit of zero cannot be raised to that. */
static bool cores_leave(void)
{
    struct rlimit core;
    char first[2];
    bool handed = fd_read_text(AT_FDCWD, "/proc/sys/kernel/core_pattern", first, sizeof first) == 1 && *first == '|';
    return handed && getrlimit(RLIMIT_CORE, &core) == 0 && core.rlim_max == 0;
}

const char *unusual_host(void)
{
    if (proc_setting("vm/overcommit_memory", 0) == 2)
        return "this host grants memory by what others have taken (vm.overcommit_memory=2)";
    if (proc_setting("vm/memfd_noexec", 0) != 0)
        return "files in memory cannot be run on this host (vm.memfd_noexec)";
    if (proc_setting("vm/legacy_va_layout", 0) != 0)
        return "this host lays out memory in the old way (vm.legacy_va_layout)";
    if (cores_leave())
        return "this host hands cores to a program, and zpipe-box was started without the right to "
               "forbid it (ulimit -Hc 0)";
    if (clocks_sealed())
        return "this kernel seals its clocks in the memory of programs "
               "(CONFIG_MSEAL_SYSTEM_MAPPINGS)";
    return limits_unusual();
}
