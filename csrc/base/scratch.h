#ifndef COSSIM_BASE_SCRATCH_H
#define COSSIM_BASE_SCRATCH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* The one place of the library that asks for memory. Every block is aligned to 64 bytes (a cache
 * line, a zmm register). */
enum { SCRATCH_ALIGN = 64 };

/* NULL when there is no memory or bytes is absurd; bytes == 0 gives a block that may be freed. */
void *scratch_alloc(size_t bytes);
void scratch_free(void *block);

/* For tests of what happens where memory ends, and of leaks: how many blocks are in use, by all
 * threads. */
size_t scratch_live(void);
/* The n-th allocation from now on fails, of whatever thread; 0: none. Returns what is left of the n
 * of the call before, 0 where that one failed. */
long scratch_fail_after(long n);

/*
 * Arithmetic with sizes. Arrays whose strides are 0 take no memory, so the sizes in a call's shapes
 * can be any numbers up to 2^63, and a plain product of two of them may wrap to 0. Only offsets
 * within memory that is there, and sizes that constants bound, are calculated plainly. All others
 * go through these functions, of which there are two kinds:
 *
 * size_mul and size_add are for numbers that must be exact. They return false when the result does
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
 * size_product_or_max and size_sum_or_max give SIZE_MAX in place of what does not fit. They are for
 * estimates (work, threads, progress), and for bytes of memory: scratch_alloc refuses SIZE_MAX, and
 * what is added to it or multiplied with it stays SIZE_MAX.
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

/* The number of parts of at most `step` that make up n. */
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

/* bytes rounded up to a multiple of SCRATCH_ALIGN, so that pieces laid one after another stay
 * aligned; or SIZE_MAX. */
static inline size_t scratch_round(size_t bytes)
{
    const size_t most = SIZE_MAX - (SCRATCH_ALIGN - 1);
    return bytes > most ? SIZE_MAX : (bytes + SCRATCH_ALIGN - 1) & ~(size_t)(SCRATCH_ALIGN - 1);
}

#endif
