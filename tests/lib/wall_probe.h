/* The questions of wall_probe.c, and helpers for asking them.  A question returns 1 if it got through the wall. */
#pragma once
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
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

extern const char *marker;   /* a file of the host */
extern pid_t host_process; /* a process outside of the sandbox */

/* Asks in a child: 1 if `ask` returns 1 there; a child that is killed did not get through. */
int in_child(int (*ask)(void));
int opens(const char *path, int flags);
/* Is the call allowed?  Then it succeeds, or fails for another reason than "no such call" and "not permitted". */
int is_there(long result);
int got_fd(long fd);
int up_from(int directory); /* does the way up from there leave the root? */

/* wall_files.c */
int host_file(void);
int host_passwd(void);
int host_directories(void);
int above_root(void);
int forgotten_fd(void);
int forgotten_fd_up(void);
int more_fds(void);
int proc_mem(void);
int proc_root(void);
int file_handle(void);
int open_handle(void);
int write_image(void);
int write_input(void);
int mode_by_raced_fd(void);
int mode_by_fd(void);
int times_by_fd(void);
int make_device(void);
int setuid_bit(void);
int devices(void);

/* wall_spaces.c */
int new_user_space(void);
int mount_in_own(void);
int clone_user_space(void);
int clone_high_half(void);
int clone3_user_space(void);
int clone3_plain(void);
int set_namespace(void);
int mount_nowhere(void);
int unmount_nowhere(void);
int remount_root(void);
int pivot(void);
int copy_tree(void);
int new_filesystem(void);
int change_root(void);
int nested_root(void);

/* wall_processes.c */
int host_signal(void);
int other_processes(void);
int signal_init(void);
int trace_me(void);
int trace_parent(void);
int read_memory(void);
int write_memory(void);
int process_fd(void);
int take_fd(void);
int compare(void);
int capabilities(void);
int new_privileges(void);
int become_root(void);
int undo_layout(void);
int undo_tsc(void);
int more_filters(void);
int raise_limit(void);
int other_limits(void);
int dumps_core(void);
int many_processes(void);
int high_fds(void);
int secret_word(void);

/* wall_sockets.c */
int named_socket(void);
int network_socket(void);
int network6_socket(void);
int netlink_socket(void);
int packet_socket(void);
int crypto_socket(void);
int vm_socket(void);
int send_fd(void);
int send_urgent(void);
int set_low_mark(void);
int peer_number(void);
int shared_memory(void);
int message_queue(void);
int keyring(void);
int terminal_input(void);

/* wall_kernel.c */
int io_ring(void);
int bpf_program(void);
int perf_event(void);
int fault_fd(void);
int local_table(void);
int watch_files(void);
int system_log(void);
int struct_open(void);
int x32_call(void);
int i386_call(void);

/* wall_programs.c */
int static_program(void);
int script_chain(void);
int program_32(void);
