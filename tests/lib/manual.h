/* A manual page, a part of which is made from a table.  The test compares that part with the table or, with the argument
 * `write`, writes it anew.  Before it includes this the test defines MANUAL_PAGE and, around the part, MANUAL_BEGIN and
 * MANUAL_END. */
#pragma once
#include "base/buf.h"
#include "tests/lib/test.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static char *manual_read(void)
{
    FILE *f = fopen(MANUAL_PAGE, "r");
    struct buf text = BUF_INIT(1 << 20);
    char bytes[4096];
    size_t n;
    if (!f)
        fail_msg("%s is not there", MANUAL_PAGE);
    while ((n = fread(bytes, 1, sizeof bytes, f)) > 0)
        buf_add(&text, bytes, n);
    fclose(f);
    return buf_take(&text);
}

/* The page as it should be. */
static char *manual_right(const char *page, void (*describe)(struct buf *out))
{
    struct buf out = BUF_INIT(1 << 20);
    const char *begin = strstr(page, MANUAL_BEGIN), *end = strstr(page, MANUAL_END);
    if (!begin || !end || end < begin)
        fail_msg("%s has no place for the table", MANUAL_PAGE);
    begin += strlen(MANUAL_BEGIN);
    buf_add(&out, page, (size_t)(begin - page));
    buf_text(&out, "\n");
    describe(&out);
    buf_text(&out, end);
    return buf_take(&out);
}

static void manual_check(void (*describe)(struct buf *out))
{
    char *page = manual_read(), *right = manual_right(page, describe);
    size_t line = 1;
    const char *at = page;
    for (const char *r = right; *at && *at == *r; at++, r++)
        line += *at == '\n';
    bool same = !strcmp(page, right);
    free(page);
    free(right);
    if (!same)
        fail_msg("%s:%zu is not what the table says: run this test with `write`", MANUAL_PAGE, line);
}

/* Writes the page if the argument says so, and returns the exit status; -1: it was not asked to. */
static int manual_write(int argc, char **argv, void (*describe)(struct buf *out))
{
    if (argc != 2 || strcmp(argv[1], "write"))
        return -1;
    char *page = manual_read(), *right = manual_right(page, describe);
    FILE *f = fopen(MANUAL_PAGE, "w");
    int r = !f || fputs(right, f) < 0 || fclose(f) != 0;
    free(page);
    free(right);
    return r;
}
