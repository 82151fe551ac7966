/* The forker: code that is put into a template's stopped program, and clones it.  The server writes its bytes and this page
 * into the program's memory.  All of it lies at fixed addresses that no program uses, so a clone's memory is laid out as it
 * would be without. */
#pragma once

#define FORKER_TEXT        0x10000 /* the lowest address that a host lets be mapped; programs may map nothing up to the end of all this (syscalls.c) */
#define FORKER_PAGE        0x14000
#define FORKER_END         0x1c000
#define FORKER_STACK       0x20000
#define FORKER_STACK_BYTES 0x8000
#define FORKER_WORDS       FORKER_STACK /* our own words (syscalls_own); a clone finds zeros there, as in all of the stack (MADV_WIPEONFORK) */
#define FORKER_CLONE_BYTES 0x1000 /* the part of the stack in which a clone runs until its program goes on; it leaves zeros there, and uses nothing below */

#define FORKER_PORTS_MAX 64
#define FORKER_FILES_MAX 32
#define FORKER_PATHS     16384
#define FORKER_DOORS     2 /* clone N waits at door N mod 2: one may be at work while the next is made */
#define FORKER_OWN       (3 + FORKER_DOORS) /* descriptors that the forker has for itself */
#define FORKER_SHOWN_MAX 8 /* writable directories of a template that its init shows to the server */

#ifndef __ASSEMBLER__
#include <stdint.h>

/* The state of the program when it was stopped, just before its call; the forker gives it to each clone. */
struct forker_page {
    uint64_t rax, rbx, rdx, rsi, rdi, rbp, r8, r9, r10, r12, r13, r14, r15; /* rcx and r11 are changed by any call */
    uint64_t rflags, rsp, rip;
    uint64_t signals; /* the blocked signals */
    struct forker_altstack { /* as for sigaltstack */
        uint64_t at;
        int32_t flags, unused;
        uint64_t size; /* 0: none */
    } altstack;
    uint64_t tid_address, robust_list, robust_size;
    /* The forker's own descriptors: to its init; the user namespace; the doors to the server; the file for the next process
     * number (-1: none). */
    int32_t control, users, door[FORKER_DOORS], last_pid;
    uint32_t port_count, file_count;
    struct forker_port { /* a descriptor that is one of its ports */
        uint32_t index; /* its index in the message that gives a clone its descriptors */
        int32_t number;
        int32_t flags; /* O_CLOEXEC or 0 */
    } port[FORKER_PORTS_MAX];
    struct forker_file { /* an open file, which a clone opens anew */
        int32_t number, flags;
        int32_t same; /* it is a duplicate of this descriptor, which comes before it here; -1: it is not */
        int32_t unused;
        int64_t offset;
        uint32_t path; /* in `paths` */
    } file[FORKER_FILES_MAX];
    char paths[FORKER_PATHS];
};

_Static_assert(sizeof(struct forker_page) <= FORKER_END - FORKER_PAGE, "the page has grown");

extern const uint8_t forker_image[];
extern const uint64_t forker_image_size;
#endif
