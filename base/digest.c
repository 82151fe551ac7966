/* See digest.h. */
#include "base/digest.h"

#include <dlfcn.h>
#include <openssl/evp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <xxhash.h>
#if __has_include(<xxh_x86dispatch.h>)
#include <xxh_x86dispatch.h> /* the same functions, for the CPU at hand: with AVX2 they take a quarter of the time */
#endif

struct running_digest {
    XXH3_state_t *state;
};

/* libcrypto is loaded when it is first needed: loading it takes half a millisecond, which every `zpipe` would pay and
 * hardly any needs. */
static struct {
    __typeof__(EVP_Digest) *digest;
    __typeof__(EVP_sha256) *sha256;
} crypto;

#define TEXT(x)      #x
#define TEXT_OF(x)   TEXT(x)
#define LIBRARY_NAME "libcrypto.so." TEXT_OF(OPENSSL_SHLIB_VERSION)

static void crypto_load(void)
{
    void *library = dlopen(LIBRARY_NAME, RTLD_NOW | RTLD_LOCAL);
    void *digest = library ? dlsym(library, "EVP_Digest") : NULL, *sha256 = library ? dlsym(library, "EVP_sha256") : NULL;
    if (!digest || !sha256) {
        fprintf(stderr, "zpipe: " LIBRARY_NAME " cannot be loaded, which makes digests: %s\n", dlerror());
        abort();
    }
    memcpy(&crypto.digest, &digest, sizeof digest);
    memcpy(&crypto.sha256, &sha256, sizeof sha256);
}

void digest_of(const void *data, size_t size, struct digest *out)
{
    unsigned length = 0;
    if (!crypto.digest)
        crypto_load();
    if (!crypto.digest(data, size, out->byte, &length, crypto.sha256(), NULL))
        abort(); /* libcrypto without SHA-256 */
}

int digest_of_file(int fd, struct digest *out, struct err *e)
{
    struct stat s;
    void *bytes = NULL;
    if (fstat(fd, &s) < 0 ||
        (s.st_size && (bytes = mmap(NULL, (size_t)s.st_size, PROT_READ, MAP_PRIVATE, fd, 0)) == MAP_FAILED))
        return err_sys(e, "cannot read a file for its digest");
    digest_of(bytes ? bytes : "", (size_t)s.st_size, out);
    if (bytes)
        munmap(bytes, (size_t)s.st_size);
    return 0;
}

void digest_print(const struct digest *d, char out[65])
{
    static const char hex[] = "0123456789abcdef";
    for (size_t i = 0; i < sizeof d->byte; i++) {
        out[2 * i] = hex[d->byte[i] >> 4];
        out[2 * i + 1] = hex[d->byte[i] & 15];
    }
    out[64] = '\0';
}

struct running_digest *running_digest_new(void)
{
    struct running_digest *r = malloc(sizeof *r);
    if (r && !(r->state = XXH3_createState())) {
        free(r);
        return NULL;
    }
    if (r)
        XXH3_128bits_reset(r->state);
    return r;
}

void running_digest_add(struct running_digest *r, const void *data, size_t size)
{
    XXH3_128bits_update(r->state, data, size);
}

void running_digest_look(const struct running_digest *r, uint8_t out[16])
{
    XXH128_canonical_t canonical;
    XXH128_canonicalFromHash(&canonical, XXH3_128bits_digest(r->state));
    memcpy(out, canonical.digest, 16);
}

void running_digest_free(struct running_digest *r)
{
    if (!r)
        return;
    XXH3_freeState(r->state);
    free(r);
}
