/* See graph.h: the wire form, [GRAPH_VERSION, graph] by the tables below.  To change it add fields
 * at the end of a table (and its struct); to change what a field means, a new GRAPH_VERSION. */
#include "proto/codec.h"
#include "proto/graph.h"

#define GRAPH_VERSION 1
#define TEXT          (1u << 20)
#define SCRIPT        GRAPH_BYTES_MAX

static const struct field file_fields[] = {
    FIELD(graph_file, name, FIELD_TEXT, 4096),
    FIELD(graph_file, path, FIELD_TEXT, 4096),
    FIELD(graph_file, size_bytes, FIELD_U64, UINT64_MAX),
    FIELD(graph_file, inode, FIELD_U64, UINT64_MAX),
    FIELD(graph_file, mtime_ns, FIELD_I64, 0),
    FIELD(graph_file, mode, FIELD_U32, UINT32_MAX),
    FIELD(graph_file, awaited, FIELD_BOOL, 0),
    FIELD(graph_file, passed, FIELD_U32, GRAPH_NODES_MAX),
    FIELD(graph_file, link, FIELD_TEXT, GRAPH_LINK_MAX),
};
static const struct field_table file_table = FIELD_TABLE(graph_file, file_fields);

static const struct field segment_fields[] = {
    FIELD(graph_segment, kind, FIELD_U32, GRAPH_SEGMENTS - 1),
    FIELD(graph_segment, file, FIELD_U32, UINT32_MAX),
    FIELD(graph_segment, text, FIELD_BYTES, SCRIPT),
};
static const struct field_table segment_table = FIELD_TABLE(graph_segment, segment_fields);

static const struct field fd_fields[] = {
    FIELD(graph_fd, fd, FIELD_I32, 0),
    FIELD(graph_fd, edge, FIELD_U32, GRAPH_EDGES_MAX),
};
static const struct field_table fd_table = FIELD_TABLE(graph_fd, fd_fields);

static const struct field output_fields[] = {
    FIELD(graph_output, name, FIELD_TEXT, 4096),
    FIELD(graph_output, sink, FIELD_U32, GRAPH_NODES_MAX),
};
static const struct field_table output_table = FIELD_TABLE(graph_output, output_fields);

static const struct field edge_fields[] = {
    FIELD(graph_edge, from, FIELD_U32, GRAPH_NODES_MAX),
    FIELD(graph_edge, to, FIELD_U32, GRAPH_NODES_MAX),
    FIELD(graph_edge, seekable, FIELD_BOOL, 0),
};
static const struct field_table edge_table = FIELD_TABLE(graph_edge, edge_fields);

#define SETTING(name, kind)                                                                        \
    FIELD(graph_settings, name, kind, kind == FIELD_U32 ? UINT32_MAX : UINT64_MAX)
static const struct field settings_fields[] = {
    SETTING(memory_bytes, FIELD_U64),
    SETTING(cpu_ns, FIELD_U64),
    SETTING(wall_ns, FIELD_U64),
    SETTING(scratch_bytes, FIELD_U64),
    SETTING(output_bytes, FIELD_U64),
    SETTING(block_bytes, FIELD_U64),
    SETTING(seed, FIELD_U64),
    SETTING(epoch_s, FIELD_I64),
    SETTING(epoch_set, FIELD_BOOL),
    SETTING(procs, FIELD_U32),
    SETTING(fan, FIELD_U32),
    SETTING(retries, FIELD_U32),
    SETTING(retries_set, FIELD_BOOL),
    SETTING(fail, FIELD_U32),
    FIELD(graph_settings, image, FIELD_TEXT, 256),
    SETTING(descriptors, FIELD_U32),
};
static const struct field_table settings_table = FIELD_TABLE(graph_settings, settings_fields);

#define SPLIT(member, kind, max)         FIELD(graph_split, member, kind, max)
#define SPLITS(member, count, kind, max) FIELD_MANY(graph_split, member, count, kind, max, NULL)
static const struct field split_fields[] = {
    SPLIT(cut, FIELD_U32, GRAPH_CUTS - 1),
    SPLIT(cut_step, FIELD_U64, UINT64_MAX),
    SPLIT(run, FIELD_U32, GRAPH_RUNS - 1),
    SPLIT(first_units, FIELD_U64, UINT64_MAX),
    SPLITS(file, file_count, FIELD_U32_LIST, GRAPH_FILES_MAX),
    SPLITS(block_argv, block_argc, FIELD_TEXT_LIST, GRAPH_WORDS_MAX),
    SPLITS(rest_argv, rest_argc, FIELD_TEXT_LIST, GRAPH_WORDS_MAX),
    SPLIT(combine, FIELD_U32, GRAPH_COMBINES - 1),
    SPLITS(combine_argv, combine_argc, FIELD_TEXT_LIST, GRAPH_WORDS_MAX),
    SPLIT(combine_text, FIELD_TEXT, TEXT),
    SPLIT(ok_status, FIELD_U32, UINT32_MAX),
    SPLIT(ends_lines, FIELD_BOOL, 0),
    SPLIT(spoils, FIELD_BYTES, 256),
    SPLIT(stops_early, FIELD_BOOL, 0),
    SPLIT(makes_zeros, FIELD_BOOL, 0),
    SPLIT(empty_ok, FIELD_BOOL, 0),
    SPLITS(order_argv, order_argc, FIELD_TEXT_LIST, GRAPH_WORDS_MAX),
    SPLIT(seam, FIELD_BYTES, 256),
    SPLIT(light, FIELD_BOOL, 0), SPLIT(groups, FIELD_BOOL, 0), SPLIT(picks, FIELD_BOOL, 0),
};
static const struct field_table split_table = FIELD_TABLE(graph_split, split_fields);

#define NODE(member, kind, max)              FIELD(graph_node, member, kind, max)
#define NODES(member, count, kind, max, sub) FIELD_MANY(graph_node, member, count, kind, max, sub)
static const struct field node_fields[] = {
    NODE(kind, FIELD_U32, GRAPH_KINDS - 1),
    NODE(parent, FIELD_U32, UINT32_MAX),
    NODE(merge, FIELD_BOOL, 0),
    NODE(negate, FIELD_BOOL, 0),
    NODE(ends, FIELD_BOOL, 0),
    NODE(drain, FIELD_BOOL, 0),
    NODE(label, FIELD_TEXT, SCRIPT),
    NODE(line, FIELD_U32, UINT32_MAX),
    NODE(column, FIELD_U32, UINT32_MAX),
    NODES(argv, argc, FIELD_TEXT_LIST, GRAPH_WORDS_MAX, NULL),
    NODES(env, envc, FIELD_TEXT_LIST, GRAPH_WORDS_MAX, NULL),
    NODE(shell, FIELD_TEXT, 16),
    NODE(why, FIELD_TEXT, TEXT),
    NODE(holes, FIELD_BOOL, 0),
    NODES(fd, fd_count, FIELD_LIST, GRAPH_FDS_MAX, &fd_table),
    NODES(file, file_count, FIELD_U32_LIST, GRAPH_FILES_MAX, NULL),
    NODES(output, output_count, FIELD_LIST, GRAPH_WORDS_MAX, &output_table),
    NODES(out_glob, out_glob_count, FIELD_TEXT_LIST, GRAPH_WORDS_MAX, NULL),
    NODES(segment, segment_count, FIELD_LIST, GRAPH_FILES_MAX, &segment_table),
    NODE(sink, FIELD_U32, GRAPH_SINKS - 1),
    NODE(path, FIELD_TEXT, 4096),
    NODE(per_file, FIELD_BOOL, 0),
    NODE(record, FIELD_U32, GRAPH_RECORDS - 1),
    NODE(record_count, FIELD_U64, UINT64_MAX),
    NODE(record_text, FIELD_BYTES, TEXT),
    NODE(key, FIELD_TEXT, TEXT),
    NODE(key_separator, FIELD_I32, 0),
    NODE(into, FIELD_U32, 65536),
    FIELD_OF(graph_node, set, &settings_table),
    FIELD_OF(graph_node, split, &split_table),
    NODES(keep, keep_count, FIELD_TEXT_LIST, GRAPH_WORDS_MAX, NULL),
    NODE(phase, FIELD_U32, GRAPH_NODES_MAX),
    NODE(stream, FIELD_U64, UINT64_MAX),
    NODE(recorded_first, FIELD_U64, UINT64_MAX),
    NODE(recorded_last, FIELD_U64, UINT64_MAX),
    NODE(word_globs, FIELD_U32, GRAPH_WORDS_MAX),
};
static const struct field_table node_table = FIELD_TABLE(graph_node, node_fields);

static const struct field expect_fields[] = {
    FIELD(graph_expect, node, FIELD_U32, GRAPH_NODES_MAX),
    FIELD(graph_expect, sha256, FIELD_TEXT, 64),
    FIELD(graph_expect, name, FIELD_TEXT, 4096),
    FIELD(graph_expect, line, FIELD_U32, UINT32_MAX),
};
static const struct field_table expect_table = FIELD_TABLE(graph_expect, expect_fields);

static const struct field graph_fields[] = {
    FIELD_MANY(graph, node, node_count, FIELD_LIST, GRAPH_NODES_MAX, &node_table),
    FIELD_MANY(graph, edge, edge_count, FIELD_LIST, GRAPH_EDGES_MAX, &edge_table),
    FIELD_MANY(graph, file, file_count, FIELD_LIST, GRAPH_FILES_MAX, &file_table),
    FIELD_MANY(graph, expect, expect_count, FIELD_LIST, GRAPH_NODES_MAX, &expect_table),
    FIELD_MANY(graph, env, envc, FIELD_TEXT_LIST, GRAPH_WORDS_MAX, NULL),
    FIELD(graph, pipefail, FIELD_BOOL, 0),
    FIELD(graph, line_reads, FIELD_BOOL, 0),
    FIELD(graph, timed, FIELD_BOOL, 0),
    FIELD(graph, timed_posix, FIELD_BOOL, 0),
    FIELD(graph, split_bytes, FIELD_U64, UINT64_MAX),
    FIELD(graph, width, FIELD_U32, GRAPH_WIDTH_MAX),
    FIELD(graph, tell_blocks, FIELD_BOOL, 0),
    FIELD(graph, audit, FIELD_U32, GRAPH_AUDIT_ALL),
    FIELD(graph, records, FIELD_BOOL, 0),
};
static const struct field_table whole_table = FIELD_TABLE(graph, graph_fields);

const struct field_table *graph_table(void)
{
    return &whole_table;
}

static const struct field_table *table_of(uint32_t version)
{
    return version == GRAPH_VERSION ? &whole_table : NULL;
}

int graph_encode(const struct graph *g, struct buf *out, struct err *e)
{
    return codec_encode(&whole_table, GRAPH_VERSION, g, out, e);
}

struct graph *graph_decode(const void *data, size_t size, struct err *e)
{
    struct graph *g = NULL;
    uint32_t version;
    if (size > GRAPH_BYTES_MAX)
        err_set(e, ERR_LIMIT, "the graph is larger than %u bytes (GRAPH_BYTES_MAX)",
                GRAPH_BYTES_MAX);
    else
        g = graph_new(e);
    if (g && (codec_decode(data, size, &g->arena, &version, table_of, g, e) < 0 ||
              graph_check(g, e) < 0)) {
        graph_free(g);
        g = NULL;
    }
    return g;
}
