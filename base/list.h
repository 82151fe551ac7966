/* Rings of things that hold a link inside: nothing is allocated, joining and leaving are O(1). A
 * ring's head is a link of its own; an unlinked one points at itself. */
#pragma once
#include <stdbool.h>
#include <stddef.h>

struct list {
    struct list *next, *prev;
};

/* The struct around a link. */
#define LIST_OF(link, type, member) ((struct type *)((char *)(link)-offsetof(struct type, member)))

static inline void list_init(struct list *l)
{
    l->next = l->prev = l;
}

static inline bool list_empty(const struct list *head)
{
    return head->next == head;
}

/* Before the head: last. */
static inline void list_add(struct list *head, struct list *l)
{
    l->prev = head->prev;
    l->next = head;
    head->prev->next = l;
    head->prev = l;
}

static inline void list_remove(struct list *l)
{
    l->prev->next = l->next;
    l->next->prev = l->prev;
    list_init(l);
}

static inline void list_to_end(struct list *head, struct list *l)
{
    list_remove(l);
    list_add(head, l);
}
