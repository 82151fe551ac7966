/* Asks, from inside, for everything that the wall must refuse.
 *
 *     wall_probe full|none|bare MARKER PID
 *
 * full: in a sandbox, every question is refused.  none: with --isolation=none, and bare: started directly,
 * those questions get through that the table says, so that no row passes because it asks nothing.  MARKER
 * is a file of the host that is no input, PID a process of the same user's outside, descriptor 17 an open
 * directory that the caller forgot, stdin a regular file.
 *
 * What must stay true: no question does harm where it is answered.  A file is opened and not written, a
 * mode is set to what it is, a process is asked with signal 0, what is made is removed at once, and what
 * changes this process is asked in a child. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/ipc.h>
#include <sys/mount.h>
#include <sys/personality.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/shm.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define FORGOTTEN 17 /* the caller's descriptor */
#define NOWHERE   "/zpipe-nowhere/at/all"
#define THREADS   200
#define CHILDREN  500
#define RACES     3000

static const char *marker;
static pid_t host_process;

/* In a child: 1 when `ask` says so there; a child that is killed got nothing. */
static int in_child(int (*ask)(void))
{
    int status;
    pid_t pid = fork();
    if (pid == 0)
        _exit(ask() == 1);
    return pid > 0 && waitpid(pid, &status, 0) == pid && WIFEXITED(status) && WEXITSTATUS(status) == 1;
}

static int opens(const char *path, int flags)
{
    int fd = open(path, flags | O_CLOEXEC);
    if (fd >= 0)
        close(fd);
    return fd >= 0;
}

/* A call that is there answers something else than "no such call" or "not you". */
static int is_there(long result)
{
    return result >= 0 || (errno != ENOSYS && errno != EPERM && errno != EACCES);
}

static int got_fd(long fd)
{
    if (fd >= 0)
        close((int)fd);
    return fd >= 0;
}

/* --- files --- */

static int host_file(void)
{
    return opens(marker, O_RDONLY);
}

static int host_passwd(void)
{
    char text[4096];
    int fd = open("/etc/passwd", O_RDONLY | O_CLOEXEC);
    ssize_t n = fd < 0 ? -1 : read(fd, text, sizeof text - 1);
    if (fd >= 0)
        close(fd);
    text[n > 0 ? n : 0] = '\0';
    return n > 0 && !strstr(text, "zpipe:x:1000");
}

static int host_directories(void)
{
    return access("/var", F_OK) == 0 || access("/sys/kernel", F_OK) == 0;
}

static int up_from(int directory)
{
    char path[4200];
    snprintf(path, sizeof path, "../../../../../../..%s", marker);
    return got_fd(openat(directory, path, O_RDONLY | O_CLOEXEC));
}

static int above_root(void)
{
    int root = open("/", O_PATH | O_DIRECTORY | O_CLOEXEC);
    int through = up_from(root);
    close(root);
    return through;
}

static int forgotten_fd(void)
{
    return fcntl(FORGOTTEN, F_GETFD) >= 0;
}

static int forgotten_fd_up(void)
{
    return up_from(FORGOTTEN) || (fchdir(FORGOTTEN) == 0 && up_from(AT_FDCWD));
}

static int more_fds(void)
{
    for (int fd = 3; fd < 65536; fd++)
        if (fcntl(fd, F_GETFD) >= 0)
            return 1;
    return 0;
}

static int proc_mem(void)
{
    return opens("/proc/self/mem", O_RDWR);
}

static int proc_root(void)
{
    return opens("/proc/self/root", O_RDONLY) || opens("/proc/1/root", O_RDONLY);
}

static int file_handle(void)
{
    struct {
        struct file_handle head;
        char room[128];
    } h = {.head.handle_bytes = sizeof h.room};
    int id;
    return syscall(SYS_name_to_handle_at, AT_FDCWD, "/", &h, &id, 0) == 0 || errno == EOVERFLOW ||
           errno == EOPNOTSUPP;
}

static int open_handle(void)
{
    return is_there(syscall(SYS_open_by_handle_at, -1, NULL, O_RDONLY));
}

static int write_image(void)
{
    return access("/usr", W_OK) == 0 || access("/usr/bin/env", W_OK) == 0;
}

static int write_input(void)
{
    return opens("input.txt", O_WRONLY);
}

/* A descriptor that was given for reading says nothing about its file's mode and times. */
static int mode_by_fd(void)
{
    struct stat s;
    return fstat(0, &s) == 0 && S_ISREG(s.st_mode) && fchmod(0, s.st_mode & 0777) == 0;
}

static int times_by_fd(void)
{
    struct stat s;
    if (fstat(0, &s) < 0)
        return 0;
    struct timespec t[2] = {s.st_atim, {0, UTIME_OMIT}};
    return syscall(SYS_utimensat, 0, NULL, t, 0) == 0 || syscall(SYS_utimensat, 0, "", t, AT_EMPTY_PATH) == 0;
}

/* The same, while a thread exchanges the descriptor under the question. */
static int raced_fd = -1, raced_own = -1;
static bool race_over;
static int races;

static int end_at_once(void *unused)
{
    return unused != NULL;
}

/* Threads take turns, and there is no race, unless a process does what cannot be done in turns. */
static void run_side_by_side(void)
{
    static char stack[16384];
    pid_t pid = clone(end_at_once, stack + sizeof stack, CLONE_VM | SIGCHLD, NULL);
    if (pid > 0)
        waitpid(pid, NULL, 0);
}

static void *exchange(void *unused)
{
    while (!__atomic_load_n(&race_over, __ATOMIC_RELAXED)) {
        dup2(0, raced_fd);
        dup2(raced_own, raced_fd);
        __atomic_fetch_add(&races, 1, __ATOMIC_RELAXED);
    }
    return unused;
}

static int mode_by_raced_fd(void)
{
    struct stat before, after;
    pthread_t thread;
    raced_own = open("/tmp", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
    raced_fd = dup(raced_own);
    run_side_by_side();
    if (raced_fd < 0 || fstat(0, &before) < 0 || pthread_create(&thread, NULL, exchange, NULL) != 0)
        return 0;
    for (int tries = 0; tries < RACES || __atomic_load_n(&races, __ATOMIC_RELAXED) < RACES; tries++)
        fchmod(raced_fd, before.st_mode & 0777);
    __atomic_store_n(&race_over, true, __ATOMIC_RELAXED);
    pthread_join(thread, NULL);
    close(raced_fd);
    close(raced_own);
    return fstat(0, &after) < 0 || before.st_ctim.tv_sec != after.st_ctim.tv_sec ||
           before.st_ctim.tv_nsec != after.st_ctim.tv_nsec;
}

static int make_device(void)
{
    int made = mknod("probe-device", S_IFBLK | 0600, makedev(7, 250)) == 0;
    unlink("probe-device");
    return made;
}

static int setuid_bit(void)
{
    struct stat s;
    int fd = open("probe-setuid", O_CREAT | O_EXCL | O_WRONLY | O_CLOEXEC, 04755);
    int made = fd >= 0 && fstat(fd, &s) == 0 && (s.st_mode & 06000);
    if (fd < 0)
        fd = open("probe-setuid", O_CREAT | O_EXCL | O_WRONLY | O_CLOEXEC, 0755);
    made |= fchmod(fd, 04755) == 0 || chmod("probe-setuid", 02755) == 0;
    close(fd);
    unlink("probe-setuid");
    return made;
}

static int devices(void)
{
    return access("/dev/mem", F_OK) == 0 || access("/dev/tty", F_OK) == 0 || access("/dev/ptmx", F_OK) == 0;
}

/* --- namespaces and mounts --- */

static int new_user_space(void)
{
    return unshare(CLONE_NEWUSER) == 0;
}

static int mount_in_own(void)
{
    return unshare(CLONE_NEWUSER | CLONE_NEWNS) == 0 &&
           mount("zpipe", "/tmp", "tmpfs", 0, "size=4k") == 0; /* this child's own */
}

static int clone_user_space(void)
{
    long pid = syscall(SYS_clone, CLONE_NEWUSER | SIGCHLD, 0, 0, 0, 0);
    if (pid == 0)
        _exit(0);
    return pid > 0 && waitpid((pid_t)pid, NULL, 0) == pid;
}

/* The kernel reads 64 bits of clone's flags and uses 32: the high half must not hide the low one. */
static int clone_high_half(void)
{
    long pid = syscall(SYS_clone, 0xdeadbeef00000000ul | CLONE_NEWUSER | SIGCHLD, 0, 0, 0, 0);
    if (pid == 0)
        _exit(0);
    return pid > 0 && waitpid((pid_t)pid, NULL, 0) == pid;
}

static int clone3_user_space(void)
{
    uint64_t args[11] = {CLONE_NEWUSER, 0, 0, 0, SIGCHLD};
    long pid = syscall(SYS_clone3, args, sizeof args);
    if (pid == 0)
        _exit(0);
    return pid > 0 && waitpid((pid_t)pid, NULL, 0) == pid;
}

static int clone3_plain(void) /* flags behind a pointer cannot be looked at: the whole call is refused */
{
    return is_there(syscall(SYS_clone3, NULL, 0));
}

static int set_namespace(void)
{
    return is_there(syscall(SYS_setns, -1, 0));
}

static int mount_nowhere(void)
{
    return is_there(mount("zpipe", NOWHERE, "tmpfs", 0, NULL));
}

static int unmount_nowhere(void)
{
    return is_there(umount2(NOWHERE, 0));
}

static int remount_root(void) /* an unknown flag: never done */
{
    return is_there(syscall(SYS_mount_setattr, AT_FDCWD, "/", 0x40000000, NULL, 0));
}

static int pivot(void)
{
    return is_there(syscall(SYS_pivot_root, NOWHERE, NOWHERE));
}

static int copy_tree(void)
{
    return got_fd(syscall(SYS_open_tree, AT_FDCWD, "/", 0));
}

static int new_filesystem(void)
{
    return got_fd(syscall(SYS_fsopen, "tmpfs", 0));
}

static int change_root(void)
{
    return chroot(".") == 0;
}

static int nested_root(void) /* the old way out of a chroot */
{
    return mkdir("probe-nest", 0700) == 0 && chroot("probe-nest") == 0 && up_from(AT_FDCWD);
}

/* --- processes --- */

static int host_signal(void)
{
    return kill(host_process, 0) == 0;
}

static int other_processes(void)
{
    for (pid_t pid = 3; pid < 400; pid++)
        if (pid != getpid() && (kill(pid, 0) == 0 || errno == EPERM))
            return 1;
    return 0;
}

/* Only where pid 1 is the sandbox's: elsewhere this is the host's, and nothing is sent. */
static int signal_init(void)
{
    if (getpid() != 2 || getppid() != 1)
        return 1;
    for (int s = 1; s < 65; s++)
        kill(1, s);
    return getppid() != 1;
}

static int trace_me(void)
{
    return ptrace(PTRACE_TRACEME, 0, NULL, NULL) == 0;
}

static int trace_parent(void)
{
    return is_there(ptrace(PTRACE_PEEKUSER, getppid(), NULL, NULL));
}

static int read_memory(void)
{
    char from = 1, to = 0;
    struct iovec here = {&to, 1}, there = {&from, 1};
    return process_vm_readv(getpid(), &here, 1, &there, 1, 0) == 1;
}

static int write_memory(void)
{
    char from = 1, to = 0;
    struct iovec here = {&from, 1}, there = {&to, 1};
    return process_vm_writev(getpid(), &here, 1, &there, 1, 0) == 1;
}

static int process_fd(void)
{
    return got_fd(syscall(SYS_pidfd_open, getppid(), 0));
}

static int take_fd(void)
{
    return is_there(syscall(SYS_pidfd_getfd, -1, 0, 0));
}

static int compare(void)
{
    return is_there(syscall(SYS_kcmp, getpid(), getpid(), 0, 0, 0));
}

static int capabilities(void)
{
    struct __user_cap_header_struct head = {.version = _LINUX_CAPABILITY_VERSION_3};
    struct __user_cap_data_struct d[2] = {{0}, {0}};
    syscall(SYS_capget, &head, d);
    return d[0].effective || d[0].permitted || d[1].effective || d[1].permitted;
}

static int new_privileges(void)
{
    return prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) == 0;
}

static int become_root(void)
{
    return geteuid() == 0 || setresuid(0, 0, 0) == 0;
}

static int undo_layout(void)
{
    return personality(PER_LINUX) >= 0;
}

static int undo_tsc(void)
{
    int now = 0;
    return prctl(PR_GET_TSC, &now) == 0 && prctl(PR_SET_TSC, now) == 0;
}

static int more_filters(void)
{
    uint32_t action = 0x7fff0000u; /* is SECCOMP_RET_ALLOW known? */
    return syscall(SYS_seccomp, 2, 0, &action) == 0;
}

static int raise_limit(void) /* one that anybody may lower, and then not raise */
{
    struct rlimit now, low = {0, 1};
    if (getrlimit(RLIMIT_MSGQUEUE, &now) < 0 || setrlimit(RLIMIT_MSGQUEUE, &low) < 0 ||
        getrlimit(RLIMIT_MSGQUEUE, &now) < 0)
        return 0;
    return now.rlim_max == 1; /* the call has an effect */
}

static int other_limits(void)
{
    struct rlimit now;
    return syscall(SYS_prlimit64, host_process, RLIMIT_CORE, NULL, &now) == 0;
}

static int dumps_core(void)
{
    struct rlimit now;
    return getrlimit(RLIMIT_CORE, &now) == 0 && now.rlim_max > 0;
}

static int many_processes(void)
{
    struct rlimit now;
    return getrlimit(RLIMIT_NPROC, &now) == 0 && now.rlim_max > 16384;
}

static int high_fds(void) /* these numbers are the sandbox's own */
{
    int fd = fcntl(0, F_DUPFD, 1024);
    if (fd >= 0)
        close(fd);
    return fd >= 0 || dup2(0, 1500) >= 0;
}

static int secret_word(void)
{
    return getenv("ZPIPE_TEST_SECRET") != NULL;
}

/* --- talking to others --- */

static int named_socket(void)
{
    struct sockaddr_un a = {.sun_family = AF_UNIX, .sun_path = "\0zpipe-probe"};
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    int bound = fd >= 0 && bind(fd, (struct sockaddr *)&a, sizeof a) == 0;
    if (fd >= 0)
        close(fd);
    return bound;
}

static int network_socket(void)
{
    return got_fd(socket(AF_INET, SOCK_STREAM, 0));
}

static int network6_socket(void)
{
    return got_fd(socket(AF_INET6, SOCK_DGRAM, 0));
}

static int netlink_socket(void)
{
    return got_fd(socket(AF_NETLINK, SOCK_RAW, 0));
}

static int packet_socket(void)
{
    return got_fd(socket(AF_PACKET, SOCK_RAW, 0));
}

static int crypto_socket(void)
{
    return got_fd(socket(AF_ALG, SOCK_SEQPACKET, 0));
}

static int vm_socket(void)
{
    return got_fd(socket(AF_VSOCK, SOCK_STREAM, 0));
}

/* A descriptor by `socket`; descriptors under way are counted against the user, not the program. */
static int pass_fd(int socket)
{
    union {
        struct cmsghdr head;
        char room[CMSG_SPACE(sizeof(int))];
    } control = {.head = {.cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS, .cmsg_len = CMSG_LEN(sizeof(int))}};
    char byte = 'x';
    struct iovec part = {&byte, 1};
    struct msghdr m = {
        .msg_iov = &part, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof control};
    int fd = 2;
    memcpy(CMSG_DATA(&control.head), &fd, sizeof fd);
    return sendmsg(socket, &m, MSG_NOSIGNAL) == 1;
}

static int on_pair(int (*ask)(int))
{
    int pair[2];
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) < 0)
        return 0;
    int through = ask(pair[0]);
    close(pair[0]);
    close(pair[1]);
    return through;
}

static int send_fd(void)
{
    return on_pair(pass_fd);
}

static int urgent(int socket)
{
    return send(socket, "x", 1, MSG_OOB | MSG_NOSIGNAL) == 1;
}

static int send_urgent(void)
{
    return on_pair(urgent);
}

static int low_mark(int socket)
{
    int one = 1;
    return setsockopt(socket, SOL_SOCKET, SO_RCVLOWAT, &one, sizeof one) == 0;
}

static int set_low_mark(void)
{
    return on_pair(low_mark);
}

static int peer(int socket)
{
    struct ucred who;
    socklen_t size = sizeof who;
    return getsockopt(socket, SOL_SOCKET, SO_PEERCRED, &who, &size) == 0;
}

static int peer_number(void)
{
    return on_pair(peer);
}

static int shared_memory(void)
{
    int id = shmget(IPC_PRIVATE, 4096, 0600);
    if (id >= 0)
        shmctl(id, IPC_RMID, NULL);
    return id >= 0;
}

static int message_queue(void)
{
    return is_there(syscall(SYS_mq_open, "zpipe-probe-none", O_RDONLY, 0, NULL));
}

static int keyring(void)
{
    return is_there(syscall(SYS_keyctl, 0 /* GET_KEYRING_ID */, -3 /* session */, 0, 0, 0));
}

static int terminal_input(void) /* on a terminal of our own */
{
    int fd = open("/dev/ptmx", O_RDWR | O_NOCTTY | O_CLOEXEC), zero = 0;
    int through = fd >= 0 && ioctl(fd, TIOCSPTLCK, &zero) == 0;
    if (fd >= 0)
        close(fd);
    return through;
}

/* --- parts of the kernel that nobody in a sandbox needs --- */

static int io_ring(void)
{
    char parameters[120] = {0};
    return got_fd(syscall(SYS_io_uring_setup, 1, parameters));
}

static int bpf_program(void)
{
    return is_there(syscall(SYS_bpf, 9999, NULL, 0));
}

static int perf_event(void)
{
    return is_there(syscall(SYS_perf_event_open, NULL, 0, -1, -1, 0));
}

static int fault_fd(void)
{
    return is_there(syscall(SYS_userfaultfd, 0x40000000));
}

static int local_table(void)
{
    char room[64];
    return is_there(syscall(SYS_modify_ldt, 0, room, sizeof room));
}

static int watch_files(void)
{
    return got_fd(syscall(SYS_inotify_init1, O_CLOEXEC));
}

static int system_log(void)
{
    return syscall(SYS_syslog, 10 /* its size */, NULL, 0) >= 0;
}

static int struct_open(void)
{
    return is_there(syscall(SYS_openat2, AT_FDCWD, ".", NULL, 0));
}

static int x32_call(void)
{
    return syscall(0x40000000 + SYS_getpid) > 0;
}

static int i386_call(void)
{
    long result;
    __asm__ volatile("int $0x80" : "=a"(result) : "a"(20L) : "memory", "r8", "r9", "r10", "r11"); /* getpid */
    return result > 0;
}

/* --- programs of other kinds: the wall is around all --- */

/* unshare(CLONE_NEWUSER), then its errno as the exit status; with no C library and no loader. */
static const uint8_t code64[] = {0xbf, 0, 0, 0, 0x10,       /* mov $0x10000000, %edi */
                                 0xb8, 0x10, 0x01, 0, 0,    /* mov $272, %eax */
                                 0x0f, 0x05,                /* syscall */
                                 0xf7, 0xd8, 0x89, 0xc7,    /* neg %eax; mov %eax, %edi */
                                 0xb8, 60, 0, 0, 0,         /* mov $60, %eax: exit */
                                 0x0f, 0x05};
static const uint8_t code32[] = {0x31, 0xdb, 0xb8, 1, 0, 0, 0, 0xcd, 0x80}; /* exit(0) by int 0x80 */

static size_t make_elf64(uint8_t *out)
{
    struct __attribute__((packed)) {
        uint8_t ident[16];
        uint16_t type, machine;
        uint32_t version;
        uint64_t entry, phoff, shoff;
        uint32_t flags;
        uint16_t ehsize, phentsize, phnum, shentsize, shnum, shstrndx;
        uint32_t p_type, p_flags;
        uint64_t p_offset, p_vaddr, p_paddr, p_filesz, p_memsz, p_align;
    } h = {.ident = {0x7f, 'E', 'L', 'F', 2, 1, 1}, .type = 2, .machine = 62, .version = 1,
           .entry = 0x400000 + 120, .phoff = 64, .ehsize = 64, .phentsize = 56, .phnum = 1, .p_type = 1,
           .p_flags = 5, .p_vaddr = 0x400000, .p_paddr = 0x400000, .p_filesz = 120 + sizeof code64,
           .p_memsz = 120 + sizeof code64, .p_align = 4096};
    memcpy(out, &h, sizeof h);
    memcpy(out + sizeof h, code64, sizeof code64);
    return sizeof h + sizeof code64;
}

static size_t make_elf32(uint8_t *out)
{
    struct __attribute__((packed)) {
        uint8_t ident[16];
        uint16_t type, machine;
        uint32_t version, entry, phoff, shoff, flags;
        uint16_t ehsize, phentsize, phnum, shentsize, shnum, shstrndx;
        uint32_t p_type, p_offset, p_vaddr, p_paddr, p_filesz, p_memsz, p_flags, p_align;
    } h = {.ident = {0x7f, 'E', 'L', 'F', 1, 1, 1}, .type = 2, .machine = 3, .version = 1,
           .entry = 0x08048000 + 84, .phoff = 52, .ehsize = 52, .phentsize = 32, .phnum = 1, .p_type = 1,
           .p_vaddr = 0x08048000, .p_paddr = 0x08048000, .p_filesz = 84 + sizeof code32,
           .p_memsz = 84 + sizeof code32, .p_flags = 5, .p_align = 4096};
    memcpy(out, &h, sizeof h);
    memcpy(out + sizeof h, code32, sizeof code32);
    return sizeof h + sizeof code32;
}

/* Status 0 of what `fd` holds: 1.  By execveat, from memory. */
static int run_fd(int fd)
{
    int status;
    char *argv[] = {"probe", NULL};
    pid_t pid = fork();
    if (pid == 0) {
        syscall(SYS_execveat, fd, "", argv, environ, AT_EMPTY_PATH);
        _exit(99);
    }
    return pid > 0 && waitpid(pid, &status, 0) == pid && WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

static int run_bytes(const void *data, size_t size)
{
    int fd = (int)syscall(SYS_memfd_create, "probe", 1u /* close on exec */);
    int through = fd >= 0 && write(fd, data, size) == (ssize_t)size && run_fd(fd);
    if (fd >= 0)
        close(fd);
    return through;
}

static int static_program(void)
{
    uint8_t elf[256];
    return run_bytes(elf, make_elf64(elf));
}

static int program_32(void)
{
    uint8_t elf[256];
    return run_bytes(elf, make_elf32(elf));
}

/* A chain of #! lines, each a program of the one before, to the static one; the last one's name is gone
 * before it runs. */
static int script_chain(void)
{
    char name[2][64], text[128];
    uint8_t elf[256];
    size_t size = make_elf64(elf);
    int through = 0;
    for (int i = 0; i < 2; i++)
        snprintf(name[i], sizeof name[i], "/tmp/probe-%d-%d", (int)getpid(), i);
    for (int i = 0; i < 2; i++) {
        int fd = open(name[i], O_CREAT | O_EXCL | O_WRONLY | O_CLOEXEC, 0700);
        int n = i ? snprintf(text, sizeof text, "#!%s\n", name[0]) : (int)size;
        if (write(fd, i ? (void *)text : (void *)elf, (size_t)n) != n)
            return 0;
        close(fd);
    }
    int fd = open(name[1], O_RDONLY);
    pid_t pid = fork();
    int status = 1;
    if (pid == 0) {
        execl(name[1], "probe", (char *)NULL);
        _exit(99);
    }
    if (pid > 0 && waitpid(pid, &status, 0) == pid)
        through = WIFEXITED(status) && WEXITSTATUS(status) == 0;
    close(fd);
    unlink(name[1]);
    fd = open(name[0], O_RDONLY | O_CLOEXEC);
    unlink(name[0]);
    through |= run_fd(fd); /* deleted */
    close(fd);
    return through;
}

/* --- the list --- */

/* off: who gets through where there is no wall.  a: anybody; r: root; ?: depends on the kernel or the host.
 * bare: a program started directly; none: with --isolation=none, where the box itself takes some away. */
static const struct probe {
    const char *name;
    int (*ask)(void);
    char bare, none;
    bool child;
} probes[] = {
    {"host-file", host_file, 'a', 'a', 0},
    {"host-passwd", host_passwd, 'a', 'a', 0},
    {"host-directories", host_directories, 'a', 'a', 0},
    {"above-root", above_root, 'a', 'a', 0},
    {"forgotten-fd", forgotten_fd, 'a', '-', 0},
    {"forgotten-fd-up", forgotten_fd_up, 'a', '-', 1},
    {"more-fds", more_fds, 'a', '-', 0},
    {"proc-mem", proc_mem, 'a', 'a', 0},
    {"proc-root", proc_root, 'a', 'a', 0},
    {"file-handle", file_handle, '?', '?', 0},
    {"open-handle", open_handle, 'r', 'r', 0},
    {"write-image", write_image, 'r', 'r', 0},
    {"write-input", write_input, 'a', 'a', 0},
    {"mode-by-raced-fd", mode_by_raced_fd, '?', '?', 0}, /* first: it is seen by the time of change */
    {"mode-by-fd", mode_by_fd, 'a', 'a', 0},
    {"times-by-fd", times_by_fd, 'a', 'a', 0},
    {"make-device", make_device, 'r', 'r', 0},
    {"setuid-bit", setuid_bit, 'a', 'a', 0},
    {"devices", devices, 'a', 'a', 0},
    {"new-user-space", new_user_space, 'a', 'a', 1},
    {"mount-in-own", mount_in_own, 'a', 'a', 1},
    {"clone-user-space", clone_user_space, 'a', 'a', 0},
    {"clone-high-half", clone_high_half, 'a', 'a', 0},
    {"clone3-user-space", clone3_user_space, 'a', 'a', 0},
    {"clone3", clone3_plain, 'a', 'a', 0},
    {"set-namespace", set_namespace, 'a', 'a', 0},
    {"mount", mount_nowhere, 'a', 'a', 0},
    {"unmount", unmount_nowhere, '?', '?', 0},
    {"remount", remount_root, '?', '?', 0},
    {"pivot-root", pivot, 'r', 'r', 0},
    {"copy-tree", copy_tree, '?', '?', 0},
    {"new-filesystem", new_filesystem, 'r', 'r', 0},
    {"change-root", change_root, 'r', 'r', 1},
    {"nested-root", nested_root, 'r', 'r', 1},
    {"host-signal", host_signal, 'a', 'a', 0},
    {"other-processes", other_processes, 'a', 'a', 0},
    {"signal-init", signal_init, 'a', 'a', 0},
    {"trace-me", trace_me, '?', '?', 1},
    {"trace-parent", trace_parent, '?', '?', 1},
    {"read-memory", read_memory, 'a', 'a', 0},
    {"write-memory", write_memory, 'a', 'a', 0},
    {"process-fd", process_fd, 'a', 'a', 0},
    {"take-fd", take_fd, 'a', 'a', 0},
    {"compare", compare, '?', '?', 0},
    {"capabilities", capabilities, 'r', 'r', 0},
    {"new-privileges", new_privileges, 'a', 'a', 0},
    {"become-root", become_root, 'r', 'r', 1},
    {"undo-layout", undo_layout, 'a', 'a', 1},
    {"undo-tsc", undo_tsc, '?', '?', 1},
    {"more-filters", more_filters, 'a', 'a', 0},
    {"raise-limit", raise_limit, 'a', 'a', 1},
    {"other-limits", other_limits, 'a', 'a', 0},
    {"dumps-core", dumps_core, '?', '-', 0},
    {"many-processes", many_processes, '?', '?', 0},
    {"high-fds", high_fds, '?', '-', 0},
    {"secret-word", secret_word, 'a', '-', 0},
    {"named-socket", named_socket, 'a', 'a', 0},
    {"network-socket", network_socket, 'a', 'a', 0},
    {"network6-socket", network6_socket, '?', '?', 0},
    {"netlink-socket", netlink_socket, 'a', 'a', 0},
    {"packet-socket", packet_socket, '?', '?', 0},
    {"crypto-socket", crypto_socket, '?', '?', 0},
    {"vm-socket", vm_socket, '?', '?', 0},
    {"send-fd", send_fd, 'a', 'a', 0},
    {"send-urgent", send_urgent, '?', '?', 0},
    {"set-low-mark", set_low_mark, 'a', 'a', 0},
    {"peer-number", peer_number, 'a', 'a', 0},
    {"shared-memory", shared_memory, '?', '?', 0},
    {"message-queue", message_queue, '?', '?', 0},
    {"keyring", keyring, '?', '?', 1},
    {"terminal-input", terminal_input, '?', '?', 0},
    {"io-ring", io_ring, '?', '?', 0},
    {"bpf-program", bpf_program, '?', '?', 0},
    {"perf-event", perf_event, '?', '?', 0},
    {"fault-fd", fault_fd, '?', '?', 0},
    {"local-table", local_table, '?', '?', 0},
    {"watch-files", watch_files, 'a', 'a', 0},
    {"system-log", system_log, '?', '?', 0},
    {"struct-open", struct_open, 'a', 'a', 0},
    {"x32-call", x32_call, '?', '?', 1},
    {"i386-call", i386_call, '?', '?', 1},
    {"static-program", static_program, 'a', 'a', 0},
    {"script-chain", script_chain, 'a', 'a', 0},
    {"program-32", program_32, '?', '?', 0},
};

/* --- what must work, wherever: or the answers above would say nothing --- */

static int own_modes(void)
{
    struct timespec t[2] = {{1, 0}, {2, 0}};
    struct stat s;
    int fd = open("/tmp", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
    int good = fd >= 0 && fchmod(fd, 0640) == 0 && futimens(fd, t) == 0 && fstat(fd, &s) == 0 &&
               (s.st_mode & 0777) == 0640 && s.st_mtim.tv_sec == 2;
    if (fd >= 0)
        close(fd);
    return good;
}

/* The parent of a vfork stands still until the child's question is answered. */
static int vfork_asks(void)
{
    int status = 1;
    pid_t pid = vfork();
    if (pid == 0) {
        struct timespec t;
        _exit(syscall(SYS_clock_gettime, CLOCK_REALTIME, &t) != 0);
    }
    return pid > 0 && waitpid(pid, &status, 0) == pid && status == 0;
}

static void *ask_random(void *wrong)
{
    char bytes[16];
    if (syscall(SYS_getrandom, bytes, sizeof bytes, 0) != sizeof bytes)
        __atomic_fetch_add((int *)wrong, 1, __ATOMIC_RELAXED);
    return NULL;
}

static int many_threads(void)
{
    static pthread_t thread[THREADS];
    int wrong = 0, n = 0;
    while (n < THREADS && pthread_create(&thread[n], NULL, ask_random, &wrong) == 0)
        n++;
    for (int i = 0; i < n; i++)
        pthread_join(thread[i], NULL);
    return n == THREADS && wrong == 0;
}

static int open_all(void)
{
    int last = -1, fd;
    while ((fd = open("/dev/null", O_RDONLY | O_CLOEXEC)) >= 0 && fd < 5000)
        last = fd;
    for (fd = 3; fd <= last; fd++)
        close(fd);
    return last > 3 && opens("/dev/null", O_RDONLY);
}

static int many_zombies(void)
{
    int n = 0;
    while (n < CHILDREN) {
        pid_t pid = fork();
        if (pid == 0)
            _exit(0);
        if (pid < 0)
            break;
        n++;
    }
    return n > 0; /* nobody waits for them: they are the init's */
}

static const struct probe musts[] = {
    {"own-modes", own_modes, 0, 0, 0},       {"vfork-asks", vfork_asks, 0, 0, 0},
    {"many-threads", many_threads, 0, 0, 0}, {"open-all", open_all, 0, 0, 0},
    {"many-zombies", many_zombies, 0, 0, 1},
};

static int put(const struct probe *p)
{
    errno = 0;
    int through = p->child ? in_child(p->ask) : p->ask();
    printf("%-20s %s\n", p->name, through ? "through" : "refused");
    return through;
}

int main(int argc, char **argv)
{
    if (argc != 4)
        return 2;
    bool full = !strcmp(argv[1], "full"), bare = !strcmp(argv[1], "bare");
    marker = argv[2];
    host_process = (pid_t)atoi(argv[3]);
    setvbuf(stdout, NULL, _IOLBF, 0);
    bool root = !full && geteuid() == 0;
    int through = 0, wanted = 0, wrong = 0;
    for (size_t i = 0; i < sizeof probes / sizeof *probes; i++) {
        char off = bare ? probes[i].bare : probes[i].none;
        bool want = !full && (off == 'a' || (off == 'r' && root));
        bool got = put(&probes[i]);
        through += got;
        wanted += want;
        if (full ? got : want && !got) {
            wrong++;
            printf("WRONG: %s is %s\n", probes[i].name, got ? "answered" : "refused without a wall");
        }
    }
    for (size_t i = 0; i < sizeof musts / sizeof *musts; i++)
        if (!put(&musts[i])) {
            wrong++;
            printf("WRONG: %s does not work\n", musts[i].name);
        }
    printf("%s: %zu questions, %d through, %d of them must be\n", argv[1], sizeof probes / sizeof *probes,
           through, wanted);
    return wrong != 0;
}
