/* A system call without the C library, for code in programs' memory (the shim, the gate, the forker), and for processes
 * that share their memory with another process. */
#pragma once

static inline long raw_call(long nr, long a, long b, long c, long d, long f, long g)
{
    register long r10 __asm__("r10") = d;
    register long r8 __asm__("r8") = f;
    register long r9 __asm__("r9") = g;
    long result;

    __asm__ volatile("syscall"
                     : "=a"(result)
                     : "a"(nr), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8), "r"(r9)
                     : "rcx", "r11", "memory");
    return result;
}
