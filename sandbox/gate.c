/* Questions about files of the image need no other answer than the kernel's.  The filter does not see names, so it must
 * notify each such question of a watched program, at 10 us.  These are nearly all the questions of python3 and perl when
 * they start.  The process itself sees the name.  So in the C library's `mov $NR, %eax; syscall` of openat and newfstatat
 * the mov is replaced by a jump to the gate, which is in the loader's place, whose calls are not notified.  The gate asks
 * the kernel directly about names in the image and files opened from it.  For all else it goes back to the syscall
 * instruction, which is unchanged and is notified.
 *
 * What must stay true: the gate asks only what zpipe-box would leave to the kernel (notify_open.c) or answer for files of
 * the image (notify_stat.c).  A name is read only after the kernel could read it: a bad pointer gives EFAULT, and no crash.
 * Only the registers change that a system call changes, and nothing in the 128 bytes below the stack pointer.  No C
 * library, no writable data. */
#define SHIM_ITSELF
#include "sandbox/gate.h"
#include "sandbox/raw_call.h"

#include <errno.h>
#include <linux/fcntl.h>
#include <linux/stat.h>
#include <sys/stat.h>
#include <sys/syscall.h>

#define NAME_READ_MAX 4096
#define CALL_BYTES    2 /* size of a syscall instruction */
#define INSIDE_ID     1000 /* the task's user */

#define TABLE ((const struct gate_table *)(GATE_AT + GATE_TABLE))

/* An entry for each site, which only stores the site's index in a register that a system call overwrites. */
__asm__(".pushsection .entry, \"ax\", @progbits\n"
        ".set index, 0\n"
        ".rept 8\n"    /* GATE_SITES_MAX */
        ".p2align 4\n" /* GATE_ENTRY_BYTES */
        "    mov $index, %r11d\n"
        "    jmp enter\n"
        ".set index, index + 1\n"
        ".endr\n"
        "enter:\n"
        "    lea -128(%rsp), %rsp\n"
        "    push %rax\n" /* struct gate_frame */
        "    push %rdi\n"
        "    push %rsi\n"
        "    push %rdx\n"
        "    push %r10\n"
        "    push %r8\n"
        "    push %r9\n"
        "    push %rbp\n"
        "    mov %rsp, %rbp\n"
        "    and $-16, %rsp\n"
        "    mov %rbp, %rdi\n"
        "    mov %r11, %rsi\n"
        "    call gate_pass\n"
        "    mov %rax, %r11\n"
        "    mov %rbp, %rsp\n"
        "    pop %rbp\n"
        "    pop %r9\n"
        "    pop %r8\n"
        "    pop %r10\n"
        "    pop %rdx\n"
        "    pop %rsi\n"
        "    pop %rdi\n"
        "    pop %rax\n"
        "    lea 128(%rsp), %rsp\n"
        "    jmp *%r11\n"
        ".popsection\n");

/* Reads eight bytes of a name if the kernel can: it copies the name before it sees that the question makes no sense. */
static int head_of(uint64_t name, char head[8])
{
    if (raw_call(SYS_rt_sigprocmask, UINT32_MAX, (long)name, 0, 8, 0, 0) != -EINVAL)
        return -1;
    __builtin_memcpy(head, (const void *)name, 8);
    return 0;
}

static int begins(const char *head, const char *with)
{
    while (*with && *head == *with)
        head++, with++;
    return !*with;
}

/* The same as path_of_image; the kernel has read the whole name. */
static int in_image(const char *name)
{
    if (!begins(name, "/usr/") && !begins(name, "/bin/") && !begins(name, "/sbin/") && !begins(name, "/lib/"))
        return 0;
    for (int i = 0; i < NAME_READ_MAX && name[i]; i++)
        if (begins(name + i, "/../"))
            return 0;
    return 1;
}

/* Is the file that fd is open on in the image?  The number of its mount differs in each task, so no trace of that number
 * may be left below the program's stack pointer. */
static int is_of_image(uint64_t fd, uint64_t empty)
{
    struct statx x;
    long told = TABLE->image ? raw_call(SYS_statx, (long)fd, (long)empty, AT_EMPTY_PATH, STATX_MNT_ID, (long)&x, 0) : -1;
    int is = told == 0 && (x.stx_mask & STATX_MNT_ID) && x.stx_mnt_id == TABLE->image;
    void *at = &x;
    uint64_t words = sizeof x / sizeof(uint64_t);

    __asm__ volatile("rep stosq" : "+D"(at), "+c"(words) : "a"(0) : "memory");
    return is;
}

static int is_source(const char *name)
{
    int end = 0;

    while (end < NAME_READ_MAX && name[end])
        end++;
    return end > 3 && begins(name + end - 3, ".py");
}

/* The same as in notify_stat.c.  The kernel has just written to `s`.  name: NULL, or by which the file is in the image.
 * False: it is on another device. */
static int tell_image(struct stat *s, const char *name)
{
    if (name && s->st_dev != TABLE->device)
        return 0;
    s->st_uid = s->st_gid = INSIDE_ID;
    if (s->st_mtim.tv_sec >= TABLE->epoch_s && !(name && is_source(name)))
        s->st_mtim = (struct timespec){.tv_sec = TABLE->epoch_s};
    s->st_atim = s->st_ctim = s->st_mtim;
    return 1;
}

/* True: the gate has answered, and *result is what the call returns. */
static int answer(const struct gate_frame *f, long *result)
{
    char head[8];

    if (head_of(f->rsi, head) < 0)
        return 0;
    if (f->rax == SYS_openat) {
        if (f->rdx & O_ACCMODE || begins(head, "/dev/") || begins(head, "/proc/"))
            return 0;
        *result = raw_call(SYS_openat, (long)f->rdi, (long)f->rsi, (long)f->rdx, (long)f->r10, 0, 0);
        return 1;
    }
    if (f->rax != SYS_newfstatat)
        return 0;
    if (!*head ? (int)f->r10 != AT_EMPTY_PATH || !is_of_image(f->rdi, f->rsi) : *head != '/')
        return 0;
    *result = raw_call(SYS_newfstatat, (long)f->rdi, (long)f->rsi, (long)f->rdx, (long)f->r10, 0, 0);
    if (*head && *result != -EFAULT && !in_image((const char *)f->rsi))
        return 0;
    if (*result == 0)
        return tell_image((struct stat *)f->rdx, *head ? (const char *)f->rsi : 0);
    return 1;
}

/* Returns the address where the program goes on. */
__attribute__((used)) uint64_t gate_pass(struct gate_frame *f, uint64_t index)
{
    const struct gate_site *s = &TABLE->site[index];
    long result;

    *(uint64_t *)((char *)f + s->offset) = s->value; /* what the replaced mov would have done */
    if (!answer(f, &result))
        return s->back;
    f->rax = (uint64_t)result;
    return s->back + CALL_BYTES;
}
