/* What makes a host unusual: a page that is sealed, as some kernels seal their clocks, and hard limits below what programs are told;
 * and what is unusual and does not matter, a user in thousands of groups. */
#include "lib/test.h"
#include "sandbox/proc.h"
#include "sandbox/zygote.h"

#include <grp.h>
#include <stdlib.h>
#include <string.h>
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

/* In a child: what stands behind its groups is found, however many they are. */
static void test_groups(void **state)
{
    enum { GROUPS = 5000, REFUSED = 77 };
    int status = 0;
    (void)state;
    pid_t pid = fork();
    if (pid == 0) {
        static gid_t group[GROUPS];
        char text[PROC_STATUS_ROOM];
        for (gid_t i = 0; i < GROUPS; i++)
            group[i] = 1000000 + i;
        for (size_t count = 0; count <= GROUPS; count += count ? count : 1) { /* also where they just fit, or do not */
            if (setgroups(count, group) < 0)
                _exit(REFUSED);
            if (!proc_status_text(getpid(), text) || proc_number(text, "\nTgid:", 10) != (uint64_t)getpid() || !strstr(text, "\nSigCgt:") ||
                !strstr(text, "\nnonvoluntary_ctxt_switches:"))
                _exit(1);
        }
        _exit(0);
    }
    assert_int_equal(waitpid(pid, &status, 0), pid);
    if (WIFEXITED(status) && WEXITSTATUS(status) == REFUSED)
        skip(); /* only root may */
    assert_int_equal(status, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_sealed), cmocka_unit_test(test_limits), cmocka_unit_test(test_groups)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
