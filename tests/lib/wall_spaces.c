/* Namespaces and mounts.  See wall_probe.h. */
#include "wall_probe.h"

int new_user_space(void)
{
    return unshare(CLONE_NEWUSER) == 0;
}

int mount_in_own(void)
{
    return unshare(CLONE_NEWUSER | CLONE_NEWNS) == 0 &&
           mount("zpipe", "/tmp", "tmpfs", 0, "size=4k") == 0; /* this child's own */
}

int clone_user_space(void)
{
    long pid = syscall(SYS_clone, CLONE_NEWUSER | SIGCHLD, 0, 0, 0, 0);
    if (pid == 0)
        _exit(0);
    return pid > 0 && waitpid((pid_t)pid, NULL, 0) == pid;
}

/* The kernel reads 64 bits of clone's flags and uses 32: the high half must not hide the low one. */
int clone_high_half(void)
{
    long pid = syscall(SYS_clone, 0xdeadbeef00000000ul | CLONE_NEWUSER | SIGCHLD, 0, 0, 0, 0);
    if (pid == 0)
        _exit(0);
    return pid > 0 && waitpid((pid_t)pid, NULL, 0) == pid;
}

int clone3_user_space(void)
{
    uint64_t args[11] = {CLONE_NEWUSER, 0, 0, 0, SIGCHLD};
    long pid = syscall(SYS_clone3, args, sizeof args);
    if (pid == 0)
        _exit(0);
    return pid > 0 && waitpid((pid_t)pid, NULL, 0) == pid;
}

int clone3_plain(void) /* flags behind a pointer cannot be looked at: the whole call is refused */
{
    return is_there(syscall(SYS_clone3, NULL, 0));
}

int set_namespace(void)
{
    return is_there(syscall(SYS_setns, -1, 0));
}

int mount_nowhere(void)
{
    return is_there(mount("zpipe", NOWHERE, "tmpfs", 0, NULL));
}

int unmount_nowhere(void)
{
    return is_there(umount2(NOWHERE, 0));
}

int remount_root(void) /* an unknown flag: never done */
{
    return is_there(syscall(SYS_mount_setattr, AT_FDCWD, "/", 0x40000000, NULL, 0));
}

int pivot(void)
{
    return is_there(syscall(SYS_pivot_root, NOWHERE, NOWHERE));
}

int copy_tree(void)
{
    return got_fd(syscall(SYS_open_tree, AT_FDCWD, "/", 0));
}

int new_filesystem(void)
{
    return got_fd(syscall(SYS_fsopen, "tmpfs", 0));
}

int change_root(void)
{
    return chroot(".") == 0;
}

int nested_root(void) /* the old way out of a chroot */
{
    return mkdir("probe-nest", 0700) == 0 && chroot("probe-nest") == 0 && up_from(AT_FDCWD);
}
