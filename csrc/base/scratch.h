#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* The library allocates all its memory here. Every block is aligned to 64 bytes, the size of a
 * cache line and of a zmm register. */
enum { SCRATCH_ALIGN = 64 };

/* Returns NULL when memory runs out or `bytes` exceeds PTRDIFF_MAX - 64. bytes == 0 returns a block
 * that can be freed. */
void *scratch_alloc(size_t bytes);
void scratch_free(void *block);

/*
 * Gives the pages of a block of `bytes` bytes back to the system; its contents are lost.
 * scratch_free alone can leave the pages with the process. So call this first for large blocks that
 * are freed while other blocks are filled. Does nothing where the system has no such call.
 */
void scratch_give_back(void *block, size_t bytes);

/* Asks the system for huge pages for a block that has not been written yet. */
void scratch_use_huge_pages(void *block, size_t bytes);

/* Lets the system take the pages of a block when it needs memory, until they are written again.
 * Until then the block holds its old bytes, or zeros. */
void scratch_let_go(void *block, size_t bytes);

/* Number of blocks in use by all threads. Tests use it to find leaks. */
size_t scratch_live(void);
/* Makes the n-th allocation from now on fail, on any thread; 0 makes none fail. Returns the rest of
 * the previous call's n: that n minus the number of allocations since then, or 0 if the failure has
 * happened. Tests use it to run out of memory. */
long scratch_fail_after(long n);

/*
 * Arithmetic on sizes. An array with strides of 0 takes no memory, so a shape can hold any sizes up
 * to 2^63, and a plain product of two sizes can wrap to 0. Plain arithmetic is used only for
 * offsets within allocated memory and for sizes bounded by constants. All other sizes go through
 * the functions below.
 *
 * size_mul and size_add are for results that must be exact. They return false when the result does
 * not fit.
 */
static inline bool size_mul(size_t a, size_t b, size_t *product)
{
    return !__builtin_mul_overflow(a, b, product);
}

static inline bool size_add(size_t a, size_t b, size_t *sum)
{
    return !__builtin_add_overflow(a, b, sum);
}

/*
 * size_product_or_max and size_sum_or_max saturate: they return SIZE_MAX when the result does not
 * fit. They are for estimates (multiplications, threads, progress) and for numbers of bytes.
 * scratch_alloc refuses SIZE_MAX, and a saturated sum or product stays saturated in later sums and
 * in products with factors above 0.
 */
static inline size_t size_product_or_max(size_t a, size_t b)
{
    size_t product;
    return size_mul(a, b, &product) ? product : SIZE_MAX;
}

static inline size_t size_sum_or_max(size_t a, size_t b)
{
    size_t sum;
    return size_add(a, b, &sum) ? sum : SIZE_MAX;
}

/* Returns the number of pairs i <= j among `rows` rows, or SIZE_MAX on overflow. */
static inline size_t pairs_of_rows(size_t rows)
{
    const size_t half = rows / 2, odd = rows % 2;
    /* rows * (rows + 1) / 2; the even factor is halved first. */
    return size_product_or_max(half + odd, size_sum_or_max(rows, 1 - odd));
}

/* Returns the number of parts of at most `step` that n divides into: n / step, rounded up. */
static inline size_t size_parts(size_t n, size_t step)
{
    return n / step + (n % step != 0);
}

static inline size_t smaller(size_t a, size_t b)
{
    return a < b ? a : b;
}

static inline size_t larger(size_t a, size_t b)
{
    return a > b ? a : b;
}

/* `bytes` rounded up to a multiple of SCRATCH_ALIGN, or SIZE_MAX if that does not fit. Consecutive
 * parts of a block stay aligned if their sizes are rounded this way. */
static inline size_t scratch_round(size_t bytes)
{
    const size_t max = SIZE_MAX - (SCRATCH_ALIGN - 1);
    return bytes > max ? SIZE_MAX : (bytes + SCRATCH_ALIGN - 1) & ~(size_t)(SCRATCH_ALIGN - 1);
}

/* Lays out arrays in one block: adds an array of n elements of `size` bytes to a block of *bytes
 * bytes and returns the array's offset, a multiple of SCRATCH_ALIGN. *bytes starts at 0 and becomes
 * SIZE_MAX on overflow. */
static inline size_t scratch_add(size_t *bytes, size_t n, size_t size)
{
    const size_t offset = *bytes;
    *bytes = size_sum_or_max(offset, scratch_round(size_product_or_max(n, size)));
    return offset;
}

/*
 * Allocates arrays in one block of memory:
 *
 *     struct arena arena = {.block = NULL};
 *     while (arena_pass(&arena)) {
 *         x = arena_take(&arena, n, sizeof *x);
 *         ...
 *     }
 *
 * The first pass counts the bytes, and arena_take returns NULL. The second pass takes the arrays
 * from the block. If memory runs out, there is no second pass, and arena.block is NULL.
 * scratch_free frees the block. An arena around other memory is {.block = memory}; it needs no
 * passes.
 */
struct arena {
    char *block;
    size_t bytes; /* size of the arrays taken so far */
    int passes;
};

bool arena_pass(struct arena *arena);

static inline void *arena_take(struct arena *arena, size_t n, size_t size)
{
    const size_t offset = scratch_add(&arena->bytes, n, size);
    return arena->block == NULL ? NULL : arena->block + offset;
}
