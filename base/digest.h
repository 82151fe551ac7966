/* The two digests of the design: SHA-256 names stored things, XXH3-128 runs along streams. */
#pragma once
#include "base/err.h"

#include <stddef.h>
#include <stdint.h>

struct digest {
    uint8_t byte[32];
};
struct running_digest; /* XXH3-128 state */

void digest_of(const void *data, size_t size, struct digest *out);
/* The digest of a whole regular file, which must be open for reading. */
int digest_of_file(int fd, struct digest *out, struct err *e);
void digest_print(const struct digest *d, char out[65]); /* lower-case hex, NUL */

struct running_digest *running_digest_new(void); /* NULL: no memory */
void running_digest_add(struct running_digest *r, const void *data, size_t size);
void running_digest_look(const struct running_digest *r, uint8_t out[16]); /* so far; may go on */
void running_digest_free(struct running_digest *r);
