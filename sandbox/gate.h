/* The gate (gate.c): a page of code in front of the program loader, in the loader's place, whose calls the filter allows.
 * The shim leaves the page empty.  If a program asks often, zpipe-box fills the page (notify_gate.c) and leads the C
 * library's calls there. */
#pragma once
#include "sandbox/shim.h"

#define GATE_AT          SHIM_LOADER_AT
#define GATE_BYTES       SHIM_GATE_BYTES
#define GATE_TABLE       0xc00 /* offset in the page */
#define GATE_SITES_MAX   8
#define GATE_ENTRY_BYTES 16 /* from one site's entry to the next one's */

#ifndef __ASSEMBLER__
#include <stdint.h>

/* The registers of a call, as the gate saves them on the stack. */
struct gate_frame {
    uint64_t rbp, r9, r8, r10, rdx, rsi, rdi, rax;
};

/* A place in the code that makes a call: `mov $VALUE, %REGISTER; syscall`, with the mov replaced by a jump. */
struct gate_site {
    uint64_t back; /* the address of the syscall instruction */
    uint32_t value, offset; /* offset: of the register in the frame */
};

struct gate_table {
    uint64_t image; /* the number of the mount with /usr; 0: unknown */
    uint64_t device; /* the device of /usr; 0: unknown */
    int64_t epoch_s; /* no file of the image is told to be newer */
    uint64_t count;
    struct gate_site site[GATE_SITES_MAX];
};

_Static_assert(GATE_TABLE + sizeof(struct gate_table) <= GATE_BYTES, "the page is full");

extern const uint8_t gate_image[];
extern const uint64_t gate_image_size;
#endif
