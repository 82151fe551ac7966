/* A box whose server the caller has started by itself (zpipe-box alone forks its own). */
#pragma once
#include "sandbox/box.h"

#include <sys/types.h>

/* Takes fd (a SOCK_SEQPACKET socket to the server), also on failure; pid is waited for by box_close. */
struct box *box_adopt(int fd, pid_t pid, const struct box_events *events, void *owner, struct err *e);
