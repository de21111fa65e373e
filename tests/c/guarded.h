#ifndef COSSIM_TESTS_GUARDED_H
#define COSSIM_TESTS_GUARDED_H

#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "check.h"

/*
 * Memory with a page that cannot be touched right behind its last byte or right before its first one, in turns, and bytes that
 * are watched on its other side. So what is read or written beyond ends the test, without a sanitizer and under emulation too.
 */
enum { GUARDED_BLOCKS = 64, GUARDED_WATCHED = 256 };

static struct guarded {
    unsigned char *map, *data; /* map: between two pages that cannot be touched */
    size_t room, bytes;
} guarded[GUARDED_BLOCKS];
static size_t guarded_count;

static inline void *guarded_alloc(size_t bytes)
{
    static unsigned turn;
    const size_t page = (size_t)sysconf(_SC_PAGESIZE), needed = (bytes + GUARDED_WATCHED + page - 1) / page * page;
    CHECK(guarded_count < GUARDED_BLOCKS, "too many blocks");
    struct guarded *block = &guarded[guarded_count++];
    if (block->room < needed) { /* a block's pages are used again */
        if (block->map != NULL) {
            munmap(block->map - page, block->room + 2 * page);
        }
        unsigned char *whole = mmap(NULL, needed + 2 * page, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        CHECK(whole != MAP_FAILED && mprotect(whole + page, needed, PROT_READ | PROT_WRITE) == 0, "no memory for %zu bytes", bytes);
        block->map = whole + page;
        block->room = needed;
    }
    block->bytes = bytes;
    if (turn++ % 4 != 0) { /* mostly behind: that is where vectors go too far */
        block->data = block->map + block->room - bytes;
        memset(block->data - GUARDED_WATCHED, 0x5a, GUARDED_WATCHED);
    } else {
        block->data = block->map;
        memset(block->data + bytes, 0x5a, GUARDED_WATCHED);
    }
    memset(block->data, 0xff, bytes); /* NaN, whatever the type: what is not written shows */
    return block->data;
}

/* Ends the life of all blocks. */
static inline void guarded_release(const char *what)
{
    while (guarded_count > 0) {
        const struct guarded *block = &guarded[--guarded_count];
        const unsigned char *watched = block->data == block->map ? block->data + block->bytes : block->data - GUARDED_WATCHED;
        size_t whole = 0;
        while (whole < GUARDED_WATCHED && watched[whole] == 0x5a) {
            whole++;
        }
        CHECK(whole == GUARDED_WATCHED, "%s wrote beside a block of %zu bytes", what, block->bytes);
    }
}

/* Arrays of float or double. */
static inline double get(int f64, const void *array, size_t i)
{
    return f64 ? ((const double *)array)[i] : (double)((const float *)array)[i];
}

static inline void put(int f64, void *array, size_t i, double value)
{
    if (f64) {
        ((double *)array)[i] = value;
    } else {
        ((float *)array)[i] = (float)value;
    }
}

static inline size_t size_of(int f64)
{
    return f64 ? sizeof(double) : sizeof(float);
}

/* 0 .. n-1 */
static inline size_t below(size_t n)
{
    return (size_t)((random_number() + 1) / 2 * (double)n) % n;
}

/* n numbers: if `most` > 0 whole ones of at most that magnitude, whose sums are exact, else any of [-1, 1). */
static inline void *numbers(int f64, size_t n, int most)
{
    void *array = guarded_alloc(n * size_of(f64));
    for (size_t i = 0; i < n; i++) {
        put(f64, array, i, most > 0 ? (double)below(2 * (size_t)most + 1) - most : random_number());
    }
    return array;
}

/* Equal, or both NaN. */
static inline int same(double a, double b)
{
    return a == b || (a != a && b != b);
}

/* As `same`, but within some units roundoff of `magnitude`, which is 0 where results are to be exact. */
static inline int fits(int f64, double got, double expected, double units, double magnitude)
{
    const double error = got > expected ? got - expected : expected - got;
    return same(got, expected) || error <= units * (f64 ? 0x1p-53 : 0x1p-24) * magnitude;
}

#endif
