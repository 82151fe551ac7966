/* A host that refuses: `refuse CALL ERRNO [CALL ERRNO]... -- PROGRAM [WORD]...` starts the program with these
 * system calls refused, for it and all below it.  An errno is a number. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

static const struct call {
    const char *name;
    unsigned nr, arg, mask; /* refused if a bit of the mask is set in this argument; mask 0: always */
} calls[] = {
    {"clone", SYS_clone, 0, CLONE_NEWUSER},
    {"unshare", SYS_unshare, 0, 0},
    {"mount", SYS_mount, 0, 0},
    {"mount_move", SYS_mount, 3, MS_MOVE}, /* of a task's /tmp, when its place is used again */
    {"umount2", SYS_umount2, 0, 0},
    {"pivot_root", SYS_pivot_root, 0, 0},
    {"open_tree", SYS_open_tree, 0, 0},
    {"move_mount", SYS_move_mount, 0, 0},
    {"mount_setattr", 442, 0, 0},
    {"sethostname", SYS_sethostname, 0, 0},
    {"setresuid", SYS_setresuid, 0, 0},
    {"personality", SYS_personality, 0, 0},
    {"capset", SYS_capset, 0, 0},
    {"seccomp", SYS_seccomp, 0, 0},
    {"close_range", SYS_close_range, 0, 0},
    {"pidfd_getfd", 438, 0, 0},
    {"pidfd_open", SYS_pidfd_open, 1, O_EXCL}, /* a thread's, which came with Linux 6.9 */
    {"landlock_create_ruleset", 444, 0, 0},
    {"landlock_restrict_self", 446, 0, 0},
};

static const struct call *find(const char *name)
{
    for (size_t i = 0; i < sizeof calls / sizeof *calls; i++)
        if (!strcmp(calls[i].name, name))
            return &calls[i];
    fprintf(stderr, "refuse: no call '%s'\n", name);
    exit(99);
}

static void refuse(const struct call *c, unsigned error)
{
    const struct sock_filter code[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, c->nr, 0, 4),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, c->mask ? ~c->nr : c->nr, 2, 0),
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, args) + 8 * c->arg),
        BPF_JUMP(BPF_JMP | BPF_JSET | BPF_K, c->mask, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | error),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    struct sock_fprog program = {sizeof code / sizeof *code, (struct sock_filter *)code};
    /* By prctl, so that seccomp itself may be refused. */
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0 || prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) < 0) {
        perror("refuse");
        exit(99);
    }
}

int main(int argc, char **argv)
{
    int i = 1;
    for (; i + 1 < argc && strcmp(argv[i], "--") != 0; i += 2)
        refuse(find(argv[i]), (unsigned)atoi(argv[i + 1]));
    if (i + 1 >= argc)
        return 99;
    execvp(argv[i + 1], argv + i + 1);
    perror("refuse");
    return 99;
}
