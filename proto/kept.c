/* See kept.h. */
#include "proto/kept.h"

#include "base/log.h"
#include "proto/codec.h"
#include "proto/msg.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define KEPT(member, kind, max) FIELD(kept_job, member, kind, max)
static const struct field fields[] = {
    KEPT(text, FIELD_TEXT, 65536),
    KEPT(directory, FIELD_TEXT, 4096),
    KEPT(spread, FIELD_BOOL, 0),
    KEPT(graph, FIELD_BYTES, GRAPH_BYTES_MAX),
    FIELD_MANY(kept_job, carried, carried_count, FIELD_U32_LIST, GRAPH_FILES_MAX, NULL),
    KEPT(has_stdin, FIELD_BOOL, 0),
    KEPT(stdin_bytes, FIELD_U64, UINT64_MAX),
};
static const struct field_table table = FIELD_TABLE(kept_job, fields);

static const struct field_table *table_of(uint32_t version)
{
    return version == KEPT_VERSION ? &table : NULL;
}

int kept_encode(const struct kept_job *k, struct buf *out, struct err *e)
{
    return codec_encode(&table, KEPT_VERSION, k, out, e);
}

int kept_decode(struct slice record, struct arena *a, struct kept_job *out, struct err *e)
{
    uint32_t version;
    *out = (struct kept_job){0};
    return codec_decode(record.data, record.size, a, &version, table_of, out, e);
}

int kept_size(const void *prefix, uint32_t *size, struct err *e)
{
    const uint8_t *p = prefix;
    *size = (uint32_t)p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
    if (*size == 0 || *size > KEPT_BYTES_MAX)
        return err_set(e, ERR_PROTO, "a submitted job of %u bytes", *size);
    return 0;
}

/* It may come later (a mount), and without it all works, only slower: nobody would notice that its name is wrong. */
static void warn_missing(const char *path, size_t size)
{
    char name[PATH_MAX];
    snprintf(name, sizeof name, "%.*s", (int)size, path);
    if (size && access(name, F_OK) < 0)
        log_warn("shared_missing", "path=%s why=\"%s\" means=\"inputs below it are sent\"", name, strerror(errno));
}

int kept_shared_check(const char *list, struct err *e)
{
    if (strlen(list) > MSG_SHARED_MAX)
        return err_set(e, ERR_INPUT, "the names of shared directories are longer than %d bytes (MSG_SHARED_MAX)", MSG_SHARED_MAX);
    for (size_t size; *list; list += size + (list[size] == ':')) {
        size = strcspn(list, ":");
        if (size && *list != '/')
            return err_set(e, ERR_INPUT, "the shared directory '%.*s' is no whole path: want one that begins with /", (int)size, list);
        warn_missing(list, size);
    }
    return 0;
}

size_t kept_shared_size(const char *list, const char *path)
{
    for (size_t size; *list; list += size + (list[size] == ':')) {
        size = strcspn(list, ":");
        size_t bare = size;
        while (bare > 1 && list[bare - 1] == '/')
            bare--;
        if (bare && !strncmp(list, path, bare) && (path[bare] == '/' || !path[bare] || (bare == 1 && *list == '/')))
            return bare;
    }
    return 0;
}
