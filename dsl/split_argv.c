/* The words with which blocks run a command: those of the stage, or those that a form of the table lists, with its {name},
 * {options}, {operands}, {-x}, {-x:default} and {file} replaced. */
#include "dsl/split_inside.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

/* Words that are being collected, in the graph's arena. */
struct list {
    struct split_case *c;
    const char **word;
    uint32_t count, room;
    bool failed;
    bool unnamed; /* {file} has no value */
    bool dashed;  /* `--` was added */
};

static void list_add(struct list *l, const char *word)
{
    if (l->count == l->room) {
        uint32_t room = l->room ? 2 * l->room : 8;
        const char **more = arena_array(&l->c->g->arena, room, sizeof *more);
        if (!more) {
            l->failed = true;
            return;
        }
        if (l->count)
            memcpy(more, l->word, l->count * sizeof *more);
        l->word = more;
        l->room = room;
    }
    l->word[l->count++] = word;
}

static void list_keep(struct list *l, const char *text)
{
    const char *kept = arena_string(&l->c->g->arena, text);
    l->failed = l->failed || !kept;
    if (kept)
        list_add(l, kept);
}

static void list_printed(struct list *l, struct buf *b)
{
    buf_add(b, "", 0);
    l->failed = l->failed || b->failed;
    if (!b->failed)
        list_keep(l, b->data);
    buf_clear(b);
}

/* Adds -x, -xVALUE or --long=VALUE.  An empty value needs a word of its own. */
static void list_option(struct list *l, const struct split_option *o)
{
    struct buf b = BUF_INIT(GRAPH_BYTES_MAX);
    const char *name = o->option->name[0], *value = o->value;
    bool long_name = name[1] == '-' || strlen(name) > 2, apart = value && !long_name && !*value;
    buf_text(&b, name);
    if (value && name[1] == '-')
        buf_byte(&b, '=');
    else if (value && long_name)
        apart = true;
    if (value && !apart)
        buf_text(&b, value);
    list_printed(l, &b);
    if (apart)
        list_keep(l, value);
}

/* Is this option excluded by the `!-x!-y` of a word? */
static bool left_out(const char *word, const char *name)
{
    size_t size = strlen(name);
    for (const char *at = strchr(word, '!'); at; at = strchr(at + 1, '!'))
        if (strncmp(at + 1, name, size) == 0 && strchr("!}", at[1 + size]))
            return true;
    return false;
}

static void list_options(struct list *l, const char *word)
{
    for (uint32_t i = 0; i < l->c->option_count; i++) {
        const struct command_option *o = l->c->option[i].option;
        if (!o->drop && !left_out(word, o->name[0]))
            list_option(l, &l->c->option[i]);
    }
}

/* Adds `--` before operands, if one of them could be taken for an option. */
static void list_dashes(struct list *l, const char *instead)
{
    const struct split_case *c = l->c;
    bool dash = instead && instead[0] == '-';
    for (uint32_t i = 0; i < c->operand_count; i++)
        dash = dash || (c->operand[i][0] == '-' && (i < c->skip || c->operand[i][1]));
    if (dash && !l->dashed)
        list_add(l, "--");
    l->dashed = l->dashed || dash;
}

static void list_operands(struct list *l, const char *instead)
{
    const struct split_case *c = l->c;
    if (c->skip && c->operand_count)
        list_dashes(l, instead);
    for (uint32_t i = 0; i < c->skip && i < c->operand_count; i++)
        list_keep(l, instead && i == 0 ? instead : c->operand[i]);
}

/* Adds a word with {-x}, {-x:default} and {file} replaced.  A word whose option was not given is left out. */
static void list_filled(struct list *l, const char *word)
{
    struct buf b = BUF_INIT(GRAPH_BYTES_MAX);
    const char *end;
    for (; *word; word = end + 1) {
        size_t plain = strcspn(word, "{");
        buf_add(&b, word, plain);
        word += plain;
        end = *word ? strchr(word, '}') : NULL;
        if (!end) {
            buf_text(&b, word);
            break;
        }
        if (strncmp(word, "{file}", 6) == 0) {
            if (!l->c->file_count) {
                buf_clear(&b);
                return;
            }
            if (l->c->file_count == 1)
                buf_text(&b, l->c->operand[l->c->skip]);
            else
                buf_printf(&b, "%c{", GRAPH_HOLE);
            l->unnamed = l->unnamed || (l->c->file_count > 1 && l->c->renamed);
            continue;
        }
        char name[40];
        size_t size = strcspn(word + 1, ":}");
        snprintf(name, sizeof name, "%.*s", (int)size, word + 1);
        const char *value = split_value(l->c, name);
        bool flag = value && !*value;
        if (!value && word[1 + size] != ':') {
            buf_clear(&b);
            return;
        }
        if (!value)
            buf_add(&b, word + 2 + size, (size_t)(end - word) - 2 - size);
        else
            buf_text(&b, flag ? name : value);
    }
    list_printed(l, &b);
}

static void list_word(struct list *l, const char *word)
{
    if (strcmp(word, "{name}") == 0)
        list_keep(l, l->c->n->argv[0]);
    else if (strncmp(word, "{options", 8) == 0)
        list_options(l, word);
    else if (strcmp(word, "{operands}") == 0)
        list_operands(l, NULL);
    else {
        if (strcmp(word, "{file}") == 0 && l->c->file_count)
            list_dashes(l, NULL);
        list_filled(l, word);
    }
}

static const char *const *list_end(struct list *l, uint32_t *count)
{
    if (l->failed) {
        err_nomem(l->c->e);
        return NULL;
    }
    static const char *const none[1] = {NULL};
    *count = l->count;
    return l->count ? l->word : none;
}

const char *const *split_self(struct split_case *c, const char *instead, uint32_t *count)
{
    struct list l = {.c = c};
    list_keep(&l, c->n->argv[0]);
    bool done = false;
    for (uint32_t i = 0; i < c->option_count; i++) {
        struct split_option o = c->option[i];
        bool script = instead && strcmp(o.option->name[0], "-e") == 0;
        if (o.option->drop || (script && done))
            continue;
        if (script)
            o.value = instead;
        done = done || script;
        list_option(&l, &o);
    }
    list_operands(&l, instead);
    return list_end(&l, count);
}

const char *const *split_words(struct split_case *c, uint32_t *count, ...)
{
    struct list l = {.c = c};
    va_list args;
    va_start(args, count);
    for (const char *w; (w = va_arg(args, const char *));)
        list_keep(&l, w);
    va_end(args);
    return list_end(&l, count);
}

const char *const *split_filled(struct split_case *c, const char *const *word, uint32_t count, uint32_t *filled, bool *unnamed)
{
    struct list l = {.c = c};
    for (uint32_t i = 0; i < count; i++)
        list_word(&l, word[i]);
    *unnamed = l.unnamed;
    return list_end(&l, filled);
}
