/* SHA-256 (FIPS 180-4), for a program that links no library. */
#pragma once
#include <stddef.h>
#include <stdint.h>

#define SHA256_BYTES 32

struct sha256 {
    uint32_t state[8];
    uint64_t size;
    uint8_t block[64]; /* size % 64 of it are in use */
};

void sha256_begin(struct sha256 *s);
void sha256_add(struct sha256 *s, const void *data, size_t size);
void sha256_end(struct sha256 *s, uint8_t out[32]);
void sha256_text(const uint8_t digest[32], char out[65]);
