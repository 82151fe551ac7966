/* The forker (see forker.h).  It runs in the stopped program of a template, in place of the program, with
 * all signals blocked.  Asked for a clone, it makes a new pid namespace, whose first process shares its
 * memory, and this one forks: the copy becomes the program's process, number 2 as the program's own is,
 * gets its descriptors and goes on with the program's next call.  The first process reaps and says who
 * has ended, until nobody is left.
 *
 * It may do that because it has entered a user namespace that owns nothing but the pid namespaces of
 * clones; a clone gives up all rights before a word of the program's runs, and enters no other.
 *
 * What must stay true: no C library, no writable data, no vector registers (the program's are in them),
 * and nothing of the program's memory is touched. */
#include "sandbox/forker.h"
#include "sandbox/wire.h"

#include <asm/unistd.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <linux/prctl.h>
#include <linux/sched.h>
#include <linux/wait.h>
#include <stddef.h>

#define FDS_MAX (FORKER_PORTS_MAX + 1)
#define CAPS    64
#define SIGCHLD 17
#define SIG_SETMASK 2
#define SOL_SOCKET  1
#define SCM_RIGHTS  1

#define page ((const struct forker_page *)FORKER_PAGE)

struct request {
    uint32_t count;
    int32_t fd[FDS_MAX]; /* the task's socket, then its ports */
};

static long call(long nr, long a, long b, long c, long d)
{
    register long r10 __asm__("r10") = d;
    long result;

    __asm__ volatile("syscall"
                     : "=a"(result)
                     : "a"(nr), "D"(a), "S"(b), "d"(c), "r"(r10)
                     : "rcx", "r11", "memory");
    return result;
}

/* The child runs on a stack of its own in the same memory. */
static long spawn(long flags, char *stack, void (*run)(const struct request *), const struct request *r)
{
    register const struct request *r8 __asm__("r8") = r;
    register void (*r9)(const struct request *) __asm__("r9") = run;
    long result;

    __asm__ volatile("syscall\n"
                     "    test %%rax, %%rax\n"
                     "    jnz 1f\n"
                     "    xor %%ebp, %%ebp\n"
                     "    mov %%r8, %%rdi\n"
                     "    call *%%r9\n"
                     "    hlt\n"
                     "1:\n"
                     : "=a"(result)
                     : "a"(__NR_clone), "D"(flags), "S"(stack), "d"(0), "r"(r8), "r"(r9)
                     : "rcx", "r11", "r10", "memory", "cc");
    return result;
}

static _Noreturn void end(long status)
{
    for (;;)
        call(__NR_exit_group, status, 0, 0, 0);
}

static void say(int to, uint32_t kind, uint32_t a, uint32_t b)
{
    struct wire w = {.version = WIRE_VERSION, .kind = kind, .a = a, .b = b};

    call(__NR_write, to, (long)&w, sizeof w, 0);
}

static _Noreturn void fail(void)
{
    say(page->control, WIRE_FAILED, 0, 0);
    end(125);
}

/* The program's registers, and on with its call.  The flags and the stack come from memory that is only
 * read; a signal is let through when both are the program's again. */
static _Noreturn void resume(void)
{
    __asm__ volatile("mov %[munmap], %%eax\n"
                     "    mov %[stack], %%edi\n"
                     "    mov %[bytes], %%esi\n"
                     "    syscall\n"
                     "    lea %c[rflags], %%rsp\n"
                     "    popfq\n"
                     "    mov %c[rsp], %%rsp\n"
                     "    mov %[sigmask], %%eax\n"
                     "    mov %[set], %%edi\n"
                     "    lea %c[signals], %%rsi\n"
                     "    mov $0, %%edx\n"
                     "    mov $8, %%r10d\n"
                     "    syscall\n"
                     "    mov %c[rax], %%rax\n"
                     "    mov %c[rbx], %%rbx\n"
                     "    mov %c[rdx], %%rdx\n"
                     "    mov %c[rsi], %%rsi\n"
                     "    mov %c[rdi], %%rdi\n"
                     "    mov %c[rbp], %%rbp\n"
                     "    mov %c[r8], %%r8\n"
                     "    mov %c[r9], %%r9\n"
                     "    mov %c[r10], %%r10\n"
                     "    mov %c[r12], %%r12\n"
                     "    mov %c[r13], %%r13\n"
                     "    mov %c[r14], %%r14\n"
                     "    mov %c[r15], %%r15\n"
                     "    jmp *%c[rip]\n" ::[munmap] "i"(__NR_munmap),
                     [stack] "i"(FORKER_STACK), [bytes] "i"(FORKER_STACK_BYTES),
                     [sigmask] "i"(__NR_rt_sigprocmask), [set] "i"(SIG_SETMASK),
#define AT(field) [field] "i"(FORKER_PAGE + offsetof(struct forker_page, field))
                     AT(rflags), AT(rsp), AT(signals), AT(rax), AT(rbx), AT(rdx), AT(rsi), AT(rdi),
                     AT(rbp), AT(r8), AT(r9), AT(r10), AT(r12), AT(r13), AT(r14), AT(r15), AT(rip)
                     : "memory");
    __builtin_unreachable();
}

static void open_again(const struct forker_file *f)
{
    long fd = f->same >= 0 ? call(__NR_dup, f->same, 0, 0, 0)
                           : call(__NR_open, (long)(page->paths + f->path), f->flags, 0, 0);

    if (fd < 0 || (f->offset && call(__NR_lseek, fd, f->offset, 0 /* SEEK_SET */, 0) != f->offset) ||
        call(__NR_dup3, fd, f->number, f->flags & O_CLOEXEC, 0) < 0)
        fail();
    call(__NR_close, fd, 0, 0, 0);
}

static _Noreturn void be_program(const struct request *r)
{
    struct __user_cap_header_struct head = {.version = _LINUX_CAPABILITY_VERSION_3};
    struct __user_cap_data_struct none[2];

    for (int i = 0; i < 2; i++)
        none[i].effective = none[i].permitted = none[i].inheritable = 0;
    if (call(__NR_capset, (long)&head, (long)none, 0, 0) < 0 || call(__NR_setsid, 0, 0, 0, 0) < 0)
        fail();
    for (uint32_t i = 0; i < page->port_count; i++) {
        const struct forker_port *p = &page->port[i];

        if (p->index >= r->count || call(__NR_dup3, r->fd[p->index], p->number, p->flags, 0) < 0)
            fail();
    }
    for (uint32_t i = 0; i < page->file_count; i++)
        open_again(&page->file[i]);
    for (uint32_t i = 0; i < r->count; i++)
        call(__NR_close, r->fd[i], 0, 0, 0);
    if (page->tid_address)
        call(__NR_set_tid_address, (long)page->tid_address, 0, 0, 0);
    if (page->altstack.size)
        call(__NR_sigaltstack, (long)&page->altstack, 0, 0, 0);
    if (page->robust_list)
        call(__NR_set_robust_list, (long)page->robust_list, (long)page->robust_size, 0, 0);
    call(__NR_close, page->control, 0, 0, 0);
    resume();
}

/* pid 1 of a clone. */
static void be_init(const struct request *r)
{
    int status = 0;
    long pid;

    say(r->fd[0], WIRE_HELLO, 0, 0);
    say(page->control, WIRE_BORN, 0, 0);
    pid = call(__NR_clone, 0, 0, 0, 0);
    if (pid == 0)
        be_program(r);
    if (pid < 0)
        fail();
    for (uint32_t i = 0; i < r->count; i++)
        call(__NR_close, r->fd[i], 0, 0, 0);
    while ((pid = call(__NR_wait4, -1, (long)&status, __WALL, 0)) > 0) {
        if (pid == 2) {
            /* Who is left of its own is our child by now; an error: nobody. */
            long more = call(__NR_wait4, -1, 0, __WALL | WNOHANG, 0);
            say(page->control, WIRE_MAIN, more < 0, (uint32_t)status);
            if (more < 0)
                break;
            if (more == 0)
                continue;
        }
        say(page->control, WIRE_REAPED, 0, 0);
    }
    end(0);
}

/* One message: how many descriptors came with it; -1 at the end. */
static int receive(struct request *r)
{
    struct {
        uint64_t size;
        int32_t level, type;
        int32_t fd[FDS_MAX + 1];
    } control;
    struct wire head;
    struct {
        void *base;
        uint64_t size;
    } part = {&head, sizeof head};
    struct {
        void *name;
        uint64_t name_size;
        void *part;
        uint64_t part_count;
        void *control;
        uint64_t control_size;
        int32_t flags, unused;
    } message = {0, 0, &part, 1, &control, sizeof control, 0, 0};

    if (call(__NR_recvmsg, page->control, (long)&message, 0x40000000 /* MSG_CMSG_CLOEXEC */, 0) <= 0)
        return -1;
    r->count = 0;
    if (message.control_size >= 16 && control.level == SOL_SOCKET && control.type == SCM_RIGHTS)
        for (uint64_t i = 0; i < (control.size - 16) / 4 && i < FDS_MAX; i++)
            r->fd[r->count++] = control.fd[i];
    return 0;
}

__attribute__((used)) _Noreturn void forker_main(void)
{
    static char *const init_stack = (char *)FORKER_STACK + FORKER_STACK_BYTES * 3 / 4;
    uint64_t all = ~0ull;
    struct request r;

    call(__NR_rt_sigprocmask, SIG_SETMASK, (long)&all, 0, 8);
    for (long c = 0; c < CAPS && call(__NR_prctl, PR_CAPBSET_DROP, c, 0, 0) == 0; c++)
        ;
    call(__NR_close, page->users, 0, 0, 0);
    say(page->control, WIRE_READY, 0, 0);
    while (receive(&r) == 0) {
        long pid = spawn(CLONE_NEWPID | CLONE_PARENT | CLONE_VM | SIGCHLD, init_stack, be_init, &r);

        /* At once: who reads what the clone writes waits until nobody else could.  `r` stays as it is until
         * the clone is gone, since nobody asks for another before. */
        for (uint32_t i = 0; i < r.count; i++)
            call(__NR_close, r.fd[i], 0, 0, 0);
        if (pid < 0)
            say(page->control, WIRE_FAILED, 0, (uint32_t)-pid);
    }
    end(0);
}

__asm__(".section .entry,\"ax\",@progbits\n"
        "    xor %ebp, %ebp\n"
        "    call forker_main\n"
        "    hlt\n"
        ".text\n");
