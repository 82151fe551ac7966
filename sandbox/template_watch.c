/* A template on its way to the stop.  Every call of its program is seen twice, before and after, by ptrace.  There is a list
 * of calls that are allowed before the stop: they change nothing but the process itself, in ways that a fork copies.  The
 * first use of a port is the stop.  Everything else, from a signal to a written file, means that tasks of this kind start
 * cold. */
#include "sandbox/syscalls.h"
#include "sandbox/template.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/futex.h>
#include <linux/seccomp.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

#define PAGE      4096
#define CALLS_MAX 512
#define TEXT_ROOM 80

enum verdict { GO_ON, STOP, COLD };

static uint32_t opening_of(const struct template *m, uint64_t fd)
{
    return fd < TEMPLATE_FDS ? m->opening[fd] : 0;
}

static bool is_port(const struct template *m, uint64_t fd)
{
    return opening_of(m, fd) >= TEMPLATE_DATA;
}

static bool is_data(const struct template *m, uint64_t fd)
{
    return opening_of(m, fd) == TEMPLATE_DATA;
}

static void set_opening(struct template *m, uint64_t fd, uint32_t opening)
{
    if (fd < TEMPLATE_FDS)
        m->opening[fd] = opening;
    else
        m->unknown |= opening != 0;
}

static bool begins(const char *text, const char *with)
{
    return !strncmp(text, with, strlen(with));
}

static int read_there(const struct template *m, uint64_t address, void *data, size_t size)
{
    struct iovec here = {data, size}, there = {(void *)(uintptr_t)address, size};
    return process_vm_readv(m->pid, &here, 1, &there, 1, 0) == (ssize_t)size ? 0 : -1;
}

/* Read a name from its memory; "": it cannot be read. */
static void read_name(const struct template *m, uint64_t address, char name[PATH_MAX])
{
    for (size_t size = 0, step; size < PATH_MAX; size += step) {
        step = PAGE - (address + size) % PAGE;
        if (step > PATH_MAX - size)
            step = PATH_MAX - size;
        if (read_there(m, address + size, name + size, step) < 0)
            break;
        if (memchr(name + size, 0, step))
            return;
    }
    *name = '\0';
}

/* The name that a call looks up, and the directory where that starts; false: the call looks up no name. */
static bool looks_up(const struct template *m, int *directory, char name[PATH_MAX])
{
    static const struct {
        uint16_t nr, name; /* name: the number of the argument; all but the first few follow a directory's descriptor */
    } row[] = {{SYS_open, 0}, {SYS_openat, 1}, {SYS_stat, 0}, {SYS_lstat, 0}, {SYS_newfstatat, 1}, {SYS_statx, 1},
               {SYS_access, 0}, {SYS_faccessat, 1}, {SYS_faccessat2, 1}, {SYS_readlink, 0}, {SYS_readlinkat, 1},
               {SYS_execve, 0}, {SYS_chdir, 0}, {SYS_statfs, 0}};
    for (size_t i = 0; i < sizeof row / sizeof *row; i++)
        if (row[i].nr == m->nr) {
            *directory = row[i].name ? (int)m->arg[row[i].name - 1] : AT_FDCWD;
            read_name(m, m->arg[row[i].name], name);
            return true;
        }
    return false;
}

static bool names_port(const char *name)
{
    return begins(name, "/dev/std") || begins(name, "/dev/fd") || begins(name, "/proc/self/fd") || begins(name, "/proc/thread-self/fd");
}

/* To open a port by name is a use of it; to open a file for writing is not allowed. */
static enum verdict on_open(const char *name, uint64_t flags)
{
    if (names_port(name))
        return STOP;
    if (!strcmp(name, "/dev/null") || !strcmp(name, "/dev/tty"))
        return GO_ON;
    return (flags & (O_ACCMODE | O_CREAT | O_TRUNC)) || (flags & O_TMPFILE) == O_TMPFILE ? COLD : GO_ON;
}

static enum verdict on_fcntl(const struct template *m)
{
    switch (m->arg[1]) {
    case F_GETFD:
    case F_SETFD:
    case F_GETFL:
    case F_DUPFD:
    case F_DUPFD_CLOEXEC:
        return GO_ON;
    default:
        return is_port(m, m->arg[0]) ? STOP : COLD;
    }
}

static enum verdict on_prctl(const struct template *m)
{
    switch (m->arg[0]) {
    case PR_SET_NAME:
    case PR_GET_NAME:
    case PR_GET_DUMPABLE:
    case PR_GET_NO_NEW_PRIVS:
    case PR_CAPBSET_READ:
        return GO_ON;
    default:
        return COLD;
    }
}

/* A seek is harmless on a pipe, and on an empty file at its beginning. */
static enum verdict on_seek(const struct template *m)
{
    bool asks = m->arg[1] == 0 && m->arg[2] == SEEK_CUR;
    return is_port(m, m->arg[0]) && !asks ? STOP : GO_ON;
}

/* Does the call look at a file to be read?  All pipes look the same, and so do new files; but a file to be read has a size,
 * and more.  `name`: the name that the call looks up. */
static bool looks_at_data(const struct template *m, const char *name)
{
    switch (m->nr) {
    case SYS_fstat:
    case SYS_fstatfs:
        return is_data(m, m->arg[0]);
    case SYS_newfstatat:
    case SYS_statx:
    case SYS_readlinkat:
        return is_data(m, m->arg[0]) || names_port(name);
    case SYS_stat:
    case SYS_lstat:
    case SYS_statfs:
    case SYS_access:
    case SYS_faccessat:
    case SYS_faccessat2:
    case SYS_readlink:
        return names_port(name);
    case SYS_ioctl:
        return is_data(m, m->arg[0]) && m->arg[1] != TCGETS;
    case SYS_lseek:
        return is_data(m, m->arg[0]);
    case SYS_mmap:
        return is_data(m, m->arg[4]) && !(m->arg[3] & MAP_ANONYMOUS);
    default:
        return false;
    }
}

static enum verdict on_port(const struct template *m, bool otherwise)
{
    return is_port(m, m->arg[0]) ? STOP : otherwise ? GO_ON : COLD;
}

/* Calls with the same result in a clone, whatever their arguments. */
static bool is_pure(uint64_t nr)
{
    static const uint16_t pure[] = {
        SYS_brk, SYS_mmap, SYS_munmap, SYS_mremap, SYS_mprotect, SYS_arch_prctl, SYS_set_tid_address,
        SYS_set_robust_list, SYS_rt_sigaction, SYS_rt_sigprocmask, SYS_sigaltstack, SYS_getpid, SYS_gettid,
        SYS_getppid, SYS_getpgid, SYS_getpgrp, SYS_getsid, SYS_getuid, SYS_geteuid, SYS_getgid, SYS_getegid,
        SYS_getresuid, SYS_getresgid, SYS_getgroups, SYS_capget, SYS_umask, SYS_getrlimit, SYS_prlimit64,
        SYS_uname, SYS_sysinfo, SYS_getrusage, SYS_clock_gettime, SYS_clock_getres, SYS_gettimeofday, SYS_time,
        SYS_times, SYS_nanosleep, SYS_clock_nanosleep, SYS_getcpu, SYS_sched_getaffinity, SYS_sched_getparam,
        SYS_sched_yield, SYS_sched_get_priority_max, SYS_sched_get_priority_min, SYS_getpriority,
        SYS_access, SYS_faccessat, SYS_faccessat2, SYS_readlink, SYS_readlinkat, SYS_getcwd, SYS_stat, SYS_fstat,
        SYS_lstat, SYS_newfstatat, SYS_statx, SYS_statfs, SYS_fstatfs, SYS_chdir, SYS_fchdir, SYS_close, SYS_dup,
        SYS_dup2, SYS_dup3, SYS_fadvise64, SYS_execve, SYS_personality, SYS_membarrier, SYS_getrandom,
        SYS_getpeername, SYS_getsockname};
    for (size_t i = 0; i < sizeof pure / sizeof *pure; i++)
        if (pure[i] == nr)
            return true;
    return false;
}

/* Calls that are refused, or answered without an effect, are allowed. */
static bool is_refused(const struct template *m)
{
    struct seccomp_data d = {.nr = (int)m->nr};
    for (int i = 0; i < 6; i++)
        d.args[i] = m->arg[i];
    return ACTION_KIND(syscalls_decide(&d, FILTER_OPENS)) == REFUSED(0);
}

/* Decide about a call; `name`: the name that it looks up, if any. */
static enum verdict judge(const struct template *m, const char *name)
{
    if (looks_at_data(m, name))
        return STOP;
    if (is_pure(m->nr) || is_refused(m))
        return GO_ON;
    switch (m->nr) {
    case SYS_open:
        return on_open(name, m->arg[1]);
    case SYS_openat:
        return on_open(name, m->arg[2]);
    case SYS_read:
    case SYS_readv:
    case SYS_pread64:
    case SYS_preadv:
    case SYS_getdents:
    case SYS_getdents64:
    case SYS_ioctl:
        return m->nr == SYS_ioctl && m->arg[1] != FIONREAD ? GO_ON : on_port(m, true);
    case SYS_write:
    case SYS_writev:
    case SYS_pwrite64:
    case SYS_recvfrom:
    case SYS_recvmsg:
    case SYS_ftruncate:
    case SYS_fchmod:
    case SYS_flock:
    case SYS_fsync:
    case SYS_shutdown:
        return on_port(m, false);
    case SYS_sendfile:
        return is_port(m, m->arg[1]) ? STOP : on_port(m, false);
    case SYS_lseek:
        return on_seek(m);
    case SYS_fcntl:
        return on_fcntl(m);
    case SYS_prctl:
        return on_prctl(m);
    case SYS_madvise:
        return m->arg[2] == MADV_DONTNEED ? GO_ON : COLD;
    case SYS_futex:
        return (m->arg[1] & FUTEX_CMD_MASK) == FUTEX_WAKE ? GO_ON : COLD;
    case SYS_poll:
    case SYS_ppoll:
    case SYS_select:
    case SYS_pselect6:
    case SYS_exit:
    case SYS_exit_group: /* it uses no port, so it may as well be cloned here */
        return STOP;
    default:
        return COLD;
    }
}

static const char *why_cold(const struct template *m)
{
    static char said[CALLS_MAX][TEXT_ROOM];
    const struct syscall_row *row = syscalls_find((int)m->nr);
    if (!row || m->nr >= CALLS_MAX)
        return "its program does more before it uses a channel than a clone could have";
    snprintf(said[m->nr], TEXT_ROOM, "its program calls %s before it uses a channel", row->name);
    return said[m->nr];
}

static void enter_call(struct template *m)
{
    if (m->unknown) {
        template_give_up(m, "its program's state before it uses a channel cannot be followed");
        return;
    }
    static char name[PATH_MAX];
    int directory;
    if (++m->calls > TEMPLATE_CALLS_MAX) {
        template_give_up(m, "its program works too long before it uses a channel");
        return;
    }
    if (looks_up(m, &directory, name))
        m->unknown |= template_watch_way(m, directory, name) < 0;
    switch (judge(m, name)) {
    case STOP:
        template_stop(m);
        return;
    case COLD:
        template_give_up(m, why_cold(m));
        return;
    case GO_ON:
        ptrace(PTRACE_SYSCALL, m->pid, NULL, NULL);
        return;
    }
}

/* Note what a call that succeeded has changed. */
static void leave_call(struct template *m, int64_t value)
{
    bool made = value >= 0;
    switch (m->nr) {
    case SYS_open:
    case SYS_openat:
        if (made)
            set_opening(m, (uint64_t)value, ++m->openings);
        m->unknown |= made && template_watch_fd(m, (int)value) < 0;
        break;
    case SYS_dup:
    case SYS_dup2:
    case SYS_dup3:
        if (made && m->arg[0] != (uint64_t)value)
            set_opening(m, (uint64_t)value, opening_of(m, m->arg[0]));
        break;
    case SYS_fcntl:
        if (made && (m->arg[1] == F_DUPFD || m->arg[1] == F_DUPFD_CLOEXEC))
            set_opening(m, (uint64_t)value, opening_of(m, m->arg[0]));
        break;
    case SYS_close:
        set_opening(m, m->arg[0], 0);
        break;
    case SYS_sigaltstack:
        if (made && m->arg[0] && read_there(m, m->arg[0], &m->altstack, sizeof m->altstack) < 0)
            m->unknown = true;
        break;
    case SYS_set_tid_address:
        m->tid_address = m->arg[0];
        break;
    case SYS_set_robust_list:
        m->robust_list = m->arg[0];
        m->robust_size = m->arg[1];
        break;
    default:
        break;
    }
    ptrace(PTRACE_SYSCALL, m->pid, NULL, NULL);
}

static void on_call(struct template *m)
{
    struct __ptrace_syscall_info info;
    if (ptrace(PTRACE_GET_SYSCALL_INFO, m->pid, (void *)sizeof info, &info) <= 0) {
        template_give_up(m, "the host does not show a program's calls");
    } else if (info.op == PTRACE_SYSCALL_INFO_ENTRY) {
        if (m->step != STEP_RUN) { /* a call of ours begins */
            ptrace(PTRACE_SYSCALL, m->pid, NULL, NULL);
            return;
        }
        m->nr = info.entry.nr;
        for (int i = 0; i < 6; i++)
            m->arg[i] = info.entry.args[i];
        enter_call(m);
    } else if (m->step != STEP_RUN) {
        template_injected(m, info.exit.rval);
    } else {
        leave_call(m, info.exit.rval);
    }
}

bool template_stopped(struct server *s, pid_t pid, int status)
{
    struct template *m = s->template;
    while (m && (!m->notify || notify_traced(m->notify) != pid))
        m = m->next;
    if (!m || m->step == STEP_OVER)
        return false;
    m->pid = pid;
    if (!WIFSTOPPED(status)) {
        template_give_up(m, "its program ends before it uses a channel");
    } else if (status >> 16 == PTRACE_EVENT_EXEC) {
        notify_stopped(pid, status);
        m->unknown |= template_watch_program(m) < 0;
        m->tid_address = m->robust_list = 0;
        m->altstack = (struct forker_altstack){0};
        ptrace(PTRACE_SYSCALL, pid, NULL, NULL);
    } else if (WSTOPSIG(status) == (SIGTRAP | 0x80)) {
        on_call(m);
    } else if (status >> 16) {
        ptrace(PTRACE_SYSCALL, pid, NULL, NULL);
    } else {
        template_give_up(m, "its program gets a signal before it uses a channel");
    }
    return true;
}
