/* Golden programs: each shows one source of nondeterminism, so that it varies on a bare host and must
 * not vary inside.  One executable holds them all (`golden NAME`), once dynamic and once static; the
 * driver (run.c) links the same tables for what it has to expect. */
#pragma once
#include <stddef.h>
#include <stdint.h>

#define GOLDEN_IMAGE "/usr/bin/pinky" /* a file of the image; a program cannot be run while somebody has it open for writing */

struct golden {
    const char *name;
    void (*show)(void);
    const char *bare;  /* why it may not vary on this host by itself; NULL: it must */
    const char *limit; /* why it may vary inside; NULL: it must not, or the result must be uncertified */
};

extern const struct golden golden_time[], golden_random[], golden_memory[], golden_process[],
    golden_files[], golden_streams[], golden_parallel[], golden_turns[],
    golden_threads[], golden_own[]; /* each ends with a NULL name */

/* Words of what is seen, to stdout. */
void say(const char *format, ...) __attribute__((format(printf, 1, 2)));
void say_bytes(const void *data, size_t size);
