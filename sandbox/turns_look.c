/* Finds out what a process is doing, by /proc and by its memory.  It is looked at while it is stopped or waits, so what is
 * found stays true, unless it was killed; then what is read is worthless, and treated as nothing. */
#include "base/fds.h"
#include "sandbox/children.h"
#include "sandbox/server.h"
#include "sandbox/turns_member.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/ptrace.h>
#include <sys/select.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/user.h>
#include <unistd.h>

#ifndef PIDFD_INFO_EXIT
#define PIDFD_INFO_EXIT (1ull << 3) /* 6.15 */
struct pidfd_info {
    uint64_t mask, other[6];
    uint32_t more;
    int32_t exit_code;
};
#define PIDFD_GET_INFO _IOWR(0xff, 11, struct pidfd_info)
#endif
_Static_assert(sizeof(struct pidfd_info) >= 64, "the kernel's first version");

#define BIT_OF(signal) (1ull << ((signal)-1))
#define STATUS_TRIES 2 /* it can be waited for only once, between two looks */
#define POLLED_MAX 16 /* descriptors that one call waits for */

bool turns_has_ended(const struct member *m)
{
    struct pollfd p = {.fd = m->watch.fd, .events = POLLIN};
    if (m->place_fd < 0)
        return poll(&p, 1, 0) > 0;
    char state = proc_state_at(m->place_fd);
    return state == 'Z' || state == 'X';
}

/* The kernel writes the status down when it sends a signal that ends a process.  Until that has ended others can already see that its descriptors are
 * closed. */
int turns_status(pid_t pid, int fd)
{
    struct pidfd_info info;
    char text[1024];
    for (int tries = 0; tries < STATUS_TRIES; tries++) {
        memset(&info, 0, sizeof info);
        info.mask = PIDFD_INFO_EXIT;
        if (ioctl(fd, PIDFD_GET_INFO, &info) == 0 && info.mask & PIDFD_INFO_EXIT)
            return info.exit_code; /* it has been waited for */
        const char *last = proc_read(pid, "stat", text, sizeof text) ? strrchr(text, ' ') : NULL;
        int status = last ? (int)strtol(last, NULL, 10) : 0;
        if (last && (status || strstr(text, ") Z ")))
            return status;
    }
    return -1;
}

static pid_t innermost(pid_t pid, const char *name)
{
    char text[PROC_STATUS_ROOM];
    char *at = proc_status_text(pid, text) ? strstr(text, name) : NULL;
    long number = 0;
    if (!at)
        return 0;
    at += strlen(name);
    at[strcspn(at, "\n")] = '\0';
    for (char *word; (word = strsep(&at, "\t "));)
        if (*word)
            number = strtol(word, NULL, 10); /* the last number is that of the innermost namespace */
    return (pid_t)number;
}

pid_t turns_inner_number(pid_t pid)
{
    return innermost(pid, "\nNSpid:");
}

pid_t turns_group(pid_t pid)
{
    return innermost(pid, "\nNSpgid:");
}

pid_t turns_inner(struct member *m)
{
    if (!m->inner)
        m->inner = turns_inner_number(m->pid);
    return m->inner;
}

pid_t turns_process(pid_t pid)
{
    char text[PROC_STATUS_ROOM];
    return proc_status_text(pid, text) ? (pid_t)proc_number(text, "\nTgid:", 10) : 0;
}

uint64_t turns_cpu_ns(pid_t pid)
{
    char text[128];
    return proc_read(pid, "schedstat", text, sizeof text) ? strtoull(text, NULL, 10) : 0;
}

bool turns_call(pid_t pid, struct call *c)
{
    char text[256];
    return proc_read(pid, "syscall", text, sizeof text) &&
           sscanf(text, "%lu 0x%lx 0x%lx 0x%lx 0x%lx", &c->nr, &c->arg[0], &c->arg[1], &c->arg[2], &c->arg[3]) == 5;
}

struct call turns_call_of(const struct seccomp_notif *q)
{
    const __u64 *arg = q->data.args;
    return (struct call){(unsigned long)q->data.nr, {arg[0], arg[1], arg[2], arg[3]}};
}

/* A thread that waits for its turn is in a call or stopped, and stays there.  One that ends with its process may
 * wait on its way out (for a lock on the memory that its others give back) when the signal that ends it is not pending any
 * more: then only the kernel's flags tell. */
bool turns_dying(const struct member *m)
{
    char text[PROC_STATUS_ROOM];
    if (!proc_status_text(m->pid, text))
        return true;
    const char *state = strstr(text, "\nState:\t");
    bool stops = m->state == STATE_HELD && !m->stopped; /* it is about to */
    bool waits = state && strchr("SDt", state[strlen("\nState:\t")]);
    return (!waits && !stops) || proc_number(text, "\nSigPnd:", 16) >> (SIGKILL - 1) & 1 || proc_ends(m->pid);
}

bool turns_takes_child_signal(pid_t pid)
{
    char text[PROC_STATUS_ROOM];
    return !proc_status_text(pid, text) || proc_number(text, "\nSigCgt:", 16) >> (SIGCHLD - 1) & 1;
}

bool turns_takes_end(pid_t pid, int signal)
{
    static const char *const sets[] = {"\nSigCgt:", "\nSigIgn:", "\nSigBlk:"};
    char text[PROC_STATUS_ROOM];
    bool takes = proc_status_text(pid, text);
    for (size_t i = 0; i < sizeof sets / sizeof *sets; i++)
        takes &= !(proc_number(text, sets[i], 16) & BIT_OF(signal));
    uint64_t come = proc_number(text, "\nSigPnd:", 16) | proc_number(text, "\nShdPnd:", 16);
    return takes && !(come & ~proc_number(text, "\nSigBlk:", 16)) && !proc_number(text, "\nTracerPid:", 10);
}

bool turns_blocks(pid_t pid, int signal)
{
    char text[PROC_STATUS_ROOM];
    return !proc_status_text(pid, text) || proc_number(text, "\nSigBlk:", 16) & BIT_OF(signal);
}

bool turns_has_signal(pid_t pid, bool process)
{
    char text[PROC_STATUS_ROOM];
    if (!proc_status_text(pid, text))
        return false;
    uint64_t come = proc_number(text, "\nSigPnd:", 16) | (process ? proc_number(text, "\nShdPnd:", 16) : 0);
    uint64_t ignored = BIT_OF(SIGCHLD) | BIT_OF(SIGURG) | BIT_OF(SIGWINCH) | BIT_OF(SIGCONT); /* unless the program handles them */
    ignored &= ~proc_number(text, "\nSigCgt:", 16);
    ignored |= proc_number(text, "\nSigIgn:", 16); /* the kernel keeps ignored signals for a traced process */
    return (come & ~ignored & ~proc_number(text, "\nSigBlk:", 16)) != 0;
}

bool turns_has_ended_child(pid_t process, pid_t pid, pid_t child)
{
    char what[64], text[4096], *rest = text;
    snprintf(what, sizeof what, "task/%d/children", (int)pid);
    if (!proc_read(process, what, text, sizeof text))
        return false;
    for (char *word; (word = strsep(&rest, " "));)
        if (*word && proc_state((pid_t)atoi(word), NULL) == 'Z' &&
            (child < 0 || turns_inner_number((pid_t)atoi(word)) == child))
            return true;
    return false;
}

static bool has_ended(void *owner, pid_t child)
{
    (void)owner;
    return proc_state(child, NULL) == 'Z';
}

bool turns_any_has_ended_child(pid_t process)
{
    return children_each(process, has_ended, NULL);
}

/* Is the descriptor a pipe of the task's own, and not one of the caller's? */
static bool own_pipe(const struct turns *ts, pid_t pid, int number)
{
    const struct region *r = ts->task->region;
    const struct box_task *plan = &r->spec.region.task[ts->task->index];
    struct stat s, given;
    char path[64];
    snprintf(path, sizeof path, "/proc/%d/fd/%d", (int)pid, number);
    if (stat(path, &s) < 0 || !S_ISFIFO(s.st_mode))
        return false;
    for (uint32_t i = 0; i < plan->port_count; i++)
        if (plan->port[i].channel < 0 && plan->port[i].file >= 0 &&
            fstat(r->fd[plan->port[i].file], &given) == 0 && given.st_dev == s.st_dev && given.st_ino == s.st_ino)
            return false;
    return true;
}

int turns_borrow(const struct member *m, int number)
{
    int pidfd = (int)syscall(SYS_pidfd_open, m->process, 0);
    int fd = pidfd < 0 ? -1 : (int)syscall(SYS_pidfd_getfd, pidfd, number, 0);
    fd_close(&pidfd);
    return fd;
}

/* Is it a socket that is not one of the task's channels? */
static bool own_socket(const struct member *m, int number)
{
    int fd = turns_borrow(m, number);
    bool own = fd >= 0 && !notify_mark_of(fd);
    fd_close(&fd);
    return own;
}

static void name_of(const struct member *m, int number, char *name, size_t room)
{
    char path[64];
    snprintf(path, sizeof path, "/proc/%d/fd/%d", (int)m->pid, number);
    ssize_t n = readlink(path, name, room - 1);
    name[n > 0 ? n : 0] = '\0';
}

bool turns_reads_signals(const struct member *m, const struct call *c)
{
    char name[64];
    name_of(m, (int)c->arg[0], name, sizeof name);
    return !strcmp(name, "anon_inode:[signalfd]");
}

static bool own_watched(const struct member *m, int number);

/* Can only the task itself make something come on this descriptor? */
static bool own(const struct member *m, int number)
{
    char name[64];
    name_of(m, number, name, sizeof name);
    if (!strncmp(name, "socket:", 7))
        return own_socket(m, number);
    if (!strcmp(name, "anon_inode:[eventfd]"))
        return true;
    return !strcmp(name, "anon_inode:[eventpoll]") ? own_watched(m, number) : own_pipe(m->turns, m->pid, number);
}

/* The same for everything that an epoll watches. */
static bool own_watched(const struct member *m, int number)
{
    char what[64], text[4096], name[64];
    snprintf(what, sizeof what, "fdinfo/%d", number);
    if (!proc_read(m->pid, what, text, sizeof text) || strlen(text) == sizeof text - 1)
        return false;
    for (const char *at = text; (at = strstr(at, "tfd:"));) {
        int watched;
        unsigned long inode;
        struct stat s;
        if (sscanf(at += strlen("tfd:"), "%d events: %*x data: %*x pos:%*d ino:%lx", &watched, &inode) != 2)
            return false;
        snprintf(what, sizeof what, "/proc/%d/fd/%d", (int)m->pid, watched);
        name_of(m, watched, name, sizeof name);
        /* An epoll inside an epoll is not followed, nor is what is watched by a number that is another file's now. */
        if (!strcmp(name, "anon_inode:[eventpoll]") || stat(what, &s) < 0 || s.st_ino != inode || !own(m, watched))
            return false;
    }
    return true;
}

bool turns_read_memory(pid_t pid, uint64_t address, void *data, size_t size)
{
    struct iovec here = {data, size}, there = {(void *)(uintptr_t)address, size};
    return process_vm_readv(pid, &here, 1, &there, 1, 0) == (ssize_t)size;
}

bool turns_write_memory(pid_t pid, uint64_t address, const void *data, size_t size)
{
    struct iovec here = {(void *)(uintptr_t)data, size}, there = {(void *)(uintptr_t)address, size};
    return process_vm_writev(pid, &here, 1, &there, 1, 0) == (ssize_t)size;
}

/* The descriptors that a call waits for; -1: there are too many, or they cannot be read. */
static int polled(const struct member *m, const struct call *c, struct pollfd p[POLLED_MAX])
{
    return c->arg[1] <= POLLED_MAX && turns_read_memory(m->pid, c->arg[0], p, c->arg[1] * sizeof *p) ? (int)c->arg[1] : -1;
}

static int selected(const struct member *m, const struct call *c, struct pollfd p[POLLED_MAX])
{
    static const short event[] = {0, POLLIN, POLLOUT, POLLPRI};
    fd_set set;
    int count = 0;
    if (c->arg[0] > FD_SETSIZE)
        return -1;
    for (int i = 1; i <= 3; i++) {
        if (!c->arg[i])
            continue;
        if (!turns_read_memory(m->pid, c->arg[i], &set, (c->arg[0] + 63) / 64 * 8))
            return -1;
        for (int fd = 0; fd < (int)c->arg[0]; fd++) {
            if (!FD_ISSET(fd, &set))
                continue;
            if (count == POLLED_MAX)
                return -1;
            p[count++] = (struct pollfd){.fd = fd, .events = event[i]};
        }
    }
    return count;
}

static int waited_for(const struct member *m, const struct call *c, struct pollfd p[POLLED_MAX])
{
    switch (c->nr) {
    case SYS_poll:
    case SYS_ppoll:
        return polled(m, c, p);
    case SYS_select:
    case SYS_pselect6:
        return selected(m, c, p);
    default:
        p[0] = (struct pollfd){.fd = (int)c->arg[0], .events = turns_writes(c->nr) ? POLLOUT : POLLIN};
        return 1;
    }
}

bool turns_own_wait(const struct member *m, const struct call *c)
{
    struct pollfd p[POLLED_MAX];
    int count = waited_for(m, c, p);
    bool all = count >= 0;
    for (int i = 0; i < count && all; i++)
        all = p[i].fd < 0 || own(m, p[i].fd);
    return all;
}

bool turns_wait_over(const struct member *m)
{
    struct pollfd p[POLLED_MAX];
    int count = waited_for(m, &m->call, p);
    bool over = count < 0;
    for (int i = 0; i < count; i++) {
        struct pollfd one = {.fd = p[i].fd < 0 ? -1 : turns_borrow(m, p[i].fd), .events = p[i].events};
        over |= p[i].fd >= 0 && (one.fd < 0 || poll(&one, 1, 0) > 0);
        if (p[i].events & POLLOUT && one.fd >= 0)
            notify_usual_room(m->turns->task->notify, one.fd);
        fd_close(&one.fd);
    }
    return over;
}

int turns_found_nothing(const struct member *m)
{
    static const uint8_t none[FD_SETSIZE / 8];
    const struct call *c = &m->call;
    struct pollfd p[POLLED_MAX];
    bool good = true;
    int count = waited_for(m, c, p);
    if (count < 0)
        return -1;
    for (int i = 0; i < count; i++)
        p[i].revents = 0;
    if (c->nr == SYS_poll || c->nr == SYS_ppoll)
        good = turns_write_memory(m->pid, c->arg[0], p, (size_t)count * sizeof *p);
    for (int i = 1; (c->nr == SYS_select || c->nr == SYS_pselect6) && i <= 3; i++)
        good &= !c->arg[i] || turns_write_memory(m->pid, c->arg[i], none, (c->arg[0] + 63) / 64 * 8);
    return good ? 0 : -1;
}

void turns_again(const struct member *m)
{
    struct user_regs_struct regs;
    if (ptrace(PTRACE_GETREGS, m->pid, NULL, &regs) < 0 || (long long)regs.rax != -EINTR || regs.orig_rax != m->call.nr)
        return;
    regs.rax = regs.orig_rax;
    regs.rip -= 2; /* the instruction's length */
    ptrace(PTRACE_SETREGS, m->pid, NULL, &regs);
}
