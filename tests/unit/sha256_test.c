/* The helper's own SHA-256 is the library's, whatever the size and however it is cut. */
#include "base/digest.h"
#include "tests/lib/test.h"
#include "sandbox/sha256.h"

static void same_as_the_library(void **state)
{
    static uint8_t data[5000];
    (void)state;
    for (size_t i = 0; i < sizeof data; i++)
        data[i] = (uint8_t)(i * 167 + i / 251);
    for (size_t size = 0; size < sizeof data; size += size < 200 ? 1 : 97)
        for (size_t piece = 1; piece < 200; piece = piece * 3 + 1) {
            struct sha256 s;
            struct digest whole;
            uint8_t out[32];
            sha256_begin(&s);
            for (size_t at = 0; at < size; at += piece)
                sha256_add(&s, data + at, size - at < piece ? size - at : piece);
            sha256_end(&s, out);
            digest_of(data, size, &whole);
            assert_memory_equal(out, whole.byte, sizeof out);
        }
}

static void known(void **state)
{
    struct sha256 s;
    uint8_t out[32];
    char text[65];
    (void)state;
    sha256_begin(&s);
    sha256_add(&s, "abc", 3);
    sha256_end(&s, out);
    sha256_text(out, text);
    assert_string_equal(text, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(known), cmocka_unit_test(same_as_the_library)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
