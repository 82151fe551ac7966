/* The loader shim: a small static program that stands in a sandbox in the place of the dynamic
 * loader
 * (/lib64/ld-linux-x86-64.so.2, mode 0755), corrects the auxiliary vector and hands over to the
 * real loader, which it looks for at these names, in this order.  The sandbox must keep at least
 * one of them visible, and it must not be the shim itself.
 *
 * Programs that it does not load (static ones, other loaders) are notify_exec.c's. */
#pragma once
#include <stddef.h>

#define SHIM_PLACE "/lib64/ld-linux-x86-64.so.2"
#define SHIM_REAL_LOADERS                                                                          \
    {                                                                                              \
        "/usr/lib/x86_64-linux-gnu/ld-linux-x86-64.so.2", "/usr/lib64/ld-linux-x86-64.so.2",       \
            "/usr/lib/ld-linux-x86-64.so.2", "/lib/x86_64-linux-gnu/ld-linux-x86-64.so.2"          \
    }

/* Where the real loader lies in a program's memory, if there is room: in the gap below the stack, which the kernel gives to
 * nobody who does not ask for it.  It opens and looks at libraries, shows nobody what it sees, and so it is not watched
 * (syscalls.h). */
#define SHIM_LOADER_AT   0x7ffff9000000ull /* a multiple of the room */
#define SHIM_LOADER_ROOM 0x100000ull
#define SHIM_GATE_BYTES  0x1000ul /* in front of it: gate.h */

/* Behind the arguments of an open(2), twice: the shim opens the loader, and shows nobody what that tells. */
#define SHIM_OPENS 0x7a706970

#ifndef SHIM_ITSELF
extern const unsigned char shim_image[]; /* the ELF file to write */
extern const size_t shim_image_size;
#endif
