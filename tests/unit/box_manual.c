/* docs/man/zpipe-box.7.scd holds the treatment of every system call as the code has it: compares, or with
 * the argument `write` puts it there. */
#define MANUAL_PAGE  "docs/man/zpipe-box.7.scd"
#define MANUAL_BEGIN "; begin: from the table, by `test_box_manual write`\n"
#define MANUAL_END   "; end: from the table\n"
#include "tests/lib/manual.h"

#include "base/buf.h"
#include "sandbox/syscalls.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const struct {
    uint32_t action;
    const char *title, *word;
} ways[] = {
    {ALLOWED, "Done by the kernel", "done"},
    {NOTIFIED, "Answered by zpipe-box", "answered"},
    {OPENING, "Answered for programs that are watched", "answered for programs that are watched"},
    {LOOKING, NULL, "answered for programs that are watched"},
    {GROWING, "Counted where there is a limit", "counted where there is a limit"},
    {HOLDING, NULL, "counted where there is a limit"},
    {WRITING, NULL, "counted where there is a limit"},
    {FAKED, "Succeed without effect", "succeeds without effect"},
};
#define WAYS (sizeof ways / sizeof *ways)

static const char *word_of(uint32_t action)
{
    for (size_t i = 0; i < WAYS; i++)
        if (ways[i].action == action)
            return ways[i].word;
    return NULL;
}

static void add_action(struct buf *out, uint32_t action)
{
    const char *word = word_of(action);
    if (word)
        buf_text(out, word);
    else if (ACTION_KIND(action) == REFUSED(0))
        buf_text(out, strerrorname_np((int)ACTION_ERRNO(action)));
    else
        fail_msg("there is no word for treatment 0x%x", action);
}

static bool same_title(size_t way, uint32_t action)
{
    const char *word = word_of(action);
    return word && !strcmp(word, ways[way].word);
}

static void add_names(struct buf *out, const char *title, bool (*fits)(size_t, uint32_t), size_t arg)
{
    size_t rows;
    const struct syscall_row *row = syscalls_table(&rows);
    const char *between = "";
    buf_printf(out, "## %s\n\n", title);
    for (size_t i = 0; i < rows; i++)
        if (row[i].rule->then == ACTION_END && fits(arg, row[i].otherwise)) {
            buf_printf(out, "%s%s", between, row[i].name);
            between = ",\n";
        }
    buf_text(out, "\n\n");
}

static bool refused_with(size_t number, uint32_t action)
{
    return ACTION_KIND(action) == REFUSED(0) && ACTION_ERRNO(action) == number && number;
}

static void add_cond(struct buf *out, const struct cond *c)
{
    switch (c->op) {
    case COND_MASKED:
        if (c->mask == UINT32_MAX)
            buf_printf(out, "argument %u is 0x%x", c->arg, c->value);
        else
            buf_printf(out, "argument %u, of its bits 0x%x, is 0x%x", c->arg, c->mask, c->value);
        break;
    case COND_ANY:
        buf_printf(out, "argument %u has a bit of 0x%x", c->arg, c->mask);
        break;
    case COND_NIL:
        buf_printf(out, "argument %u is none", c->arg);
        break;
    case COND_SET:
        buf_printf(out, "argument %u is given", c->arg);
        break;
    case COND_BELOW:
        buf_printf(out, "argument %u is less than 0x%x", c->arg, c->value);
        break;
    case COND_FROM:
        buf_printf(out, "argument %u is 0x%x or more", c->arg, c->value);
        break;
    case COND_OWN:
        buf_printf(out, "argument %u is a number that no program knows", c->arg);
        break;
    default:
        break;
    }
}

static void add_rules(struct buf *out, const struct syscall_row *row)
{
    buf_printf(out, "*%s*\n", row->name);
    for (const struct rule *r = row->rule; r->then != ACTION_END; r++) {
        buf_text(out, "\t");
        add_action(out, r->then);
        buf_text(out, " if ");
        add_cond(out, &r->when[0]);
        if (r->when[1].op != COND_NONE) {
            buf_text(out, " and ");
            add_cond(out, &r->when[1]);
        }
        buf_text(out, ";\n");
    }
    buf_text(out, "\telse ");
    add_action(out, row->otherwise);
    buf_text(out, ".\n\n");
}

static void describe(struct buf *out)
{
    size_t rows;
    const struct syscall_row *row = syscalls_table(&rows);
    for (size_t i = 0; i < WAYS; i++)
        if (ways[i].title)
            add_names(out, ways[i].title, same_title, i);
    for (size_t number = 1; number < 134; number++) {
        bool used = false;
        for (size_t i = 0; i < rows; i++)
            used |= row[i].rule->then == ACTION_END && refused_with(number, row[i].otherwise);
        char title[64];
        snprintf(title, sizeof title, "Refused: %s", strerrorname_np((int)number));
        if (used)
            add_names(out, title, refused_with, number);
    }
    buf_text(out, "## By their arguments; the first that fits decides\n\n");
    for (size_t i = 0; i < rows; i++)
        if (row[i].rule->then != ACTION_END)
            add_rules(out, &row[i]);
}

static void page_is_right(void **state)
{
    (void)state;
    manual_check(describe);
}

int main(int argc, char **argv)
{
    int wrote = manual_write(argc, argv, describe);
    if (wrote >= 0)
        return wrote;
    const struct CMUnitTest tests[] = {cmocka_unit_test(page_is_right)};
    return cmocka_run_group_tests(tests, NULL, NULL) != 0;
}
