/* The image of a cluster's worker: a name for what programs see of its host.  Workers with the same image have the same
 * packages in the same versions, the same alternatives (/etc/alternatives), and the same files in /usr/local.  Into the name
 * go, of files in /usr/local up to IMAGE_LOOK_MAX, their bytes; of larger ones, size and time; and of the packages'
 * programs, which somebody may have replaced, names and sizes. */
#pragma once
#include "base/err.h"

#include <stdbool.h>
#include <stdint.h>
#include <time.h>

#define IMAGE_ROOM     65 /* for an id, or a name that it was given */
#define IMAGE_LOOK_MAX (1u << 20)
#define DOMAIN_ROOM    129
#define IMAGE_LOOK_NS  ((uint64_t)60 * 1000000000)

struct image {
    char id[IMAGE_ROOM], domain[DOMAIN_ROOM];
    bool given;             /* the id is a name that the user chose */
    struct timespec listed; /* when the list of packages was written */
    uint64_t list;          /* and that file's inode */
};

/* name: 1 to 64 letters, digits and -._+:; NULL: compute the id from what this host has.  bare: tasks have no sandbox and
 * see everything. */
int image_find(struct image *i, const char *name, bool bare, struct err *e);
/* May a package have been installed, removed or upgraded?  Costs a stat. */
bool image_is_old(const struct image *i);

/* Computes the image on a thread of its own, so that the loop goes on: it takes seconds if /usr/local is large.  `done` is
 * called once, from the loop, with the image; or with NULL and the reason, also if it took longer than IMAGE_LOOK_NS.
 * Gives; free it with image_look_free, then or before. */
struct image_look;
struct loop;
struct image_look *image_look(const struct image *i, struct loop *l, void (*done)(void *owner, const struct image *now, const struct err *why),
                              void *owner, struct err *e);
void image_look_free(struct image_look *k);
