/* Parts of the kernel that nobody in a sandbox needs.  See wall_probe.h. */
#include "wall_probe.h"

int io_ring(void)
{
    char parameters[120] = {0};
    return got_fd(syscall(SYS_io_uring_setup, 1, parameters));
}

int bpf_program(void)
{
    return is_there(syscall(SYS_bpf, 9999, NULL, 0));
}

int perf_event(void)
{
    return is_there(syscall(SYS_perf_event_open, NULL, 0, -1, -1, 0));
}

int fault_fd(void)
{
    return is_there(syscall(SYS_userfaultfd, 0x40000000));
}

int local_table(void)
{
    char room[64];
    return is_there(syscall(SYS_modify_ldt, 0, room, sizeof room));
}

int watch_files(void)
{
    return got_fd(syscall(SYS_inotify_init1, O_CLOEXEC));
}

int system_log(void)
{
    return syscall(SYS_syslog, 10 /* its size */, NULL, 0) >= 0;
}

int struct_open(void)
{
    return is_there(syscall(SYS_openat2, AT_FDCWD, ".", NULL, 0));
}

int x32_call(void)
{
    return syscall(0x40000000 + SYS_getpid) > 0;
}

int i386_call(void)
{
    long result;
    __asm__ volatile("int $0x80" : "=a"(result) : "a"(20L) : "memory", "r8", "r9", "r10", "r11"); /* getpid */
    return result > 0;
}
