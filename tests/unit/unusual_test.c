/* What makes a host unusual: a page that is sealed, as some kernels seal their clocks, and hard limits below what programs are told. */
#include "lib/test.h"
#include "sandbox/zygote.h"

#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#ifndef SYS_mseal
#define SYS_mseal 462 /* 6.10 */
#endif

static void test_sealed(void **state)
{
    (void)state;
    void *page = mmap(NULL, 4096, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    assert_true(page != MAP_FAILED);
    assert_false(unusual_sealed(page, PROT_READ));
    if (syscall(SYS_mseal, page, 4096, 0) < 0)
        skip();
    assert_true(unusual_sealed(page, PROT_READ));
}

/* In a child: it is for good. */
static void test_limits(void **state)
{
    int status = 0;
    (void)state;
    pid_t pid = fork();
    if (pid == 0) {
        struct rlimit few = {8, 8};
        int before = *limits_unusual() != '\0';
        _exit(setrlimit(RLIMIT_SIGPENDING, &few) < 0 || !*limits_unusual() || (before && *unusual_host() == '\0'));
    }
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_int_equal(status, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_sealed), cmocka_unit_test(test_limits)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
