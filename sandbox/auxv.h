/* What every program is told in its auxiliary vector instead of the kernel's words.  Used by the shim for the programs that it
 * loads, and by notify_exec.c for the others; the shim has no C library, so all of this is inline.
 *   - no vDSO: its clocks and its random bytes would be real ones; without it C libraries make system calls, which the filter
 *     hands over.  A program that looks for the vDSO by itself finds none either: its pages are taken away;
 *   - no rseq, as that call is refused; no words of newer kernels;
 *   - the features that every x86-64 processor has; programs that use others ask the processor itself;
 *   - a stack for signals that is large enough for every processor;
 *   - 16 random bytes, from which programs make stack guards and hash seeds.  They are digits of pi, so anybody can see that
 *     nothing is hidden in them. */
#pragma once
#include <elf.h>
#include <stdint.h>

#ifndef AT_RSEQ_FEATURE_SIZE
#define AT_RSEQ_FEATURE_SIZE 27
#define AT_RSEQ_ALIGN        28
#endif
#ifndef AT_HWCAP3
#define AT_HWCAP3 29
#define AT_HWCAP4 30
#endif
#ifndef AT_MINSIGSTKSZ
#define AT_MINSIGSTKSZ 51
#endif

#define AUXV_HWCAP        0x178bfbff /* CPUID 1, EDX: the features that every x86-64 has */
#define AUXV_SIGNAL_STACK 12288      /* with the largest register file (AMX) 11952 are needed */
#define AUXV_RANDOM                                                                                \
    {                                                                                              \
        0x24, 0x3f, 0x6a, 0x88, 0x85, 0xa3, 0x08, 0xd3, 0x13, 0x19, 0x8a, 0x2e, 0x03, 0x70, 0x73,  \
            0x44                                                                                   \
    }
#define AUXV_RANDOM_BYTES 16

/* Before the vDSO lie the pages with its clocks, four to six of them; at a program's start nothing else is there. */
#define AUXV_CLOCKS_ROOM 0x40000ul

/* Corrects one entry; not the bytes that AT_RANDOM points to. */
static inline void auxv_correct(Elf64_auxv_t *a)
{
    switch (a->a_type) {
    case AT_SYSINFO_EHDR:
    case AT_RSEQ_FEATURE_SIZE:
    case AT_RSEQ_ALIGN:
    case AT_HWCAP3:
    case AT_HWCAP4:
        a->a_type = AT_IGNORE;
        a->a_un.a_val = 0;
        break;
    case AT_HWCAP:
        a->a_un.a_val = AUXV_HWCAP;
        break;
    case AT_HWCAP2:
        a->a_un.a_val = 0;
        break;
    case AT_MINSIGSTKSZ:
        if (a->a_un.a_val < AUXV_SIGNAL_STACK)
            a->a_un.a_val = AUXV_SIGNAL_STACK;
        break;
    default:
        break;
    }
}
