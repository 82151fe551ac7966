/* The loader shim: a small static program that takes the place of the dynamic loader in a sandbox
 * (/lib64/ld-linux-x86-64.so.2, mode 0755).  It corrects the auxiliary vector and starts the real loader, which it looks
 * for under these names, in this order.  The sandbox must keep at least one of them visible, and it must not be the shim
 * itself.
 *
 * Programs that it does not load (static ones, other loaders) are handled by notify_exec.c. */
#pragma once
#include <stddef.h>

#define SHIM_PLACE "/lib64/ld-linux-x86-64.so.2"
#define SHIM_REAL_LOADERS                                                                          \
    {                                                                                              \
        "/usr/lib/x86_64-linux-gnu/ld-linux-x86-64.so.2", "/usr/lib64/ld-linux-x86-64.so.2",       \
            "/usr/lib/ld-linux-x86-64.so.2", "/lib/x86_64-linux-gnu/ld-linux-x86-64.so.2"          \
    }

/* Where the real loader is in a program's memory, if there is room: in the gap below the stack, where the kernel puts
 * nothing unless it is asked to.  The loader opens and looks at libraries but shows nobody what it sees, so it is not
 * watched (syscalls.h). */
#define SHIM_LOADER_AT   0x7ffff9000000ull /* a multiple of the room */
#define SHIM_LOADER_ROOM 0x100000ull
#define SHIM_GATE_BYTES  0x1000ul /* in front of the loader: gate.h */

/* Put after the arguments of an open(2), twice, by the shim: it opens the loader, and shows nobody the result. */
#define SHIM_OPENS 0x7a706970

#ifndef SHIM_ITSELF
extern const unsigned char shim_image[]; /* the ELF file to write */
extern const size_t shim_image_size;
#endif
