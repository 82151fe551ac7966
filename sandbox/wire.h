/* Messages between the processes of one sandbox server: caller, server, zygote, mounter, inits.  All are from one build on
 * one host, so the head is a plain struct; the data after it is packed (base/pack.h).  Each message is one packet of a
 * SOCK_SEQPACKET socket, with at most FDS_PASS_MAX descriptors. */
#pragma once
#include "base/err.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#define WIRE_VERSION  1u
#define WIRE_DATA_MAX 65536 /* bytes after the head */
#define WIRE_FDS_MAX  240   /* descriptors we send at most; leaves room for credentials */

enum wire_kind {
    /* caller -> server */
    /* run a region.  size: of the spec; a: number of all descriptors; then the spec, or fds: a memfd with it; then the
     * first descriptors; offset: a region whose tasks must end before this one begins, or 0 */
    WIRE_RUN = 1,
    WIRE_FDS,     /* the next descriptors */
    WIRE_STOP,    /* region */
    WIRE_BREAK,   /* region; a: channel */
    WIRE_LOOK,    /* region: send WIRE_BYTES for each of its tasks */
    WIRE_FORGET,  /* nobody needs the templates any more */
    WIRE_RELEASE, /* the region need not wait for another one any more */
    WIRE_FEED,    /* also server -> pump. a: channel; packed (offset, size)*; fds: as many */
    WIRE_FEED_END, /* also server -> pump. a: channel */
    WIRE_HOLD,    /* a: channel; b: 1 stop its pump, 0 let it go on */
    WIRE_THERE,   /* does it still serve?  Also server -> caller: yes */
    /* server -> caller; region and task: as the caller numbered them */
    WIRE_MADE,    /* also init -> server. a: number of files; packed (name, mode, kind, wanted)*; fds of the wanted ones */
    /* also init -> server. packed result; of a clone a: enum wire_stays, the state of its template; of other tasks, of the
     * place; b: 1 if it ended before it had taken its task; offset: the clone's number */
    WIRE_RESULT,
    WIRE_PUMP,    /* a: channel; b: errno; task: 1 on the reading side; size: bytes; its SHA-256, if wanted */
    WIRE_MOVED,   /* also pump -> server, which reads the shared page. a: channel; size: bytes; offset: sources done */
    WIRE_BYTES,   /* offset, size: bytes that the task has read and written so far */
    WIRE_TRACE,   /* text: whole lines of a task's trace */
    WIRE_KEPT,    /* a: channel; b: errno; size: bytes; then the bytes, or fds: a file that has them */
    WIRE_REGION,  /* the region has ended */
    WIRE_LOST,    /* a: err code, b: errno; text */
    WIRE_MANY,    /* several messages without descriptors: for each its head, the size of its data (u32), its data */
    /* server -> zygote, mounter */
    /* make an init. a: variant of the filter; b: 1 if it is for a task that must be known first; fds: its socket, and its
     * cgroup if it has one.  Also server -> init whose place is unchanged.  fds: its next socket; ns_last_pid */
    WIRE_PLACE,
    WIRE_USERS,   /* make a user namespace below the sandbox's; the answer is a WIRE_USERS too. fds: the namespace */
    WIRE_OPEN,    /* a: file index; b: WIRE_OPEN_*; offset, size: inode, device; path; fds: task socket */
    /* zygote, mounter -> server */
    /* also forker -> init, and a template's init -> server: the template can be cloned now; fds: its writable places, if
     * they are few */
    WIRE_READY,
    WIRE_FAILED,  /* a: err code, b: errno; text.  From the mounter: also region, task; offset: file */
    /* server, mounter -> init */
    /* a: 1 for a template; b: WIRE_ASK, or the directory of PATH that has the program, which then starts without asking;
     * the task's bytes, or offset, size: where they are in the spec; fds: the spec */
    WIRE_TASK,
    WIRE_PORTS,   /* a: index of the first; fds */
    WIRE_COPY,    /* a: file index; fds: the file to copy */
    WIRE_TREE,    /* a: file index; b: 1 if it must still be made read-only; fds: a detached mount */
    WIRE_KILL,    /* end the task. no data; a: enum wire_why; b: for a template: which of its clones, the first is 1 */
    WIRE_FINISH,  /* all readers have left: end the processes that the program left behind; b: as for WIRE_KILL */
    /* server -> a template's init */
    WIRE_FORKER,  /* its program is stopped; fds: a socket to the forker in it, and the forker's ends of the doors */
    /* server -> forker */
    /* make a clone, which then waits. a: its number, the first is 1.  Also by a template's door, to a first process that
     * stayed there */
    WIRE_CLONE,
    /* server -> clone, by its template's door */
    WIRE_BEGIN,   /* start the task. a: number of the clone it is for; fds: its ports */
    /* forker -> init */
    WIRE_BORN,    /* with credentials: the clone's first process. a: the clone's number, as in its WIRE_HELLO, and in a WIRE_FAILED at its door */
    WIRE_REAPED,  /* another process of the clone has ended */
    /* init -> server */
    /* with credentials: the init's process id. a: 1 if it is not in the cgroup that was meant for it.  A clone's first
     * process sends it at the door */
    WIRE_HELLO,
    WIRE_LISTENER, /* with credentials. a: the number of the filter's listener among its descriptors */
    /* the program has ended but other processes of its tree go on; sent again when one of these ends.  From a clone's first
     * process, and only once: a: enum wire_left; b: how it ended, as wait reports it; offset: which clone; what it used
     * (struct rusage).  A first process that stays sends it at the door, and the server passes it to the init if the init
     * must handle it */
    WIRE_MAIN,
};

#define WIRE_ASK UINT32_MAX

enum { WIRE_OPEN_READABLE = 1, /* fail if it cannot be read with the sandbox's rights */
       WIRE_OPEN_SAME = 2 };   /* fail unless inode and device are the given ones */

/* Other processes of the clone are left; none is left, and its first process ends; none is left, and its first process
 * stays to make the next clone but one. */
enum wire_left { WIRE_OTHERS, WIRE_NOBODY, WIRE_NOBODY_STAYS };

/* The template has ended with the clone; it can be cloned again; it can, also by the clone's first process, which stays;
 * the clone has changed something and was the last one. */
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
    char data[WIRE_DATA_MAX + 1]; /* with a NUL after the end */
    size_t size;                  /* of data */
    int fd[WIRE_FDS_MAX];         /* owned by the receiver; descriptors that were taken are set to -1 */
    size_t fd_count;
    pid_t from; /* 0 if the socket passes no credentials */
};

/* Sends one packet, and waits for room.  Returns 0, or -1 with errno. */
int wire_send(int socket, struct wire head, const void *data, size_t size, const int *fds, size_t fd_count);
/* Receives one packet.  1; 0 at the end of the stream; -1 with errno (EAGAIN with MSG_DONTWAIT in flags; EPROTO for an
 * invalid packet). */
int wire_receive(int socket, struct wire_packet *p, int flags);
void wire_close_fds(struct wire_packet *p);
int wire_take_fd(struct wire_packet *p, size_t i); /* -1 if there is none */

/* The sending side of a socket whose owner may not wait: packets that find no room are kept (with their descriptors) and
 * sent by link_flush. */
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
