/* Shared by lex.c and lex_heredoc.c; not for other files. */
#pragma once
#include "dsl/lex.h"

struct lex_parts { /* the parts of a word, as they are found */
    struct part *first, **last;
};

/* lex.c.  All -1 with the message in l->e. */
int lex_no_memory(struct lexer *l);
/* Copies the bytes into the arena; `at`: where they stand in the text. */
int lex_add_part(struct lexer *l, struct lex_parts *p, enum part_kind kind, const char *data, size_t size, size_t at);
/* Bytes as in "…", up to `close` or, for a heredoc's text (close 0), the end.  `"` is then plain. */
int lex_double(struct lexer *l, struct lex_parts *p, struct word *w, char close, size_t open);

/* lex_heredoc.c: at the end of a line, reads the texts of the heredocs that were met in it. */
int lex_read_heredocs(struct lexer *l);
