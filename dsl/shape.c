/* How far a list or a compound of sh reaches.  Nothing in it is understood; its text goes to sh unchanged.  A reserved word
 * counts only where a command can start. */
#include "dsl/parse.h"
#include "dsl/dsl.h"

struct closer {
    const char *open, *close;
};

/* `while` reads its `do` as a word where a command can start, so `done` is all that must be found.
 */
static const struct closer closers[] = {
    {"{", "}"},        {"if", "fi"},    {"while", "done"},
    {"until", "done"}, {"for", "done"}, {"case", "esac"},
};

static const struct closer *closer_of(const struct parser *p)
{
    for (size_t i = 0; i < sizeof closers / sizeof *closers; i++)
        if (parse_word(p, closers[i].open))
            return &closers[i];
    return NULL;
}

bool shape_starts_compound(const struct parser *p)
{
    return parse_op(p, "(") || closer_of(p);
}

/* Where the list that is being read ends. */
struct until {
    const char *word; /* this word, where a command can start; NULL: none */
    bool anywhere;    /* the word counts among arguments too */
    bool paren, line; /* `)`; a line end */
    bool semicolons;  /* `;;` too, for case */
};

static int list(struct parser *p, struct until u, bool command, int depth, size_t *end,
                bool *found);

static bool among(const struct parser *p, const char *const *words)
{
    for (; *words; words++)
        if (parse_word(p, *words))
            return true;
    return false;
}

static int unclosed(struct parser *p, size_t at, const char *open, const char *close)
{
    return text_fail(p->text, at, p->e, NULL, "this `%s` has no `%s`", open, close);
}

static int too_deep(struct parser *p)
{
    return text_fail(p->text, p->t.start, p->e, NULL, "this is more than %d deep", DSL_DEPTH_MAX);
}

/* case = "case" WORD "in" { [ "(" ] words ")" list [ ";;" ] } "esac", behind "case" */
static int shape_case(struct parser *p, size_t at, int depth, size_t *end)
{
    while (p->t.kind != TOKEN_END && !parse_word(p, "in"))
        if (parse_advance(p) < 0)
            return -1;
    if (p->t.kind != TOKEN_END && parse_advance(p) < 0)
        return -1;
    for (;;) {
        while (p->t.kind == TOKEN_NEWLINE || parse_op(p, ";;"))
            if (parse_advance(p) < 0)
                return -1;
        if (parse_word(p, "esac")) {
            *end = p->t.end;
            return parse_advance(p);
        }
        while (p->t.kind != TOKEN_END && !parse_op(p, ")"))
            if (parse_advance(p) < 0)
                return -1;
        if (p->t.kind == TOKEN_END)
            return unclosed(p, at, "case", "esac");
        bool found;
        struct until u = {.word = "esac", .semicolons = true};
        if (parse_advance(p) < 0 || list(p, u, true, depth + 1, end, &found) < 0)
            return -1;
        if (!found)
            return unclosed(p, at, "case", "esac");
    }
}

/* compound, see parse.h; also the group in the middle of a list */
int shape_compound(struct parser *p, int depth, size_t *end)
{
    size_t at = p->t.start;
    bool found, paren = parse_op(p, "(");
    const struct closer *c = closer_of(p);
    if (depth > DSL_DEPTH_MAX)
        return too_deep(p);
    if (parse_advance(p) < 0)
        return -1;
    if (c && c->open[0] == 'c')
        return shape_case(p, at, depth, end);
    struct until u = {.word = paren ? NULL : c->close, .paren = paren};
    bool command = paren || c->open[0] != 'f';
    if (list(p, u, command, depth + 1, end, &found) < 0)
        return -1;
    if (!found)
        return unclosed(p, at, paren ? "(" : c->open, paren ? ")" : c->close);
    *end = p->t.end;
    return parse_advance(p);
}

int shape_subst(struct parser *p, int depth)
{
    size_t at = p->t.start, end;
    bool found;
    const char *op = p->t.op;
    if (depth > DSL_DEPTH_MAX)
        return too_deep(p);
    if (parse_advance(p) < 0 ||
        list(p, (struct until){.paren = true}, true, depth + 1, &end, &found) < 0)
        return -1;
    return found ? parse_advance(p) : unclosed(p, at, op, ")");
}

/* A redirection in a list: only its word matters, as it is no command. */
static int shape_redir(struct parser *p)
{
    bool here = parse_op(p, "<<") || parse_op(p, "<<-"), dash = parse_op(p, "<<-");
    size_t at = p->t.start;
    struct heredoc *h;
    if (parse_advance(p) < 0)
        return -1;
    if (p->t.kind != TOKEN_WORD)
        return 0;
    return here ? parse_heredoc_end(p, at, dash, &h) : parse_advance(p);
}

static bool starts_command(const struct parser *p)
{
    static const char *const ops[] = {";", "&", "&&", "||", "|", "|&", "(", ")", ";;", NULL};
    for (size_t i = 0; ops[i]; i++)
        if (parse_op(p, ops[i]))
            return true;
    return p->t.kind == TOKEN_NEWLINE;
}

static bool is_redir(const struct parser *p)
{
    return p->t.kind == TOKEN_OPERATOR && (p->t.op[0] == '<' || p->t.op[0] == '>');
}

static bool list_ends(const struct parser *p, struct until u, bool command)
{
    if (p->t.kind == TOKEN_END)
        return true;
    if (u.word && (command || u.anywhere) && parse_word(p, u.word))
        return true;
    return (u.paren && parse_op(p, ")")) || (u.line && p->t.kind == TOKEN_NEWLINE) ||
           (u.semicolons && parse_op(p, ";;"));
}

/* Refuses `cat f && map { sort }`: sh has no such word, and what is around it is sh's.  A program may have such a name, but is not
 * given these words. */
static int refuse_own(struct parser *p)
{
    size_t at = p->t.start, last = p->last;
    struct lex_mark mark = p->t.mark;
    const char *word = parse_word(p, "map") ? "map" : parse_word(p, "reduce") ? "reduce" : parse_word(p, "with") ? "with" : NULL;
    if (!word)
        return 0;
    if (parse_advance(p) < 0)
        return -1;
    bool body = *word == 'm' && (parse_word(p, "{") || parse_word(p, "per") || parse_word(p, "by"));
    if (body || (*word == 'r' && parse_word(p, "by")) || (*word == 'w' && p->t.kind == TOKEN_WORD && p->t.word->assign))
        return text_fail(p->text, at, p->e, "run two jobs, or write one statement per line in a job file",
                         "`%s` needs zpipe, and the list that it stands in needs sh", word);
    p->last = last;
    return parse_set_back(p, mark);
}

/* list = { anything but a closer of the enclosing rule | compound | "<(" list ")" }
 * *end is one past its last token that is not a line end; the closer is left. */
static int list(struct parser *p, struct until u, bool command, int depth, size_t *end, bool *found)
{
    static const char *const goes_on[] = {"!", "then", "do", "else", "elif", "time", NULL};
    size_t start = p->t.start;
    while (!list_ends(p, u, command)) {
        int result;
        if (command && refuse_own(p) < 0)
            return -1;
        if (parse_op(p, "(") || (command && closer_of(p))) {
            bool paren = parse_op(p, "(");
            size_t inner;
            result = shape_compound(p, depth, &inner);
            command = paren;
        } else if (parse_op(p, "<(") || parse_op(p, ">(")) {
            result = shape_subst(p, depth);
            command = false;
        } else if (is_redir(p)) {
            result = shape_redir(p);
            command = false;
        } else {
            bool word = p->t.kind == TOKEN_WORD || p->t.kind == TOKEN_NUMBER;
            command = word ? command && among(p, goes_on) : starts_command(p);
            result = parse_advance(p);
        }
        if (result < 0)
            return -1;
    }
    *end = p->last > start ? p->last : start;
    *found = p->t.kind != TOKEN_END;
    return 0;
}

int shape_list(struct parser *p, struct context c, size_t *end)
{
    bool found;
    struct until u = {.word = c.close == '}' ? "}" : NULL,
                      .anywhere = true,
                      .paren = c.close == ')',
                      .line = c.close == '\n'};
    return list(p, u, true, c.depth, end, &found);
}
