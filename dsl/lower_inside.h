/* Shared by lower.c and lower_*.c; for nobody else. */
#pragma once
#include "dsl/lower.h"
#include "proto/graph.h"

/* What leaves a stage: up to two fds of one node that write to the same place. */
struct stream {
    uint32_t node; /* GRAPH_NONE: nothing comes */
    int fd[2];
    int fds;
    bool seekable; /* it is one regular file, wanted as such */
};
/* Ceiling: of statements that read what one above them makes. */
#define PHASES_MAX 1000

#define NO_STREAM ((struct stream){.node = GRAPH_NONE})

/* What a stage stands in. */
struct place {
    uint32_t parent;
    bool merge, drain;
    bool piped; /* its stdout is not the statement's */
    struct graph_settings set;
    const char *shell;   /* of `with shell=`, or NULL */
    const char *out[64]; /* of `with out=` */
    uint32_t out_count;
    int depth;
};

/* A named pipeline and its uses. */
struct shared {
    struct shared *next;
    const struct definition *name;
    struct place at;     /* of its definition */
    uint32_t uses;       /* a filter's: 2 for more */
    bool counts;         /* its status does, in one of them */
    bool files;          /* it is only files */
    uint32_t node;       /* the BROADCAST; GRAPH_NONE: none yet */
    int readers;         /* of it, so far */
    uint32_t last;       /* whose status is its own */
    uint32_t statement;  /* that was the first to use it */
};

struct lower {
    struct resolver *r;
    struct graph *g;
    struct err *e;
    bool stdin_made;
    uint32_t last;                     /* whose status is that of the pipeline lowered last */
    unsigned renamed;                  /* outputs under a name of ours */
    struct stream late[GRAPH_FDS_MAX]; /* what >( ) prints, behind the statement's own */
    size_t late_count;
    struct shared *shared;             /* all names; in the resolver's arena */
    unsigned passed;                   /* from one phase to another */
    uint32_t phase;                    /* of the statement that is lowered */
    struct made {
        struct made *next;
        const char *path;
        uint32_t sink; /* GRAPH_NONE: a stage may make it */
        uint32_t phase;
    } * made; /* what statements write or may make, the last first; in the resolver's arena */
    struct named {
        struct named *next;
        const char *path, *word; /* word: as it will be, for messages */
        const char *file;        /* of whose task it is; NULL */
        uint32_t partition;      /* likewise, from 1; 0 */
        size_t at;
    } * named; /* what the tasks of maps write, likewise */
};

#define FAIL(w, at, hint, ...) text_fail((w)->r->text, at, (w)->e, hint, __VA_ARGS__)

int lower_pipeline(struct lower *w, struct pipeline *l, struct stream in, struct place at,
                   struct stream *out);

/* Names (lower_name.c). */
int lower_names(struct lower *w); /* before all statements */
void lower_define(struct lower *w, const struct definition *d, const struct place *at);
const struct definition *lower_checked(const struct lower *w, const struct statement *s); /* NULL: an output */
/* Is it computed once, for several readers? */
bool lower_is_shared(const struct lower *w, const struct definition *d, const struct place *at);
int lower_named(struct lower *w, const struct definition *d, struct stream in, struct place at, size_t where,
                struct stream *out);
/* Edges from `first` on that lead from one phase to a later one. */
int lower_hand_over(struct lower *w, uint32_t first, size_t at);
int lower_late(struct lower *w, size_t at); /* what is in `late`, in the phase behind this one */

/* Growing the graph: -1 with a message that has a place. */
int lower_refused(struct lower *w, size_t at); /* a ceiling of the graph, in w->e */
const char *lower_keep(struct lower *w, const char *text);
int lower_add_node(struct lower *w, uint32_t kind, size_t at, const struct place *place,
                   uint32_t *out);
int lower_join(struct lower *w, struct stream s, uint32_t to, int fd, size_t at);
struct stream lower_one(uint32_t node, int fd);
int lower_add_sink(struct lower *w, enum graph_sink_kind kind, const char *path, size_t at,
                   const struct place *place, uint32_t *out);
int lower_add_source(struct lower *w, const struct graph_segment *segment, uint32_t count,
                     size_t at, const struct place *place, uint32_t *out);
int lower_add_file(struct lower *w, const char *name, const char *path, size_t at, uint32_t *out);
/* `from`, or NULL: it is an output of a statement above. */
int lower_source_file(struct lower *w, const char *word, const struct written *from, size_t at,
                      struct graph_segment *out);
int lower_awaited(struct lower *w, const struct written *from, const char *name, size_t at, uint32_t *out);
int lower_note_made(struct lower *w, const char *path, uint32_t sink);
int lower_note_sink(struct lower *w, const char *word, uint32_t sink);

/* lower_tasks.c: names of what the tasks of a map write; and that no two of them are the same. */
int lower_name_outputs(struct lower *w, uint32_t map, size_t at);
int lower_names_differ(struct lower *w);

/* Where streams come from and where they end. */
int lower_stdin(struct lower *w, const struct place *at, size_t where, struct stream *out);
int lower_stop(struct lower *w, struct stream s, size_t at, const struct place *place);

/* Where an output fd points: the next stage, the stage's stderr, or a sink. */
enum { TO_OUT = -1, TO_ERR = -2 };

struct table {
    struct stream in;
    int64_t to[3];                  /* of fd 1 and 2: TO_... or a sink's node */
    uint32_t opened[GRAPH_FDS_MAX]; /* files: all must come to be, used or not */
    size_t opened_count;
    bool in_given; /* fd 0 is not what came */
};
int lower_table(struct lower *w, struct stage *s, struct stream in, const struct place *at,
                struct table *t);
int lower_unused(struct lower *w, const struct table *t, size_t where, const struct place *at);
int lower_apply(struct lower *w, struct table *t, uint32_t node, size_t where,
                const struct place *at, struct stream *out);

/* What a node of a program holds. */
int lower_files(struct lower *w, const struct stage *s, uint32_t node);
int lower_outputs(struct lower *w, struct stage *s, uint32_t node, const struct place *at);
int lower_keep_words(struct lower *w, const struct stage *s, uint32_t node);
int lower_label(struct lower *w, const struct stage *s, uint32_t node);
int lower_settings(struct lower *w, uint32_t node, const struct place *at);
int lower_words(struct lower *w, const struct stage *s, uint32_t node, const struct place *at);
