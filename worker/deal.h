/* Deals out the input of a `reduce`: before its body runs, its lines are dealt out to partitions (shuffle.c), each of which
 * is then one block.  See blocks.h. */
#pragma once
#include "worker/blocks_inside.h"

int deal_open(struct blocks *b, struct err *e);
int deal_step(struct blocks *b,
              struct err *e); /* some of what is there, now and in later turns of the loop */
uint32_t deal_partition(const struct run *r); /* from 1 */
void deal_free(struct blocks *b);
