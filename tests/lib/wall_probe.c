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
#include "wall_probe.h"

#define THREADS   200
#define CHILDREN  500

const char *marker;
pid_t host_process;

int in_child(int (*ask)(void))
{
    int status;
    pid_t pid = fork();
    if (pid == 0)
        _exit(ask() == 1);
    return pid > 0 && waitpid(pid, &status, 0) == pid && WIFEXITED(status) && WEXITSTATUS(status) == 1;
}

int opens(const char *path, int flags)
{
    int fd = open(path, flags | O_CLOEXEC);
    if (fd >= 0)
        close(fd);
    return fd >= 0;
}

int is_there(long result)
{
    return result >= 0 || (errno != ENOSYS && errno != EPERM && errno != EACCES);
}

int got_fd(long fd)
{
    if (fd >= 0)
        close((int)fd);
    return fd >= 0;
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
    char own[] = "/tmp/own-XXXXXX";
    int fd = mkostemp(own, O_CLOEXEC);
    unlink(own);
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
