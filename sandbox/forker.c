/* The forker (see forker.h).  It runs in the stopped program of a template, in place of the program, with all signals
 * blocked.  To make a clone, it makes a new pid namespace, whose first process shares its memory; and this one forks.  The
 * copy becomes the process of the program, with number 2 like the program itself, and waits at the door for its task.  All
 * this is done while no task waits.  With the task's descriptors the clone goes on with the program's next call.  The first
 * process reaps, and tells the template's init what has ended, until no process is left.  One clone may be at work while
 * the next is made and waits.
 *
 * When no process of a clone is left its pid namespace is as it was made, except for the number that the next process gets.
 * Where the host lets that number be set, the first process stays: it says at the door how the clone ended, and is told
 * there to make the next clone for this door, again as number 2.
 *
 * The forker may do all this because it has entered a user namespace that owns nothing but the pid namespaces of clones.  A
 * clone drops all rights before an instruction of the program runs.
 *
 * What must stay true: no C library, no writable data, no vector registers (the program's are in them),
 * and nothing of the program's memory is touched. */
#include "sandbox/forker.h"
#include "sandbox/raw_call.h"
#include "sandbox/wire.h"

#include <asm/errno.h>
#include <asm/mman.h>
#include <asm/unistd.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <linux/prctl.h>
#include <linux/sched.h>
#include <linux/wait.h>
#include <stddef.h>
#include <sys/resource.h>

#define FDS_MAX FORKER_PORTS_MAX
#define CAPS    64
#define INIT_STACK_BYTES (FORKER_STACK_BYTES / 4) /* the stack of a clone's first process, below the forker's own */
#define SIGCHLD 17
#define SIG_SETMASK 2
#define SOL_SOCKET  1
#define SCM_RIGHTS  1

#define page ((const struct forker_page *)FORKER_PAGE)
#define own  ((const long *)FORKER_WORDS)

struct request {
    uint32_t kind, serial, count; /* kind: of the message; serial: the clone that it is for; count: of descriptors */
    int32_t fd[FDS_MAX]; /* the task's ports */
};

static long call(long nr, long a, long b, long c, long d)
{
    return raw_call(nr, a, b, c, d, 0, 0);
}

/* A system call that is not notified, by the words that only we know. */
static long call_unasked(long nr, long a, long b, long c, long d)
{
    return raw_call(nr, a, b, c, d, own[0], own[1]);
}

/* Start a process in the same memory, on a stack of its own. */
static long spawn(long flags, char *stack, void (*run)(uint32_t), uint32_t serial)
{
    register long r8 __asm__("r8") = own[0];
    register long r9 __asm__("r9") = own[1];
    register uint32_t r12 __asm__("r12") = serial;
    register void (*r13)(uint32_t) __asm__("r13") = run;
    long result;

    __asm__ volatile("syscall\n"
                     "    test %%rax, %%rax\n"
                     "    jnz 1f\n"
                     "    xor %%ebp, %%ebp\n"
                     "    mov %%r12d, %%edi\n"
                     "    call *%%r13\n"
                     "    hlt\n"
                     "1:\n"
                     : "=a"(result)
                     : "a"(__NR_clone), "D"(flags), "S"(stack), "d"(0), "r"(r8), "r"(r9), "r"(r12), "r"(r13)
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

static int door_of(uint32_t serial)
{
    return page->door[serial % FORKER_DOORS];
}

static _Noreturn void fail(uint32_t serial)
{
    say(door_of(serial), WIRE_FAILED, serial, 0);
    end(125);
}

/* Restore the program's registers and go on with its call.  A clone keeps our stack's pages as zeros, since unmapping them
 * costs more than all other calls here.  The flags and the stack come from read-only memory; a signal is let through only
 * when both are the program's again. */
static _Noreturn void resume(void)
{
    __asm__ volatile("xor %%eax, %%eax\n"
                     "    mov %[stack], %%edi\n"
                     "    mov %[bytes], %%ecx\n"
                     "    cld\n"
                     "    rep stosb\n"
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
                     "    jmp *%c[rip]\n" ::[stack] "i"(FORKER_STACK), [bytes] "i"(FORKER_CLONE_BYTES),
                     [sigmask] "i"(__NR_rt_sigprocmask), [set] "i"(SIG_SETMASK),
#define AT(field) [field] "i"(FORKER_PAGE + offsetof(struct forker_page, field))
                     AT(rflags), AT(rsp), AT(signals), AT(rax), AT(rbx), AT(rdx), AT(rsi), AT(rdi),
                     AT(rbp), AT(r8), AT(r9), AT(r10), AT(r12), AT(r13), AT(r14), AT(r15), AT(rip)
                     : "memory");
    __builtin_unreachable();
}

static void open_again(const struct forker_file *f, uint32_t serial)
{
    long fd = f->same >= 0 ? call(__NR_dup, f->same, 0, 0, 0)
                           : call(__NR_open, (long)(page->paths + f->path), f->flags, 0, 0);

    if (fd < 0 || (f->offset && call(__NR_lseek, fd, f->offset, 0 /* SEEK_SET */, 0) != f->offset) ||
        call(__NR_dup3, fd, f->number, f->flags & O_CLOEXEC, 0) < 0)
        fail(serial);
    call(__NR_close, fd, 0, 0, 0);
}

static void close_doors(void)
{
    for (int i = 0; i < FORKER_DOORS; i++)
        call(__NR_close, page->door[i], 0, 0, 0);
}

static void close_all(const struct request *r)
{
    for (uint32_t i = 0; i < r->count; i++)
        call(__NR_close, r->fd[i], 0, 0, 0);
}

/* Receive a message and the descriptors that come with it; -1: the end. */
static int receive(int from, struct request *r)
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

    if (call(__NR_recvmsg, from, (long)&message, 0x40000000 /* MSG_CMSG_CLOEXEC */, 0) <= 0)
        return -1;
    r->kind = head.kind;
    r->serial = head.a;
    r->count = 0;
    if (message.control_size >= 16 && control.level == SOL_SOCKET && control.type == SCM_RIGHTS)
        for (uint64_t i = 0; i < (control.size - 16) / 4 && i < FDS_MAX; i++)
            r->fd[r->count++] = control.fd[i];
    return 0;
}

/* Do what does not depend on the task. */
static void prepare(uint32_t serial)
{
    struct __user_cap_header_struct head = {.version = _LINUX_CAPABILITY_VERSION_3};
    struct __user_cap_data_struct none[2];

    for (int i = 0; i < 2; i++)
        none[i].effective = none[i].permitted = none[i].inheritable = 0;
    if (call(__NR_capset, (long)&head, (long)none, 0, 0) < 0 || call(__NR_setsid, 0, 0, 0, 0) < 0)
        fail(serial);
    for (uint32_t i = 0; i < page->file_count; i++)
        open_again(&page->file[i], serial);
    if (page->tid_address)
        call(__NR_set_tid_address, (long)page->tid_address, 0, 0, 0);
    if (page->altstack.size)
        call(__NR_sigaltstack, (long)&page->altstack, 0, 0, 0);
    if (page->robust_list)
        call(__NR_set_robust_list, (long)page->robust_list, (long)page->robust_size, 0, 0);
}

/* Wait at the clone's door for its task, or for the word to make the next clone.  A task whose clone was ended before it
 * came may still lie there. */
static void await(uint32_t kind, uint32_t serial, struct request *r)
{
    for (;;) {
        if (receive(door_of(serial), r) < 0)
            end(0);
        if (r->kind == kind && r->serial == serial)
            return;
        close_all(r);
    }
}

static _Noreturn void be_program(uint32_t serial)
{
    struct request r;

    prepare(serial);
    await(WIRE_BEGIN, serial, &r);
    for (uint32_t i = 0; i < page->port_count; i++) {
        const struct forker_port *p = &page->port[i];

        if (p->index >= r.count || call(__NR_dup3, r.fd[p->index], p->number, p->flags, 0) < 0)
            fail(serial);
    }
    close_all(&r);
    close_doors();
    call(__NR_close, page->control, 0, 0, 0);
    if (page->last_pid >= 0)
        call(__NR_close, page->last_pid, 0, 0, 0);
    resume();
}

/* Are all numbers free that the clone's processes and threads had?  One that nobody waits for, as its parent ignores SIGCHLD,
 * is no child any more a moment before the kernel gives its number back; the next clone's child would then get another one. */
static int numbers_are_free(void)
{
    char text[16];
    long last = 0, size = call(__NR_pread64, page->last_pid, (long)text, sizeof text, 0);

    for (long i = 0; i < size && text[i] >= '0' && text[i] <= '9'; i++)
        last = last * 10 + text[i] - '0';
    for (long number = 3; number <= last; number++)
        if (call_unasked(__NR_fcntl, page->last_pid, F_SETOWN, number, 0) != -ESRCH) /* the one question that a number in use answers */
            return 0;
    return last >= 2;
}

/* Is the namespace as it was made?  Sets the next process's number to 2 again; no signal that a process below has sent may
 * be pending for us. */
static int as_made(void)
{
    static const uint64_t of_children = 1ull << (SIGCHLD - 1);
    const char number_1 = '1';
    uint64_t pending;

    return call(__NR_rt_sigpending, (long)&pending, sizeof pending, 0, 0) == 0 && !(pending & ~of_children) &&
           page->last_pid >= 0 && numbers_are_free() && call(__NR_pwrite64, page->last_pid, (long)&number_1, 1, 0) == 1;
}

/* Serve one clone until no process of it is left; if it ends in a way that leaves something else behind, we end, too. */
static void see_through(uint32_t serial)
{
    struct {
        struct wire head;
        struct rusage use;
    } ended;
    int status = 0, others = 0;
    long pid = spawn(0, (char *)FORKER_STACK + FORKER_CLONE_BYTES, be_program, serial);

    ended.head = (struct wire){.version = WIRE_VERSION, .kind = WIRE_MAIN, .offset = serial}; /* the kernel fills in the rest; there is no memset here */
    if (pid != 2)
        fail(serial);
    while ((pid = call_unasked(__NR_wait4, -1, (long)&status, __WALL, (long)&ended.use)) > 0) {
        if (pid == 2) {
            /* Its remaining processes are our children by now; an error: there are none.  A signal may have met it at the
             * door, where its task must then lie. */
            long more = call_unasked(__NR_wait4, -1, 0, __WALL | WNOHANG, 0);
            ended.head.a = more >= 0 ? WIRE_OTHERS : !others && !(status & 0x7f) && as_made() ? WIRE_NOBODY_STAYS : WIRE_NOBODY;
            ended.head.b = (uint32_t)status;
            call(__NR_write, ended.head.a == WIRE_NOBODY_STAYS ? door_of(serial) : page->control, (long)&ended, sizeof ended, 0);
            if (ended.head.a == WIRE_NOBODY_STAYS)
                return;
            if (more < 0)
                break;
            if (more == 0)
                continue;
        }
        others = 1;
        say(page->control, WIRE_REAPED, 0, 0);
    }
    end(0);
}

/* pid 1 of clones, which it serves one after the other. */
static void be_init(uint32_t serial)
{
    struct request r;

    say(door_of(serial), WIRE_HELLO, serial, 0);
    say(page->control, WIRE_BORN, serial, 0);
    for (;;) {
        see_through(serial);
        serial += FORKER_DOORS;
        await(WIRE_CLONE, serial, &r);
    }
}

__attribute__((used)) _Noreturn void forker_main(void)
{
    static char *const init_stack = (char *)FORKER_STACK + FORKER_STACK_BYTES / 2;
    uint64_t all = ~0ull;
    struct request r;

    call(__NR_rt_sigprocmask, SIG_SETMASK, (long)&all, 0, 8);
    /* No clone gets our words, and no page of our stack is copied for it. */
    if (call_unasked(__NR_madvise, FORKER_STACK, FORKER_STACK_BYTES, MADV_WIPEONFORK, 0) < 0)
        end(125);
    for (long c = 0; c < CAPS && call(__NR_prctl, PR_CAPBSET_DROP, c, 0, 0) == 0; c++)
        ;
    call(__NR_close, page->users, 0, 0, 0);
    say(page->control, WIRE_READY, 0, 0);
    while (receive(page->control, &r) == 0) {
        /* Two stacks are used by turns: a clone is asked for only when the last but one is gone. */
        char *stack = init_stack + r.serial % FORKER_DOORS * INIT_STACK_BYTES;
        long pid = spawn(CLONE_NEWPID | CLONE_PARENT | CLONE_VM | SIGCHLD, stack, be_init, r.serial);

        if (pid < 0)
            say(door_of(r.serial), WIRE_FAILED, r.serial, (uint32_t)-pid);
    }
    end(0);
}

__asm__(".section .entry,\"ax\",@progbits\n"
        "    xor %ebp, %ebp\n"
        "    call forker_main\n"
        "    hlt\n"
        ".text\n");
