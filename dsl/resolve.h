/* What the parameters and the file system say about a tree: words become values, names become
 * inputs and outputs, the job's stdin finds its reader.  Fills the parts of ast.h marked
 * `resolved`. */
#pragma once
#include "dsl/ast.h"
#include "dsl/dsl.h"
#include "dsl/text.h"

/* Ceilings: looked up one by one, so kept small. */
#define WRITTEN_MAX    4096
#define MAYBE_MAX      16384
#define PARAMETERS_MAX 1000
#define CHECKS_MAX     1000

struct command;
struct commands;

struct parameter {
    const char *name;
    size_t size; /* of the name */
    const char *value;
    bool given; /* on the command line: must be used somewhere */
    bool used;
    bool set; /* has its value: a default has it from its line on */
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
    struct written *maybe; /* what words of a job file's statements may name, the last first */
    unsigned written_count, maybe_count;
    unsigned statement;                      /* the one being resolved */
    struct definition *defining;             /* or NULL */
    struct stage *names_stdin, *reads_stdin; /* the first that does; borrowed */
    struct use *with_file, **last_with;      /* --with PATH, with files= */
    const char *no_file; /* the first operand that keeps a `cat` from being a source, of the last one; or NULL */
    struct commands *commands;
    unsigned only_open; /* scripts of another that are being read: names that are absolute, hidden or lead up (`..`) are none */
};

int resolve_tree(struct resolver *r, const struct dsl_input *in, const struct text *text,
                 struct tree *tree, struct arena *a, struct err *e);

/* For words.c, uses.c and resolve.c. */
int words_parameters(struct resolver *r); /* from the input and the tree's assignments */
int words_assign(struct resolver *r, const struct item *assign);
struct parameter *words_parameter(const struct resolver *r, const char *name, size_t size);
/* A word's values are linked in at **last.  glob: patterns are looked up.  body: ast.h holes_at. */
int words_expand(struct resolver *r, const struct word *w, const char *body, bool glob,
                 struct value ***last);
/* One value, no patterns. */
int words_one(struct resolver *r, const struct word *w, const char *body, struct value **out);
bool words_pattern(const struct word *w); /* holds a live pattern */
/* The text that sh gets for s, and the parameters it names. */
int words_text(struct resolver *r, struct stage *s);
int words_command_text(struct resolver *r, struct stage *s); /* a builtin: of its values */

int uses_find(struct resolver *r, struct stage *s, const struct command *known);
int uses_scan(struct resolver *r, struct stage *s);
/* s opens files whose names the stages from `first` on, before `upto`, print: they are its inputs, too. */
int uses_share(struct resolver *r, struct stage *s, const struct stage *first, const struct stage *upto);
/* s opens files whose names are data: those that small lists name which come to it, from the stages from `first` on, before `upto`, too. */
int uses_lists(struct resolver *r, struct stage *s, const struct stage *first, const struct stage *upto);
/* s runs what they print: the texts of theirs name its files. */
int uses_piped_program(struct resolver *r, struct stage *s, const struct stage *first, const struct stage *upto);
int uses_with(struct resolver *r, const char *word, size_t at);
/* An output under a name: refused when something else writes it. */
int uses_write(struct resolver *r, struct stage *s, const char *word, size_t at, bool append);
const struct written *uses_written(struct resolver *r, const char *word);
/* An output of a statement above under this name, or what may be one; sure: the word stands where a file is
 * read. */
const struct written *uses_awaited(struct resolver *r, const char *word, bool sure);
const char *uses_path(struct resolver *r,
                      const char *word); /* the client's absolute path; NULL: no memory */
int resolve_no_memory(struct resolver *r);
