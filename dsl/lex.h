/* Bytes to tokens.  The lexer's state is a position and the heredocs that wait for a line end,
 * nothing else; the parser may set it back to the start of any token. */
#pragma once
#include "dsl/ast.h"
#include "dsl/text.h"

enum token_kind {
    TOKEN_END,
    TOKEN_NEWLINE,
    TOKEN_WORD,
    TOKEN_NUMBER, /* digits directly before < or > */
    TOKEN_OPERATOR,
};

struct lex_mark {
    size_t position;
    uint32_t heredocs; /* met so far */
    size_t waiting;  /* the first whose body is not read yet */
};

struct token {
    enum token_kind kind;
    const char *op; /* OPERATOR: as in the table in lex.c */
    struct word *word;
    size_t start, end;
    bool tight; /* nothing between it and the token before */
    struct lex_mark mark;
};

struct lexer {
    const struct text *text;
    struct arena *arena;
    struct err *e;
    struct lex_mark at;
    struct heredoc **here; /* owned array; what it holds is the arena's */
    uint32_t here_room;
    size_t words;   /* counted against DSL_WORDS_MAX */
    struct buf run; /* the bare run being collected */
    size_t edge;    /* where the last token ended */
};

int lex_init(struct lexer *l, const struct text *text, struct arena *a, struct err *e);
void lex_clear(struct lexer *l);

/* The next token.  -1 with the message in l->e. */
int lex_next(struct lexer *l, struct token *t);
void lex_reset(struct lexer *l, struct lex_mark mark);

/* `<<` at `op` with its end word has been read: its body follows at the next line end. */
struct heredoc *lex_heredoc(struct lexer *l, size_t op, const struct word *end, bool dash);
