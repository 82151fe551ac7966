/* Tables of commands: zpipe's own can be read, what is wrong in a user's is told with its line, a
 * user's entry comes first, and words are told apart as getopt_long does it. */
#include "lib/test.h"
#include "dsl/commands.h"

#include <stdio.h>
#include <string.h>

#define TABLE                                                                                      \
    "command x\n  operands 1 files unless -e\n  flags -a,--all -b\n  values -e,--expr -n,-NUM\n"   \
    "  maybe -i,--in\n  flags -ps\n"

static struct commands *table_of(struct arena *a, const char *text, struct err *e)
{
    const struct commands_text t = {"my.conf", text, strlen(text)};
    *a = ARENA_INIT(64u << 20);
    return commands_new(a, &t, 1, e);
}

static void own_is_good(void **state)
{
    (void)state;
    struct arena a = ARENA_INIT(64u << 20);
    struct err e = {0};
    struct commands_text own = commands_own();
    struct commands *c = commands_new(&a, &own, 1, &e);
    if (!c)
        fail_msg("%s", e.text);
    const struct command *grep = commands_find(c, "fgrep", &e),
                         *sort = commands_find(c, "sort", &e);
    assert_non_null(grep);
    assert_int_equal(grep->ok_status, 3);
    assert_int_equal(grep->skip, 1);
    assert_non_null(sort);
    assert_ptr_equal(sort, commands_find(c, "sort", &e));
    assert_null(commands_find(c, "nothing-like-it", &e));
    assert_null(commands_find(c, "command", &e));
    assert_null(commands_find(c, "", &e));
    const struct command *find = commands_find(c, "find", &e);
    const char *const only[] = {"src", "-name", "x"}, *const does[] = {"src", "-execdir", "rm", "{}", ";"};
    assert_int_equal(command_makes(find, only, 3), COMMAND_MAKES_NONE); /* so its inputs need not be copied */
    assert_int_equal(command_makes(find, does, 5), COMMAND_MAKES_WORDS);
    assert_int_equal(command_makes(commands_find(c, "xargs", &e), only, 3), COMMAND_MAKES_WORDS);
    assert_int_equal(e.code, 0);
    arena_clear(&a);
}

static void user_comes_first(void **state)
{
    (void)state;
    struct arena a;
    struct err e = {0};
    struct commands *c =
        table_of(&a, "# mine\ncommand mine sort\n  status 0 5\n  form : lines", &e);
    assert_non_null(c);
    const struct command *k = commands_find(c, "sort", &e);
    assert_int_equal(k->ok_status, 33);
    assert_int_equal(k->form_count, 1);
    assert_int_equal(commands_find(c, "uniq", &e)->ok_status, 1);
    arena_clear(&a);
    /* blanks are as free before and behind `command` as elsewhere */
    c = table_of(&a, "command other\n\n  command\tmine  sort\r\n  status 0 5\n", &e);
    assert_non_null(c);
    assert_int_equal(commands_find(c, "sort", &e)->ok_status, 33);
    assert_int_equal(commands_find(c, "other", &e)->ok_status, 1);
    arena_clear(&a);
}

/* By its words, however they are quoted, and beside entries of the same name. */
static void exact_words(void **state)
{
    (void)state;
    static const char *const words[] = {"x", "-a", "b  c'\\", "", "*"};
    struct arena a;
    struct err e = {0};
    struct commands *c = table_of(&a, "exactly x\n form : lines\nexactly  x '-a' 'b  c'\\''\\' '' \\*\r\n status 2\n form : lines | rerun\ncommand x\n", &e);
    assert_non_null(c);
    const struct command *k = commands_exactly(c, words, 5);
    assert_non_null(k);
    assert_int_equal(k->ok_status, 4);
    assert_int_equal(k->form_count, 1);
    assert_int_equal(commands_exactly(c, words, 1)->ok_status, 1);
    assert_null(commands_exactly(c, words, 4));
    assert_null(commands_exactly(c, words + 1, 1));
    assert_int_equal(commands_find(c, "x", &e)->form_count, 0);
    assert_false(commands_find(c, "x", &e)->own);
    assert_true(commands_find(c, "sort", &e)->own);
    arena_clear(&a);
}

static const struct {
    const char *text, *says;
} bad[] = {
    {"flags -a\n", "my.conf:1:1: error: an entry begins with `command NAME` or `exactly WORD...`, not with `flags`"},
    {"exactly\n  form : lines\n", "my.conf:1:1: error: an entry begins"},
    {"exactly x 'a b\n  form : lines\n", "my.conf:1:1: error: a quote is not closed in"},
    {"exactly x\n  status 1\n", "has one `form :`"},
    {"exactly x\n  form given y : lines\n", "has one `form :`"},
    {"exactly x\n  form : lines\n  form : bytes\n", "has one `form :`"},
    {"\n# x\ncommand\n", "my.conf:3:1: error: an entry begins"},
    {"command x\n  fflags -a\n", "my.conf:2:1: error: not understood: `fflags`"},
    {"command x\n  flags a\n", "my.conf:2:1: error: this is no option: `a`"},
    {"command x\n  flags -a,b\n", "this is no option: `b`"},
    {"command x\n  flags -a\n  values -a\n",
     "my.conf:3:1: error: this option is there twice: `-a`"},
    {"command x\n  operands some\n", "not `some`"},
    {"command x\n  operands files without\n", "not understood: `without`"},
    {"command x\n  operands 1 files unless -q\n", "there is no option `-q`"},
    {"command x\n  here -q\n", "there is no option `-q`"},
    {"command x\n  form -q : lines\n", "there is no option `-q`"},
    {"command x\n  flags -q,--quiet\n  form --quiet : lines\n", "there is no option `--quiet`"},
    {"command x\n  form lines\n", "a form needs a `:`"},
    {"command x\n  form :\n", "a form needs a `:`"},
    {"command x\n  form : whole\n", "`whole` needs a reason"},
    {"command x\n  status 32\n", "a status is a number from 0 to 31, not `32`"},
    {"command x\n  status\n", "not understood: `status`"},
    {"command x\n  reads everything\n", "not understood: `reads`"},
    {"command x\n  makes\n", "not understood: `makes`"},
};

static void bad_is_told(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        struct arena a;
        struct err e = {0};
        if (table_of(&a, bad[i].text, &e) || !strstr(e.text, bad[i].says))
            fail_msg("%s: '%s'", bad[i].text, e.text);
        arena_clear(&a);
    }
}

static void ceilings(void **state)
{
    (void)state;
    static char text[COMMANDS_FILE_MAX + 2];
    struct arena a;
    struct err e = {0};
    memset(text, 'x', sizeof text - 1);
    assert_null(table_of(&a, text, &e));
    assert_non_null(strstr(e.text, "COMMANDS_FILE_MAX"));
    arena_clear(&a);
    text[COMMAND_LINE_MAX + 1] = '\0';
    assert_null(table_of(&a, text, &e));
    assert_non_null(strstr(e.text, "cannot be read"));
    arena_clear(&a);
    char *to = stpcpy(text, "command x\n  flags");
    for (int i = 0; i < COMMAND_WORDS_MAX; i++)
        to += sprintf(to, " -%d", i);
    assert_null(table_of(&a, text, &e));
    assert_non_null(strstr(e.text, "COMMAND_WORDS_MAX"));
    arena_clear(&a);
    to = stpcpy(text, "command x\n");
    for (int i = 0; i <= COMMAND_OPTIONS_MAX; i++)
        to += sprintf(to, " flags --o%d\n", i);
    assert_null(table_of(&a, text, &e));
    assert_non_null(strstr(e.text, "COMMAND_OPTIONS_MAX"));
    arena_clear(&a);
    to = stpcpy(text, "command x\n");
    for (int i = 0; i <= COMMAND_FORMS_MAX; i++)
        to += sprintf(to, " form : lines\n");
    assert_null(table_of(&a, text, &e));
    assert_non_null(strstr(e.text, "COMMAND_FORMS_MAX"));
    arena_clear(&a);
}

/* Words with blanks between them, and what they are: option=value, operand, ?unknown, !missing. */
static const struct {
    const char *words, *items;
} walks[] = {
    {"p f", "p f"},
    {"-ab p", "-a -b p"},
    {"p -a", "p -a"},
    {"-e x", "-e=x"},
    {"-ex", "-e=x"},
    {"-aex -b", "-a -e=x -b"},
    {"--expr=x --expr y", "-e=x -e=y"},
    {"--expr=", "-e="},
    {"-5", "-n=5"},
    {"-n 5 -n6", "-n=5 -n=6"},
    {"-i -ix --in --in=y z", "-i -i=x -i -i=y z"},
    {"-ps", "-ps"},
    {"-q", "?q"},
    {"-aqb", "-a ?qb -b"},
    {"--all=x", "?--all=x"},
    {"--al", "?--al"},
    {"-- -a --", "-a --"},
    {"-", "-"},
    {"-e", "!-e"},
    {"--expr", "!-e"},
};

static void words_are_told_apart(void **state)
{
    (void)state;
    struct arena a;
    struct err e = {0};
    const struct command *k = commands_find(table_of(&a, TABLE, &e), "x", &e);
    assert_non_null(k);
    for (size_t i = 0; i < sizeof walks / sizeof *walks; i++) {
        char copy[100], got[200] = "", *save;
        const char *word[10];
        size_t count = 0;
        strcpy(copy, walks[i].words);
        for (char *w = strtok_r(copy, " ", &save); w; w = strtok_r(NULL, " ", &save))
            word[count++] = w;
        struct command_walk walk = command_walk(k, word, count);
        struct command_item item;
        while ((item = command_next(&walk)).kind != ITEM_END) {
            char one[60];
            if (item.kind == ITEM_OPTION)
                snprintf(one, sizeof one, "%s%s%s%s", item.missing ? "!" : "", item.option->name[0],
                         item.value ? "=" : "", item.value ? item.value : "");
            else
                snprintf(one, sizeof one, "%s%s", item.kind == ITEM_UNKNOWN ? "?" : "", item.value);
            strcat(strcat(got, *got ? " " : ""), one);
        }
        if (strcmp(got, walks[i].items) != 0)
            fail_msg("%s: %s, not %s", walks[i].words, got, walks[i].items);
    }
    arena_clear(&a);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(own_is_good),
                                       cmocka_unit_test(user_comes_first), cmocka_unit_test(exact_words),
                                       cmocka_unit_test(bad_is_told), cmocka_unit_test(ceilings),
                                       cmocka_unit_test(words_are_told_apart)};
    return cmocka_run_group_tests_name("dsl_commands", tests, NULL, NULL) != 0;
}
