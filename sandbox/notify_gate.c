/* Leads a program's questions about the image to the gate (gate.c).  This is done in a process that has asked several times,
 * when it asks once more: the call then shows the place in its code, so nothing need be known about the C library.  Each
 * process has its own code, which forks inherit.
 *
 * What must stay true: the process is stopped at its call, and has no other thread.  We write only into its own memory, never
 * into a file: where the instruction is that it has just executed, and where the shim left room.  If anything is not as
 * expected it is left alone, and the calls are notified as before. */
#include "sandbox/gate.h"
#include "sandbox/notify_task.h"
#include "base/fds.h"

#include <elf.h>
#include <fcntl.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#define LOOKS_FEW  3  /* a gate costs as much as two notifications */
#define PREFIX_BYTES 1
#define MOV_BYTES    5
#define CALL_BYTES   2
#define CODE_BYTES   (PREFIX_BYTES + MOV_BYTES + CALL_BYTES)
#define FAR_MAX    (1ll << 30) /* a jump reaches twice that far */

/* The gate's page, followed by the loader's head, by which we know that the shim was there. */
struct gate_place {
    union {
        uint8_t code[GATE_BYTES];
        struct {
            uint8_t before[GATE_TABLE];
            struct gate_table table;
        };
    };
    Elf64_Ehdr loader;
};

/* Look at the code before the call: it must be `mov $NR, %eax` or `mov $AT_FDCWD, %edi`, without a prefix that would make
 * it another register's. */
static bool learn_site(const struct seccomp_notif *q, const uint8_t code[CODE_BYTES], struct gate_site *s)
{
    static const uint8_t syscall_code[CALL_BYTES] = {0x0f, 0x05};
    const uint8_t *mov = code + PREFIX_BYTES;
    uint64_t back = q->data.instruction_pointer - CALL_BYTES;
    int64_t far = (int64_t)(back - GATE_AT);

    *s = (struct gate_site){.back = back};
    memcpy(&s->value, mov + 1, sizeof s->value);
    if (mov[0] == 0xb8 && s->value == (uint32_t)q->data.nr)
        s->offset = offsetof(struct gate_frame, rax);
    else if (mov[0] == 0xbf && s->value == (uint32_t)AT_FDCWD)
        s->offset = offsetof(struct gate_frame, rdi);
    else
        return false;
    return (code[0] & 0xf0) != 0x40 && !memcmp(mov + MOV_BYTES, syscall_code, CALL_BYTES) && far > -FAR_MAX && far < FAR_MAX;
}

/* Write the gate's page, with one site more. */
static bool add_site(struct notify *n, const struct seccomp_notif *q, struct gate_place *p, const struct gate_site *s)
{
    static const uint8_t nothing[GATE_ENTRY_BYTES];

    if (memcmp(p->loader.e_ident, ELFMAG, SELFMAG) != 0 || p->loader.e_type != ET_DYN)
        return false;
    if (!memcmp(p->code, nothing, sizeof nothing)) {
        memcpy(p->code, gate_image, gate_image_size);
        p->table.image = task_image_mount(n, q);
        p->table.device = task_image_dev(n, q);
        p->table.epoch_s = n->epoch_s;
        p->table.count = 0;
    }
    if (memcmp(p->code, gate_image, gate_image_size) != 0 || p->table.count >= GATE_SITES_MAX)
        return false;
    p->table.site[p->table.count++] = *s;
    return true;
}

static void lead(struct notify *n, const struct seccomp_notif *q, int memory, const struct gate_site *s)
{
    struct gate_place p;
    uint64_t at = s->back - MOV_BYTES;
    uint8_t jump[MOV_BYTES] = {0xe9};
    uint32_t far;

    if (pread(memory, &p, sizeof p, (off_t)GATE_AT) != (ssize_t)sizeof p || !add_site(n, q, &p, s) || !task_valid(n, q))
        return;
    far = (uint32_t)(GATE_AT + (p.table.count - 1) * GATE_ENTRY_BYTES - s->back);
    memcpy(jump + 1, &far, sizeof far);
    if (pwrite(memory, p.code, sizeof p.code, (off_t)GATE_AT) == (ssize_t)sizeof p.code)
        (void)!pwrite(memory, jump, sizeof jump, (off_t)at); /* if it fails the code stays as it was */
}

static struct looker *looker_of(struct notify *n, const struct seccomp_notif *q)
{
    struct looker *l;

    for (uint32_t i = 0; i < NOTIFY_LOOKERS; i++)
        if (n->looker[i].pid == q->pid)
            return &n->looker[i];
    l = &n->looker[n->looker_next++ % NOTIFY_LOOKERS];
    *l = (struct looker){.pid = q->pid};
    return l;
}

void gate_forget(struct notify *n, const struct seccomp_notif *q)
{
    *looker_of(n, q) = (struct looker){.pid = q->pid};
}

void gate_lead(struct notify *n, const struct seccomp_notif *q)
{
    struct looker *l = looker_of(n, q);
    uint8_t code[CODE_BYTES];
    struct gate_site site;
    char path[32];
    int memory;

    if (l->looks++ < LOOKS_FEW || l->led_count == GATE_SITES_MAX || n->threads || n->trace || n->trace_start || n->files)
        return;
    for (uint32_t i = 0; i < l->led_count; i++)
        if (l->led[i] == q->data.instruction_pointer)
            return;
    l->led[l->led_count++] = q->data.instruction_pointer; /* it is done, or not possible */
    if (task_read(n, q, q->data.instruction_pointer - sizeof code, code, sizeof code) < 0 || !learn_site(q, code, &site))
        return;
    snprintf(path, sizeof path, "/proc/%u/mem", q->pid);
    memory = open(path, O_RDWR | O_CLOEXEC);
    if (memory >= 0)
        lead(n, q, memory, &site);
    fd_close(&memory);
}

/* The gate's bytes inside our program. */
__asm__(".pushsection .rodata, \"a\", @progbits\n"
        ".balign 16\n"
        ".globl gate_image\n"
        ".hidden gate_image\n"
        "gate_image:\n"
        ".incbin \"" GATE_FILE "\"\n"
        "gate_image_end:\n"
        ".balign 8\n"
        ".globl gate_image_size\n"
        ".hidden gate_image_size\n"
        "gate_image_size:\n"
        ".quad gate_image_end - gate_image\n"
        ".popsection\n");
