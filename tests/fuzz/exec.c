/* Any first bytes of a program's file, as the server looks at them before an exec (sandbox/notify_exec.c). */
#include "sandbox/notify_exec.c"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* What that file is made of besides is not needed here. */
int task_text(struct notify *n, const struct seccomp_notif *q, uint64_t address, char *text, size_t size)
{
    (void)n, (void)q, (void)address, (void)text, (void)size;
    return -1;
}

bool task_valid(const struct notify *n, const struct seccomp_notif *q)
{
    (void)n, (void)q;
    return false;
}

void notify_lacks(struct notify *n)
{
    (void)n;
}

void notify_mark(struct notify *n, const char *why)
{
    (void)n, (void)why;
}

void clock_meet(struct notify *n)
{
    (void)n;
}

void gate_forget(struct notify *n, const struct seccomp_notif *q)
{
    (void)n, (void)q;
}

void timers_forget(struct notify *n, const struct seccomp_notif *q)
{
    (void)n, (void)q;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char head[HEAD_BYTES];
    uint8_t *exact = malloc(size ? size : 1); /* so that one byte too far is seen */
    if (!exact || size > sizeof head) {
        free(exact);
        return 0;
    }
    memcpy(exact, data, size);
    if (size >= 4)
        start_of_elf(exact, size);
    char *name = size >= 4 ? interpreter((char *)exact, size) : NULL;
    if (name && ((uint8_t *)name < exact || (uint8_t *)name + strlen(name) >= exact + size))
        abort();
    free(exact);
    return 0;
}
