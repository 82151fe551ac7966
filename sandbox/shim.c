/* The loader shim (see shim.h).  The kernel starts it as the program's interpreter, in every exec
 * of a sandbox, so this is the one place that sees each new stack before the C library does:
 * it corrects what the auxiliary vector tells (auxv.h), and takes the kernel's clocks away.
 * Then it maps the real loader and jumps to it with the registers and the stack as the kernel left
 * them. Run directly, as `/lib64/ld-linux-x86-64.so.2 PROGRAM` (ldd does), it passes itself off as
 * the loader in the same way.
 *
 * What must stay true: no C library, no relocation (nobody would apply it), no vector registers, no
 * writable data.  It trusts the image, which is read-only: a loader that is broken ends with 127.
 */
#define SHIM_ITSELF
#include "sandbox/auxv.h"
#include "sandbox/clock_page.h"
#include "sandbox/raw_call.h"
#include "sandbox/shim.h"

#include <elf.h>
#include <linux/fcntl.h>
#include <linux/mman.h>
#include <stdint.h>
#include <sys/syscall.h>

#define PAGE      4096ul
#define PHDRS_MAX 24
#define FIRST_PROCESS 2 /* its number; 1 is the task's init */

static const uint8_t fixed_random[AUXV_RANDOM_BYTES] = AUXV_RANDOM;

extern const Elf64_Ehdr __ehdr_start __attribute__((visibility("hidden")));

static _Noreturn void die(const char *text, unsigned long size)
{
    raw_call(SYS_write, 2, (long)text, (long)size, 0, 0, 0);
    for (;;)
        raw_call(SYS_exit_group, 127, 0, 0, 0, 0, 0);
}

#define DIE(text) die("zpipe: " text "\n", sizeof("zpipe: " text "\n") - 1)

/* The shim under one of the loader's names must not start itself again. */
static int is_shim(const Elf64_Ehdr *h)
{
    const unsigned char *a = (const unsigned char *)h;
    const unsigned char *b = (const unsigned char *)&__ehdr_start;

    for (unsigned long i = 0; i < sizeof *h; i++)
        if (a[i] != b[i])
            return 0;
    return 1;
}

static int is_loader(const Elf64_Ehdr *h)
{
    return h->e_ident[EI_MAG0] == ELFMAG0 && h->e_ident[EI_MAG1] == ELFMAG1 &&
           h->e_ident[EI_MAG2] == ELFMAG2 && h->e_ident[EI_MAG3] == ELFMAG3 &&
           h->e_ident[EI_CLASS] == ELFCLASS64 && h->e_type == ET_DYN && h->e_machine == EM_X86_64 &&
           h->e_phentsize == sizeof(Elf64_Phdr) && h->e_phnum > 0 && h->e_phnum <= PHDRS_MAX &&
           !is_shim(h);
}

static int open_loader(Elf64_Ehdr *h)
{
    /* An array of characters, not of pointers: those would need relocation. */
    static const char paths[][48] = SHIM_REAL_LOADERS;

    for (unsigned long i = 0; i < sizeof paths / sizeof *paths; i++) {
        long fd = raw_call(SYS_open, (long)paths[i], O_RDONLY | O_CLOEXEC, 0, 0, SHIM_OPENS, SHIM_OPENS);

        if (fd < 0)
            continue;
        if (raw_call(SYS_pread64, fd, (long)h, sizeof *h, 0, 0, 0) == (long)sizeof *h && is_loader(h))
            return (int)fd;
        raw_call(SYS_close, fd, 0, 0, 0, 0, 0);
    }
    DIE("the real program loader is not in the sandbox");
}

static long protection(uint32_t flags)
{
    return (flags & PF_R ? PROT_READ : 0) | (flags & PF_W ? PROT_WRITE : 0) |
           (flags & PF_X ? PROT_EXEC : 0);
}

/* Maps one segment: the file's pages, then zeros up to p_memsz. */
static void map_segment(int fd, const Elf64_Phdr *p, unsigned long base)
{
    unsigned long start = (base + p->p_vaddr) & ~(PAGE - 1);
    unsigned long file_end = base + p->p_vaddr + p->p_filesz;
    unsigned long end = (base + p->p_vaddr + p->p_memsz + PAGE - 1) & ~(PAGE - 1);
    unsigned long mapped = (file_end + PAGE - 1) & ~(PAGE - 1);
    long offset = (long)(p->p_offset & ~(PAGE - 1));

    if (raw_call(SYS_mmap, (long)start, (long)(file_end - start), protection(p->p_flags),
             MAP_PRIVATE | MAP_FIXED, fd, offset) < 0)
        DIE("cannot map the program loader");
    if (p->p_memsz == p->p_filesz)
        return;
    for (volatile char *zero = (char *)file_end; zero < (char *)mapped; zero++)
        *zero = 0;
    if (end > mapped && raw_call(SYS_mmap, (long)mapped, (long)(end - mapped), protection(p->p_flags),
                             MAP_PRIVATE | MAP_FIXED | MAP_ANONYMOUS, -1, 0) < 0)
        DIE("no memory for the program loader");
}

/* Maps every segment in one reserved range; returns its address. */
static unsigned long map_loader(int fd, const Elf64_Ehdr *h)
{
    Elf64_Phdr phdr[PHDRS_MAX];
    long size = (long)(h->e_phnum * sizeof *phdr);
    unsigned long span = 0;
    long base;

    if (raw_call(SYS_pread64, fd, (long)phdr, size, (long)h->e_phoff, 0, 0) != size)
        DIE("cannot read the program loader");
    for (unsigned i = 0; i < h->e_phnum; i++)
        if (phdr[i].p_type == PT_LOAD && phdr[i].p_vaddr + phdr[i].p_memsz > span)
            span = phdr[i].p_vaddr + phdr[i].p_memsz;
    span = (span + PAGE - 1) & ~(PAGE - 1);
    base = -1;
    if (span <= SHIM_LOADER_ROOM - SHIM_GATE_BYTES)
        base = raw_call(SYS_mmap, (long)SHIM_LOADER_AT, (long)(SHIM_GATE_BYTES + span), PROT_READ | PROT_EXEC,
                    MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);
    if (base >= 0)
        base += SHIM_GATE_BYTES;
    else
        base = raw_call(SYS_mmap, 0, (long)span, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (base < 0)
        DIE("no memory for the program loader");
    for (unsigned i = 0; i < h->e_phnum; i++)
        if (phdr[i].p_type == PT_LOAD)
            map_segment(fd, &phdr[i], (unsigned long)base);
    return (unsigned long)base;
}

/* Makes the page for the clock.  Only if there is one, programs find us as their vDSO (see below). */
static int make_page(void)
{
    return raw_call(SYS_mmap, (long)CLOCK_PAGE_AT, CLOCK_PAGE_BYTES, PROT_READ | PROT_WRITE,
                MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0) == (long)CLOCK_PAGE_AT;
}

/* Unmaps the kernel's vDSO and its clocks. */
static void take_away_clocks(const Elf64_auxv_t *v)
{
    while (v->a_type != AT_NULL && v->a_type != AT_SYSINFO_EHDR)
        v++;
    if (v->a_type == AT_NULL)
        return;
    unsigned long at = v->a_un.a_val, end = at;
    const Elf64_Ehdr *h = (const Elf64_Ehdr *)at;
    const Elf64_Phdr *p = (const Elf64_Phdr *)(at + h->e_phoff);

    for (unsigned i = 0; i < h->e_phnum; i++)
        if (p[i].p_type == PT_LOAD && at + p[i].p_vaddr + p[i].p_memsz > end)
            end = at + p[i].p_vaddr + p[i].p_memsz;
    end = (end + PAGE - 1) & ~(PAGE - 1);
    at -= AUXV_CLOCKS_ROOM;
    raw_call(SYS_munmap, (long)at, (long)(end - at), 0, 0, 0, 0);
}

extern const char shim_entry[] __attribute__((visibility("hidden")));

/* Makes the program begin at shim_entry. */
static unsigned long wipe_first(unsigned long entry)
{
    *(uint64_t *)CLOCK_PAGE_ENTRY = entry;
    return (unsigned long)shim_entry;
}

static void patch(Elf64_auxv_t *v, const Elf64_Ehdr *h, unsigned long base)
{
    int direct = 1; /* no interpreter: the shim was run as a program */
    int page = make_page(), vdso = page;

    for (Elf64_auxv_t *a = v; a->a_type != AT_NULL; a++)
        if (a->a_type == AT_BASE && a->a_un.a_val != 0)
            direct = 0;
    for (Elf64_auxv_t *a = v; a->a_type != AT_NULL; a++) {
        auxv_correct(a);
        switch (a->a_type) {
        case AT_IGNORE: /* the first of the entries to remove: the kernel's vDSO */
            if (vdso)
                *a = (Elf64_auxv_t){AT_SYSINFO_EHDR, {(unsigned long)&__ehdr_start}};
            vdso = 0;
            break;
        case AT_RANDOM:
            for (unsigned i = 0; i < sizeof fixed_random; i++)
                ((volatile uint8_t *)a->a_un.a_val)[i] = fixed_random[i];
            break;
        case AT_BASE:
            a->a_un.a_val = direct ? 0 : base;
            break;
        case AT_PHDR:
            a->a_un.a_val = direct ? base + h->e_phoff : a->a_un.a_val;
            break;
        case AT_PHNUM:
            a->a_un.a_val = direct ? h->e_phnum : a->a_un.a_val;
            break;
        case AT_ENTRY:
            if (direct)
                a->a_un.a_val = base + h->e_entry;
            else if (page)
                a->a_un.a_val = wipe_first(a->a_un.a_val);
            break;
        default:
            break;
        }
    }
}

/* --- the vDSO: reads the logical clock without a system call --- */

#define VDSO __attribute__((visibility("default")))

struct timespec64 {
    int64_t s, ns;
};

struct timeval64 {
    int64_t s, us;
};

/* The logical time; 0: it is not in these pages, a system call must be made. */
static uint64_t look(void)
{
    struct clock_page *p = (struct clock_page *)CLOCK_PAGE_AT;

    if (p->mark != CLOCK_PAGE_MARK || p->now_ns + CLOCK_STEP_NS >= p->due_ns)
        return 0;
    return __atomic_add_fetch(&p->now_ns, CLOCK_STEP_NS, __ATOMIC_RELAXED);
}

static int64_t epoch(void)
{
    return ((const struct clock_page *)CLOCK_PAGE_AT)->epoch_s;
}

VDSO int __vdso_clock_gettime(int id, struct timespec64 *t);
VDSO int __vdso_clock_gettime(int id, struct timespec64 *t)
{
    /* REALTIME, its COARSE, TAI; MONOTONIC, its RAW and COARSE, BOOTTIME. */
    int real = id == 0 || id == 5 || id == 11, running = id == 1 || id == 4 || id == 6 || id == 7;
    uint64_t now = real || running ? look() : 0;

    if (!now)
        return (int)raw_call(SYS_clock_gettime, id, (long)t, (long)CLOCK_PAGE_MARK, 0, 0, 0);
    t->s = (real ? epoch() : CLOCK_BOOT_S) + (int64_t)(now / 1000000000);
    t->ns = (int64_t)(now % 1000000000);
    return 0;
}

VDSO int __vdso_gettimeofday(struct timeval64 *t, int32_t *zone);
VDSO int __vdso_gettimeofday(struct timeval64 *t, int32_t *zone)
{
    uint64_t now = look();

    if (!now)
        return (int)raw_call(SYS_gettimeofday, (long)t, (long)zone, (long)CLOCK_PAGE_MARK, 0, 0, 0);
    if (t) {
        t->s = epoch() + (int64_t)(now / 1000000000);
        t->us = (int64_t)(now % 1000000000 / 1000);
    }
    if (zone)
        zone[0] = zone[1] = 0;
    return 0;
}

VDSO int64_t __vdso_time(int64_t *t);
VDSO int64_t __vdso_time(int64_t *t)
{
    uint64_t now = look();
    int64_t s = epoch() + (int64_t)(now / 1000000000);

    if (!now)
        return raw_call(SYS_time, (long)t, (long)CLOCK_PAGE_MARK, 0, 0, 0, 0);
    if (t)
        *t = s;
    return s;
}

/* --- the program itself --- */

static unsigned long value_of(const Elf64_auxv_t *v, uint64_t type)
{
    while (v->a_type != AT_NULL && v->a_type != type)
        v++;
    return v->a_type == type ? v->a_un.a_val : 0;
}

static int lies_in_data(const Elf64_Phdr *p, unsigned long count, const Elf64_Phdr *what)
{
    for (unsigned long i = 0; i < count; i++)
        if (p[i].p_type == PT_LOAD && (p[i].p_flags & PF_W) && what->p_vaddr >= p[i].p_vaddr &&
            what->p_vaddr + what->p_filesz <= p[i].p_vaddr + p[i].p_filesz)
            return 1;
    return 0;
}

/* Makes the loader look up all functions before the program begins, not each at its first call, which would be the same
 * work again for each clone of a template.  Possible only if the linker left a word for it. */
static void bind_at_once(const Elf64_auxv_t *v)
{
    const Elf64_Phdr *p = (const Elf64_Phdr *)value_of(v, AT_PHDR), *dynamic = 0;
    unsigned long count = p ? value_of(v, AT_PHNUM) : 0, base = 0;

    for (unsigned long i = 0; i < count; i++) {
        if (p[i].p_type == PT_PHDR)
            base = (unsigned long)p - p[i].p_vaddr;
        if (p[i].p_type == PT_DYNAMIC)
            dynamic = &p[i];
    }
    if (!dynamic || !lies_in_data(p, count, dynamic))
        return;
    Elf64_Dyn *d = (Elf64_Dyn *)(base + dynamic->p_vaddr);
    for (unsigned long i = 0; i < dynamic->p_filesz / sizeof *d && d[i].d_tag != DT_NULL; i++)
        if (d[i].d_tag == DT_FLAGS_1)
            d[i].d_un.d_val |= DF_1_NOW;
}

/* Finds the auxiliary vector on `stack`, which is as the kernel made it: argc, argv, NULL, environment, NULL, auxiliary
 * vector. */
static Elf64_auxv_t *vector_of(unsigned long *stack)
{
    unsigned long *word = stack + 1 + stack[0] + 1;

    while (*word)
        word++;
    return (Elf64_auxv_t *)(word + 1);
}

__attribute__((used, visibility("hidden"))) unsigned long shim_start(unsigned long *stack)
{
    Elf64_auxv_t *v = vector_of(stack);
    Elf64_Ehdr h;
    unsigned long base;
    int fd;

    take_away_clocks(v); /* now, while nothing of ours can be at that address */
    fd = open_loader(&h);
    base = map_loader(fd, &h);
    raw_call(SYS_close, fd, 0, 0, 0, 0, 0);
    /* Not for the loader itself, and not for a program's children: a template is the task's first process. */
    if (value_of(v, AT_BASE) && raw_call(SYS_getpid, 0, 0, 0, 0, 0, 0) == FIRST_PROCESS)
        bind_at_once(v);
    patch(v, &h, base);
    return base + h.e_entry;
}

/* Called when the loader is done.  Returns where the program begins, and corrects that in the auxiliary vector. */
__attribute__((used, visibility("hidden"))) unsigned long shim_begin(unsigned long *stack)
{
    unsigned long entry = *(const uint64_t *)CLOCK_PAGE_ENTRY;
    Elf64_auxv_t *a = vector_of(stack);

    while (a->a_type != AT_ENTRY)
        a++;
    a->a_un.a_val = entry;
    *(uint64_t *)CLOCK_PAGE_ENTRY = 0;
    return entry;
}

/* The loader leaves traces below the stack of what it learned about libraries (inodes, times of access), which differ
 * between hosts and even between runs.  They take 5 to 6 KiB there, which are wiped here. */
__asm__(".text\n"
        ".globl shim_entry\n"
        ".hidden shim_entry\n"
        ".type shim_entry, @function\n"
        ".set WIPED_BYTES, 8192\n"
        "shim_entry:\n"
        "    mov %rdx, %rbx\n" /* a function to call at exit */
        "    mov %rsp, %rdi\n"
        "    call shim_begin\n"
        "    mov %rax, %rdx\n"
        "    lea -WIPED_BYTES(%rsp), %rdi\n"
        "    mov $(WIPED_BYTES / 8), %ecx\n"
        "    xor %eax, %eax\n"
        "    rep stosq\n"
        "    mov %rdx, %rax\n"
        "    mov %rbx, %rdx\n"
        "    xor %ebx, %ebx\n"
        "    jmp *%rax\n");

__asm__(".text\n"
        ".globl _start\n"
        ".hidden _start\n"
        ".type _start, @function\n"
        "_start:\n"
        "    mov %rsp, %rbx\n" /* kept by the call below; rbx is 0 at a program's start */
        "    mov %rsp, %rdi\n"
        "    and $-16, %rsp\n"
        "    call shim_start\n"
        "    mov %rbx, %rsp\n"
        "    xor %ebx, %ebx\n"
        "    xor %edx, %edx\n" /* no function to call at exit */
        "    xor %ecx, %ecx\n"
        "    xor %esi, %esi\n"
        "    xor %edi, %edi\n"
        "    jmp *%rax\n");
