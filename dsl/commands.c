/* See commands.h.  An entry is found by the line `command NAME...` with which it begins, and ends before the next such
 * line.  Entries that begin with `exactly` are read at once: they are the user's, and few. */
#include "dsl/commands.h"
#include "base/buf.h"

#include <fnmatch.h>
#include <stdlib.h>
#include <string.h>

/* Includes the file itself between two symbols. */
__asm__(".pushsection .rodata\n"
        ".global commands_conf\n.hidden commands_conf\ncommands_conf:\n"
        ".incbin \"" COMMANDS_CONF "\"\n"
        ".global commands_conf_end\n.hidden commands_conf_end\ncommands_conf_end:\n.byte 0\n"
        ".popsection\n");
extern const char commands_conf[], commands_conf_end[];

struct found {
    struct found *next;
    const char *name;
    struct command command;
};

/* A user's entry for a whole command line. */
struct exactly {
    struct exactly *next;
    const char *const *word;
    uint32_t words;
    struct command command;
};

struct commands {
    struct arena *arena;
    struct commands_text text[COMMANDS_TEXTS_MAX];
    size_t count;
    struct found *found;
    struct exactly *exactly, **last; /* in the order of the texts */
};

struct reader {
    struct arena *arena;
    struct err *e;
    const struct commands_text *text;
    const char *at; /* where the next line begins */
    uint32_t line;
    const char *word[COMMAND_WORDS_MAX + 1];
    uint32_t words;
    struct command *command;
    struct command_option option[COMMAND_OPTIONS_MAX];
    struct command_form form[COMMAND_FORMS_MAX];
    uint32_t options, forms;
};

struct commands_text commands_own(void)
{
    return (struct commands_text){"commands.conf", commands_conf,
                                  (size_t)(commands_conf_end - commands_conf)};
}

static int refuse(struct reader *r, const char *what, const char *word)
{
    return err_set(r->e, ERR_INPUT, "%.200s:%u:1: error: %s%s%.60s%s", r->text->file, r->line, what,
                   *word ? " `" : "", word, *word ? "`" : "");
}

/* ---- lines ------------------------------------------------------------------------------- */

/* Replaces `\n`, `\t` and `\s` (a blank).  Any other `\` stays, for patterns. */
static void unescape(char *word)
{
    char *to = word;
    for (const char *from = word; *from; from++)
        if (from[0] == '\\' && from[1] && strchr("nts", from[1]))
            *to++ = *++from == 'n' ? '\n' : *from == 't' ? '\t' : ' ';
        else
            *to++ = *from;
    *to = '\0';
}

/* The next word, with quotes '' and \ as in sh, written over the text; NULL: there is none, or a quote is left open. */
static char *take_quoted(char **at)
{
    char *from = *at + strspn(*at, " \t\r"), *to = from, *word = from;
    bool quote = false;
    if (!*from)
        return NULL;
    for (; *from && (quote || !strchr(" \t\r", *from)); from++)
        if (*from == '\'')
            quote = !quote;
        else
            *to++ = !quote && *from == '\\' && from[1] ? *++from : *from;
    if (quote)
        return NULL;
    *at = from + (*from != '\0');
    *to = '\0';
    return word;
}

/* Reads the words after `exactly`. */
static int read_exactly(struct reader *r, char *rest)
{
    for (char *w; (w = take_quoted(&rest));) {
        if (r->words == COMMAND_WORDS_MAX)
            return refuse(r, "too many words in a line (COMMAND_WORDS_MAX)", "");
        r->word[r->words++] = w;
    }
    return rest[strspn(rest, " \t\r")] ? refuse(r, "a quote is not closed in", rest) : 0;
}

/* Reads the words of the next line that is not empty; 0: there is none. */
static int read_line(struct reader *r)
{
    const char *stop = r->text->text + r->text->size;
    for (r->words = 0; r->words == 0 && r->at < stop;) {
        const char *end = memchr(r->at, '\n', (size_t)(stop - r->at));
        size_t size = (size_t)((end ? end : stop) - r->at);
        const char *from = r->at;
        r->at += size + (end != NULL);
        r->line++;
        if (size > COMMAND_LINE_MAX || memchr(from, '\0', size))
            return refuse(r, "this line cannot be read", "");
        char *line = arena_bytes(r->arena, from, size), *save;
        if (!line)
            return err_nomem(r->e);
        for (char *w = strtok_r(line, " \t\r", &save); w; w = strtok_r(NULL, " \t\r", &save)) {
            if (r->words == 0 && *w == '#')
                break;
            if (r->words == COMMAND_WORDS_MAX)
                return refuse(r, "too many words in a line (COMMAND_WORDS_MAX)", "");
            unescape(w);
            r->word[r->words++] = w;
            if (r->words == 1 && strcmp(w, "exactly") == 0) {
                if (read_exactly(r, save) < 0)
                    return -1;
                break;
            }
        }
    }
    return r->words > 0;
}

/* ---- what an entry says ------------------------------------------------------------------ */

static const struct command_option *option_named(const struct command_option *list, uint32_t count,
                                                 const char *name, size_t size)
{
    for (uint32_t i = 0; i < count; i++)
        for (uint32_t k = 0; k < list[i].names; k++)
            if (strncmp(list[i].name[k], name, size) == 0 && !list[i].name[k][size])
                return &list[i];
    return NULL;
}

static int read_option(struct reader *r, const char *word, const struct command_option *kind)
{
    char *copy = arena_string(r->arena, word), *save;
    struct command_option *o = &r->option[r->options];
    if (!copy)
        return err_nomem(r->e);
    if (r->options == COMMAND_OPTIONS_MAX)
        return refuse(r, "too many options (COMMAND_OPTIONS_MAX)", "");
    *o = *kind;
    for (char *w = strtok_r(copy, ",", &save); w; w = strtok_r(NULL, ",", &save)) {
        if (w[0] != '-' || !w[1] || o->names == COMMAND_SPELLINGS_MAX)
            return refuse(r, "this is no option:", w);
        if (option_named(r->option, r->options, w, strlen(w)))
            return refuse(r, "this option is there twice:", w);
        o->name[o->names++] = w;
    }
    r->options++;
    return 0;
}

static int read_operands(struct reader *r)
{
    struct command *k = r->command;
    uint32_t i = 1;
    if (i < r->words && r->word[i][0] >= '0' && r->word[i][0] <= '9')
        k->skip = (uint32_t)(r->word[i++][0] - '0');
    const char *what = i < r->words ? r->word[i++] : "";
    k->files = strcmp(what, "files") == 0 || strcmp(what, "file") == 0;
    k->outputs = strcmp(what, "outputs") == 0;
    if (strcmp(what, "any") == 0)
        k->skip = UINT32_MAX;
    else if (!k->files && !k->outputs && strcmp(what, "none") != 0)
        return refuse(r, "operands are none, any, files, outputs, or a file and an output, not",
                      what);
    if (i < r->words && strcmp(r->word[i], "output") == 0 && strcmp(what, "file") == 0) {
        k->then_output = true;
        i++;
    }
    if (i < r->words && strcmp(r->word[i++], "unless") != 0)
        return refuse(r, "not understood:", r->word[i - 1]);
    for (; i < r->words; i++) {
        if (k->unless_count == COMMAND_SPELLINGS_MAX)
            return refuse(r, "too many options behind `unless`", "");
        k->unless[k->unless_count++] = r->word[i];
    }
    return 0;
}

/* form CONDITION... [given OPERAND...] : CLAUSES */
static int read_form(struct reader *r)
{
    struct command_form *f = &r->form[r->forms];
    if (r->forms == COMMAND_FORMS_MAX)
        return refuse(r, "too many forms (COMMAND_FORMS_MAX)", "");
    const char **list = arena_array(r->arena, r->words + 1, sizeof *list);
    if (!list)
        return err_nomem(r->e);
    memcpy(list, r->word, r->words * sizeof *list);
    *f = (struct command_form){.condition = list + 1};
    uint32_t i = 1;
    for (; i < r->words && strcmp(list[i], ":") != 0 && strcmp(list[i], "given") != 0; i++)
        f->conditions++;
    f->given = i < r->words && strcmp(list[i], "given") == 0;
    i += f->given;
    f->operand = list + i;
    for (; i < r->words && strcmp(list[i], ":") != 0; i++)
        f->operands++;
    if (i + 1 >= r->words)
        return refuse(r, "a form needs a `:` and what it means behind that", "");
    f->word = list + i + 1;
    f->words = r->words - i - 1;
    if (strcmp(f->word[0], "whole") == 0) {
        size_t size = 1;
        for (uint32_t k = 1; k < f->words; k++)
            size += strlen(f->word[k]) + 1;
        char *text = arena_alloc(r->arena, size), *to = text;
        if (!text)
            return err_nomem(r->e);
        for (uint32_t k = 1; k < f->words; k++)
            to = stpcpy(stpcpy(to, k > 1 ? " " : ""), f->word[k]);
        if (!*text)
            return refuse(r, "`whole` needs a reason", "");
        f->reason = text;
    }
    r->forms++;
    return 0;
}

static int read_status(struct reader *r)
{
    r->command->ok_status = 0;
    for (uint32_t i = 1; i < r->words; i++) {
        char *end;
        unsigned long n = strtoul(r->word[i], &end, 10);
        if (*end || n > 31)
            return refuse(r, "a status is a number from 0 to 31, not", r->word[i]);
        r->command->ok_status |= 1u << n;
    }
    return 0;
}

/* `here`, `here first`, `here OPTION...`. */
static int read_here(struct reader *r)
{
    struct command *k = r->command;
    bool first = r->words == 2 && strcmp(r->word[1], "first") == 0;
    k->here = first ? COMMAND_HERE_FIRST : r->words > 1 ? COMMAND_HERE_WITH : COMMAND_HERE_ALONE;
    for (uint32_t i = 1; !first && i < r->words; i++) {
        if (k->here_count == COMMAND_SPELLINGS_MAX)
            return refuse(r, "too many options behind `here`", "");
        k->here_with[k->here_count++] = r->word[i];
    }
    return 0;
}

/* `reads names`, `reads names OPTION...`. */
static int read_names(struct reader *r)
{
    struct command *k = r->command;
    k->reads_names = r->words == 2;
    for (uint32_t i = 2; i < r->words; i++) {
        if (k->names_count == COMMAND_SPELLINGS_MAX)
            return refuse(r, "too many options behind `reads names`", "");
        k->names_with[k->names_count++] = r->word[i];
    }
    return 0;
}

static int read_statement(struct reader *r)
{
    static const struct {
        const char *name;
        struct command_option option;
    } lists[] = {
        {"flags", {.argument = ARGUMENT_NONE}},
        {"values", {.argument = ARGUMENT_NEXT}},
        {"many", {.argument = ARGUMENT_NEXT, .many = true}},
        {"maybe", {.argument = ARGUMENT_ATTACHED}},
        {"files", {.argument = ARGUMENT_NEXT, .file = true, .many = true}},
        {"outputs", {.argument = ARGUMENT_NEXT, .output = true}},
        {"drop", {.argument = ARGUMENT_NEXT, .drop = true}},
        {"in-place", {.argument = ARGUMENT_ATTACHED, .in_place = true}},
    };
    const char *w = r->word[0];
    for (size_t i = 0; i < sizeof lists / sizeof *lists; i++) {
        if (strcmp(w, lists[i].name) != 0)
            continue;
        for (uint32_t k = 1; k < r->words; k++)
            if (read_option(r, r->word[k], &lists[i].option) < 0)
                return -1;
        return 0;
    }
    if (strcmp(w, "operands") == 0)
        return read_operands(r);
    if (strcmp(w, "form") == 0)
        return read_form(r);
    if (strcmp(w, "status") == 0 && r->words > 1)
        return read_status(r);
    if (strcmp(w, "here") == 0)
        return read_here(r);
    if (strcmp(w, "directories") == 0 && r->words == 1)
        r->command->directories = true;
    else if (strcmp(w, "ordered") == 0 && r->words == 1)
        r->command->ordered = true;
    else if (strcmp(w, "reads") == 0 && r->words == 2 && strcmp(r->word[1], "nothing") == 0)
        r->command->silent = true;
    else if (strcmp(w, "reads") == 0 && r->words == 2 && strcmp(r->word[1], "pairs") == 0)
        r->command->pairs = true;
    else if (strcmp(w, "reads") == 0 && r->words > 1 && strcmp(r->word[1], "names") == 0)
        return read_names(r);
    else if (strcmp(w, "makes") == 0 && r->words == 2 && strcmp(r->word[1], "options") == 0)
        r->command->makes = COMMAND_MAKES_OPTIONS;
    else if (strcmp(w, "makes") == 0 && r->words > 1 && r->words - 2 <= COMMAND_SPELLINGS_MAX && strcmp(r->word[1], "words") == 0) {
        r->command->makes = COMMAND_MAKES_WORDS;
        r->command->makes_count = r->words - 2;
        memcpy(r->command->makes_with, r->word + 2, (r->words - 2) * sizeof *r->command->makes_with);
    } else if (strcmp(w, "makes") == 0 && r->words == 3 && strcmp(r->word[1], "prefixes") == 0) {
        r->command->makes = COMMAND_MAKES_WORDS;
        r->command->prefix = r->word[2];
    } else if (strcmp(w, "makes") == 0 && r->words > 2 && r->words - 2 <= COMMAND_SPELLINGS_MAX && strcmp(r->word[1], "suffixes") == 0) {
        r->command->makes = COMMAND_MAKES_WORDS;
        r->command->suffix_count = r->words - 2;
        memcpy(r->command->suffix, r->word + 2, (r->words - 2) * sizeof *r->command->suffix);
    } else
        return refuse(r, "not understood:", w);
    return 0;
}

static int check_list(struct reader *r, const char *const *name, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++)
        if (!option_named(r->option, r->options, name[i], strlen(name[i])))
            return refuse(r, "in the entry above this line there is no option", name[i]);
    return 0;
}

/* Every option that is named in a form, `unless`, `here` or `reads names` must be one of the entry's. */
static int check_names(struct reader *r)
{
    const struct command *of = r->command;
    if (check_list(r, of->unless, of->unless_count) < 0 || check_list(r, of->here_with, of->here_count) < 0 ||
        check_list(r, of->names_with, of->names_count) < 0)
        return -1;
    for (uint32_t i = 0; i < r->forms; i++)
        for (uint32_t k = 0; k < r->form[i].conditions; k++) {
            const char *c = r->form[i].condition[k];
            const struct command_option *o =
                option_named(r->option, r->options, c, strcspn(c, "="));
            if (!(o && strncmp(o->name[0], c, strcspn(c, "=")) == 0) &&
                strcmp(c, "small") != 0 && strncmp(c, "files>", 6) != 0 && strncmp(c, "files=", 6) != 0)
                return refuse(r, "in the entry above this line there is no option", c);
        }
    return 0;
}

static bool begins_entry(const struct reader *r)
{
    return strcmp(r->word[0], "command") == 0 || strcmp(r->word[0], "exactly") == 0;
}

/* Reads an entry, from its second line up to the next entry. */
static int read_entry(struct reader *r, struct command *out)
{
    int more;
    const char *before;
    uint32_t line;
    r->command = out;
    r->options = r->forms = 0;
    *out = (struct command){.ok_status = 1};
    while (before = r->at, line = r->line,
           (more = read_line(r)) > 0 && !begins_entry(r))
        if (read_statement(r) < 0)
            return -1;
    if (more < 0 || check_names(r) < 0)
        return -1;
    if (more) {
        r->at = before;
        r->line = line;
    }
    struct command_option *options = arena_array(r->arena, r->options + 1, sizeof *options);
    struct command_form *forms = arena_array(r->arena, r->forms + 1, sizeof *forms);
    if (!options || !forms)
        return err_nomem(r->e);
    memcpy(options, r->option, r->options * sizeof *options);
    memcpy(forms, r->form, r->forms * sizeof *forms);
    out->option = options;
    out->option_count = r->options;
    out->form = forms;
    out->form_count = r->forms;
    return 0;
}

/* ---- the table --------------------------------------------------------------------------- */

static struct reader *reader_new(struct arena *a, const struct commands_text *text, struct err *e)
{
    struct reader *r = arena_alloc(a, sizeof *r);
    if (!r)
        err_nomem(e);
    else
        *r = (struct reader){.arena = a, .e = e, .text = text, .at = text->text};
    return r;
}

/* Reads an entry `exactly WORD...`: it holds for these words only and has no options and operands. */
static int read_words_entry(struct commands *c, struct reader *r)
{
    struct exactly *x = arena_alloc(c->arena, sizeof *x);
    const char **word = arena_array(c->arena, r->words, sizeof *word);
    if (!x || !word)
        return err_nomem(r->e);
    memcpy(word, r->word + 1, (r->words - 1) * sizeof *word);
    *x = (struct exactly){.word = word, .words = r->words - 1};
    if (read_entry(r, &x->command) < 0)
        return -1;
    if (x->command.form_count != 1 || x->command.form[0].conditions || x->command.form[0].given)
        return refuse(r, "the entry above this line has one `form :`, without conditions", "");
    x->command.name = word[0];
    *c->last = x;
    c->last = &x->next;
    return 0;
}

/* Reads a whole text to check it: all its entries must be correct. */
static int read_through(struct commands *c, const struct commands_text *text, struct err *e)
{
    struct reader *r = reader_new(c->arena, text, e);
    struct command k;
    int more = 0;
    if (!r)
        return -1;
    if (text->size > COMMANDS_FILE_MAX)
        return err_set(e, ERR_LIMIT, "%.200s is larger than %u bytes (COMMANDS_FILE_MAX)",
                       text->file, COMMANDS_FILE_MAX);
    while ((more = read_line(r)) > 0) {
        if (!begins_entry(r) || r->words < 2)
            return refuse(r, "an entry begins with `command NAME` or `exactly WORD...`, not with", r->word[0]);
        if ((*r->word[0] == 'e' ? read_words_entry(c, r) : read_entry(r, &k)) < 0)
            return -1;
    }
    return more;
}

struct commands *commands_new(struct arena *a, const struct commands_text *texts, size_t count,
                              struct err *e)
{
    struct commands *c = arena_alloc(a, sizeof *c);
    if (!c || count >= COMMANDS_TEXTS_MAX) {
        if (c)
            err_set(e, ERR_LIMIT, "more than %d tables of commands", COMMANDS_TEXTS_MAX - 1);
        else
            err_nomem(e);
        return NULL;
    }
    c->arena = a;
    c->last = &c->exactly;
    for (size_t i = 0; i < count; i++)
        c->text[c->count++] = texts[i];
    c->text[c->count++] = commands_own();
    for (size_t i = 0; i < count; i++)
        if (read_through(c, &c->text[i], e) < 0)
            return NULL;
    return c;
}

/* The next word of a line, as read_line splits it; size 0: none. */
static struct slice next_word(const char **at, const char *end)
{
    static const char blanks[] = " \t\r";
    while (*at < end && strchr(blanks, **at))
        ++*at;
    const char *from = *at;
    while (*at < end && !strchr(blanks, **at))
        ++*at;
    return (struct slice){from, (size_t)(*at - from)};
}

/* Does the entry with this name begin here? */
static bool begins(const char *at, const char *end, const char *name)
{
    if (!slice_equal(next_word(&at, end), slice_of("command")))
        return false;
    for (struct slice word; (word = next_word(&at, end)).size;)
        if (slice_equal(word, slice_of(name)))
            return true;
    return false;
}

/* Finds the entry: its second line; NULL: there is none. */
static const char *find_entry(const struct commands_text *t, const char *name, uint32_t *line)
{
    const char *at = t->text, *stop = t->text + t->size;
    for (*line = 1; at < stop; ++*line) {
        const char *end = memchr(at, '\n', (size_t)(stop - at));
        if (!end)
            end = stop;
        if (begins(at, end, name))
            return end < stop ? end + 1 : stop;
        at = end < stop ? end + 1 : stop;
    }
    return NULL;
}

enum command_makes command_makes(const struct command *k, const char *const *word, size_t count)
{
    bool makes = !k->makes_count;
    for (size_t i = 0; i < count && !makes; i++)
        for (uint32_t p = 0; p < k->makes_count; p++)
            makes |= fnmatch(k->makes_with[p], word[i], 0) == 0;
    return makes ? k->makes : COMMAND_MAKES_NONE;
}

bool command_may_make(const struct command *k)
{
    bool makes = k->makes != COMMAND_MAKES_NONE || k->outputs || k->then_output || k->prefix;
    for (uint32_t i = 0; i < k->option_count; i++)
        makes |= k->option[i].output || k->option[i].in_place;
    return makes;
}

const struct command *commands_find(struct commands *c, const char *name, struct err *e)
{
    for (struct found *f = c->found; f; f = f->next)
        if (strcmp(f->name, name) == 0)
            return f->command.name ? &f->command : NULL;
    struct found *f = arena_alloc(c->arena, sizeof *f);
    char *copy = arena_string(c->arena, name);
    if (!f || !copy) {
        err_nomem(e);
        return NULL;
    }
    f->name = copy;
    for (size_t i = 0; i < c->count && !f->command.name; i++) {
        uint32_t line;
        const char *at = find_entry(&c->text[i], name, &line);
        struct reader *r = at ? reader_new(c->arena, &c->text[i], e) : NULL;
        if (!at)
            continue;
        if (!r)
            return NULL;
        r->at = at;
        r->line = line;
        if (read_entry(r, &f->command) < 0)
            return NULL;
        f->command.name = copy;
        f->command.own = i + 1 == c->count;
    }
    f->next = c->found;
    c->found = f;
    return f->command.name ? &f->command : NULL;
}

const struct command *commands_exactly(const struct commands *c, const char *const *word, size_t count)
{
    for (const struct exactly *x = c->exactly; x; x = x->next) {
        size_t same = 0;
        while (x->words == count && same < count && strcmp(x->word[same], word[same]) == 0)
            same++;
        if (same == count)
            return &x->command;
    }
    return NULL;
}

/* ---- words ------------------------------------------------------------------------------- */

struct command_walk command_walk(const struct command *k, const char *const *word, size_t count)
{
    return (struct command_walk){.command = k, .word = word, .count = count};
}

static const struct command_option *walk_option(const struct command_walk *w, const char *name,
                                                size_t size)
{
    return option_named(w->command->option, w->command->option_count, name, size);
}

/* Takes the option's argument: attached, or the next word. */
static void take_argument(struct command_walk *w, struct command_item *i, const char *attached)
{
    if (attached || i->option->argument == ARGUMENT_ATTACHED) {
        i->value = attached;
    } else if (i->option->argument == ARGUMENT_NEXT) {
        i->missing = w->at == w->count;
        if (!i->missing) {
            i->value_word = w->at;
            i->value = w->word[w->at++];
        }
    }
}

/* The next letter of -abc. */
static struct command_item next_letter(struct command_walk *w, size_t word)
{
    const char spelling[] = {'-', *w->cluster, '\0'};
    struct command_item i = {.kind = ITEM_OPTION, .word = word, .value_word = word};
    i.option = walk_option(w, spelling, 2);
    const char *rest = w->cluster + 1;
    if (!i.option) {
        i.kind = ITEM_UNKNOWN;
        i.value = w->cluster;
        w->cluster = *rest ? rest : NULL;
    } else if (i.option->argument == ARGUMENT_NONE) {
        w->cluster = *rest ? rest : NULL;
    } else {
        w->cluster = NULL;
        take_argument(w, &i, *rest ? rest : NULL);
    }
    return i;
}

struct command_item command_next(struct command_walk *w)
{
    if (w->cluster)
        return next_letter(w, w->at - 1);
    while (w->at < w->count && !w->plain && strcmp(w->word[w->at], "--") == 0) {
        w->plain = true;
        w->at++;
    }
    if (w->at == w->count)
        return (struct command_item){.kind = ITEM_END};
    size_t word = w->at;
    const char *text = w->word[w->at++];
    struct command_item i = {.kind = ITEM_OPTION, .value = text, .word = word, .value_word = word};
    if (w->plain || text[0] != '-' || !text[1]) {
        i.kind = ITEM_OPERAND;
        w->plain = w->plain || w->command->ordered;
        return i;
    }
    size_t size = text[1] == '-' ? strcspn(text, "=") : strlen(text);
    size_t digits = strspn(text + 1, "0123456789");
    bool number = digits && !text[1 + digits];
    i.option = walk_option(w, text, size);
    if (!i.option && number) {
        i.option = walk_option(w, "-NUM", 4);
        i.value = text + 1;
        if (i.option)
            return i;
    }
    if (i.option && (size > 2 || i.option->argument == ARGUMENT_NONE)) {
        i.value = NULL;
        if (text[size] && i.option->argument == ARGUMENT_NONE)
            return (struct command_item){ITEM_UNKNOWN, NULL, text, word, word, false};
        take_argument(w, &i, text[size] ? text + size + 1 : NULL);
        return i;
    }
    if (text[1] == '-')
        return (struct command_item){ITEM_UNKNOWN, NULL, text, word, word, false};
    w->cluster = text + 1;
    return next_letter(w, word);
}

bool command_reads_here(const struct command *k, const char *const *word, size_t count, bool dot)
{
    struct command_walk walk = command_walk(k, word, count);
    struct command_item i;
    uint32_t operands = 0, skip = k->skip;
    bool asked = k->here != COMMAND_HERE_WITH;
    if (k->here == COMMAND_HERE_NEVER)
        return false;
    while ((i = command_next(&walk)).kind != ITEM_END) {
        operands += i.kind == ITEM_OPERAND;
        for (uint32_t n = 0; i.kind == ITEM_OPTION && n < k->here_count; n++)
            asked |= !strcmp(i.option->name[0], k->here_with[n]);
        for (uint32_t n = 0; i.kind == ITEM_OPTION && n < k->unless_count; n++)
            skip = strcmp(i.option->name[0], k->unless[n]) ? skip : 0;
    }
    bool given = k->here == COMMAND_HERE_FIRST ? count && word[0][0] != '-' : operands > skip;
    return asked && (!given || dot);
}
