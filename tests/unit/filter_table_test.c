/* The compiled filter decides as the table says: a small BPF machine here runs it on every row, on every rule, and on
 * random calls.  And the table is complete: every call that is notified has an answer. */
#include "lib/test.h"
#include "sandbox/filter.h"
#include "sandbox/filter_program.h"
#include "sandbox/notify_task.h"
#include "sandbox/shim.h"
#include "sandbox/syscalls.h"

#include <errno.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stdio.h>
#include <string.h>

#define RANDOM_CALLS 300000

/* The result of the program, or SECCOMP_RET_TRAP, which it never returns, for anything irregular.
 */
static uint32_t run_bpf(const struct sock_filter *code, unsigned count,
                        const struct seccomp_data *d)
{
    uint32_t a = 0;

    for (unsigned pc = 0; pc < count; pc++) {
        const struct sock_filter *i = &code[pc];

        switch (i->code) {
        case BPF_LD | BPF_W | BPF_ABS:
            if (i->k % 4 || i->k + 4 > sizeof *d)
                return SECCOMP_RET_TRAP;
            memcpy(&a, (const char *)d + i->k, 4);
            break;
        case BPF_ALU | BPF_AND | BPF_K:
            a &= i->k;
            break;
        case BPF_JMP | BPF_JA:
            pc += i->k;
            break;
        case BPF_JMP | BPF_JEQ | BPF_K:
            pc += a == i->k ? i->jt : i->jf;
            break;
        case BPF_JMP | BPF_JGE | BPF_K:
            pc += a >= i->k ? i->jt : i->jf;
            break;
        case BPF_JMP | BPF_JSET | BPF_K:
            pc += a & i->k ? i->jt : i->jf;
            break;
        case BPF_RET | BPF_K:
            return i->k;
        default:
            return SECCOMP_RET_TRAP;
        }
    }
    return SECCOMP_RET_TRAP;
}

static uint32_t wanted(const struct seccomp_data *d, unsigned variant)
{
    uint32_t action = syscalls_decide(d, variant);

    if (action == ALLOWED)
        return SECCOMP_RET_ALLOW;
    if (action == NOTIFIED)
        return SECCOMP_RET_USER_NOTIF;
    return SECCOMP_RET_ERRNO | ACTION_ERRNO(action);
}

/* Copies of the variants under test. */
static struct made {
    unsigned variant, count;
    struct sock_filter code[FILTER_INSNS_MAX];
} made[] = {
    {.variant = FILTER_PLAIN},
    {.variant = FILTER_OPENS},
    {.variant = FILTER_MEMORY},
    {.variant = FILTER_FILES},
    {.variant = FILTER_QUOTA | FILTER_OPENS},
    {.variant = FILTER_TRACE | FILTER_OPENS},
    {.variant = FILTER_TRACE | FILTER_OPENS | FILTER_MEMORY | FILTER_FILES},
};
#define MADE (sizeof made / sizeof *made)

static int prepare(void)
{
    for (size_t i = 0; i < MADE; i++) {
        struct err e;

        if (filter_prepare(made[i].variant, &e) < 0) {
            fprintf(stderr, "variant %u: %s\n", made[i].variant, e.text);
            return -1;
        }
        memcpy(made[i].code, filter_program(made[i].variant, &made[i].count), sizeof made[i].code);
    }
    return 0;
}

static void compare(const struct seccomp_data *d)
{
    for (size_t i = 0; i < MADE; i++) {
        const struct made *m = &made[i];
        uint32_t got = run_bpf(m->code, m->count, d);

        if (got != wanted(d, m->variant))
            fail_msg("call %d (%llx %llx %llx %llx %llx %llx), variant %u: 0x%x, not 0x%x", d->nr,
                     d->args[0], d->args[1], d->args[2], d->args[3], d->args[4], d->args[5],
                     m->variant, got, wanted(d, m->variant));
    }
}

static uint64_t state = 1;

static uint64_t next_random(void)
{
    state ^= state << 13, state ^= state >> 7, state ^= state << 17;
    return state;
}

/* Values near the edges: what rules compare with, with rubbish in the high word or in one bit. */
static uint64_t random_arg(const struct syscall_row *row, int arg)
{
    uint64_t value = next_random() % 4 ? next_random() % 8 : next_random();

    for (const struct rule *r = row ? row->rule : NULL; r && r->then != ACTION_END; r++)
        for (int i = 0; i < 2; i++)
            if (r->when[i].op != COND_NONE && r->when[i].arg == arg && next_random() % 4 == 0)
                value = r->when[i].op == COND_ANY   ? r->when[i].mask & next_random()
                        : r->when[i].op == COND_OWN ? syscalls_own(r->when[i].value)
                                                    : r->when[i].value - (r->when[i].op == COND_BELOW);
    if (next_random() % 4 == 0)
        value ^= 1ull << next_random() % 64;
    if (next_random() % 8 == 0)
        value |= next_random() << 32;
    return value;
}

static void random_calls(void **context)
{
    size_t rows;
    const struct syscall_row *row = syscalls_table(&rows);

    (void)context;
    for (int i = 0; i < RANDOM_CALLS; i++) {
        const struct syscall_row *one = &row[next_random() % rows];
        struct seccomp_data d = {.nr = one->nr, .arch = AUDIT_ARCH_X86_64};

        if (i % 8 == 0)
            d.nr = (int)(next_random() % 16 ? next_random() % 600 : next_random());
        for (int k = 0; k < 6; k++)
            d.args[k] = random_arg(one, k);
        if (i % 3) /* an address in the loader, or one that differs from such an address in one bit */
            d.instruction_pointer = (SHIM_LOADER_AT + next_random() % SHIM_LOADER_ROOM) ^ (i % 3 - 1ull) << next_random() % 64;
        compare(&d);
    }
}

static void every_number(void **context)
{
    (void)context;
    for (int nr = -2; nr < 2000; nr++) {
        struct seccomp_data d = {.nr = nr, .arch = AUDIT_ARCH_X86_64};

        compare(&d);
        memset(d.args, 0xff, sizeof d.args);
        compare(&d);
        d.nr = nr | 0x40000000; /* x32 */
        assert_int_equal(syscalls_decide(&d, FILTER_OPENS), REFUSED(ENOSYS));
        compare(&d);
    }
}

static void other_architectures(void **context)
{
    static const uint32_t arch[] = {AUDIT_ARCH_I386, AUDIT_ARCH_ARM, 0, 0xffffffffu};

    (void)context;
    for (size_t i = 0; i < sizeof arch / sizeof *arch; i++)
        for (int nr = 0; nr < 600; nr++)
            for (size_t k = 0; k < MADE; k++) {
                struct seccomp_data d = {.nr = nr, .arch = arch[i]};

                assert_int_equal(run_bpf(made[k].code, made[k].count, &d),
                                 SECCOMP_RET_KILL_PROCESS);
            }
}

static void each_call_once(void **context)
{
    size_t rows;
    const struct syscall_row *row = syscalls_table(&rows);

    (void)context;
    assert_true(rows > 250);
    for (size_t i = 1; i < rows; i++)
        if (row[i - 1].nr >= row[i].nr)
            fail_msg("%s is named twice", row[i].name);
}

/* The kernel refuses programs longer than this; and each instruction costs at every installation.
 */
static void size(void **context)
{
    (void)context;
    for (size_t i = 0; i < MADE; i++) {
        print_message("variant %u: %u instructions\n", made[i].variant, made[i].count);
        assert_true(made[i].count > 100 && made[i].count < 1500);
    }
}

#define EVERYTHING (FILTER_QUOTA | FILTER_OPENS | FILTER_MEMORY | FILTER_FILES)

static bool asks(uint32_t action)
{
    action = syscalls_resolve(action, EVERYTHING);
    return action == NOTIFIED || action == WATCHED;
}

static bool notifies(const struct syscall_row *row)
{
    bool yes = asks(row->otherwise);

    for (const struct rule *r = row->rule; r->then != ACTION_END; r++) {
        assert_int_not_equal(syscalls_resolve(r->then, FILTER_OPENS), WATCHED); /* filter.c has room for one instruction */
        yes = yes || asks(r->then);
    }
    return yes;
}

static void every_notified_has_an_answer(void **context)
{
    (void)context;
    for (int nr = -1; nr < NOTIFY_NR_MAX + 1; nr++) {
        const struct syscall_row *row = syscalls_find(nr);

        if ((row && notifies(row)) != (notify_handler_of(nr) != NULL))
            fail_msg("call %d (%s): notified, or answered, but not both", nr,
                     row ? row->name : "?");
    }
}

/* A call that meets the rule's conditions; the other arguments are `rest`. */
static struct seccomp_data meeting(int nr, const struct rule *r, uint64_t rest)
{
    struct seccomp_data d = {.nr = nr, .arch = AUDIT_ARCH_X86_64};

    for (int i = 0; i < 6; i++)
        d.args[i] = rest;
    for (int k = 0; k < 2; k++) {
        const struct cond *c = &r->when[k];

        if (c->op == COND_MASKED)
            d.args[c->arg] = c->value;
        else if (c->op == COND_ANY)
            d.args[c->arg] = c->mask & -c->mask;
        else if (c->op == COND_OWN)
            d.args[c->arg] = syscalls_own(c->value);
        else if (c->op == COND_BELOW || c->op == COND_FROM)
            d.args[c->arg] = c->op == COND_FROM ? c->value : c->value - 1;
        else if (c->op != COND_NONE)
            d.args[c->arg] = c->op == COND_SET ? 1ull << 40 : 0;
    }
    return d;
}

/* Rules that can never be reached are mistakes. */
static void every_rule_is_reached(void **context)
{
    size_t rows;
    const struct syscall_row *row = syscalls_table(&rows);

    (void)context;
    for (size_t i = 0; i < rows; i++)
        for (const struct rule *r = row[i].rule; r->then != ACTION_END; r++) {
            struct seccomp_data none = meeting(row[i].nr, r, 0);
            struct seccomp_data some = meeting(row[i].nr, r, 1ull << 40);
            uint32_t want = syscalls_resolve(r->then, EVERYTHING);

            if (syscalls_decide(&none, EVERYTHING) != want &&
                syscalls_decide(&some, EVERYTHING) != want)
                fail_msg("%s: rule %td is hidden by another", row[i].name, r - row[i].rule);
            compare(&none);
            compare(&some);
        }
}

static void watches(void **context)
{
    static const struct {
        const char *word[4];
        const char *env[2];
        bool wants;
    } rows[] = {
        {{"cat"}, {NULL}, false},
        {{"cat", "/dev/stdin"}, {NULL}, true},
        {{"/bin/sh", "-c", "true"}, {NULL}, true},
        {{"/usr/bin/python3.11", "x.py"}, {NULL}, true},
        {{"/usr/bin/sort"}, {NULL}, false},
        {{"./sort"}, {NULL}, true},
        {{"/job/sort"}, {NULL}, true},
        {{"sort"}, {"A=/proc/self/fd/3"}, true},
        {{"sort"}, {"PATH=/usr/local/bin:/usr/bin:/bin"}, false},
        {{"sort"}, {"PATH=/job/bin:/usr/bin"}, true},
        {{"sort"}, {"PATH=/usr/bin:/binary"}, true},
        {{"sort"}, {"PATH=/usr/bin:"}, true},
        {{"/usr/bin/sort"}, {"PATH=/job/bin"}, false},
        {{"split", "--filter=cat"}, {NULL}, true},
        {{"sort", "--compress-program", "gzip"}, {NULL}, true},
        {{"ls"}, {NULL}, true},
        {{"a-program-of-mine"}, {NULL}, true},
        {{"b2sum"}, {NULL}, false}, /* the first and the last of the list */
        {{"yes"}, {NULL}, false},
        {{"tee", "a/dev/b"}, {NULL}, true}, /* a false alarm costs little */
        {{NULL}, {NULL}, true},
    };

    (void)context;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        assert_int_equal(filter_watches(rows[i].word, rows[i].env), rows[i].wants);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_call_once),
        cmocka_unit_test(size),
        cmocka_unit_test(every_number),
        cmocka_unit_test(other_architectures),
        cmocka_unit_test(every_rule_is_reached),
        cmocka_unit_test(every_notified_has_an_answer),
        cmocka_unit_test(random_calls),
        cmocka_unit_test(watches),
    };

    if (prepare() < 0)
        return 1;
    return cmocka_run_group_tests(tests, NULL, NULL) != 0;
}
