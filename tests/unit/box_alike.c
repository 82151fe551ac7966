/* Commands picked at random from the forms of classes.test, on random inputs: started anew where there are no templates,
 * and as the first to the tenth clone of one; all give the same bytes and ends.  Every other one has a file itself as stdin, and then
 * another file: clones of one template.  ALIKE_SEED and ALIKE_COUNT say which and how
 * many, ALIKE_LINE is one to try instead; `make alike` tries thousands. */
#include "lib/boxed.h"
#include "base/fds.h"
#include "lib/test.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define FORMS_MAX 2000
#define CLONES    10
#define LINES     400 /* of an input, at most */
#define LINES_FEW 8   /* ... of one whose words are a process each: there are a dozen runs of it */
#define RUNS_MAX  200 /* until so many were clones; a busy machine is slow to make a template */

static char form[FORMS_MAX][256];
static int form_count;
static uint64_t state;

static unsigned any(unsigned below) /* splitmix64 */
{
    uint64_t x = state += 0x9e3779b97f4a7c15;
    x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9;
    x = (x ^ x >> 27) * 0x94d049bb133111eb;
    return (unsigned)((x ^ x >> 31) % below);
}

/* Those that need no shell, and name no file. */
static void read_forms(const char *path)
{
    char line[512];
    FILE *f = fopen(path, "re");
    assert_non_null(f);
    while (form_count < FORMS_MAX && fgets(line, sizeof line, f)) {
        char *command = strchr(line, ' ');
        line[strcspn(line, "\n")] = '\0';
        if (line[0] == '#' || !command || strpbrk(command, "\"\\|<>*?[$&;`{}()~") || strstr(command, ".txt") ||
            strstr(command, "tail -f") || strlen(command) > sizeof *form)
            continue;
        snprintf(form[form_count++], sizeof *form, "%s", command + 1);
    }
    fclose(f);
    assert_true(form_count > 100);
}

/* Of which only reading is possible, as of `< file`. */
static int random_input(unsigned lines_max)
{
    static const char *const word[] = {"a", "b", "zebra", "7", "-3", "0.5", "", "x y", "tab\there", "A", "no\0zero", "9"};
    int fd = memfd_create("in", MFD_CLOEXEC);
    FILE *f = fdopen(dup(fd), "w");
    for (unsigned lines = any(4) ? any(400) % lines_max : 0; lines; lines--)
        for (unsigned words = 1 + any(5); words; words--)
            fprintf(f, "%s%s", word[any(sizeof word / sizeof *word)], words > 1 ? " " : any(200) ? "\n" : "");
    fclose(f);
    int reader = fd_reopen(fd, O_RDONLY);
    close(fd);
    assert_true(reader >= 0);
    return reader;
}

static unsigned lines_of(const char *line)
{
    return strncmp(line, "xargs", 5) ? LINES : LINES_FEW;
}

static struct seen {
    struct boxed_stage stage;
    size_t size;
    char output[BOXED_OUTPUT_MAX], errors[BOXED_OUTPUT_MAX];
} first;

static void run(struct boxed *b, const struct boxed_plan *p)
{
    lseek(p->in, 0, SEEK_SET);
    assert_int_equal(boxed_run(b, p), 0);
}

static bool is_first(const struct boxed *b)
{
    const struct boxed_stage *a = &first.stage, *s = &b->stage[0];
    return a->end == s->end && a->status == s->status && (a->end == BOX_NOT_FOUND || !strcmp(a->why, s->why)) && first.size == b->output_size &&
           !memcmp(first.output, b->output, first.size) && !strcmp(first.errors, b->errors);
}

/* How many of its runs were clones; -1: they differ. */
static int try_one(struct boxed *never, struct boxed *b, const struct boxed_plan *p)
{
    int clones = 0;
    run(never, p);
    first.stage = never->stage[0];
    first.size = never->output_size;
    memcpy(first.output, never->output, first.size);
    snprintf(first.errors, sizeof first.errors, "%s", never->errors);
    for (int i = 0; i < RUNS_MAX && clones < CLONES; i++) {
        run(b, p);
        const char *cold = b->stage[0].cold;
        if (!is_first(b)) {
            print_error("'%s', %s: end %d, status %d, %zu bytes, '%s', '%s'; started anew: end %d, status %d, %zu bytes, '%s', '%s'\n",
                        p->line, *cold ? cold : "a clone", b->stage[0].end, b->stage[0].status, b->output_size, b->errors,
                        *b->stage[0].text ? b->stage[0].text : b->stage[0].why, first.stage.end, first.stage.status, first.size, first.errors, first.stage.why);
            return -1;
        }
        clones += !*cold;
        if (*cold && i > 2 && !strstr(cold, "template"))
            break;
    }
    return clones;
}

static void alike(void **unused)
{
    static struct boxed never, b;
    const char *seed = getenv("ALIKE_SEED"), *asked = getenv("ALIKE_COUNT");
    int count = asked ? atoi(asked) : 25, wrong = 0, clones = 0;
    (void)unused;
    state = seed ? strtoull(seed, NULL, 10) : 1;
    read_forms(getenv("CLASSES"));
    boxed_open_as(&never, &(struct box_options){.no_templates = true});
    boxed_open(&b, BOX_ISOLATION_FULL);
    bool refused = false;
    for (int i = 0; i < count; i++) {
        struct boxed_plan p = {.line = getenv("ALIKE_LINE") ? getenv("ALIKE_LINE") : form[any((unsigned)form_count)], .out = -1,
                               .in_itself = i % 2, .task.seed = any(1000)};
        for (int inputs = p.in_itself ? 2 : 1; inputs; inputs--) {
            p.in = random_input(lines_of(p.line));
            int n = try_one(&never, &b, &p);
            wrong += n < 0;
            clones += n > 0 ? n : 0;
            refused |= strstr(b.stage[0].cold, "the host refuses") != NULL;
            close(p.in);
        }
    }
    print_message("%d commands, %d clones, seed %s\n", count, clones, seed ? seed : "1");
    boxed_close(&b);
    boxed_close(&never);
    assert_int_equal(wrong, 0);
    assert_true(clones >= count || refused || getenv("ALIKE_LINE"));
}

/* Whatever a program can find out about a file that it has as stdin is its own file's. */
static void looks(void **unused)
{
    static const struct {
        const char *program, *line;
    } row[] = {{"cat", "cat"},
               {"wc", "wc -c"},
               {"tac", "tac"},
               {"tail", "tail -c 7"},
               {"stat", "stat -c %s -"},
               {"sh", "sh -c 'read x; echo $x; cat'"},
               {"sh", "sh -c '[ -s /dev/stdin ]; echo $?'"},
               {"perl", "perl -e 'print -s STDIN'"},
               {"perl", "perl -e 'print -s q(/dev/stdin), seek(STDIN, -3, 2), <STDIN>'"},
               {"python3", "python3 -c 'import os; print(os.fstat(0).st_size, os.lseek(0, 0, 2))'"},
               {"python3", "python3 -c 'import os; print(os.pread(0, 9, 5), os.path.getsize(\"/dev/fd/0\"))'"},
               {"python3", "python3 -c 'import mmap; print(bytes(mmap.mmap(0, 0, access=mmap.ACCESS_READ)))'"},
               {"python3", "python3 -c 'import fcntl; print(fcntl.ioctl(0, 0x541b, bytes(4)))'"}};
    static struct boxed never, b;
    (void)unused;
    state = 3;
    boxed_open_as(&never, &(struct box_options){.no_templates = true});
    boxed_open(&b, BOX_ISOLATION_FULL);
    int wrong = 0;
    for (size_t i = 0; i < sizeof row / sizeof *row; i++) {
        char path[64];
        int clones = 0;
        snprintf(path, sizeof path, "/usr/bin/%s", row[i].program);
        for (int inputs = 4; access(path, X_OK) == 0 && inputs; inputs--) {
            struct boxed_plan p = {.line = row[i].line, .in = random_input(LINES), .out = -1, .in_itself = true};
            int n = try_one(&never, &b, &p);
            wrong += n < 0;
            clones += n > 0;
            close(p.in);
        }
        /* To look for mmap in /job sets its time: a template serves one such clone. */
        if (access(path, X_OK) == 0 && clones < 2 && !strstr(row[i].line, "import mmap") && !strstr(b.stage[0].cold, "the host refuses")) {
            print_error("'%s' starts cold: %s\n", row[i].line, b.stage[0].cold);
            wrong++;
        }
    }
    boxed_close(&b);
    boxed_close(&never);
    assert_int_equal(wrong, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(alike), cmocka_unit_test(looks)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
