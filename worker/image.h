/* The image of a cluster's worker: a name for what programs see of its host.  Workers with the same one have the same packages,
 * in the same versions; the same choices among them (/etc/alternatives), and the same files in /usr/local.  Nothing but what is
 * looked at counts: of /usr/local files up to IMAGE_LOOK_MAX have their bytes in it, larger ones their size and time, and of the
 * packages' programs, in case somebody has put one in their place, names and sizes. */
#pragma once
#include "base/err.h"

#include <stdbool.h>
#include <stdint.h>
#include <time.h>

#define IMAGE_ROOM     65 /* of an id, or of a name that it was given */
#define IMAGE_LOOK_MAX (1u << 20)
#define DOMAIN_ROOM    129
#define IMAGE_LOOK_NS  ((uint64_t)60 * 1000000000)

struct image {
    char id[IMAGE_ROOM], domain[DOMAIN_ROOM];
    bool given;             /* the id is a name that somebody chose */
    struct timespec listed; /* when the list of packages was written */
    uint64_t list;          /* and which file it is */
};

/* name: of 1 to 64 letters, digits and -._+:; NULL: what is here is looked at.  bare: tasks are behind no wall and see all. */
int image_find(struct image *i, const char *name, bool bare, struct err *e);
/* May a package have been installed, removed or upgraded?  Costs a stat. */
bool image_is_old(const struct image *i);

/* A look at what is here now, which takes seconds where /usr/local is large, on a thread of its own: the loop goes on.  Of what it tells
 * `done`, from the loop, once: the image, or NULL and why not; also when it took longer than IMAGE_LOOK_NS.  Gives; it is freed, with
 * image_look_free, then or before. */
struct image_look;
struct loop;
struct image_look *image_look(const struct image *i, struct loop *l, void (*done)(void *owner, const struct image *now, const struct err *why),
                              void *owner, struct err *e);
void image_look_free(struct image_look *k);
