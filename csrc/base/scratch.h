#ifndef COSSIM_BASE_SCRATCH_H
#define COSSIM_BASE_SCRATCH_H

#include <stdbool.h>
#include <stddef.h>

/* The one place of the library that asks for memory. Every block is aligned to 64 bytes (a cache line, a zmm register). */
enum { SCRATCH_ALIGN = 64 };

/* NULL when there is no memory or bytes is absurd; bytes == 0 gives a block that may be freed. */
void *scratch_alloc(size_t bytes);
void scratch_free(void *block);

/* For tests of what happens where memory ends, and of leaks: how many blocks are in use, by all threads. */
size_t scratch_live(void);
/* The n-th allocation from now on fails, of whatever thread; 0: none. Returns what is left of the n of the call before, 0 where that one failed. */
long scratch_fail_after(long n);

/* *product = a * b; false when that overflows. */
static inline bool size_mul(size_t a, size_t b, size_t *product)
{
    return !__builtin_mul_overflow(a, b, product);
}

static inline size_t smaller(size_t a, size_t b)
{
    return a < b ? a : b;
}

static inline size_t larger(size_t a, size_t b)
{
    return a > b ? a : b;
}

/* bytes rounded up to a multiple of SCRATCH_ALIGN, so that pieces laid one after another stay aligned. */
static inline size_t scratch_round(size_t bytes)
{
    return (bytes + SCRATCH_ALIGN - 1) & ~(size_t)(SCRATCH_ALIGN - 1);
}

#endif
