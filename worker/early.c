/* See early.h. */
#include "worker/early.h"

#include <string.h>

static void remove_at(struct early_list *l, uint32_t at)
{
    memmove(l->item + at, l->item + at + 1, (--l->count - at) * sizeof *l->item);
}

static void make_room(struct early_list *l, uint64_t key)
{
    uint32_t theirs = 0, first = 0;
    for (uint32_t i = l->count; i-- > 0;)
        if (l->item[i].key == key) {
            theirs++;
            first = i;
        }
    if (theirs >= EARLY_PER_KEY_MAX)
        remove_at(l, first);
    else if (l->count == EARLY_MAX)
        remove_at(l, 0);
}

void early_keep(struct early_list *l, uint64_t link, struct slice key, const struct msg_attach *m)
{
    struct early e = {.name = {m->job, m->attempt, m->what, m->index, m->node}, .link = link};
    memcpy(&e.key, key.data, key.size < sizeof e.key ? key.size : sizeof e.key);
    if (m->token.size == sizeof e.token)
        memcpy(e.token, m->token.data, sizeof e.token);
    if (l->count >= EARLY_PER_KEY_MAX)
        make_room(l, e.key);
    l->item[l->count++] = e;
}

struct early *early_of(struct early_list *l, const struct stream_name *name, uint64_t link)
{
    for (uint32_t i = 0; i < l->count; i++)
        if (l->item[i].link == link && stream_name_equal(&l->item[i].name, name))
            return &l->item[i];
    return NULL;
}

bool early_take(struct early_list *l, const struct stream_name *name, struct early *out)
{
    for (uint32_t i = 0; i < l->count; i++)
        if (stream_name_equal(&l->item[i].name, name)) {
            *out = l->item[i];
            remove_at(l, i);
            return true;
        }
    return false;
}

void early_forget(struct early_list *l, uint64_t link)
{
    uint32_t left = 0;
    for (uint32_t i = 0; i < l->count; i++)
        if (l->item[i].link != link)
            l->item[left++] = l->item[i];
    l->count = left;
}
