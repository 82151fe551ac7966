/* Processes.  See wall_probe.h. */
#include "wall_probe.h"

/* Signal 0 asks, and does nothing. */
int host_signal(void)
{
    siginfo_t queued = {.si_code = SI_QUEUE};
    return kill(host_process, 0) == 0 || syscall(SYS_tkill, host_process, 0) == 0 ||
           syscall(SYS_rt_sigqueueinfo, host_process, 0, &queued) == 0;
}

int other_processes(void)
{
    for (pid_t pid = 3; pid < 400; pid++)
        if (pid != getpid() && (kill(pid, 0) == 0 || errno == EPERM))
            return 1;
    return 0;
}

/* Only where pid 1 is the sandbox's: elsewhere this is the host's, and nothing is sent. */
int signal_init(void)
{
    if (getpid() != 2 || getppid() != 1)
        return 1;
    for (int s = 1; s < 65; s++)
        kill(1, s);
    return getppid() != 1;
}

int trace_me(void)
{
    return ptrace(PTRACE_TRACEME, 0, NULL, NULL) == 0;
}

int trace_parent(void)
{
    return is_there(ptrace(PTRACE_PEEKUSER, getppid(), NULL, NULL));
}

int read_memory(void)
{
    char from = 1, to = 0;
    struct iovec here = {&to, 1}, there = {&from, 1};
    return process_vm_readv(getpid(), &here, 1, &there, 1, 0) == 1;
}

int write_memory(void)
{
    char from = 1, to = 0;
    struct iovec here = {&from, 1}, there = {&to, 1};
    return process_vm_writev(getpid(), &here, 1, &there, 1, 0) == 1;
}

int process_fd(void)
{
    return got_fd(syscall(SYS_pidfd_open, getppid(), 0));
}

int take_fd(void)
{
    return is_there(syscall(SYS_pidfd_getfd, -1, 0, 0));
}

int compare(void)
{
    return is_there(syscall(SYS_kcmp, getpid(), getpid(), 0, 0, 0));
}

int capabilities(void)
{
    struct __user_cap_header_struct head = {.version = _LINUX_CAPABILITY_VERSION_3};
    struct __user_cap_data_struct d[2] = {{0}, {0}};
    syscall(SYS_capget, &head, d);
    return d[0].effective || d[0].permitted || d[1].effective || d[1].permitted;
}

int new_privileges(void)
{
    return prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) == 0;
}

int become_root(void)
{
    return geteuid() == 0 || setresuid(0, 0, 0) == 0;
}

int undo_layout(void)
{
    return personality(PER_LINUX) >= 0;
}

int undo_tsc(void)
{
    int now = 0;
    return prctl(PR_GET_TSC, &now) == 0 && prctl(PR_SET_TSC, now) == 0;
}

int more_filters(void)
{
    uint32_t action = 0x7fff0000u; /* is SECCOMP_RET_ALLOW known? */
    return syscall(SYS_seccomp, 2, 0, &action) == 0;
}

int raise_limit(void) /* one that anybody may lower, and then not raise */
{
    struct rlimit now, low = {0, 1};
    if (getrlimit(RLIMIT_MSGQUEUE, &now) < 0 || setrlimit(RLIMIT_MSGQUEUE, &low) < 0 ||
        getrlimit(RLIMIT_MSGQUEUE, &now) < 0)
        return 0;
    return now.rlim_max == 1; /* the call has an effect */
}

int other_limits(void)
{
    struct rlimit now;
    return syscall(SYS_prlimit64, host_process, RLIMIT_CORE, NULL, &now) == 0;
}

int dumps_core(void)
{
    struct rlimit now;
    return getrlimit(RLIMIT_CORE, &now) == 0 && now.rlim_max > 0;
}

int many_processes(void)
{
    struct rlimit now;
    return getrlimit(RLIMIT_NPROC, &now) == 0 && now.rlim_max > 16384;
}

int high_fds(void) /* these numbers are the sandbox's own */
{
    int fd = fcntl(0, F_DUPFD, 1024);
    if (fd >= 0)
        close(fd);
    return fd >= 0 || dup2(0, 1500) >= 0;
}

int secret_word(void)
{
    return getenv("ZPIPE_TEST_SECRET") != NULL;
}
