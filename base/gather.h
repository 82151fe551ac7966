/* Many small files that are to be read end to end: a descriptor for each would be too many, so those that follow each other are
 * copied into one spool. */
#pragma once
#include "base/err.h"

#include <stdbool.h>
#include <stdint.h>

#define GATHER_FROM_FILES 256         /* a list of fewer files is read as it is; */
#define GATHER_FILE_MAX   (64u << 10) /* and so is a larger file, and one without a size, which may have bytes nevertheless */

struct gather {
    bool many; /* the list is long enough */
    int spool; /* borrowed from whoever got it; -1: the file before was none that is copied */
    uint64_t bytes;
};

struct gather gather_begin(uint32_t files);

enum gathered {
    GATHERED_NOT,  /* *fd is as it was */
    GATHERED_HERE, /* *fd is a spool with the file's bytes, to which those of the next ones will be added; its offset is 0 */
    GATHERED_ON,   /* the bytes were added to the spool that was given out last, and *fd is -1 */
    GATHERED_FAILED
};
/* The next one of the list: its descriptor, with its offset at 0, and its size; 0: it is no file.  Takes *fd if it gives out something
 * else, and also on failure; `name` is for the message. */
enum gathered gather_file(struct gather *g, int *fd, uint64_t size, const char *name, struct err *e);
