#pragma once

#include <stdbool.h>
#include <stddef.h>

struct arena;

/*
 * (base/scratch.c) Memory that is needed again and again in the same size, such as that of a
 * training step: fresh pages can take as long as the calculation. kept_free keeps the block for the
 * next kept_alloc of its slot. That call takes the block if at most half of it would be unused, and
 * frees it otherwise. So the process keeps one block for each slot, of at most KEPT_BYTES bytes
 * (KEPT_RESULT: KEPT_RESULT_BYTES).
 *
 * kept_alloc is scratch_alloc in all other ways. A kept block does not count as in use.
 */
enum kept_slot {
    KEPT_TAPE,      /* the maps that a forward pass keeps for gradients */
    KEPT_GRADIENTS, /* the memory of a backward pass */
    KEPT_RESULT,    /* a large array that a function returns: arguments/result_memory.c */
    KEPT_FILTERS,   /* conv2d/conv2d_winograd.c */
    KEPT_ROWS,      /* the entries of sparse rows */
    KEPT_INDEX,     /* an inverted index of sparse rows */
    KEPT_PAIRS,     /* pairs of sparse rows, for their top-k */
    KEPT_SLOTS
};
enum { KEPT_BYTES = 64 << 20, KEPT_RESULT_BYTES = 128 << 20 };
void *kept_alloc(enum kept_slot slot, size_t bytes);
void kept_free(enum kept_slot slot, void *block);

/* arena_pass for a block of kept_alloc. Free the block with kept_free. Large blocks get huge pages.
 */
bool kept_arena_pass(enum kept_slot slot, struct arena *arena);

/* Returns the block that the slot keeps, with its contents, or NULL. */
void *kept_take(enum kept_slot slot);

/* Frees a block and does not keep it. */
void kept_drop(void *block);

/* Returns the number of bytes that a block of kept_alloc has room for. */
size_t kept_size(const void *block);
