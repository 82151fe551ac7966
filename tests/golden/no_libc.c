/* A program that is linked with nothing: it writes what the kernel told it at its start, but for what is
 * constant in a sandbox alone: whether there is a vDSO, and the random bytes.  Without arguments it only
 * writes a line, the same everywhere. */
#include <elf.h>
#include <stdint.h>
#include <sys/syscall.h>

static long call(long nr, long a, long b, long c)
{
    long result;
    __asm__ volatile("syscall" : "=a"(result) : "a"(nr), "D"(a), "S"(b), "d"(c) : "rcx", "r11", "memory");
    return result;
}

static void put(uint64_t word)
{
    char text[17];
    for (int i = 15; i >= 0; i--, word >>= 4)
        text[i] = "0123456789abcdef"[word & 15];
    text[16] = '\n';
    call(SYS_write, 1, (long)text, 17);
}

__attribute__((used)) void begin(uint64_t *stack)
{
    uint64_t *word = stack + 1 + stack[0] + 1;
    while (*word)
        word++;
    for (Elf64_auxv_t *a = (Elf64_auxv_t *)(word + 1); stack[0] > 1 && a->a_type != AT_NULL; a++) {
        if (a->a_type == AT_SYSINFO_EHDR)
            put(a->a_un.a_val);
        if (a->a_type == AT_RANDOM)
            put(*(uint64_t *)a->a_un.a_val);
    }
    call(SYS_write, 1, (long)"linked with nothing\n", 20);
    call(SYS_exit_group, 0, 0, 0);
}

__asm__(".globl _start\n_start:\n    mov %rsp, %rdi\n    and $-16, %rsp\n    call begin\n");
