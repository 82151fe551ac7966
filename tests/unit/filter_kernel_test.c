/* The kernel agrees with the table, row by row: each call is made for real under the filter.
 *
 * So that allowed calls do no harm, a second filter answers "trace" when the sixth argument is a
 * secret number: with no tracer the kernel then returns ENOSYS instead of running the call, but
 * refusals and notifications come before it.  Every notification is answered with one odd number.
 * (ALLOWED and ENOSYS look alike here; filter_table_test tells them apart.) */
#include "lib/test.h"
#include "base/fds.h"
#include "lib/guarded.h"
#include "sandbox/filter.h"
#include "sandbox/syscalls.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#define SECRET    0x5eed0123u
#define ODD       4242
#define CALLS_MAX 1024

struct one_call {
    int nr;
    uint64_t args[6];
    int64_t result; /* -errno */
};

static struct one_call *calls; /* shared with the child */
static unsigned call_count;

static void add(int nr, const uint64_t args[6])
{
    struct one_call *c = &calls[call_count++];

    assert_true(call_count < CALLS_MAX);
    c->nr = nr;
    memcpy(c->args, args, sizeof c->args);
    if (nr != SYS_preadv2 && nr != SYS_pwritev2)
        c->args[5] = SECRET;
}

static void add_row(const struct syscall_row *row)
{
    uint64_t args[6] = {0};

    add(row->nr, args);
    for (const struct rule *r = row->rule; r->then != ACTION_END; r++) {
        memset(args, 0, sizeof args);
        for (int k = 0; k < 2; k++) {
            const struct cond *c = &r->when[k];

            if (c->op == COND_MASKED)
                args[c->arg] = c->value;
            else if (c->op == COND_BELOW || c->op == COND_FROM)
                args[c->arg] = c->op == COND_FROM ? c->value : c->value - 1;
            else if (c->op != COND_NONE && c->op != COND_NIL)
                args[c->arg] = c->op == COND_SET ? 8 : c->mask & -c->mask;
        }
        add(row->nr, args);
        for (int k = 0; k < 6; k++) /* what the kernel ignores must not help */
            if (r->when[0].op == COND_MASKED && r->when[0].arg == k)
                args[k] |= 0xabcdull << 32;
        add(row->nr, args);
    }
}

static int64_t raw_call(const struct one_call *c)
{
    register uint64_t r10 __asm__("r10") = c->args[3];
    register uint64_t r8 __asm__("r8") = c->args[4];
    register uint64_t r9 __asm__("r9") = c->args[5];
    int64_t result;

    __asm__ volatile("syscall"
                     : "=a"(result)
                     : "a"((int64_t)c->nr), "D"(c->args[0]), "S"(c->args[1]), "d"(c->args[2]),
                       "r"(r10), "r"(r8), "r"(r9)
                     : "rcx", "r11", "memory");
    return result;
}

static int install_secret(void)
{
    struct sock_filter code[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_preadv2, 3, 0),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_pwritev2, 2, 0),
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, args[5])),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SECRET, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_TRACE),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    struct sock_fprog program = {sizeof code / sizeof *code, code};

    return (int)syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &program);
}

static _Noreturn void be_caller(int link, bool opens)
{
    struct one_call end = {.nr = SYS_exit_group};
    struct err e;
    int listener;

    if (prctl(PR_SET_PDEATHSIG, SIGKILL) < 0 || prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0 ||
        install_secret() < 0 || filter_install(opens, &listener, &e) < 0 ||
        guarded_show(link, listener) < 0)
        _exit(1);
    for (unsigned i = 0; i < call_count; i++)
        calls[i].result = raw_call(&calls[i]);
    raw_call(&end); /* with another sixth argument than the library's leftover */
    for (;;)
        pause();
}

/* Until the caller is gone, which the listener itself tells only when that has been waited for (before Linux 6.11). */
static void answer_all(int listener, pid_t pid)
{
    int caller = (int)syscall(SYS_pidfd_open, pid, 0);

    assert_true(caller >= 0);
    for (;;) {
        struct pollfd p[] = {{listener, POLLIN, 0}, {caller, POLLIN, 0}};
        struct seccomp_notif q;
        struct seccomp_notif_resp r = {0};

        assert_true(poll(p, 2, 300000) > 0);
        if (!(p[0].revents & POLLIN)) {
            close(caller);
            return;
        }
        memset(&q, 0, sizeof q);
        if (ioctl(listener, SECCOMP_IOCTL_NOTIF_RECV, &q) < 0)
            continue;
        r.id = q.id;
        r.val = ODD;
        ioctl(listener, SECCOMP_IOCTL_NOTIF_SEND, &r);
    }
}

static void check_calls(bool opens)
{
    int link[2], listener, status;
    pid_t pid;

    assert_int_equal(guarded_pair(link), 0);
    pid = fork();
    if (pid == 0)
        be_caller(link[1], opens);
    close(link[1]);
    listener = guarded_take(link[0]);
    assert_true(listener >= 0);
    answer_all(listener, pid);
    close(listener);
    close(link[0]);
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_int_equal(status, 0);
    for (unsigned i = 0; i < call_count; i++) {
        const struct one_call *c = &calls[i];
        struct seccomp_data d = {.nr = c->nr, .arch = AUDIT_ARCH_X86_64};
        uint32_t action;
        int64_t want;

        memcpy(d.args, c->args, sizeof d.args);
        action = syscalls_decide(&d, opens);
        want = action == NOTIFIED  ? ODD
               : action == ALLOWED ? -ENOSYS
                                   : -(int64_t)ACTION_ERRNO(action);
        if (c->result != want)
            fail_msg("%s (%lx %lx %lx %lx %lx): %ld, not %ld", syscalls_find(c->nr)->name,
                     c->args[0], c->args[1], c->args[2], c->args[3], c->args[4], c->result, want);
    }
}

static void every_row(void **context)
{
    size_t rows;
    const struct syscall_row *row = syscalls_table(&rows);

    (void)context;
    call_count = 0;
    for (size_t i = 0; i < rows; i++)
        add_row(&row[i]);
    print_message("%zu rows, %u calls\n", rows, call_count);
    check_calls(false);
    check_calls(true);
}

/* An oracle apart from the table: what must not work, whoever edits it. */
static int the_wall(void)
{
    static const struct {
        const char *name;
        long nr, a, b, c;
        int error;
    } rows[] = {
        {"mount", SYS_mount, 0, 0, 0, ENOSYS},
        {"umount2", SYS_umount2, 0, 0, 0, ENOSYS},
        {"unshare", SYS_unshare, CLONE_NEWUSER, 0, 0, ENOSYS},
        {"setns", SYS_setns, 0, 0, 0, ENOSYS},
        {"clone newuser", SYS_clone, CLONE_NEWUSER | SIGCHLD, 0, 0, EPERM},
        {"clone newpid", SYS_clone, CLONE_NEWPID | SIGCHLD, 0, 0, EPERM},
        {"clone newns", SYS_clone, CLONE_NEWNS | SIGCHLD, 0, 0, EPERM},
        {"clone3", SYS_clone3, 0, 0, 0, ENOSYS},
        {"ptrace", SYS_ptrace, 0, 0, 0, ENOSYS},
        {"process_vm_readv", SYS_process_vm_readv, 1, 0, 0, ENOSYS},
        {"process_vm_writev", SYS_process_vm_writev, 1, 0, 0, ENOSYS},
        {"bpf", SYS_bpf, 0, 0, 0, ENOSYS},
        {"io_uring_setup", SYS_io_uring_setup, 1, 0, 0, ENOSYS},
        {"perf_event_open", SYS_perf_event_open, 0, 0, 0, ENOSYS},
        {"userfaultfd", SYS_userfaultfd, 0, 0, 0, ENOSYS},
        {"keyctl", SYS_keyctl, 0, 0, 0, ENOSYS},
        {"seccomp", SYS_seccomp, 0, 0, 0, ENOSYS},
        {"prctl seccomp", SYS_prctl, PR_SET_SECCOMP, 2, 0, EINVAL},
        {"prctl tsc", SYS_prctl, PR_SET_TSC, 1, 0, EINVAL},
        {"personality", SYS_personality, 0, 0, 0, EPERM},
        {"openat2", SYS_openat2, 0, 0, 0, ENOSYS},
        {"open_by_handle_at", SYS_open_by_handle_at, 0, 0, 0, ENOSYS},
        {"pidfd_getfd", SYS_pidfd_getfd, 0, 0, 0, ENOSYS},
        {"socket inet", SYS_socket, AF_INET, SOCK_STREAM, 0, EAFNOSUPPORT},
        {"socket inet6", SYS_socket, AF_INET6, SOCK_DGRAM, 0, EAFNOSUPPORT},
        {"socket netlink", SYS_socket, AF_NETLINK, SOCK_RAW, 0, EAFNOSUPPORT},
        {"socket alg", SYS_socket, AF_ALG, SOCK_SEQPACKET, 0, EAFNOSUPPORT},
        {"socket unix", SYS_socket, AF_UNIX, SOCK_STREAM, 0, EACCES},
        {"sendmsg", SYS_sendmsg, 1, 0, 0, EACCES},
        {"sendmsg, high word", SYS_sendmsg, (long)(1ull << 42 | 1), 0, 0, EACCES},
        {"sendmmsg", SYS_sendmmsg, 1, 0, 0, ENOSYS},
        {"socketpair dgram", SYS_socketpair, AF_UNIX, SOCK_DGRAM, 0, EAFNOSUPPORT},
        {"tiocsti", SYS_ioctl, 0, 0x5412, 0, ENOTTY},
        {"tioclinux", SYS_ioctl, 0, 0x541c, 0, ENOTTY},
        {"tiocsti, high word", SYS_ioctl, 0, (long)(1ull << 32 | 0x5412), 0, ENOTTY},
        {"tcgets", SYS_ioctl, 0, 0x5401, 0, ENOTTY},
        {"chroot", SYS_chroot, 0, 0, 0, ENOSYS},
        {"shmget", SYS_shmget, 0, 0, 0, ENOSYS},
        {"rseq", SYS_rseq, 0, 0, 0, ENOSYS},
        {"chmod setuid", SYS_chmod, 0, 04755, 0, EPERM},
        {"creat setuid", SYS_creat, 0, 04755, 0, EPERM},
        {"a call of tomorrow", 999, 0, 0, 0, ENOSYS},
        {"x32 getpid", 0x40000000 + SYS_getpid, 0, 0, 0, ENOSYS},
        {"x32 exit", 0x40000000 + SYS_exit, 0, 0, 0, ENOSYS},
        {"clock_settime", SYS_clock_settime, 0, 0, 0, EPERM},
        {"set nonblocking", SYS_fcntl, 0, F_SETFL, O_NONBLOCK, 0},
        {"FIONBIO, said nowhere", SYS_ioctl, 0, FIONBIO, 0, EFAULT},
        {"FIONBIO of nothing", SYS_fcntl, -1, F_SETFL, O_NONBLOCK, EBADF},
        {"chown: no effect", SYS_chown, 0, 0, 0, 0},
    };
    int wrong = 0;

    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        long result = syscall(rows[i].nr, rows[i].a, rows[i].b, rows[i].c, 0, 0, 0);
        int error = result < 0 ? errno : 0;

        if (result > 0 || error != rows[i].error) {
            printf("%s: %ld, %s\n", rows[i].name, result, strerror(error));
            wrong++;
        }
    }
    return wrong != 0;
}

static void the_wall_stands(void **context)
{
    struct guarded g = {.body = the_wall};
    static struct guarded_result r;

    (void)context;
    guarded_run(&g, &r);
    if (r.status != 0)
        fail_msg("%s", r.output);
}

static int int80(void)
{
    int result;

    __asm__ volatile("int $0x80" : "=a"(result) : "a"(20) : "memory"); /* getpid */
    return 0;
}

static void int80_kills(void **context)
{
    struct guarded g = {.body = int80};
    static struct guarded_result r;

    (void)context;
    guarded_run(&g, &r);
    assert_int_equal(r.status, 128 + SIGSYS);
}

/* The dangerous ones by their numbers of i386, with arguments that are wrong for each, so that nothing would
 * be done: every one is the end of the caller. */
static int every_i386(void)
{
    static const int numbers[] = {
        21 /* mount */,   22 /* umount */,     25 /* stime */,        26 /* ptrace */,    51 /* acct */,
        52 /* umount2 */, 61 /* chroot */,     79 /* settimeofday */, 87 /* swapon */,    88 /* reboot */,
        101 /* ioperm */, 102 /* socketcall */, 103 /* syslog */,     117 /* ipc */,      121 /* setdomainname */,
        123 /* modify_ldt */, 128 /* init_module */, 136 /* personality */, 217 /* pivot_root */,
        283 /* kexec_load */, 286 /* add_key */, 288 /* keyctl */,    310 /* unshare */,  336 /* perf_event_open */,
        341 /* name_to_handle_at */, 342 /* open_by_handle_at */,     346 /* setns */,    347 /* process_vm_readv */,
        348 /* process_vm_writev */, 349 /* kcmp */, 350 /* finit_module */, 354 /* seccomp */, 357 /* bpf */,
        374 /* userfaultfd */, 384 /* arch_prctl */, 425 /* io_uring_setup */, 428 /* open_tree */,
        429 /* move_mount */, 430 /* fsopen */, 434 /* pidfd_open */, 437 /* openat2 */, 438 /* pidfd_getfd */,
        442 /* mount_setattr */, 444 /* landlock_create_ruleset */};
    int wrong = 0;

    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++) {
        int status = 0;
        pid_t pid = fork();

        if (pid == 0) {
            long result;
            __asm__ volatile("int $0x80"
                             : "=a"(result)
                             : "a"((long)numbers[i]), "b"(-1l), "c"(-1l), "d"(-1l), "S"(-1l), "D"(-1l)
                             : "memory", "r8", "r9", "r10", "r11");
            _exit(0);
        }
        if (pid < 0 || waitpid(pid, &status, 0) != pid || !WIFSIGNALED(status) || WTERMSIG(status) != SIGSYS) {
            printf("i386 call %d: status %d\n", numbers[i], status);
            wrong++;
        }
    }
    return wrong != 0;
}

/* Those without arguments, which would do something, are not asked. */
static int every_x32(void)
{
    static const int left_out[] = {SYS_fork,  SYS_vfork, SYS_exit, SYS_exit_group, SYS_pause,
                                   SYS_rt_sigreturn, SYS_vhangup, SYS_sync, SYS_rt_sigsuspend};
    int wrong = 0;

    for (int nr = 0; nr < 700; nr++) {
        bool out = false;
        for (size_t i = 0; i < sizeof left_out / sizeof *left_out; i++)
            out |= nr == left_out[i];
        if (out)
            continue;
        long result = syscall(0x40000000 + nr, -1, -1, -1, -1, -1, -1);
        if (result != -1 || errno != ENOSYS) {
            printf("x32 call %d: %ld (%s)\n", nr, result, strerror(errno));
            wrong++;
        }
    }
    return wrong != 0;
}

static void other_abis(void **context)
{
    struct guarded i386 = {.body = every_i386}, x32 = {.body = every_x32};
    static struct guarded_result r;

    (void)context;
    guarded_run(&i386, &r);
    if (r.status != 0)
        fail_msg("%s", r.output);
    guarded_run(&x32, &r);
    if (r.status != 0)
        fail_msg("%s", r.output);
}

/* The legacy page at a fixed address is a system call like others: its clock is ours. */
static int vsyscall_time(void)
{
    typedef long time_page(long *);
    signal(SIGSEGV, SIG_DFL); /* the test library's would go on in its caller */
    long t = ((time_page *)0xffffffffff600400ul)(NULL);

    return t == 86400 ? 0 : 1;
}

static void vsyscall_page(void **context)
{
    struct guarded g = {.body = vsyscall_time, .epoch_s = 86400};
    static struct guarded_result r;

    (void)context;
    guarded_run(&g, &r);
    /* with vsyscall=none there is no such page */
    if (r.status != 0 && r.status != 128 + SIGSEGV && r.status != 1 + 128)
        fail_msg("%d: %s", r.status, r.output);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_row),
        cmocka_unit_test(the_wall_stands),
        cmocka_unit_test(int80_kills),
        cmocka_unit_test(other_abis),
        cmocka_unit_test(vsyscall_page),
    };

    if (!guarded_possible()) {
        print_message("no user namespaces here: skipped\n");
        return 0;
    }
    calls = mmap(NULL, CALLS_MAX * sizeof *calls, PROT_READ | PROT_WRITE,
                 MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (calls == MAP_FAILED || filter_prepare(FILTER_PLAIN, NULL) < 0 ||
        filter_prepare(FILTER_OPENS, NULL) < 0)
        return 1;
    if (cmocka_run_group_tests(tests, NULL, NULL) != 0)
        return 1;
    return guarded_as_nobody();
}
