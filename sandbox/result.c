/* How a task ended, as bytes: from its init to the server, which adds what only it knows, and on to the
 * caller. */
#include "sandbox/result.h"
#include "base/pack.h"

void result_pack(struct buf *b, const struct box_result *r)
{
    pack_u32(b, r->end);
    pack_u32(b, (uint32_t)r->status);
    pack_u32(b, (uint32_t)r->signal);
    pack_u32(b, (uint32_t)r->sys);
    pack_string(b, r->limit);
    pack_string(b, r->text);
    pack_string(b, r->uncertified_why);
    pack_string(b, r->cold_why);
    pack_string(b, r->cgroup);
    pack_string(b, r->cgroup_why);
    pack_u32(b, r->cgroup_holds);
    pack_string(b, r->unknown_calls);
    const uint64_t number[] = {r->cpu_user_ns,       r->cpu_sys_ns, r->wall_ns,
                               r->memory_peak_bytes, r->clock_ns,   r->calls,
                               r->tree_peak_bytes};
    for (size_t i = 0; i < sizeof number / sizeof *number; i++)
        pack_u64(b, number[i]);
}

int result_unpack(const void *data, size_t size, struct box_result *r)
{
    struct unpack u = unpack_of(data, size);
    *r = (struct box_result){.end = (enum box_end)unpack_u32(&u)};
    r->status = (int)unpack_u32(&u);
    r->signal = (int)unpack_u32(&u);
    r->sys = (int)unpack_u32(&u);
    r->limit = unpack_string(&u);
    r->text = unpack_string(&u);
    r->uncertified_why = unpack_string(&u);
    r->cold_why = unpack_string(&u);
    r->cgroup = unpack_string(&u);
    r->cgroup_why = unpack_string(&u);
    r->cgroup_holds = unpack_u32(&u);
    r->unknown_calls = unpack_string(&u);
    r->certified = !*r->uncertified_why;
    uint64_t *number[] = {&r->cpu_user_ns,       &r->cpu_sys_ns, &r->wall_ns,
                          &r->memory_peak_bytes, &r->clock_ns,   &r->calls,
                          &r->tree_peak_bytes};
    for (size_t i = 0; i < sizeof number / sizeof *number; i++)
        *number[i] = unpack_u64(&u);
    return unpack_end(&u) && r->end <= BOX_KILLED ? 0 : -1;
}
