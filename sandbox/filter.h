/* The task filter: one seccomp program made from the table in syscalls.def.  Each task installs it just before it execs its
 * program.  It is an allow-list: calls that are not in it get ENOSYS, another ABI (int 0x80) kills, x32 numbers get ENOSYS.
 *
 * Use: the server calls filter_prepare for the usual variants before it forks the zygote, so that every descendant has the
 * compiled programs in its memory.  After its last privileged call (mounts, setresuid, capset, ...) and with no_new_privs
 * set, a task calls filter_install, the server takes the listener (pidfd_getfd), and the task execs.  pid 1 (the init) has
 * no filter: it needs wait4's real accounting.  After filter_install only what the table allows works: futex with
 * FILTER_OWN_BITS, close, close_range, dup2, dup3, fcntl(F_SETFD), sigaction, sigprocmask, capset, setresuid, execve,
 * execveat, write, exit_group.  clock_gettime and everything else that is notified waits until the server answers. */
#pragma once
#include "base/err.h"

#include <stdbool.h>

/* Compiles a variant (enum filter_variant).  FILTER_PLAIN and FILTER_OPENS are kept.  Of the others only the last one is
 * kept; the task that wants it compiles it.  Idempotent. */
int filter_prepare(unsigned variant, struct err *e);

/* Installs a prepared variant in the calling thread.  *listener: owned by the caller, close-on-exec.  Async-signal-safe
 * (one or two system calls, no heap), so it may be called in a child that shares its parent's memory. */
int filter_install(unsigned variant, int *listener, struct err *e);

/* Is this program watched?  All are, except those on a list that show nothing about files and open no name that zpipe-box
 * answers.  A program on the list is watched too if PATH may find another one of its name outside of the image, or if a
 * word or a variable names /dev/ or /proc/, or a program for it to start.  `env` may be NULL. */
bool filter_watches(const char *const *argv, const char *const *env);
/* Is this name on that list? */
bool filter_plain(const char *word);

/* With these bits in a futex wait or wake the kernel does it: for the init and its child, before anybody answers.  If a
 * program waits with them, it is found waiting, and its task is not certified if others wait for their turn. */
#define FILTER_OWN_BITS 0x7a706970

/* A number that changes with the treatment of any system call: part of the determinism domain. */
#define FILTER_POLICY_VERSION 32
