/* Makes pid 2, behind its wall; it waits for its turn and then becomes the program, or tells why it could not. */
#include "sandbox/init.h"
#include "base/fds.h"
#include "sandbox/filter.h"
#include "sandbox/leftover.h"
#include "sandbox/notify.h"
#include "sandbox/raw_call.h"
#include "sandbox/spec.h"
#include "sandbox/syscalls.h"
#include "sandbox/zygote.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/futex.h>
#include <linux/sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#define CHILD_STACK_BYTES (128u << 10)

/* In the child: have exactly the ports open, at their numbers. */
static int place_ports(struct init *in, struct err *e)
{
    for (int fd = 0; fd < 3; fd++)
        close(fd);
    for (uint32_t i = 0; i < in->task.port_count; i++) {
        const struct box_port *p = &in->task.port[i];
        if (p->name)
            continue; /* a named port: the server has it, for the program to open */
        if (dup2(in->port[i] < 0 ? in->null : in->port[i], p->fd) < 0)
            return err_sys(e, "cannot give the program its descriptor %d", p->fd);
    }
    return 0;
}

/* Exec with two words that only we know: the filter lets it pass without a notification. */
static void exec_unasked(const struct box_task *t, const char *path)
{
    const unsigned long own[SYSCALLS_OWN_WORDS] = {syscalls_own(0), syscalls_own(1)};
    register unsigned long first __asm__("r8") = own[0];
    register unsigned long second __asm__("r9") = own[1];
    long result;
    __asm__ volatile("syscall"
                     : "=a"(result)
                     : "a"(SYS_execve), "D"(path), "S"(t->argv), "d"(t->env), "r"(first), "r"(second)
                     : "rcx", "r11", "memory");
    errno = (int)-result;
}

static void exec_one(const struct box_task *t, const char *path, bool unasked)
{
    if (unasked)
        exec_unasked(t, path);
    else
        execve(path, (char *const *)(uintptr_t)t->argv, (char *const *)(uintptr_t)t->env);
    if (errno != ENOEXEC)
        return;
    /* A script without #!: run it by sh, as a shell would. */
    size_t n = 0;
    while (t->argv[n])
        n++;
    const char **argv = calloc(n + 2, sizeof *argv);
    if (!argv)
        return;
    argv[0] = "sh";
    argv[1] = path;
    memcpy(argv + 2, t->argv + 1, n * sizeof *argv);
    execve("/bin/sh", (char *const *)(uintptr_t)argv, (char *const *)(uintptr_t)t->env);
    free(argv);
}

/* `unasked`: the directory of PATH with a program whose exec need not be notified. */
static int exec_search(const struct box_task *t, uint32_t unasked)
{
    const char *name = t->argv[0], *at = spec_path(t);
    int sys = ENOENT;
    char path[4096];
    if (strchr(name, '/') || !*name) {
        exec_one(t, name, unasked == 0);
        return errno;
    }
    for (uint32_t i = 0;; i++) {
        size_t n = strcspn(at, ":");
        if (n + strlen(name) + 3 < sizeof path) {
            snprintf(path, sizeof path, "%.*s/%s", n ? (int)n : 1, n ? at : ".", name);
            if (access(path, F_OK) == 0) /* cheaper than a failing exec */
                exec_one(t, path, i == unasked);
            if (errno != ENOENT && errno != ENOTDIR)
                sys = errno;
            if (errno != ENOENT && errno != ENOTDIR && errno != EACCES)
                return sys;
        }
        if (!at[n])
            return sys;
        at += n + 1;
    }
}

/* The two processes share all memory, the C library's state included; so the one that waits is inside this call and nowhere
 * else. */
static long futex(int *word, int what, int value)
{
    return raw_call(SYS_futex, (long)word, what, value, 0, 0, FILTER_OWN_BITS);
}

static void wait_while(int *word, int it_is)
{
    while (__atomic_load_n(word, __ATOMIC_ACQUIRE) == it_is)
        futex(word, FUTEX_WAIT_BITSET, it_is);
}

static void await_turn(struct init *in, int while_it_is)
{
    wait_while(&in->turn, while_it_is);
}

/* If the other process has died meanwhile, the kernel has written its word, and that stays. */
static void pass_turn(struct init *in, int mine, int to)
{
    if (!__atomic_compare_exchange_n(&in->turn, &mine, to, false, __ATOMIC_RELEASE, __ATOMIC_ACQUIRE))
        return;
    futex(&in->turn, FUTEX_WAKE_BITSET, 1);
    await_turn(in, to);
}

static void note_failure(struct init *in, const struct err *e)
{
    in->failure.ours = true;
    in->failure.sys = e->sys;
    memcpy(in->failure.text, e->text, sizeof in->failure.text);
}

static int make_wall(struct init *in, struct err *e)
{
    return program_wall(in->none, e) < 0 || (!in->none && filter_install(in->variant, &in->listener, e) < 0) ? -1 : 0;
}

/* pid 2.  Until its exec it shares our memory and our descriptors.  So no page table is copied, it can report a failure in
 * a struct of ours, and we can see the listener. */
static int be_program(void *owner)
{
    struct init *in = owner;
    struct err e;
    if (in->none)
        prctl(PR_SET_PDEATHSIG, SIGKILL);
    program_alone();
    int made = in->maker ? 0 : make_wall(in, &e);
    if (made == 0 && !in->none)
        made = program_enter(in->fence, &e);
    if (made == 0) {
        pass_turn(in, TURN_MAKING, TURN_INIT);
        made = place_ports(in, &e);
    }
    if (made < 0)
        note_failure(in, &e);
    else
        in->failure.sys = exec_search(&in->task, in->unasked);
    return 126; /* returns to the code that cloned it, which exits.  (With _exit here, a sanitizer would print to the program's stderr.) */
}

/* The first line of a script whose interpreter does not exist. */
static bool interpreter_of(const char *path, char *line, size_t size)
{
    ssize_t n = fd_read_text(AT_FDCWD, path, line, size);
    if (n < 3 || line[0] != '#' || line[1] != '!')
        return false;
    memmove(line, line + 2, (size_t)n - 1);
    size_t skip = strspn(line, " \t");
    memmove(line, line + skip, strlen(line + skip) + 1);
    line[strcspn(line, " \t\n")] = '\0';
    return true;
}

static void explain(const struct box_task *t, const struct exec_failure *f, struct outcome *o)
{
    char line[256];
    o->sys = f->sys;
    if (f->ours) { /* there may be no task yet */
        o->end = BOX_FAILED;
        memcpy(o->text, f->text, sizeof o->text);
        return;
    }
    const char *name = t->argv[0];
    bool missing = f->sys == ENOENT || f->sys == ENOTDIR;
    o->end = missing ? BOX_NOT_FOUND : BOX_NOT_RUN;
    if (!missing)
        snprintf(o->text, sizeof o->text, "'%s' cannot be run: %s", name, strerror(f->sys));
    else if (strchr(name, '/') && access(name, F_OK) == 0 && interpreter_of(name, line, sizeof line) && strchr(line, '\r'))
        snprintf(o->text, sizeof o->text, "'%s' has carriage returns at the ends of its lines: save it with line ends as Unix has them", name);
    else if (strchr(name, '/') && access(name, F_OK) == 0 && interpreter_of(name, line, sizeof line))
        snprintf(o->text, sizeof o->text, "'%s' needs the interpreter '%s', which is not in the sandbox",
                 name, line);
    else if (strchr(name, '/') && access(name, F_OK) == 0)
        snprintf(o->text, sizeof o->text, "'%s' needs a program loader that is not in the sandbox", name);
    else
        snprintf(o->text, sizeof o->text, "there is no program '%s' in the sandbox", name);
}

/* A system call that starts a thread or process on a stack of its own, which calls `run` and ends.  The call's last two
 * words let it pass the filter without a notification. */
static long begin_on(long nr, unsigned long a, unsigned long b, unsigned long c, unsigned long d, int (*run)(void *), void *owner)
{
    const unsigned long own[SYSCALLS_OWN_WORDS] = {syscalls_own(0), syscalls_own(1)};
    register unsigned long r10 __asm__("r10") = d;
    register unsigned long r8 __asm__("r8") = own[0];
    register unsigned long r9 __asm__("r9") = own[1];
    register int (*r12)(void *) __asm__("r12") = run;
    register void *r13 __asm__("r13") = owner;
    long result;
    __asm__ volatile("syscall\n"
                     "    test %%rax, %%rax\n"
                     "    jnz 1f\n"
                     "    xor %%ebp, %%ebp\n"
                     "    mov %%r13, %%rdi\n"
                     "    call *%%r12\n"
                     "    mov %%eax, %%edi\n"
                     "    mov %[exit], %%eax\n"
                     "    syscall\n"
                     "    hlt\n"
                     "1:\n"
                     : "=a"(result)
                     : "a"(nr), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8), "r"(r9), "r"(r12), "r"(r13), [exit] "i"(SYS_exit)
                     : "rcx", "r11", "memory", "cc");
    return result;
}

/* Clone pid 2, on a stack of its own.  Its turn lasts until the kernel takes our memory from it, at its exec or its end.
 * Before its exec its end sends no signal; the exec makes that SIGCHLD.  So wait() can tell whether it had become the
 * program (ended_as_ours). */
static long clone_program(struct init *in)
{
    static char stack[CHILD_STACK_BYTES] __attribute__((aligned(16)));
    return begin_on(SYS_clone, CLONE_VM | CLONE_FILES | CLONE_CHILD_CLEARTID | CLONE_PARENT_SETTID, (uintptr_t)(stack + sizeof stack),
                    (uintptr_t)&in->main, (uintptr_t)&in->turn, be_program, in);
}

static void not_there(struct init *in, const struct err *e)
{
    in->main = -1;
    note_failure(in, e);
}

static void not_cloned(struct init *in, long result)
{
    struct err e;
    errno = (int)-result;
    err_sys(&e, "cannot fork the program");
    not_there(in, &e);
}

/* The maker: a thread of pid 1 behind the filter.  Its children are behind it, too, so none has to install the filter,
 * which takes as long as a small program lives; each enters the fence, which is around the /job and /tmp of its task.  Programs can neither signal pid 1 nor
 * trace a process that has a right they have not.  Once the maker has said that it waits it touches nothing but its futex, as others run in our memory then.
 */
static int be_maker(void *owner)
{
    struct init *in = owner;
    struct err e;
    long result = 0;
    if (make_wall(in, &e) < 0)
        not_there(in, &e);
    while (!in->failure.ours) {
        __atomic_store_n(&in->maker, MAKER_WAITS, __ATOMIC_RELEASE);
        result = clone_program(in);
        if (result < 0)
            not_cloned(in, result);
        else
            wait_while(&in->maker, MAKER_WAITS);
    }
    __atomic_store_n(&in->turn, TURN_PROGRAM_BEGUN, __ATOMIC_RELEASE);
    futex(&in->turn, FUTEX_WAKE_BITSET, 1);
    return 1;
}

/* Start the maker, with a thread number that no process of a program will have.  false: this kernel or host cannot give a
 * thread a number. */
static bool begin_maker(struct init *in)
{
    static char stack[CHILD_STACK_BYTES] __attribute__((aligned(16)));
    pid_t number = NOTIFY_NOBODY;
    struct clone_args a = {.flags = CLONE_VM | CLONE_FILES | CLONE_FS | CLONE_SIGHAND | CLONE_THREAD, /* FS: its children begin where we are */
                           .stack = (uintptr_t)stack,
                           .stack_size = sizeof stack,
                           .set_tid = (uintptr_t)&number,
                           .set_tid_size = 1};
    in->maker = MAKER_MAKES;
    if (begin_on(SYS_clone3, (uintptr_t)&a, sizeof a, 0, 0, be_maker, in) > 0)
        return true;
    in->maker = MAKER_NONE;
    return false;
}

static void begin_program(struct init *in)
{
    in->turn = TURN_MAKING;
    if (in->maker == MAKER_WAITS) {
        __atomic_store_n(&in->maker, MAKER_MAKES, __ATOMIC_RELEASE);
        futex(&in->maker, FUTEX_WAKE_BITSET, 1);
    } else if (in->none || !begin_maker(in)) {
        long result = clone_program(in);
        if (result < 0) {
            not_cloned(in, result);
            in->turn = TURN_PROGRAM_BEGUN;
        }
    }
}

/* pid 2's turn is over.  True: it ended before it became the program; what killed it then did not kill the program. */
static bool ended_as_ours(const struct init *in, int *status)
{
    return in->main < 0 || waitpid(in->main, status, __WCLONE) == in->main;
}

static _Noreturn void tell_failure(struct init *in, int status)
{
    struct outcome o = {.end = BOX_FAILED};
    if (WIFSIGNALED(status))
        snprintf(o.text, sizeof o.text, "the process that was to become the program was killed by signal %d", WTERMSIG(status));
    else
        explain(&in->task, &in->failure, &o);
    init_end(in, &o);
}

void init_make_program(struct init *in)
{
    struct err e;
    int status = 0;
    begin_program(in);
    await_turn(in, TURN_MAKING);
    if (in->turn == TURN_PROGRAM_BEGUN && ended_as_ours(in, &status))
        tell_failure(in, status);
    if (program_limit_common(in->main, &e) < 0)
        init_give_up(in, &e);
    if (!in->none && in->listener < OURS_FD)
        in->listener = init_raise_fd(in->listener);
    if (!in->none)
        wire_send(in->link, (struct wire){.kind = WIRE_LISTENER, .a = (uint32_t)in->listener}, NULL, 0, NULL, 0);
}

/* Let pid 2 become the program.  Its descriptors are in our table, too, and a failure is reported in our memory. */
void init_start_program(struct init *in)
{
    clock_gettime(CLOCK_MONOTONIC, &in->began);
    pass_turn(in, TURN_INIT, TURN_GO);
    for (int fd = 0; fd < 3; fd++)
        dup2(in->null, fd);
    for (uint32_t i = 0; i < in->task.port_count; i++) {
        fd_close(&in->port[i]);
        if (!in->task.port[i].name && in->task.port[i].fd > 2)
            close(in->task.port[i].fd);
    }
    for (uint32_t i = 0; i < in->task.file_count; i++)
        if (in->files.tree[i] || !leftover_compares(&in->task, i))
            fd_close(&in->files.fd[i]);
    if (!in->maker)
        fd_close(&in->listener); /* the server has it: it has answered the exec, or had it before and did not need to be asked */
    int status = 0;
    if (ended_as_ours(in, &status))
        tell_failure(in, status);
}
