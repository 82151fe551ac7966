/* See made.h. */
#include "proto/made.h"

#include "base/pack.h"

#include <string.h>

int made_pack(const struct made_file *file, uint32_t count, struct buf *out, struct err *e)
{
    struct buf rest = BUF_INIT(MADE_INDEX_MAX);
    pack_u32(&rest, count);
    for (uint32_t i = 0; i < count; i++) {
        pack_string(&rest, file[i].name);
        pack_u32(&rest, file[i].mode);
        pack_u64(&rest, file[i].size_bytes);
    }
    bool fits = count <= MADE_FILES_MAX && !rest.failed;
    if (fits) {
        pack_u32(out, (uint32_t)rest.size);
        buf_add(out, rest.data, rest.size);
    }
    bool no_memory = rest.no_memory || out->failed;
    buf_clear(&rest);
    if (no_memory)
        return err_nomem(e);
    if (!fits)
        return err_set(e, ERR_LIMIT,
                       "a stage made more than %d files, or their names take more than %u bytes "
                       "(MADE_FILES_MAX, MADE_INDEX_MAX)",
                       MADE_FILES_MAX, MADE_INDEX_MAX);
    return 0;
}

int made_size(const void *prefix, uint32_t *size, struct err *e)
{
    struct unpack u = unpack_of(prefix, MADE_PREFIX);
    *size = unpack_u32(&u);
    if (*size < sizeof(uint32_t) || *size > MADE_INDEX_MAX)
        return err_set(e, ERR_PROTO, "a worker announced files that cannot be");
    return 0;
}

/* Relative, without empty parts, `.` and `..`. */
static bool good_name(const char *name)
{
    for (;;) {
        size_t n = strcspn(name, "/");
        if (n == 0 || (name[0] == '.' && (n == 1 || (n == 2 && name[1] == '.'))))
            return false;
        if (!name[n])
            return true;
        name += n + 1;
    }
}

int made_unpack(struct slice rest, struct arena *a, const struct made_file **file, uint32_t *count,
                struct err *e)
{
    struct unpack u = unpack_of(rest.data, rest.size);
    *count = unpack_count(&u, 17, MADE_FILES_MAX);
    struct made_file *list = arena_array(a, (size_t)*count + 1, sizeof *list);
    if (!list)
        return err_nomem(e);
    bool good = true;
    for (uint32_t i = 0; i < *count; i++) {
        const char *name = unpack_string(&u);
        list[i] = (struct made_file){arena_string(a, name), unpack_u32(&u), unpack_u64(&u)};
        if (!list[i].name)
            return err_nomem(e);
        good = good && good_name(name) && list[i].size_bytes <= INT64_MAX;
    }
    *file = list;
    if (!unpack_end(&u) || !good)
        return err_set(e, ERR_PROTO, "a worker announced files that cannot be");
    return 0;
}
