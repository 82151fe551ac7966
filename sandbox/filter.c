/* From the table to BPF.  The numbers of x86-64 are cut into spans that are treated alike, and searched by a binary tree (eight
 * comparisons at most); a call with rules has them inline in its leaf.  We write the instructions ourselves, for two reasons.
 * Their shape matters: the kernel runs the program once for every call number at each installation, and a linear list costs
 * three times the tree (measured: 0.56 against 0.17 ms; 0.12 with equal returns shared).  And rules on several words of
 * arguments, of which the first that matches decides, are a list here and a puzzle in a general library.
 * tests/unit/filter_table_test.c compares order and precedence with syscalls_decide, for random calls.
 *
 * What must stay true: another architecture never reaches the tree; every path ends in a return; the programs are complete
 * before the first fork, since filter_install runs where there is no heap. */
#include "sandbox/filter.h"
#include "sandbox/filter_program.h"
#include "sandbox/shim.h"
#include "sandbox/syscalls.h"

#include <assert.h>
#include <errno.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#define RETURNS_MAX 64   /* different returns; further ones are not shared */
#define SPANS_MAX   1024 /* twice the rows and one, at worst */
#define NR_OFFSET   (offsetof(struct seccomp_data, nr))
#define IP_LOW      (offsetof(struct seccomp_data, instruction_pointer))
#define IP_HIGH     (IP_LOW + 4)
#define ARG_LOW(n)  (offsetof(struct seccomp_data, args) + 8 * (n))
#define ARG_HIGH(n) (ARG_LOW(n) + 4)

struct span { /* numbers from `first` up to the next span */
    uint32_t first;
    uint32_t action; /* ACTION_END: the row's rules decide */
    const struct syscall_row *row;
};

struct emit {
    struct sock_filter *code; /* NULL: only count the instructions */
    unsigned count;
    unsigned variant;
};

/* The two usual variants, which are made beforehand, and room for one other, made by the task that wants it. */
static struct filter_made {
    struct sock_filter code[FILTER_INSNS_MAX];
    unsigned size; /* 0: not yet compiled */
    unsigned variant;
} plain = {.variant = FILTER_PLAIN}, opening = {.variant = FILTER_OPENS}, other;

static void put(struct emit *m, uint16_t code, uint32_t k, unsigned jt, unsigned jf)
{
    assert(jt <= UINT8_MAX && jf <= UINT8_MAX);
    if (m->code && m->count < FILTER_INSNS_MAX)
        m->code[m->count] = (struct sock_filter){code, (uint8_t)jt, (uint8_t)jf, k};
    m->count++;
}

/* Lets calls from the loader's place pass: one instruction jumps over the notification. */
static void put_loader(struct emit *m)
{
    put(m, BPF_LD | BPF_W | BPF_ABS, IP_LOW, 0, 0);
    put(m, BPF_ALU | BPF_AND | BPF_K, (uint32_t)~(SHIM_LOADER_ROOM - 1), 0, 0);
    put(m, BPF_JMP | BPF_JEQ | BPF_K, (uint32_t)SHIM_LOADER_AT, 0, 3);
    put(m, BPF_LD | BPF_W | BPF_ABS, IP_HIGH, 0, 0);
    put(m, BPF_JMP | BPF_JEQ | BPF_K, (uint32_t)(SHIM_LOADER_AT >> 32), 0, 1);
    put(m, BPF_RET | BPF_K, SECCOMP_RET_ALLOW, 0, 0);
}

/* Writes an action: one instruction, unless it is WATCHED, which only occurs without rules. */
static void put_action(struct emit *m, uint32_t action)
{
    uint32_t value = SECCOMP_RET_ALLOW;

    action = syscalls_resolve(action, m->variant);
    if (action == WATCHED)
        put_loader(m);
    if (action == NOTIFIED || action == WATCHED)
        value = SECCOMP_RET_USER_NOTIF;
    else if (ACTION_KIND(action) == REFUSED(0))
        value = SECCOMP_RET_ERRNO | ACTION_ERRNO(action);
    put(m, BPF_RET | BPF_K, value, 0, 0);
}

static bool whole_word(const struct cond *c)
{
    return c->op == COND_ANY || (c->op == COND_MASKED && c->mask == UINT32_MAX);
}

static unsigned cond_size(const struct cond *c)
{
    static const unsigned size[] = {
        [COND_NONE] = 0, [COND_MASKED] = 3, [COND_ANY] = 2,  [COND_NIL] = 4,
        [COND_SET] = 4,  [COND_BELOW] = 4,  [COND_FROM] = 4, [COND_OWN] = 2};

    return size[c->op] - (c->op == COND_MASKED && whole_word(c));
}

/* Falls through if the condition holds; else jumps over `rest` instructions after it. */
static void put_cond(struct emit *m, const struct cond *c, unsigned rest)
{
    switch (c->op) {
    case COND_MASKED:
        put(m, BPF_LD | BPF_W | BPF_ABS, ARG_LOW(c->arg), 0, 0);
        if (!whole_word(c))
            put(m, BPF_ALU | BPF_AND | BPF_K, c->mask, 0, 0);
        put(m, BPF_JMP | BPF_JEQ | BPF_K, c->value, 0, rest);
        break;
    case COND_OWN:
        put(m, BPF_LD | BPF_W | BPF_ABS, ARG_LOW(c->arg), 0, 0);
        put(m, BPF_JMP | BPF_JEQ | BPF_K, syscalls_own(c->value), 0, rest);
        break;
    case COND_ANY:
        put(m, BPF_LD | BPF_W | BPF_ABS, ARG_LOW(c->arg), 0, 0);
        put(m, BPF_JMP | BPF_JSET | BPF_K, c->mask, 0, rest);
        break;
    case COND_NIL:
        put(m, BPF_LD | BPF_W | BPF_ABS, ARG_LOW(c->arg), 0, 0);
        put(m, BPF_JMP | BPF_JEQ | BPF_K, 0, 0, rest + 2);
        put(m, BPF_LD | BPF_W | BPF_ABS, ARG_HIGH(c->arg), 0, 0);
        put(m, BPF_JMP | BPF_JEQ | BPF_K, 0, 0, rest);
        break;
    case COND_SET:
        put(m, BPF_LD | BPF_W | BPF_ABS, ARG_LOW(c->arg), 0, 0);
        put(m, BPF_JMP | BPF_JEQ | BPF_K, 0, 0, 2);
        put(m, BPF_LD | BPF_W | BPF_ABS, ARG_HIGH(c->arg), 0, 0);
        put(m, BPF_JMP | BPF_JEQ | BPF_K, 0, rest, 0);
        break;
    case COND_BELOW:
        put(m, BPF_LD | BPF_W | BPF_ABS, ARG_HIGH(c->arg), 0, 0);
        put(m, BPF_JMP | BPF_JEQ | BPF_K, 0, 0, rest + 2);
        put(m, BPF_LD | BPF_W | BPF_ABS, ARG_LOW(c->arg), 0, 0);
        put(m, BPF_JMP | BPF_JGE | BPF_K, c->value, rest, 0);
        break;
    case COND_FROM:
        put(m, BPF_LD | BPF_W | BPF_ABS, ARG_HIGH(c->arg), 0, 0);
        put(m, BPF_JMP | BPF_JEQ | BPF_K, 0, 0, 2);
        put(m, BPF_LD | BPF_W | BPF_ABS, ARG_LOW(c->arg), 0, 0);
        put(m, BPF_JMP | BPF_JGE | BPF_K, c->value, 0, rest);
        break;
    default:
        break;
    }
}

/* How many rules from here on test the same word of one argument, without a mask, for the same action. */
static unsigned run_length(const struct rule *r)
{
    unsigned count = 0;

    while (r[count].then == r->then && r[count].when[1].op == COND_NONE &&
           whole_word(&r[count].when[0]) && r[count].when[0].arg == r->when[0].arg)
        count++;
    return count;
}

/* Writes a run of rules, which share one return.  The first of them loads the word, unless the run before left it in the
 * accumulator (loaded). */
static void put_run(struct emit *m, const struct rule *r, unsigned count, bool loaded)
{
    if (!loaded)
        put(m, BPF_LD | BPF_W | BPF_ABS, ARG_LOW(r->when[0].arg), 0, 0);
    for (unsigned i = 0; i < count; i++) {
        const struct cond *c = &r[i].when[0];
        bool any = c->op == COND_ANY;

        put(m, BPF_JMP | BPF_K | (any ? BPF_JSET : BPF_JEQ), any ? c->mask : c->value,
            count - 1 - i, i == count - 1);
    }
    put_action(m, r->then);
}

static void put_row(struct emit *m, const struct syscall_row *row)
{
    int loaded = -1; /* the argument whose low word is in the accumulator */

    for (const struct rule *r = row->rule; r->then != ACTION_END;) {
        unsigned run = run_length(r);

        if (run) {
            put_run(m, r, run, loaded == r->when[0].arg);
            loaded = r->when[0].arg;
            r += run;
            continue;
        }
        put_cond(m, &r->when[0], cond_size(&r->when[1]) + 1);
        put_cond(m, &r->when[1], 1);
        put_action(m, r->then);
        loaded = -1;
        r++;
    }
    put_action(m, row->otherwise);
}

static void put_leaf(struct emit *m, const struct span *s)
{
    if (s->action == ACTION_END)
        put_row(m, s->row);
    else
        put_action(m, s->action);
}

/* The tree over spans [low, high).  The right half is far away when the left is large: BPF's
 * conditional jumps reach 255 instructions, BPF_JA reaches all. */
static void put_tree(struct emit *m, const struct span *s, unsigned low, unsigned high)
{
    struct emit probe = {.variant = m->variant};
    unsigned middle = low + (high - low) / 2;

    if (high - low == 1) {
        put_leaf(m, &s[low]);
        return;
    }
    put_tree(&probe, s, low, middle);
    if (probe.count <= UINT8_MAX) {
        put(m, BPF_JMP | BPF_JGE | BPF_K, s[middle].first, probe.count, 0);
    } else {
        put(m, BPF_JMP | BPF_JGE | BPF_K, s[middle].first, 0, 1);
        put(m, BPF_JMP | BPF_JA, probe.count, 0, 0);
    }
    put_tree(m, s, low, middle);
    put_tree(m, s, middle, high);
}

static void span_add(struct span *s, unsigned *count, uint32_t first, uint32_t action,
                     const struct syscall_row *row)
{
    struct span *last = *count ? &s[*count - 1] : NULL;

    if (last && action != ACTION_END && last->action == action)
        return; /* the last condition falls through */
    if (last && last->first == first)
        *last = (struct span){first, action, row};
    else
        s[(*count)++] = (struct span){first, action, row};
}

static unsigned spans_make(struct span *s, unsigned variant)
{
    size_t rows;
    const struct syscall_row *row = syscalls_table(&rows);
    unsigned count = 0;
    uint32_t next = 0;

    assert(2 * rows + 1 <= SPANS_MAX);
    for (size_t i = 0; i < rows; i++) {
        uint32_t nr = (uint32_t)row[i].nr;
        uint32_t action = row[i].otherwise;

        if (row[i].rule->then != ACTION_END)
            action = ACTION_END;
        else
            action = syscalls_resolve(action, variant);
        if (nr > next)
            span_add(s, &count, next, NOTIFIED, NULL);
        span_add(s, &count, nr, action, &row[i]);
        next = nr + 1;
    }
    span_add(s, &count, next, NOTIFIED, NULL); /* calls that are newer than the table */
    span_add(s, &count, SYSCALLS_X32, syscalls_resolve(REFUSED(ENOSYS), variant), NULL); /* x32's numbers, negative ones */
    return count;
}

/* --- equal returns shared ---
 * A quarter of the program would be returns, each a leaf's own, and an installation (conversion, machine code) costs more with
 * each instruction.  All jumps go forward, so equal returns are found, and shared, from the end of the program. */

struct shared {
    uint32_t value;
    unsigned at;
};

static bool is_return(const struct sock_filter *c)
{
    return BPF_CLASS(c->code) == BPF_RET;
}

static bool is_condition(const struct sock_filter *c)
{
    return BPF_CLASS(c->code) == BPF_JMP && BPF_OP(c->code) != BPF_JA;
}

/* If the jump over `skip` instructions from `from` leads to a return: makes it lead to a shared one, if it can reach that. */
static uint8_t share_one(const struct sock_filter *code, unsigned from, uint8_t skip, struct shared *shared, unsigned *count)
{
    unsigned to = from + 1 + skip, i = 0;

    if (!is_return(&code[to]))
        return skip;
    while (i < *count && shared[i].value != code[to].k)
        i++;
    if (i == *count && i < RETURNS_MAX)
        shared[(*count)++] = (struct shared){code[to].k, to};
    else if (i < RETURNS_MAX && shared[i].at - from - 1 > UINT8_MAX)
        shared[i].at = to;
    return i < RETURNS_MAX ? (uint8_t)(shared[i].at - from - 1) : skip;
}

/* Computes the place of each instruction when unreachable ones are removed; returns how many stay. */
static unsigned places_of(const struct sock_filter *code, unsigned count, uint16_t *at)
{
    static bool reached[FILTER_INSNS_MAX + 1];
    unsigned stay = 0;

    memset(reached, 0, sizeof reached);
    reached[0] = true;
    for (unsigned i = 0; i < count; i++) {
        const struct sock_filter *c = &code[i];

        at[i] = reached[i] ? (uint16_t)stay++ : UINT16_MAX;
        if (!reached[i] || is_return(c))
            continue;
        if (is_condition(c))
            reached[i + 1 + c->jt] = reached[i + 1 + c->jf] = true;
        else
            reached[i + 1 + (BPF_CLASS(c->code) == BPF_JMP ? c->k : 0)] = true;
    }
    return stay;
}

static unsigned share_returns(struct sock_filter *code, unsigned count)
{
    static uint16_t at[FILTER_INSNS_MAX];
    struct shared shared[RETURNS_MAX];
    unsigned shared_count = 0, stay;

    for (unsigned i = count; i-- > 0;)
        if (is_condition(&code[i])) {
            code[i].jt = share_one(code, i, code[i].jt, shared, &shared_count);
            code[i].jf = share_one(code, i, code[i].jf, shared, &shared_count);
        }
    stay = places_of(code, count, at);
    for (unsigned i = 0; i < count; i++) {
        struct sock_filter c = code[i];

        if (at[i] == UINT16_MAX)
            continue;
        if (is_condition(&c)) {
            c.jt = (uint8_t)(at[i + 1 + c.jt] - at[i] - 1);
            c.jf = (uint8_t)(at[i + 1 + c.jf] - at[i] - 1);
        } else if (BPF_CLASS(c.code) == BPF_JMP) {
            c.k = (uint32_t)(at[i + 1 + c.k] - at[i] - 1);
        }
        code[at[i]] = c;
    }
    return stay;
}

static int compile(struct filter_made *f, unsigned variant, struct err *e)
{
    static struct span spans[SPANS_MAX];
    struct emit m = {.code = f->code, .variant = variant};
    unsigned count = spans_make(spans, variant);

    put(&m, BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, arch), 0, 0);
    put(&m, BPF_JMP | BPF_JEQ | BPF_K, AUDIT_ARCH_X86_64, 1, 0);
    put(&m, BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS, 0, 0);
    put(&m, BPF_LD | BPF_W | BPF_ABS, NR_OFFSET, 0, 0);
    put_tree(&m, spans, 0, count);
    if (m.count > FILTER_INSNS_MAX)
        return err_set(e, ERR_BUG, "the task filter has %u instructions, more than %d", m.count,
                       FILTER_INSNS_MAX);
    f->variant = variant;
    f->size = share_returns(f->code, m.count);
    return 0;
}

static struct filter_made *made_for(unsigned variant)
{
    return variant == FILTER_PLAIN ? &plain : variant == FILTER_OPENS ? &opening : &other;
}

int filter_prepare(unsigned variant, struct err *e)
{
    struct filter_made *f = made_for(variant);

    return f->size && f->variant == variant ? 0 : compile(f, variant, e);
}

const struct sock_filter *filter_program(unsigned variant, unsigned *count)
{
    const struct filter_made *f = made_for(variant);

    *count = f->variant == variant ? f->size : 0;
    return f->code;
}

int filter_install(unsigned variant, int *listener, struct err *e)
{
    /* Best first.  WAIT_KILLABLE_RECV (5.19): a signal does not interrupt a call that is being answered.  SPEC_ALLOW:
     * otherwise older kernels switch speculation off for the whole task, at 30 %. */
    static const unsigned flags[] = {
        SECCOMP_FILTER_FLAG_NEW_LISTENER | SECCOMP_FILTER_FLAG_SPEC_ALLOW |
            SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV,
        SECCOMP_FILTER_FLAG_NEW_LISTENER | SECCOMP_FILTER_FLAG_SPEC_ALLOW,
    };
    struct filter_made *made = made_for(variant);
    struct sock_fprog program = {made->variant == variant ? (unsigned short)made->size : 0, made->code};
    long fd = -1;

    if (!program.len)
        return err_set(e, ERR_BUG, "the task filter was not prepared");
    for (size_t i = 0; i < sizeof flags / sizeof *flags; i++) {
        fd = syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, flags[i], &program);
        if (fd >= 0 || errno != EINVAL)
            break;
    }
    if (fd < 0)
        return err_sys(e, "cannot install the task filter");
    *listener = (int)fd; /* the kernel has made it close-on-exec */
    return 0;
}

/* Programs that show nobody a file's times, numbers or owner, and open no name that zpipe-box answers unless a word names
 * it. */
static const char *const plain_programs[] = {
    "b2sum", "base32", "base64", "basename", "basenc", "cat", "cksum", "cmp", "column", "comm", "csplit", "cut",
    "dd", "dirname", "echo", "egrep", "expand", "expr", "factor", "false", "fgrep", "fmt", "fold", "grep", "head",
    "hexdump", "hostname", "id", "join", "jq", "md5sum", "nl", "nproc", "numfmt", "od", "paste", "printenv",
    "printf", "ptx", "rev", "sed", "seq", "sha1sum", "sha224sum", "sha256sum", "sha384sum", "sha512sum", "shuf",
    "sleep", "sort", "split", "sum", "tac", "tee", "tr", "true", "tsort", "uname", "unexpand", "uniq", "wc",
    "whoami", "xxd", "yes"};

static int by_name(const void *name, const void *row)
{
    return strcmp(name, *(const char *const *)row);
}

bool filter_plain(const char *word)
{
    if (strchr(word, '/') && strncmp(word, "/usr/", 5) && strncmp(word, "/bin/", 5))
        return false; /* only a program of the image counts, not the user's own of that name */
    return bsearch(basename(word), plain_programs, sizeof plain_programs / sizeof *plain_programs, sizeof *plain_programs,
                   by_name);
}

/* Does a word name /dev/ or /proc/, or a program for this one to start (sort --compress-program, split --filter), which may
 * show anything? */
static bool names_one(const char *const *words)
{
    for (; words && *words; words++)
        if (strstr(*words, "/dev/") || strstr(*words, "/proc/") || !strncmp(*words, "--filter", 8) || !strncmp(*words, "--compress", 10))
            return true;
    return false;
}

/* Does PATH lead only to programs of the image? */
static bool searches_image(const char *const *env)
{
    while (env && *env && strncmp(*env, "PATH=", 5))
        env++;
    for (const char *at = env && *env ? *env + 4 : ""; *at; at += strcspn(at, ":"))
        if (strncmp(++at, "/usr/", 5) && (strncmp(at, "/bin", 4) || !strchr(":/", at[4])))
            return false;
    return true;
}

/* Is it grep that looks through directories?  It shows in which order it finds the files. */
static bool lists_directories(const char *const *words)
{
    const char *name = basename(*words);
    bool lists = false;

    if (strcmp(name, "grep") && strcmp(name, "egrep") && strcmp(name, "fgrep"))
        return false;
    while (*++words)
        lists |= !strncmp(*words, "--", 2) ? !strncmp(*words, "--r", 3) || !strncmp(*words, "--d", 3)
                                           : **words == '-' && strpbrk(*words, "rRd");
    return lists;
}

bool filter_watches(const char *const *argv, const char *const *env)
{
    return !argv || !argv[0] || !filter_plain(argv[0]) || (!strchr(argv[0], '/') && !searches_image(env)) || names_one(argv) || names_one(env) ||
           lists_directories(argv);
}
