/* Completes the tree with what the parameters and the file system say: words get their values, names become inputs and
 * outputs, and the reader of the job's stdin is found.  Fills the parts of ast.h marked `resolved`. */
#pragma once
#include "dsl/ast.h"
#include "dsl/dsl.h"
#include "dsl/text.h"

/* Limits. */
#define WRITTEN_MAX    4096
#define WRITTEN_CHAINS 1024
#define MAYBE_MAX      16384
#define PARAMETERS_MAX 1000
#define CHECKS_MAX     1000

struct command;
struct commands;

struct parameter {
    const char *name;
    size_t size; /* of the name */
    const char *value;
    bool given; /* given on the command line, so it must be used somewhere */
    bool used;
    bool set; /* it has its value; a default has it from its own line on */
};

struct resolver {
    const struct dsl_input *in;
    const struct text *text;
    struct arena *arena;
    struct err *e;
    struct tree *tree;
    struct parameter *parameter;
    size_t parameter_count;
    struct written *written, **last_written;
    struct written *written_alike[WRITTEN_CHAINS];
    struct written *maybe_alike[WRITTEN_CHAINS]; /* what words in a job file's statements may name, the last first */
    unsigned written_count, maybe_count;
    unsigned statement;                      /* the one being resolved */
    struct definition *defining;             /* or NULL */
    struct stage *names_stdin, *reads_stdin; /* the first stage that does; borrowed */
    struct use *with_file, **last_with;      /* --with PATH, with files= */
    const char *no_file; /* of the last `cat`: the first operand because of which it is no source; or NULL */
    struct commands *commands;
    unsigned only_open; /* depth of script files that are being read; in these, absolute, hidden and `..` names do not count */
};

int resolve_tree(struct resolver *r, const struct dsl_input *in, const struct text *text,
                 struct tree *tree, struct arena *a, struct err *e);

/* For words.c, uses.c and resolve.c. */
int words_parameters(struct resolver *r); /* collects them from the input and the tree's assignments */
int words_assign(struct resolver *r, const struct item *assign);
struct parameter *words_parameter(const struct resolver *r, const char *name, size_t size);
/* Links the word's values in at **last.  glob: patterns are expanded.  body: see holes_at in ast.h. */
int words_expand(struct resolver *r, const struct word *w, const char *body, bool glob,
                 struct value ***last);
/* The same for one value, without patterns. */
int words_one(struct resolver *r, const struct word *w, const char *body, struct value **out);
bool words_pattern(const struct word *w); /* does it contain an unquoted pattern? */
/* Makes the text that sh gets for stage s, and notes the parameters it names. */
int words_text(struct resolver *r, struct stage *s);
int words_command_text(struct resolver *r, struct stage *s); /* for a builtin: the text made of its values */

int uses_find(struct resolver *r, struct stage *s, const struct command *known);
int uses_scan(struct resolver *r, struct stage *s);
/* Stage s opens files whose names the stages from `first` up to `upto` print: their inputs are inputs of s too. */
int uses_share(struct resolver *r, struct stage *s, const struct stage *first, const struct stage *upto);
/* Stage s opens files whose names are data: looks for names in small lists that come to it, also from the stages from
 * `first` up to `upto`. */
int uses_lists(struct resolver *r, struct stage *s, const struct stage *first, const struct stage *upto);
/* Stage s runs what these stages print: looks for names in their texts. */
int uses_piped_program(struct resolver *r, struct stage *s, const struct stage *first, const struct stage *upto);
int uses_with(struct resolver *r, const char *word, size_t at);
const char *uses_path(struct resolver *r, const char *word); /* the absolute path on the client's host; NULL: no memory */
int resolve_no_memory(struct resolver *r);

/* written.c */
/* Notes an output; refused if something else writes it. */
int written_add(struct resolver *r, struct stage *s, const char *word, size_t at, bool append);
/* What an earlier statement writes under this name, or NULL. */
const struct written *written_find(struct resolver *r, const char *word);
/* The output, or possible output, of an earlier statement with this name.  sure: the word stands where a file is read. */
const struct written *written_awaited(struct resolver *r, const char *word, bool sure);
int written_maybe(struct resolver *r, const struct use *u); /* the statement may write this file */
