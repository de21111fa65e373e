#pragma once

#include <stddef.h>
#include <string.h>

#if defined(_WIN32)
#include <windows.h>
#else
#include <sys/mman.h>
#include <unistd.h>
#endif

#include "check.h"

/*
 * Guarded blocks. Three of four blocks end right before an inaccessible page; the others start
 * right after one. An access to that page crashes the test. The other side of a block has 256 bytes
 * with a known pattern, and guarded_release finds a write to them. This needs no sanitizer and
 * works under emulation.
 */
enum { GUARDED_BLOCKS = 64, GUARDED_PATTERN = 256 };

static struct guarded {
    unsigned char *map; /* accessible memory between two inaccessible pages */
    unsigned char *data;
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

/* Maps `room` bytes, a multiple of the page size, between two inaccessible pages. Returns NULL when
 * memory runs out. */
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
    static unsigned count;
    const size_t page = page_size(), needed = (bytes + GUARDED_PATTERN + page - 1) / page * page;
    CHECK(guarded_count < GUARDED_BLOCKS, "too many blocks");
    struct guarded *block = &guarded[guarded_count++];
    if (block->room < needed) { /* otherwise the block's old pages are reused */
        if (block->map != NULL) {
            unmap_between(block->map, block->room);
        }
        block->map = map_between(needed);
        CHECK(block->map != NULL, "no memory for %zu bytes", bytes);
        block->room = needed;
    }
    block->bytes = bytes;
    /* Most blocks end at the inaccessible page: vector loads tend to read past the end. */
    if (count++ % 4 != 0) {
        block->data = block->map + block->room - bytes;
        memset(block->data - GUARDED_PATTERN, 0x5a, GUARDED_PATTERN);
    } else {
        block->data = block->map;
        memset(block->data + bytes, 0x5a, GUARDED_PATTERN);
    }
    /* All floating-point types read these bytes as NaN, so an unwritten result is noticed. */
    memset(block->data, 0xff, bytes);
    return block->data;
}

/* Releases all blocks, and checks that nothing was written around them. */
static inline void guarded_release(const char *what)
{
    while (guarded_count > 0) {
        const struct guarded *block = &guarded[--guarded_count];
        const unsigned char *pattern =
            block->data == block->map ? block->data + block->bytes : block->data - GUARDED_PATTERN;
        size_t intact = 0;
        while (intact < GUARDED_PATTERN && pattern[intact] == 0x5a) {
            intact++;
        }
        CHECK(intact == GUARDED_PATTERN, "%s wrote outside of a block of %zu bytes", what,
              block->bytes);
    }
}

/* Returns element i of an array of float or double. */
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

/* Returns a random number in [0, n). */
static inline size_t below(size_t n)
{
    return (size_t)((random_number() + 1) / 2 * (double)n) % n;
}

/* Returns a random number in [least, most]. */
static inline size_t from_to(size_t least, size_t most)
{
    return least + below(most - least + 1);
}

/* Draws `count` offsets in [0, room - length]. One offset is room - length; usually another one is
 * 0. */
static inline void draw_offsets(ptrdiff_t *at, size_t count, size_t room, size_t length)
{
    for (size_t i = 0; i < count; i++) {
        at[i] = (ptrdiff_t)below(room - length + 1);
    }
    if (count > 0) {
        at[below(count)] = 0;
        at[below(count)] = (ptrdiff_t)(room - length);
    }
}

static inline double relu_of(double x)
{
    return 0 > x ? 0 : x;
}

/* Returns a guarded array of n random numbers. If most > 0, they are integers in [-most, most],
 * whose sums are exact. Otherwise they lie in [-1, 1). */
static inline void *numbers(int f64, size_t n, int most)
{
    void *array = guarded_alloc(n * size_of(f64));
    for (size_t i = 0; i < n; i++) {
        put(f64, array, i, most > 0 ? (double)below(2 * (size_t)most + 1) - most : random_number());
    }
    return array;
}

/* True if a and b are equal, or both NaN. */
static inline int same(double a, double b)
{
    return a == b || (a != a && b != b);
}

/* True if got is expected, or differs by at most `units` unit roundoffs of `magnitude`. A magnitude
 * of 0 requires the exact result. */
static inline int fits(int f64, double got, double expected, double units, double magnitude)
{
    const double error = got > expected ? got - expected : expected - got;
    return same(got, expected) || error <= units * (f64 ? 0x1p-53 : 0x1p-24) * magnitude;
}
