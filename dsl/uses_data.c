/* Names that stand in no word: in the lists that a stage is given (`xargs cat < list`), in the strings of programs
 * (`python3 -c 'open("a.txt")'`), and in scripts that are files (`sh build.sh`).  Only names below the working directory
 * that are not hidden count.  A script that nobody has read must not get more of this machine than that. */
#include "base/buf.h"
#include "base/fds.h"
#include "dsl/commands.h"
#include "dsl/files.h"
#include "dsl/glob.h"
#include "dsl/uses_inside.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define TEXT_BYTES_MAX (256 << 10) /* size of a list or a script; a larger one names nothing */
#define LISTS_BYTES_MAX (1 << 20)  /* of all lists of a stage; those that go beyond it name nothing */
#define LIST_FILES_MAX 1000        /* files that the lists of a stage name; if there are more none is an input */
#define STRINGS_MAX    1000        /* strings of a program that are looked at */
#define SCRIPTS_MAX    100         /* scripts of a stage; further ones name nothing */
#define SCRIPTS_DEEP   10          /* how deep scripts may run other scripts */

struct slice uses_text_of(struct resolver *r, const char *path, uint32_t bytes_max)
{
    struct stat st;
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    char *text = NULL;
    ssize_t got = 0;
    if (fd >= 0 && fstat(fd, &st) == 0 && S_ISREG(st.st_mode) && st.st_size <= bytes_max &&
        (text = arena_alloc(r->arena, (size_t)st.st_size + 1)))
        got = read(fd, text, (size_t)st.st_size);
    fd_close(&fd);
    if (got <= 0)
        return (struct slice){0};
    text[got] = '\0';
    return (struct slice){text, (size_t)got};
}

bool uses_is_open(const char *name)
{
    if (name[0] == '/' || !*name)
        return false;
    for (; *name; name += strcspn(name, "/"), name += strspn(name, "/")) {
        if (name[0] == '.' && name[1] != '/')
            return false;
    }
    return true;
}

/* ---- lists -------------------------------------------------------------------------------- */

struct list {
    struct resolver *r;
    struct glob_names here; /* what the working directory holds */
    const char *name[LIST_FILES_MAX + 1];
    size_t count;
    uint32_t left; /* so many bytes of lists may still be looked at */
};

static int by_name(const void *a, const void *b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

/* Adds a word of a list if it names a file.  Most words do not, so the system is asked only about words that begin with a
 * name in the working directory. */
static int try_name(struct list *l, const char *text, size_t size)
{
    char name[PATH_MAX];
    struct stat st;
    while (size > 2 && text[0] == '.' && text[1] == '/')
        text += 2, size -= 2;
    if (!size || size >= sizeof name || l->count > LIST_FILES_MAX)
        return 0;
    memcpy(name, text, size);
    name[size] = '\0';
    char *first = name, *slash = strchr(name, '/');
    if (slash)
        *slash = '\0';
    bool here = l->here.count && bsearch(&first, l->here.name, l->here.count, sizeof *l->here.name, by_name);
    if (slash)
        *slash = '/';
    if (!here || !uses_is_open(name))
        return 0;
    const char *path = uses_path(l->r, name);
    if (!path || stat(path, &st) < 0 || !S_ISREG(st.st_mode))
        return path ? 0 : -1;
    char *kept = arena_string(l->r->arena, name);
    if (!kept)
        return resolve_no_memory(l->r);
    for (size_t i = l->count > 8 ? l->count - 8 : 0; i < l->count; i++)
        if (!strcmp(l->name[i], kept))
            return 0;
    l->name[l->count++] = kept;
    return 0;
}

/* Tries whole lines, and what stands between blanks, commas and quotes.  `escapes`: a `\n` ends a line too. */
static int scan_list(struct list *l, const char *text, size_t size, bool escapes)
{
    for (size_t at = 0; at < size;) {
        size_t end = at, word = at;
        for (; end < size && text[end] != '\n' && text[end] != '\0'; end++) {
            bool escape = escapes && text[end] == '\\' && end + 1 < size;
            if (!escape && !strchr(" \t\r,;'\"", text[end]))
                continue;
            if (try_name(l, text + word, end - word) < 0)
                return -1;
            end += escape;
            word = end + 1;
        }
        if ((word < end && try_name(l, text + word, end - word) < 0) || (word > at && try_name(l, text + at, end - at) < 0))
            return -1;
        at = end + 1;
    }
    return 0;
}

static int scan_list_file(struct list *l, const char *path)
{
    uint32_t max = l->left < TEXT_BYTES_MAX ? l->left : TEXT_BYTES_MAX;
    struct slice text = path ? uses_text_of(l->r, path, max) : (struct slice){0};
    l->left -= (uint32_t)text.size;
    return !path ? -1 : scan_list(l, text.data, text.size, false);
}

/* Tries everything that comes into a stage from outside: files, texts after `<<`, and words that the stage may print. */
static int scan_stage(struct list *l, const struct stage *s, bool words)
{
    struct resolver *r = l->r;
    for (const struct stage *b = s->body ? s->body->stage : NULL; b; b = b->next)
        if (scan_stage(l, b, words) < 0)
            return -1;
    for (const struct use *u = s->input; u; u = u->next)
        if (!u->program && !u->from && scan_list_file(l, u->path) < 0)
            return -1;
    for (const struct redir *d = s->redir; d; d = d->next) {
        bool file = d->kind == REDIR_IN && d->target && !d->from;
        if ((d->bytes.data && scan_list(l, d->bytes.data, d->bytes.size, false) < 0) ||
            (file && scan_list_file(l, uses_path(r, d->target)) < 0))
            return -1;
    }
    for (const struct value *v = s->value && words ? s->value->next : NULL; v; v = v->next)
        if (!v->hole && !v->subst &&
            (s->source ? scan_list_file(l, uses_path(r, v->text)) : scan_list(l, v->text, strlen(v->text), true)) < 0)
            return -1;
    return 0;
}

static bool is_input(const struct stage *s, const char *name)
{
    const struct use *u = s->input;
    while (u && strcmp(u->name, name))
        u = u->next;
    return u;
}

int uses_lists(struct resolver *r, struct stage *s, const struct stage *first, const struct stage *upto)
{
    struct list *l = arena_alloc(r->arena, sizeof *l);
    struct err quiet;
    if (!l)
        return resolve_no_memory(r);
    *l = (struct list){.r = r, .left = LISTS_BYTES_MAX};
    if (glob_expand(r->arena, r->in->directory, "*", false, &l->here, &quiet) < 0)
        return 0;
    for (const struct stage *p = first; p != upto; p = p->next)
        if (scan_stage(l, p, true) < 0)
            return -1;
    if (scan_stage(l, s, true) < 0)
        return -1;
    if (l->count > LIST_FILES_MAX)
        return 0;
    if (l->count)
        qsort(l->name, l->count, sizeof *l->name, by_name);
    for (size_t i = 0; i < l->count; i++)
        if ((!is_input(s, l->name[i]) && uses_input(r, s, l->name[i], NULL, s->start, false, false) < 0) ||
            (s->changes_names && uses_changed(r, s, l->name[i]) < 0))
            return -1;
    return 0;
}

/* ---- programs ----------------------------------------------------------------------------- */

static bool in_name(char c)
{
    return isalnum((unsigned char)c) || (c && strchr("._/+-@=", c)) || (unsigned char)c >= 0x80;
}

/* The size of a part that the program replaces when it runs: `{i}`, `%03d`, `$x`, `$F[0]`, `${x}`; 0: none begins here. */
static size_t hole_size(const char *at, const char *end)
{
    const char *to = at + 1;
    if (at[0] == '%') {
        while (to < end && (isdigit((unsigned char)*to) || *to == '.' || *to == '-'))
            to++;
        return to < end && strchr("sdifgux", *to) ? (size_t)(to + 1 - at) : 0;
    }
    if (at[0] == '{' || (at[0] == '$' && to < end && *to == '{')) {
        const char *close = memchr(at, '}', (size_t)(end - at));
        return close ? (size_t)(close + 1 - at) : 0;
    }
    if (at[0] != '$')
        return 0;
    while (to < end && (isalnum((unsigned char)*to) || *to == '_'))
        to++;
    to += to == at + 1 && to < end; /* a special variable such as `$.` */
    const char *close = to < end && *to == '[' ? memchr(to, ']', (size_t)(end - to)) : NULL;
    return (size_t)((close ? close + 1 : to) - at);
}

/* A string may be a name, or with parts that are replaced a pattern of names.  If it begins with a dot, or ends with `.`,
 * `_` or `-`, it is only a part of a name. */
static int try_string(struct resolver *r, struct stage *s, size_t at, const char *text, const char *end)
{
    char pattern[NAME_MAX + 2];
    size_t size = 0, plain = 0;
    bool hole = false;
    while (text < end && strchr("<>+ ", *text)) /* as in Perl's open */
        text++;
    if (text < end && text[0] == '.' && end - text > 2 && isalnum((unsigned char)text[1]) && !memchr(text, '/', (size_t)(end - text)))
        pattern[size++] = '*', hole = true;
    while (text < end && size < NAME_MAX) {
        size_t skip = hole_size(text, end);
        if (!skip && (*text == '*' || *text == '?')) /* as in Python's glob */
            skip = 1;
        if (!skip && !in_name(*text))
            return 0;
        if (skip && size && pattern[size - 1] == '*')
            size--;
        hole |= skip > 0;
        plain += !skip && isalnum((unsigned char)*text);
        pattern[size++] = skip ? '*' : *text;
        text += skip ? skip : 1;
    }
    if (text < end || !plain)
        return 0;
    if (strchr("_-.", pattern[size - 1]))
        pattern[size++] = '*', hole = true;
    pattern[size] = '\0';
    if (!uses_is_open(pattern))
        return 0;
    char *name = arena_string(r->arena, pattern);
    if (!name)
        return resolve_no_memory(r);
    if (hole)
        return uses_pattern(r, s, at, name);
    return uses_maybe(r, s, name, at) < 0 || uses_input(r, s, name, NULL, at, false, false) < 0 ? -1 : 0;
}

int uses_program(struct resolver *r, struct stage *s, size_t at, const char *text, size_t size)
{
    const char *end = text + size;
    for (int strings = 0; text < end && strings < STRINGS_MAX; text++) {
        const char quote = *text, *to = text + 1;
        if (quote != '"' && quote != '\'')
            continue;
        while (to < end && *to != quote && *to != '\n')
            to += *to == '\\' && to + 1 < end ? 2 : 1;
        if (to >= end || *to != quote)
            continue;
        strings++;
        if (try_string(r, s, at, text + 1, to) < 0)
            return -1;
        text = to;
    }
    return 0;
}

/* Is it a script whose first line names a shell? */
static bool for_shell(const char *text)
{
    size_t line = strcspn(text, "\n");
    const char *found = strncmp(text, "#!", 2) == 0 ? memmem(text, line, "sh", 2) : NULL;
    return found && (found + 2 == text + line || isspace((unsigned char)found[2]));
}

int uses_program_file(struct resolver *r, struct stage *s, size_t at, const char *name, const char *interpreter)
{
    const char *path = uses_path(r, name);
    size_t count = 0;
    if (!path)
        return -1;
    for (const struct use *u = s->scripts; u; u = u->next, count++)
        if (strcmp(u->path, path) == 0)
            return 0;
    struct slice text = count < SCRIPTS_MAX && r->only_open < SCRIPTS_DEEP ? uses_text_of(r, path, TEXT_BYTES_MAX) : (struct slice){0};
    if (!text.size || memchr(text.data, '\0', text.size) || (!interpreter && strncmp(text.data, "#!", 2) != 0))
        return 0;
    struct use *seen = arena_alloc(r->arena, sizeof *seen);
    if (!seen)
        return resolve_no_memory(r);
    *seen = (struct use){.next = s->scripts, .path = path};
    s->scripts = seen;
    return uses_program_text(r, s, at, text, interpreter);
}

int uses_program_word(struct resolver *r, struct stage *s, size_t at, const char *word)
{
    struct stat st;
    const char *path = uses_path(r, word);
    if (!path)
        return -1;
    bool runs = stat(path, &st) == 0 && S_ISREG(st.st_mode) && (st.st_mode & 0111);
    return runs ? uses_program_file(r, s, at, word, NULL) : 0;
}

int uses_program_text(struct resolver *r, struct stage *s, size_t at, struct slice text, const char *interpreter)
{
    const char *data = text.data;
    char *copy = arena_bytes(r->arena, data, text.size);
    if (!copy)
        return resolve_no_memory(r);
    if (interpreter ? command_is_shell(interpreter) : for_shell(copy)) {
        if (r->only_open == SCRIPTS_DEEP)
            return 0;
        r->only_open++;
        int result = uses_shell_text(r, s, at, copy, NULL);
        r->only_open--;
        return result;
    }
    if (!interpreter && strncmp(copy, "#!", 2) != 0)
        return 0;
    return uses_program(r, s, at, copy, text.size);
}

int uses_said(struct resolver *r, struct stage *s, size_t at, const char *text)
{
    char *lines = arena_string(r->arena, text);
    if (!lines)
        return resolve_no_memory(r);
    for (char *line = strstr(lines, "\\n"); line; line = strstr(line, "\\n"))
        memcpy(line, " \n", 2);
    return uses_shell_text(r, s, at, lines, NULL);
}

/* Texts that a stage prints for a shell to run: what echo or printf print, and what awk puts together. */
static int printed(struct resolver *r, struct stage *s, const struct stage *p)
{
    const char *command = p->value ? p->value->text : "";
    bool says = !strcmp(command, "echo") || !strcmp(command, "printf");
    int result = 0;
    for (const struct value *v = p->value ? p->value->next : NULL; v && result == 0; v = v->next) {
        if (!v->hole && !v->subst)
            result = says ? uses_said(r, s, s->start, v->text) : uses_printed(r, s, s->start, command, v->text);
    }
    return result;
}

int uses_piped_program(struct resolver *r, struct stage *s, const struct stage *first, const struct stage *upto)
{
    int result = 0;
    for (const struct stage *p = first; p != upto && result == 0; p = p->next) {
        for (const struct value *v = p->source ? p->value->next : NULL; v && result == 0; v = v->next)
            result = v->hole ? 0 : uses_program_file(r, s, s->start, v->text, s->reads_program);
        for (const struct use *u = p->input; u && result == 0; u = u->next)
            result = u->program || u->from ? 0 : uses_program_file(r, s, s->start, u->word, s->reads_program);
        for (const struct redir *d = p->redir; d && result == 0; d = d->next)
            result = d->bytes.data ? uses_program_text(r, s, s->start, d->bytes, s->reads_program)
                     : d->kind == REDIR_IN && d->target && !d->from ? uses_program_file(r, s, s->start, d->target, s->reads_program)
                                                                    : 0;
        if (result == 0)
            result = printed(r, s, p);
    }
    return result;
}
