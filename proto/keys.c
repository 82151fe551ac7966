/* See keys.h and peer.h.  Keys are Z85 text, one per line.  A directory is completed under a temporary name and then
 * renamed, so nobody ever sees half of one. */
#include "proto/keys.h"

#include "base/fds.h"
#include "base/log.h"
#include "proto/peer.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zmq.h>

#define Z85_SIZE       KEYS_TEXT
#define OWN            "own" /* the pair of a machine or user, for any role */
#define FILE_MAX_BYTES (1 << 20)

static const struct {
    enum msg_role role;
    const char *name;
} roles[] = {{MSG_SCHEDULER, "scheduler"}, {MSG_WORKER, "worker"}, {MSG_CLIENT, "client"}, {MSG_KEEPER, "keeper"}};

#define ROLES (sizeof roles / sizeof *roles)

const char *keys_role_name(enum msg_role role)
{
    for (size_t i = 0; i < ROLES; i++)
        if (roles[i].role == role)
            return roles[i].name;
    return "?";
}

enum msg_role keys_role(const char *name)
{
    for (size_t i = 0; i < ROLES; i++)
        if (!strcmp(roles[i].name, name))
            return roles[i].role;
    return 0;
}

/* Writes the whole file; on failure there is none. */
static int write_file(int directory, const char *name, mode_t mode, const char *text, struct err *e)
{
    int fd = openat(directory, name, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, mode);
    int r = fd < 0 || fd_write_all(fd, text, strlen(text)) < 0 || fsync(fd) < 0 ? -1 : 0;
    if (r < 0)
        err_sys(e, "cannot write the key file '%s'", name);
    if (r < 0 && fd >= 0)
        unlinkat(directory, name, 0);
    fd_close(&fd);
    return r;
}

/* Writes a new pair as NAME.key and NAME.pub. */
static int write_pair(int directory, const char *pair, char public_key[Z85_SIZE], struct err *e)
{
    char secret_key[Z85_SIZE], name[64], text[256];
    do {
        if (zmq_curve_keypair(public_key, secret_key) < 0)
            return err_set(e, ERR_UNSUPPORTED, "this libzmq was built without CURVE");
    } while (public_key[0] == '-'); /* a key that begins so would look like an option */
    snprintf(name, sizeof name, "%s.key", pair);
    snprintf(text, sizeof text, "public %s\nsecret %s\n", public_key, secret_key);
    int r = write_file(directory, name, 0600, text, e);
    explicit_bzero(text, sizeof text);
    explicit_bzero(secret_key, sizeof secret_key);
    if (r < 0)
        return -1;
    snprintf(name, sizeof name, "%s.pub", pair);
    snprintf(text, sizeof text, "public %s\n", public_key);
    if (write_file(directory, name, 0644, text, e) == 0)
        return 0;
    snprintf(name, sizeof name, "%s.key", pair);
    unlinkat(directory, name, 0); /* we made it: it did not exist before */
    return -1;
}

static int fill(int directory, struct err *e)
{
    char allow[1024] = "# role, public key, name: one line per key that may connect\n";
    for (size_t i = 0; i < ROLES; i++) {
        char public_key[Z85_SIZE];
        if (write_pair(directory, roles[i].name, public_key, e) < 0)
            return -1;
        size_t used = strlen(allow);
        if (roles[i].role != MSG_SCHEDULER)
            snprintf(allow + used, sizeof allow - used, "%s %s %s\n", roles[i].name, public_key,
                     roles[i].name);
    }
    if (write_file(directory, "allow", 0644, allow, e) < 0)
        return -1;
    return fsync(directory) < 0 ? err_sys(e, "cannot write the keys") : 0;
}

static void remove_all(const char *path)
{
    static const char *const names[] = {"scheduler.key", "scheduler.pub", "worker.key",
                                        "worker.pub",    "client.key",    "client.pub",
                                        "keeper.key",    "keeper.pub",    "allow"};
    int directory = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    for (size_t i = 0; directory >= 0 && i < sizeof names / sizeof *names; i++)
        unlinkat(directory, names[i], 0);
    fd_close(&directory);
    rmdir(path);
}

int keys_generate(const char *path, struct err *e)
{
    char temporary[4096];
    struct stat s;
    size_t size = strlen(path);
    while (size > 1 && path[size - 1] == '/')
        size--;
    if (lstat(path, &s) == 0)
        return err_set(e, ERR_INPUT,
                       "'%s' is already there: name a new directory, or remove it first", path);
    if (snprintf(temporary, sizeof temporary, "%.*s.XXXXXX", (int)size, path) >=
            (int)sizeof temporary ||
        !mkdtemp(temporary))
        return err_sys(e, "cannot make the directory '%s'", path);
    int directory = open(temporary, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    int r = directory < 0 ? err_sys(e, "cannot open '%s'", temporary) : fill(directory, e);
    fd_close(&directory);
    if (r == 0 && rename(temporary, path) < 0)
        r = err_sys(e, "cannot put '%s' in place", path);
    if (r < 0)
        remove_all(temporary);
    return r;
}

int keys_generate_own(const char *path, char public_key[KEYS_TEXT], struct err *e)
{
    struct stat s;
    char file[4096];
    if (snprintf(file, sizeof file, "%s/" OWN ".key", path) < (int)sizeof file && lstat(file, &s) == 0)
        return err_set(e, ERR_INPUT, "'%s' is already there: name another directory, or remove it first", file);
    if (mkdir(path, 0700) < 0 && errno != EEXIST)
        return err_sys(e, "cannot make the directory '%s'", path);
    int directory = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (directory < 0)
        return err_sys(e, "cannot open '%s'", path);
    int r = write_pair(directory, OWN, public_key, e);
    fd_close(&directory);
    return r;
}

/* Returns the file's text; the caller frees it. */
static char *read_file(const char *directory, const char *name, struct err *e)
{
    char path[4096];
    snprintf(path, sizeof path, "%s/%s", directory, name);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    char *text = malloc(FILE_MAX_BYTES + 2);
    ssize_t n = fd < 0 || !text ? -1 : fd_read_all(fd, text, FILE_MAX_BYTES + 1);
    struct stat s;
    size_t size = strlen(name);
    if (n >= 0 && size > 4 && !strcmp(name + size - 4, ".key") && fstat(fd, &s) == 0 &&
        (s.st_mode & 077))
        log_warn("key_exposed", "file=%s remedy=\"chmod 600 %s\"", path, path);
    int r = n < 0                 ? err_sys(e, "cannot read the key file '%s'", path)
            : n > FILE_MAX_BYTES   ? err_set(e, ERR_LIMIT, "the key file '%s' is larger than %d bytes", path, FILE_MAX_BYTES)
            : memchr(text, '\0', (size_t)n) ? err_set(e, ERR_INPUT, "the key file '%s' holds a NUL byte", path)
                                  : 0;
    fd_close(&fd);
    if (r < 0) {
        free(text);
        return NULL;
    }
    text[n] = '\0';
    return text;
}

static int decode_key(const char *text, uint8_t key[MSG_KEY_BYTES])
{
    char z85[Z85_SIZE];
    if (strspn(text, "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ.-:+=^!/"
                     "*?&<>()[]{}@%$#") < 40)
        return -1;
    memcpy(z85, text, 40);
    z85[40] = '\0';
    return zmq_z85_decode(key, z85) ? 0 : -1;
}

static int find_key(const char *text, const char *word, uint8_t key[MSG_KEY_BYTES])
{
    size_t size = strlen(word);
    for (const char *line = text; line && *line;
         line = strchr(line, '\n') ? strchr(line, '\n') + 1 : NULL)
        if (!strncmp(line, word, size) && line[size] == ' ')
            return decode_key(line + size + 1, key);
    return -1;
}

static int load(const char *directory, const char *name, const char *end, uint8_t *public_key,
                uint8_t *secret_key, struct err *e)
{
    char file[64];
    snprintf(file, sizeof file, "%s.%s", name, end);
    char *text = read_file(directory, file, e);
    if (!text)
        return -1;
    int r = find_key(text, "public", public_key);
    if (r == 0 && secret_key)
        r = find_key(text, "secret", secret_key);
    explicit_bzero(text, strlen(text));
    free(text);
    return r < 0 ? err_set(e, ERR_INPUT, "the key file '%s/%s' holds no key", directory, file) : 0;
}

int keys_load(const char *directory, enum msg_role role, struct key_pair *own,
              uint8_t scheduler[MSG_KEY_BYTES], struct err *e)
{
    char path[4096];
    snprintf(path, sizeof path, "%s/%s.key", directory, keys_role_name(role));
    const char *pair = role == MSG_SCHEDULER || access(path, F_OK) == 0 ? keys_role_name(role) : OWN;
    snprintf(path, sizeof path, "%s/%s.key", directory, pair);
    if (access(path, F_OK) < 0 && errno == ENOENT)
        return err_set(e, ERR_INPUT,
                       role == MSG_SCHEDULER ? "'%s' holds no %s.key: give --keys the scheduler's own directory, which `zpipe keygen` made on its host"
                                             : "'%s' holds no %s.key and no " OWN ".key; `zpipe keygen` makes one",
                       directory, keys_role_name(role));
    if (load(directory, pair, "key", own->public_key, own->secret_key, e) < 0)
        return -1;
    if (role == MSG_SCHEDULER) {
        memcpy(scheduler, own->public_key, MSG_KEY_BYTES);
        return 0;
    }
    return load(directory, "scheduler", "pub", scheduler, NULL, e);
}

static const struct allowed_key *listed(const struct allowed_key *list, size_t count,
                                        const uint8_t *key)
{
    for (size_t i = 0; i < count; i++)
        if (!memcmp(list[i].key, key, MSG_KEY_BYTES))
            return &list[i];
    return NULL;
}

/* "ROLE KEY NAME" */
static int parse_allowed(const char *line, struct allowed_key *k)
{
    k->role = !strncmp(line, "worker ", 7)   ? MSG_WORKER
              : !strncmp(line, "client ", 7) ? MSG_CLIENT
              : !strncmp(line, "keeper ", 7) ? MSG_KEEPER
                                             : 0;
    if (!k->role || decode_key(line + 7, k->key) < 0)
        return -1;
    return line[47] == ' ' || line[47] == '\0' ? 0 : -1;
}

int keys_load_allowed(const char *directory, struct allowed_key *list, size_t *count, struct err *e)
{
    char *text = read_file(directory, "allow", e), *rest = text;
    int number = 0, r = text ? 0 : -1;
    *count = 0;
    for (char *line; r == 0 && (line = strsep(&rest, "\n"));) {
        struct allowed_key k = {0};
        number++;
        if (!line[0] || line[0] == '#')
            continue;
        const struct allowed_key *have = NULL;
        if (parse_allowed(line, &k) < 0)
            r = err_set(e, ERR_INPUT, "%s/allow:%d: want `worker KEY NAME`, `client KEY NAME` or `keeper KEY NAME`",
                        directory, number);
        else if ((have = listed(list, *count, k.key)) && have->role != k.role)
            r = err_set(e, ERR_INPUT,
                        "%s/allow:%d: this key is already a %s's: each role has keys of its own",
                        directory, number, keys_role_name(have->role));
        else if (!have && *count == NET_KEYS_MAX)
            r = err_set(e, ERR_LIMIT, "%s/allow:%d: more than %d keys (NET_KEYS_MAX)", directory,
                        number, NET_KEYS_MAX);
        else if (!have)
            list[(*count)++] = k;
    }
    free(text);
    return r;
}

/* ---- changing it */

/* Locks the list for a change, from reading it to writing it, so that of two changes at once neither is lost.  The lock is
 * on a file that is never replaced.  It is not on the directory, which may also be a scheduler's --state.  Returns the
 * descriptor, or -1. */
static int hold_allowed(const char *directory, struct err *e)
{
    char path[4096];
    snprintf(path, sizeof path, "%s/scheduler.pub", directory);
    int r, held = open(path, O_RDONLY | O_CLOEXEC);
    if (held < 0)
        return err_sys(e, "cannot read the key file '%s'", path);
    do
        r = flock(held, LOCK_EX);
    while (r < 0 && errno == EINTR);
    if (r < 0) {
        err_sys(e, "cannot hold the key file '%s'", path);
        fd_close(&held);
    }
    return held;
}

/* Writes the new list under another name and renames it, so that a scheduler reads either the old or the new list. */
static int replace_allowed(const char *directory, const char *text, struct err *e)
{
    static const char name[] = ".allow.new";
    int at = open(directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (at < 0)
        return err_sys(e, "cannot open '%s'", directory);
    unlinkat(at, name, 0); /* left by a killed process */
    int r = write_file(at, name, 0644, text, e);
    if (r == 0 && (renameat(at, name, at, "allow") < 0 || fsync(at) < 0))
        r = err_sys(e, "cannot replace '%s/allow'", directory);
    if (r < 0)
        unlinkat(at, name, 0);
    fd_close(&at);
    return r;
}

static int check_key(const char *key, struct err *e)
{
    uint8_t bytes[MSG_KEY_BYTES];
    if (strlen(key) != Z85_SIZE - 1 || decode_key(key, bytes) < 0)
        return err_set(e, ERR_INPUT, "'%.60s' is not a key: it has 40 characters, as in the .pub file of its owner", key);
    return 0;
}

/* The line that holds the key; NULL: there is none. */
static const char *line_of(const char *text, const char *key)
{
    for (const char *at = text; (at = strstr(at, key)); at++) {
        const char *begin = at;
        while (begin > text && begin[-1] != '\n')
            begin--;
        if (*begin != '#' && at - begin == 7 && begin[6] == ' ')
            return begin;
    }
    return NULL;
}

int keys_allow(const char *directory, enum msg_role role, const char *key, const char *name, struct err *e)
{
    if (role != MSG_WORKER && role != MSG_CLIENT && role != MSG_KEEPER)
        return err_set(e, ERR_INPUT, "a key is allowed as that of a worker, a client or a keeper");
    if (name[strcspn(name, "\n\r")] || strlen(name) > KEYS_NAME_MAX)
        return err_set(e, ERR_INPUT, "a key's name is one line of at most %d bytes", KEYS_NAME_MAX);
    int held = check_key(key, e) < 0 ? -1 : hold_allowed(directory, e);
    char *text = held < 0 ? NULL : read_file(directory, "allow", e);
    struct buf b = BUF_INIT(FILE_MAX_BYTES);
    const char *have = text ? line_of(text, key) : NULL;
    int r = !text ? -1 : have ? err_set(e, ERR_INPUT, "this key is already allowed as that of a %.6s; deny it first", have) : 0;
    if (r == 0) {
        size_t size = strlen(text);
        buf_printf(&b, "%s%s%s %s %s\n", text, size && text[size - 1] != '\n' ? "\n" : "", keys_role_name(role), key, name);
        r = buf_check(&b, "the allow-list", e) < 0 ? -1 : replace_allowed(directory, b.data, e);
    }
    buf_clear(&b);
    free(text);
    fd_close(&held);
    return r;
}

int keys_deny(const char *directory, const char *key, struct err *e)
{
    int held = check_key(key, e) < 0 ? -1 : hold_allowed(directory, e);
    char *text = held < 0 ? NULL : read_file(directory, "allow", e), *line = text ? (char *)line_of(text, key) : NULL;
    int r = !text ? -1 : line ? 0 : err_set(e, ERR_INPUT, "this key is not in '%s/allow'", directory);
    for (; r == 0 && line; line = (char *)line_of(text, key)) { /* somebody may have added it twice by hand */
        const char *end = strchr(line, '\n');
        memmove(line, end ? end + 1 : "", end ? strlen(end) : 1);
    }
    if (r == 0)
        r = replace_allowed(directory, text, e);
    free(text);
    fd_close(&held);
    return r;
}
