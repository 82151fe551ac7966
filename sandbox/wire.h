/* Messages between the processes of one sandbox server: caller, server, zygote, mounter, inits.  All are
 * of one build on one host, so the head is a plain struct; what follows it is packed (base/pack.h).
 * Each message is one packet of a SOCK_SEQPACKET socket, with at most FDS_PASS_MAX descriptors. */
#pragma once
#include "base/err.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#define WIRE_VERSION  1u
#define WIRE_DATA_MAX 65536 /* bytes after the head */
#define WIRE_FDS_MAX  240   /* we send at most; leaves room for credentials */

enum wire_kind {
    /* caller -> server */
    WIRE_RUN = 1, /* size: of the spec; a: all descriptors; the spec, or fds: it (a memfd); then the first ones; offset: a region
                   * whose tasks end before it begins, or 0 */
    WIRE_FDS,     /* the next ones */
    WIRE_STOP,    /* region */
    WIRE_BREAK,   /* region; a: channel */
    WIRE_LOOK,    /* region: tell WIRE_BYTES of each of its tasks */
    WIRE_FORGET,  /* templates are for nobody any more */
    WIRE_RELEASE, /* the region waits for no other any more */
    WIRE_FEED,    /* also server -> pump. a: channel; packed (offset, size)*; fds: as many */
    WIRE_FEED_END, /* also server -> pump. a: channel */
    WIRE_HOLD,    /* a: channel; b: 1 stop its pump, 0 let it go on */
    /* server -> caller; region and task as they were given */
    WIRE_MADE,    /* also init -> server. a: files; packed (name, mode, kind, wanted)*; fds of the wanted */
    WIRE_RESULT,  /* also init -> server. packed result; of a clone a: enum wire_stays, what its template is now, of others, what the place is; b: 1 when it
                   * ended before it had taken its task; offset: its number */
    WIRE_PUMP,    /* a: channel; b: errno; task: 1 on the reading side; size: bytes; its SHA-256, if wanted */
    WIRE_MOVED,   /* also pump -> server, which looks in the page. a: channel; size: bytes; offset: sources done */
    WIRE_BYTES,   /* offset, size: bytes that the task has read and written so far */
    WIRE_TRACE,   /* text: whole lines of a task's trace */
    WIRE_KEPT,    /* a: channel; b: errno; size: bytes; these, or fds: a file that has them */
    WIRE_REGION,  /* it is gone */
    WIRE_LOST,    /* a: err code, b: errno; text */
    WIRE_MANY,    /* several of these, without descriptors: each its head, the size of its data (u32), the data */
    /* server -> zygote, mounter */
    WIRE_PLACE,   /* an init: a: variant of the filter; b: 1 when it is for a task that must be known first; fds: its socket; its cgroup, if it has one.
                   * Also server -> init, for which the place is as it was made.  fds: its next socket; ns_last_pid */
    WIRE_USERS,   /* make a user namespace below the sandbox's; the answer, in a WIRE_USERS too. fds: it */
    WIRE_OPEN,    /* a: file index; b: WIRE_OPEN_*; offset, size: inode, device; path; fds: task socket */
    /* zygote, mounter -> server */
    WIRE_READY,   /* also forker -> init, and a template's init -> server: it can be cloned now; fds: its writable places, if they are few */
    WIRE_FAILED,  /* a: err code, b: errno; text.  From the mounter: also region, task; offset: file */
    /* server, mounter -> init */
    WIRE_TASK,    /* a: 1 for a template; b: WIRE_ASK, or which directory of PATH has the program, that starts unasked; the task's bytes,
                   * or offset, size: where they are in the spec; fds: it */
    WIRE_PORTS,   /* a: index of the first; fds */
    WIRE_COPY,    /* a: file index; fds: to be copied from */
    WIRE_TREE,    /* a: file index; b: 1 when still to be made read-only; fds: a detached mount */
    WIRE_KILL,    /* end it; packed nothing; a: enum wire_why; b: of a template's clones which, the first is 1 */
    WIRE_FINISH,  /* nobody can hear it any more: end what the program left behind; b: likewise */
    /* server -> a template's init */
    WIRE_FORKER,  /* its program is stopped; fds: a socket to the forker in it, and that one's ends of the doors */
    /* server -> forker */
    WIRE_CLONE,   /* make one, which then waits; a: which, the first is 1.  By a template's door: to the first process that stayed there */
    /* server -> clone, by its template's door */
    WIRE_BEGIN,   /* a: which clone it is for; fds: its ports */
    /* forker -> init */
    WIRE_BORN,    /* with credentials: the clone's first process.  a: which clone's, as of its WIRE_HELLO, and of the WIRE_FAILED at its door */
    WIRE_REAPED,  /* another process of the clone's has ended */
    /* init -> server */
    WIRE_HELLO,   /* with credentials: the init's process id.  a: 1 when it is not in the cgroup that was for it.  A clone's first process
                   * says it at the door */
    WIRE_LISTENER, /* with credentials.  a: the number of the filter's listener among its descriptors */
    WIRE_MAIN,    /* the program has ended, others of its tree run on; again when one of these ends.  From a clone's first process,
                   * and only once: a: enum wire_left; b: how it ended, as wait tells it; offset: which clone; what it used (struct rusage).
                   * One that stays says it at the door, and the server to the init if it is that one's to see to */
};

#define WIRE_ASK UINT32_MAX

enum { WIRE_OPEN_READABLE = 1, /* fail when it cannot be read with the sandbox's rights */
       WIRE_OPEN_SAME = 2 };   /* fail unless inode and device are those */

/* Processes of the clone's are left; nobody is, and its first process ends; or waits to make the next but one. */
enum wire_left { WIRE_OTHERS, WIRE_NOBODY, WIRE_NOBODY_STAYS };

/* It has ended with the clone; it can be cloned again; by the clone's first process, too, which stays; the clone has left its mark, and was the last. */
enum wire_stays { WIRE_STAYS_NOT, WIRE_STAYS, WIRE_STAYS_BOTH, WIRE_STAYS_CHANGED };

enum wire_why { WIRE_WHY_STOP, WIRE_WHY_TIMEOUT, WIRE_WHY_CPU, WIRE_WHY_OUTPUT, WIRE_WHYS };

struct wire {
    uint32_t version, kind;
    uint64_t region;
    uint64_t offset, size;
    uint32_t task, a, b, pad;
};

struct wire_packet {
    struct wire head;
    char data[WIRE_DATA_MAX + 1]; /* NUL after the end */
    size_t size;                  /* of data */
    int fd[WIRE_FDS_MAX];         /* owned by whoever received it; taken ones are set to -1 */
    size_t fd_count;
    pid_t from; /* 0 when the socket passes no credentials */
};

/* One packet, waiting for room.  Returns 0, or -1 with errno. */
int wire_send(int socket, struct wire head, const void *data, size_t size, const int *fds, size_t fd_count);
/* One packet.  1; 0 at the end of the stream; -1 with errno (EAGAIN with MSG_DONTWAIT in flags;
 * EPROTO for a packet that is none). */
int wire_receive(int socket, struct wire_packet *p, int flags);
void wire_close_fds(struct wire_packet *p);
int wire_take_fd(struct wire_packet *p, size_t i); /* -1 when there is none */

/* The sending side of a socket whose owner may not wait: what finds no room is kept (descriptors too)
 * and sent by link_flush. */
#define LINK_QUEUE_MAX 65536 /* packets kept */

struct link {
    int fd; /* owned */
    struct link_kept *first, *last;
    uint32_t kept;
    bool awaits_room; /* its watch has been told so */
};

#define LINK_INIT ((struct link){.fd = -1})

int link_send(struct link *l, struct wire head, const void *data, size_t size, const int *fds,
              size_t fd_count);
int link_flush(struct link *l); /* 0 when nothing fails; l->kept tells what is left */
void link_clear(struct link *l);
