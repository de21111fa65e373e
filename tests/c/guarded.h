#ifndef COSSIM_TESTS_GUARDED_H
#define COSSIM_TESTS_GUARDED_H

#include <string.h>

#if defined(_WIN32)
#include <windows.h>
#else
#include <sys/mman.h>
#include <unistd.h>
#endif

#include "check.h"

/*
 * Memory with a page that cannot be touched right behind its last byte or right before its first
 * one, in turns, and bytes that are watched on its other side. So what is read or written beyond
 * ends the test, without a sanitizer and under emulation too.
 */
enum { GUARDED_BLOCKS = 64, GUARDED_WATCHED = 256 };

static struct guarded {
    unsigned char *map, *data; /* map: between two pages that cannot be touched */
    size_t room, bytes;
} guarded[GUARDED_BLOCKS];
static size_t guarded_count;

#if defined(_WIN32)

static inline size_t page_size(void)
{
    SYSTEM_INFO system;
    GetSystemInfo(&system);
    return system.dwPageSize;
}

/* `room` bytes, a multiple of pages, between two pages that cannot be touched; NULL where there is
 * no memory. */
static inline unsigned char *map_between(size_t room)
{
    unsigned char *whole = VirtualAlloc(NULL, room + 2 * page_size(), MEM_RESERVE, PAGE_NOACCESS);
    return whole == NULL ? NULL
                         : VirtualAlloc(whole + page_size(), room, MEM_COMMIT, PAGE_READWRITE);
}

static inline void unmap_between(unsigned char *map, size_t room)
{
    (void)room;
    VirtualFree(map - page_size(), 0, MEM_RELEASE);
}

#else

static inline size_t page_size(void)
{
    return (size_t)sysconf(_SC_PAGESIZE);
}

static inline unsigned char *map_between(size_t room)
{
    unsigned char *whole =
        mmap(NULL, room + 2 * page_size(), PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    const int failed =
        whole == MAP_FAILED || mprotect(whole + page_size(), room, PROT_READ | PROT_WRITE) != 0;
    return failed ? NULL : whole + page_size();
}

static inline void unmap_between(unsigned char *map, size_t room)
{
    munmap(map - page_size(), room + 2 * page_size());
}

#endif

static inline void *guarded_alloc(size_t bytes)
{
    static unsigned lock;
    const size_t page = page_size(), needed = (bytes + GUARDED_WATCHED + page - 1) / page * page;
    CHECK(guarded_count < GUARDED_BLOCKS, "too many blocks");
    struct guarded *block = &guarded[guarded_count++];
    if (block->room < needed) { /* a block's pages are used again */
        if (block->map != NULL) {
            unmap_between(block->map, block->room);
        }
        block->map = map_between(needed);
        CHECK(block->map != NULL, "no memory for %zu bytes", bytes);
        block->room = needed;
    }
    block->bytes = bytes;
    if (lock++ % 4 != 0) { /* mostly behind: that is where vectors go too far */
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
        const unsigned char *released =
            block->data == block->map ? block->data + block->bytes : block->data - GUARDED_WATCHED;
        size_t whole = 0;
        while (whole < GUARDED_WATCHED && released[whole] == 0x5a) {
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

/* n numbers: if `most` > 0 whole ones of at most that magnitude, whose sums are exact, else any of
 * [-1, 1). */
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

/* As `same`, but within some units roundoff of `magnitude`, which is 0 where results are to be
 * exact. */
static inline int fits(int f64, double got, double expected, double units, double magnitude)
{
    const double error = got > expected ? got - expected : expected - got;
    return same(got, expected) || error <= units * (f64 ? 0x1p-53 : 0x1p-24) * magnitude;
}

#endif
