/* A template at its stop.  Can a fork copy all of its state?  If so, three system calls are injected in place of its own: it
 * enters the user namespace of forkers, and maps the forker's code and stack.  From there the forker runs, and the program
 * is not traced any more. */
#include "base/fds.h"
#include "sandbox/proc.h"
#include "sandbox/syscalls.h"
#include "sandbox/template.h"
#include "sandbox/usage.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/ptrace.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#define SYSCALL_BYTES 2 /* size of the instruction */

/* A number of /proc/PID/status; -1: there is no such line.  `base`: 10, or 16 for sets of signals. */
static long long status_of(pid_t pid, const char *name, int base)
{
    char value[PROC_LINE_MAX];
    return proc_status(pid, name, value) ? strtoll(value, NULL, base) : -1;
}

/* Has it memory that would be shared with its clones?  A mapping that cannot be written now could be made writable later,
 * unless it is of a file that was opened for reading. */
static bool shares_memory(pid_t pid)
{
    char path[40], line[PATH_MAX + 128];
    bool shared = false;
    snprintf(path, sizeof path, "/proc/%d/maps", (int)pid);
    FILE *f = fopen(path, "re");
    if (!f)
        return true;
    while (!shared && fgets(line, sizeof line, f)) {
        const char *rights = strchr(line, ' '), *name = strchr(line, '/');
        shared = rights && rights[4] == 's' && (rights[2] == 'w' || !name || strstr(name, " (deleted)"));
    }
    fclose(f);
    return shared;
}

/* Its own memory: pages that are not of files, and all page tables; its next clone needs these once more. */
static uint32_t own_kib(pid_t pid)
{
    long long pages = status_of(pid, "RssAnon:", 10), tables = status_of(pid, "VmPTE:", 10);
    return (uint32_t)((pages > 0 ? pages : 0) + 2 * (tables > 0 ? tables : 0));
}

static bool is_too_large(const struct template *m)
{
    return status_of(m->pid, "VmRSS:", 10) > TEMPLATE_KIB_MAX;
}

const char *template_exceeds(const struct template *m)
{
    struct usage u = {0};
    if (m->pid <= 0)
        return NULL;
    usage_look(m->init, &u);
    return is_too_large(m)               ? "its program is too large before it uses a channel"
           : u.cpu_ns > TEMPLATE_CPU_NS ? "its program works too long before it uses a channel"
                                        : NULL;
}

static const char *look_at_process(const struct template *m)
{
    if (status_of(m->pid, "Threads:", 10) != 1)
        return "its program has threads before it uses a channel";
    if (status_of(m->pid, "SigPnd:", 16) || status_of(m->pid, "ShdPnd:", 16))
        return "its program has a signal pending when it uses a channel";
    if (is_too_large(m))
        return "its program is too large when it uses a channel";
    if (shares_memory(m->pid))
        return "its program shares memory before it uses a channel";
    return notify_copies(m->notify) ? NULL : "its program has timers or random files before it uses a channel";
}

/* Find the flags and offset of one of its descriptors. */
static int info_of(pid_t pid, int fd, int *flags, int64_t *offset)
{
    char path[64], line[128];
    int found = 0;
    snprintf(path, sizeof path, "/proc/%d/fdinfo/%d", (int)pid, fd);
    FILE *f = fopen(path, "re");
    while (f && fgets(line, sizeof line, f)) {
        found += sscanf(line, "pos: %" SCNd64, offset) == 1;
        found += sscanf(line, "flags: %o", (unsigned *)flags) == 1;
    }
    if (f)
        fclose(f);
    return found == 2 ? 0 : -1;
}

static const char *add_port(struct forker_page *p, uint32_t index, int fd, int flags)
{
    if (p->port_count == FORKER_PORTS_MAX)
        return "its program has too many descriptors when it uses a channel";
    p->port[p->port_count++] = (struct forker_port){index, fd, flags & O_CLOEXEC};
    return NULL;
}

/* An earlier descriptor of the same open file, with the same offset; -1. */
static int same_as(const struct template *m, int fd)
{
    const struct forker_page *p = m->page;
    for (uint32_t i = 0; i < p->file_count; i++)
        if (m->opening[p->file[i].number] == m->opening[fd])
            return p->file[i].number;
    return -1;
}

static const char *add_file(struct template *m, size_t *used, int fd, int flags, int64_t offset)
{
    struct forker_page *p = m->page;
    char link[64];
    snprintf(link, sizeof link, "/proc/%d/fd/%d", (int)m->pid, fd);
    size_t room = sizeof p->paths - *used;
    ssize_t n = p->file_count < FORKER_FILES_MAX ? readlink(link, p->paths + *used, room) : -1;
    if (n <= 0 || (size_t)n >= room || p->paths[*used] != '/' || (flags & O_ACCMODE) != O_RDONLY || fd >= TEMPLATE_FDS ||
        !m->opening[fd])
        return "its program has a file open that cannot be opened again";
    p->paths[*used + (size_t)n] = '\0';
    p->file[p->file_count] = (struct forker_file){.number = fd, .flags = flags, .same = same_as(m, fd), .offset = offset, .path = (uint32_t)*used};
    p->file_count++;
    *used += (size_t)n + 1;
    return NULL;
}

static const char *add_fd(struct template *m, size_t *used, int fd)
{
    char path[64];
    struct stat s;
    int flags;
    int64_t offset;
    snprintf(path, sizeof path, "/proc/%d/fd/%d", (int)m->pid, fd);
    if (stat(path, &s) < 0 || info_of(m->pid, fd, &flags, &offset) < 0)
        return "its descriptors cannot be looked at";
    for (uint32_t i = 0; i < m->port_count; i++)
        if (m->device[i] == s.st_dev && m->inode[i] == s.st_ino)
            return add_port(m->page, i, fd, flags);
    if (S_ISREG(s.st_mode))
        return add_file(m, used, fd, flags, offset);
    if (S_ISCHR(s.st_mode) && s.st_rdev == makedev(1, 3))
        return NULL; /* /dev/null: it has no state */
    return "its program has a descriptor that a clone would share";
}

/* Look at all its descriptors; also finds free numbers for the forker. */
static const char *look_at_fds(struct template *m)
{
    char path[40];
    bool taken[TEMPLATE_FDS] = {false};
    const char *why = NULL;
    size_t used = 0;
    snprintf(path, sizeof path, "/proc/%d/fd", (int)m->pid);
    DIR *d = opendir(path);
    if (!d)
        return "its descriptors cannot be looked at";
    for (struct dirent *entry; !why && (entry = readdir(d));) {
        int fd = atoi(entry->d_name);
        if (*entry->d_name == '.')
            continue;
        if (fd < TEMPLATE_FDS)
            taken[fd] = true;
        why = add_fd(m, &used, fd);
    }
    closedir(d);
    int found = 0;
    for (int fd = 0; fd < TEMPLATE_FDS && found < FORKER_OWN; fd++)
        if (!taken[fd])
            m->number[found++] = fd;
    return why ? why : found < FORKER_OWN ? "its program has too many descriptors when it uses a channel" : NULL;
}

static const char *note_state(struct template *m)
{
    struct forker_page *p = m->page;
    const struct user_regs_struct *r = &m->regs;
    uint64_t mask = 0;
    if (ptrace(PTRACE_GETREGS, m->pid, NULL, &m->regs) < 0 ||
        ptrace(PTRACE_GETSIGMASK, m->pid, (void *)sizeof mask, &mask) < 0)
        return "the host does not show a program's registers";
    *p = (struct forker_page){.rax = r->orig_rax, .rbx = r->rbx, .rdx = r->rdx, .rsi = r->rsi, .rdi = r->rdi,
                              .rbp = r->rbp, .r8 = r->r8, .r9 = r->r9, .r10 = r->r10, .r12 = r->r12,
                              .r13 = r->r13, .r14 = r->r14, .r15 = r->r15, .rflags = r->eflags, .rsp = r->rsp,
                              .rip = r->rip - SYSCALL_BYTES, .signals = mask, .altstack = m->altstack, .tid_address = m->tid_address,
                              .robust_list = m->robust_list, .robust_size = m->robust_size};
    return NULL;
}

/* Inject a system call: at the stop before a call, in its place; at the stop after one, in addition. */
static void put_in(struct template *m, uint64_t nr, uint64_t a, uint64_t b, uint64_t c, uint64_t d)
{
    struct user_regs_struct r = m->regs;
    r.rdi = a;
    r.rsi = b;
    r.rdx = c;
    r.r10 = d;
    r.r8 = syscalls_own(0); /* no file; and a word that the filter knows */
    r.r9 = 0;
    if (m->step == STEP_ENTER) {
        r.orig_rax = nr;
    } else {
        r.rax = nr;
        r.orig_rax = (uint64_t)-1; /* so that the kernel restarts no call */
        r.rip -= SYSCALL_BYTES;
    }
    if (ptrace(PTRACE_SETREGS, m->pid, NULL, &r) < 0 || ptrace(PTRACE_SYSCALL, m->pid, NULL, NULL) < 0)
        template_give_up(m, "the host does not let a program be changed");
}

/* Make the socket between the forker and the init, of which we keep the init's end, too; and the doors. */
static int make_sockets(struct template *m)
{
    int pair[2], on = 1;
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0)
        return -1;
    m->control = pair[0];
    m->theirs[0] = pair[1];
    for (int i = 0; i < FORKER_DOORS; i++) {
        if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0)
            return -1;
        m->door[i].link.fd = pair[0];
        m->theirs[1 + i] = pair[1];
        if (setsockopt(pair[0], SOL_SOCKET, SO_PASSCRED, &on, sizeof on) < 0)
            return -1;
    }
    m->theirs[1 + FORKER_DOORS] = open("/proc/sys/kernel/ns_last_pid", O_RDWR | O_CLOEXEC); /* without it, no first process can stay */
    return 0;
}

void template_stop(struct template *m)
{
    const char *why;
    m->page = calloc(1, sizeof *m->page);
    if (!m->page || make_sockets(m) < 0) {
        template_give_up(m, "there was no room for a template");
        return;
    }
    if ((why = look_at_process(m)) || (why = note_state(m)) || (why = look_at_fds(m))) {
        template_give_up(m, why);
        return;
    }
    if (!template_fits(m, own_kib(m->pid))) {
        template_put_off(m);
        return;
    }
    m->page->users = m->number[0];
    m->page->control = m->number[1];
    for (int i = 0; i < FORKER_DOORS; i++)
        m->page->door[i] = m->number[2 + i];
    m->page->last_pid = m->theirs[1 + FORKER_DOORS] < 0 ? -1 : m->number[2 + FORKER_DOORS];
    const int own[FORKER_OWN] = {m->server->users, m->theirs[0], m->theirs[1], m->theirs[2], m->theirs[3]};
    notify_forker(m->notify, m->pid, own, m->number);
    m->step = STEP_ENTER;
    put_in(m, SYS_setns, (uint64_t)m->number[0], CLONE_NEWUSER, 0, 0);
}

static int write_there(int memory, uint64_t at, const void *data, size_t size)
{
    return pwrite(memory, data, size, (off_t)at) == (ssize_t)size ? 0 : -1;
}

/* Write the forker into it, by /proc/PID/mem, as the page is not writable for the program. */
static int place_forker(const struct template *m)
{
    char path[40];
    const uint64_t own[SYSCALLS_OWN_WORDS] = {syscalls_own(0), syscalls_own(1)};
    snprintf(path, sizeof path, "/proc/%d/mem", (int)m->pid);
    int memory = open(path, O_WRONLY | O_CLOEXEC);
    int r = memory < 0 ? -1 : write_there(memory, FORKER_TEXT, forker_image, forker_image_size);
    if (r == 0)
        r = write_there(memory, FORKER_PAGE, m->page, sizeof *m->page);
    if (r == 0)
        r = write_there(memory, FORKER_WORDS, own, sizeof own);
    fd_close(&memory);
    return r;
}

static void let_go(struct template *m)
{
    const int init_has[1 + FORKER_DOORS] = {m->control, m->theirs[1], m->theirs[2]};
    struct user_regs_struct r = m->regs;
    r.rip = FORKER_TEXT;
    r.rsp = FORKER_STACK + FORKER_STACK_BYTES;
    r.orig_rax = (uint64_t)-1;
    if (place_forker(m) < 0 || ptrace(PTRACE_SETREGS, m->pid, NULL, &r) < 0 ||
        link_send(&m->link, (struct wire){.kind = WIRE_FORKER}, NULL, 0, init_has, 1 + FORKER_DOORS) < 0 ||
        ptrace(PTRACE_DETACH, m->pid, NULL, NULL) < 0) {
        template_give_up(m, "the host does not let a program be changed");
        return;
    }
    link_watch(m->server, &m->link, &m->watch);
    m->step = STEP_OVER;
    for (int i = 0; i < FORKER_OWN - 1; i++)
        fd_close(&m->theirs[i]);
    free(m->page);
    m->page = NULL;
}

void template_injected(struct template *m, int64_t value)
{
    static const uint64_t anonymous = MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE;
    const uint64_t wanted = m->step == STEP_ENTER ? 0 : m->step == STEP_TEXT ? FORKER_TEXT : FORKER_STACK;
    if (value != (int64_t)wanted) {
        template_give_up(m, m->step == STEP_ENTER ? "the host refuses what a template needs (setns)"
                                                  : "its program's memory has no room for a template");
        return;
    }
    switch (m->step) {
    case STEP_ENTER:
        m->step = STEP_TEXT;
        put_in(m, SYS_mmap, FORKER_TEXT, FORKER_END - FORKER_TEXT, PROT_READ | PROT_EXEC, anonymous);
        break;
    case STEP_TEXT:
        m->step = STEP_STACK;
        put_in(m, SYS_mmap, FORKER_STACK, FORKER_STACK_BYTES, PROT_READ | PROT_WRITE, anonymous);
        break;
    default:
        let_go(m);
        break;
    }
}
