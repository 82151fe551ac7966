/* See stopped.h.  ptrace leads the program up to its stop and puts the few instructions there that fork it; then it is let go. */
#include "bench/stopped.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/ptrace.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/user.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define PLACE      0x10000000 /* in the program: the instructions, its registers at their end */
#define PLACE_SIZE 4096
#define REGS       (PLACE + 1024)
#define BYTE       (PLACE + 2048)
#define FLAGS      (PLACE + 2056) /* of clone */
#define CONTROL_FD 900
#define CALLS_MAX  100000 /* up to its stop */

extern const char stopped_code[], stopped_code_end[];

/* A byte comes, a child is made and waited for, the byte goes back; the child has the program's registers and makes its call again. */
#define REG(name) "    mov %c[" #name "], %%" #name "\n"
#define AT(name)  [name] "i"(REGS + offsetof(struct user_regs_struct, name))
__attribute__((used)) static void code(void)
{
    __asm__ volatile(".globl stopped_code, stopped_code_end\n"
                     "    jmp stopped_code_end\n"
                     "stopped_code:\n"
                     "    mov $0, %%eax\n" /* read */
                     "    mov %[fd], %%edi\n"
                     "    mov %[byte], %%esi\n"
                     "    mov $1, %%edx\n"
                     "    syscall\n"
                     "    cmp $1, %%rax\n"
                     "    jne 9f\n"
                     "    mov %[clone], %%eax\n"
                     "    mov %c[flags], %%edi\n"
                     "    xor %%esi, %%esi\n"
                     "    xor %%edx, %%edx\n"
                     "    xor %%r10d, %%r10d\n"
                     "    xor %%r8d, %%r8d\n"
                     "    syscall\n"
                     "    test %%rax, %%rax\n"
                     "    jz 5f\n"
                     "    js 9f\n"
                     "    mov %%eax, %%edi\n"
                     "    xor %%esi, %%esi\n"
                     "    xor %%edx, %%edx\n"
                     "    xor %%r10d, %%r10d\n"
                     "    mov %[wait4], %%eax\n"
                     "    syscall\n"
                     "    mov $1, %%eax\n" /* write */
                     "    mov %[fd], %%edi\n"
                     "    mov %[byte], %%esi\n"
                     "    mov $1, %%edx\n"
                     "    syscall\n"
                     "    jmp stopped_code\n"
                     "5:\n" REG(rbx) REG(rdx) REG(rsi) REG(rdi) REG(rbp) REG(rsp) REG(r8) REG(r9) REG(r10) REG(r12) REG(r13)
                     REG(r14) REG(r15) "    mov %c[call], %%rax\n"
                     "    jmp *%c[rip]\n"
                     "9:\n"
                     "    mov %[exit], %%eax\n"
                     "    xor %%edi, %%edi\n"
                     "    syscall\n"
                     "stopped_code_end:\n" ::[fd] "i"(CONTROL_FD),
                     [byte] "i"(BYTE), [flags] "i"(FLAGS), [clone] "i"(SYS_clone), [wait4] "i"(SYS_wait4), [exit] "i"(SYS_exit_group),
                     [call] "i"(REGS + offsetof(struct user_regs_struct, orig_rax)), AT(rbx), AT(rdx), AT(rsi), AT(rdi), AT(rbp), AT(rsp), AT(r8),
                     AT(r9), AT(r10), AT(r12), AT(r13), AT(r14), AT(r15), AT(rip)
                     : "memory");
}

static pid_t pid;
static int control;

static _Noreturn void be_program(const char *const *word, const char *const *env, int null_fd, int end)
{
    for (int fd = 0; fd < 3; fd++)
        dup2(null_fd, fd);
    dup2(end, CONTROL_FD); /* stays over the exec */
    ptrace(PTRACE_TRACEME, 0, NULL, NULL);
    raise(SIGSTOP);
    execvpe(word[0], (char *const *)(uintptr_t)word, (char *const *)(uintptr_t)env);
    _exit(127);
}

static bool on(int to)
{
    int status;
    return ptrace(to, pid, NULL, NULL) == 0 && waitpid(pid, &status, 0) == pid && WIFSTOPPED(status);
}

/* To the entry of its first read of stdin, or of its end. */
static bool lead(struct user_regs_struct *r)
{
    for (int i = 0; i < CALLS_MAX; i++) {
        if (!on(PTRACE_SYSCALL) || ptrace(PTRACE_GETREGS, pid, NULL, r) < 0)
            return false;
        bool enters = (long)r->rax == -ENOSYS;
        if (enters && ((r->orig_rax == SYS_read && r->rdi == 0) || r->orig_rax == SYS_exit_group))
            return true;
    }
    return false;
}

/* Its call becomes one that makes room; the instructions and its registers go there. */
static bool equip(const struct user_regs_struct *stopped)
{
    struct user_regs_struct r = *stopped;
    char page[PLACE_SIZE] = {0};
    int flags = SIGCHLD | (geteuid() == 0 ? CLONE_NEWPID : 0);
    struct iovec from = {page, sizeof page}, to = {(void *)(uintptr_t)PLACE, sizeof page};
    r.orig_rax = SYS_mmap;
    r.rdi = PLACE;
    r.rsi = PLACE_SIZE;
    r.rdx = PROT_READ | PROT_WRITE | PROT_EXEC;
    r.r10 = MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE;
    r.r8 = (unsigned long long)-1;
    r.r9 = 0;
    if (ptrace(PTRACE_SETREGS, pid, NULL, &r) < 0 || !on(PTRACE_SYSCALL) || ptrace(PTRACE_GETREGS, pid, NULL, &r) < 0 || r.rax != PLACE)
        return false;
    r = *stopped;
    r.rip -= 2; /* the call itself */
    memcpy(page, stopped_code, (size_t)(stopped_code_end - stopped_code));
    memcpy(page + (REGS - PLACE), &r, sizeof r);
    memcpy(page + (FLAGS - PLACE), &flags, sizeof flags);
    r.rip = PLACE;
    r.orig_rax = (unsigned long long)-1;
    return process_vm_writev(pid, &from, 1, &to, 1, 0) == PLACE_SIZE && ptrace(PTRACE_SETREGS, pid, NULL, &r) == 0 &&
           ptrace(PTRACE_DETACH, pid, NULL, NULL) == 0;
}

int stopped_start(const char *const *word, const char *const *env, int null_fd)
{
    struct user_regs_struct r;
    int ends[2], status;
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) < 0)
        return -1;
    pid = fork();
    if (pid == 0)
        be_program(word, env, null_fd, ends[1]);
    close(ends[1]);
    control = ends[0];
    if (pid > 0 && waitpid(pid, &status, 0) == pid && WIFSTOPPED(status) && ptrace(PTRACE_SETOPTIONS, pid, NULL, PTRACE_O_EXITKILL) == 0 &&
        lead(&r) && equip(&r))
        return 0;
    if (pid > 0)
        kill(pid, SIGKILL);
    stopped_end();
    return -1;
}

double stopped_run(void)
{
    struct timespec began, ended;
    char byte = 0;
    clock_gettime(CLOCK_MONOTONIC, &began);
    if (send(control, &byte, 1, MSG_NOSIGNAL) != 1 || recv(control, &byte, 1, 0) != 1)
        return -1;
    clock_gettime(CLOCK_MONOTONIC, &ended);
    return (double)(ended.tv_sec - began.tv_sec) * 1e6 + (double)(ended.tv_nsec - began.tv_nsec) / 1e3;
}

void stopped_end(void)
{
    close(control);
    if (pid > 0)
        waitpid(pid, NULL, 0);
    pid = 0;
}
