#include "base/scratch.h"

#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#if defined(__linux__)
#include <sys/mman.h>
#include <unistd.h>
#ifndef MADV_FREE
#define MADV_FREE 8
#endif
#else
enum { MADV_DONTNEED, MADV_HUGEPAGE, MADV_FREE };
#endif

#include "base/kept.h"

enum { HUGE_PAGE = 1 << 21 }; /* bytes */

static _Atomic size_t live;  /* blocks in use */
static _Atomic long to_fail; /* counts down to the allocation that fails; <= 0: none fails */

void *scratch_alloc(size_t bytes)
{
    if (bytes > PTRDIFF_MAX - SCRATCH_ALIGN) {
        return NULL;
    }
    if (atomic_load_explicit(&to_fail, memory_order_relaxed) > 0 &&
        atomic_fetch_sub(&to_fail, 1) == 1) {
        return NULL;
    }
    /* glibc's aligned_alloc does not reuse a freed block of the same size: in a loop of such calls
     * the process grows by several blocks. */
    char *memory = malloc(scratch_round(bytes) + SCRATCH_ALIGN);
    if (memory == NULL) {
        return NULL;
    }
    atomic_fetch_add_explicit(&live, 1, memory_order_relaxed);
    char *block = memory + SCRATCH_ALIGN - (uintptr_t)memory % SCRATCH_ALIGN;
    memcpy(block - sizeof memory, &memory, sizeof memory);
    return block;
}

/* Frees a block that does not count as in use. */
static void free_uncounted(void *block)
{
    if (block != NULL) {
        void *memory; /* the address from malloc, stored in front of the block */
        memcpy(&memory, (char *)block - sizeof memory, sizeof memory);
        free(memory);
    }
}

void scratch_free(void *block)
{
    if (block != NULL) {
        atomic_fetch_sub_explicit(&live, 1, memory_order_relaxed);
        free_uncounted(block);
    }
}

/* The kept blocks. The first SCRATCH_ALIGN bytes of a block hold its size. */
static _Atomic(char *) kept[KEPT_SLOTS];

static size_t kept_bytes(const char *block)
{
    size_t bytes;
    memcpy(&bytes, block, sizeof bytes);
    return bytes;
}

void *kept_alloc(enum kept_slot slot, size_t bytes)
{
    char *spare = atomic_exchange(&kept[slot], NULL);
    const bool fits = spare != NULL && kept_bytes(spare) / 2 <= bytes && bytes <= kept_bytes(spare);
    if (!fits) {
        free_uncounted(spare); /* first, so that there is more memory for the new block */
        spare = NULL;
    }
    char *block = scratch_alloc(fits ? 0 : size_sum_or_max(bytes, SCRATCH_ALIGN));
    if (fits && block != NULL) {
        free_uncounted(block); /* it was allocated only to be counted as in use */
        return spare + SCRATCH_ALIGN;
    }
    free_uncounted(spare);
    if (block == NULL) {
        return NULL;
    }
    memcpy(block, &bytes, sizeof bytes);
    return block + SCRATCH_ALIGN;
}

void *kept_take(enum kept_slot slot)
{
    char *block = atomic_exchange(&kept[slot], NULL);
    if (block == NULL) {
        return NULL;
    }
    atomic_fetch_add_explicit(&live, 1, memory_order_relaxed);
    return block + SCRATCH_ALIGN;
}

void kept_drop(void *block)
{
    scratch_free(block == NULL ? NULL : (char *)block - SCRATCH_ALIGN);
}

size_t kept_size(const void *block)
{
    return kept_bytes((const char *)block - SCRATCH_ALIGN);
}

void kept_free(enum kept_slot slot, void *arrays)
{
    char *block = arrays == NULL ? NULL : (char *)arrays - SCRATCH_ALIGN;
    const size_t most = slot == KEPT_RESULT ? KEPT_RESULT_BYTES : KEPT_BYTES;
    if (block == NULL || kept_bytes(block) > most) {
        scratch_free(block);
        return;
    }
    atomic_fetch_sub_explicit(&live, 1, memory_order_relaxed);
    free_uncounted(atomic_exchange(&kept[slot], block));
}

/* Gives the system advice about the pages that lie in the block. */
static void advise(void *block, size_t bytes, int advice)
{
#if defined(__linux__)
    const uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE), at = (uintptr_t)block,
                    start = (at + page - 1) / page * page, end = (at + bytes) / page * page;
    if (start < end) {
        madvise((void *)start, end - start, advice);
    }
#else
    (void)block;
    (void)bytes;
    (void)advice;
#endif
}

void scratch_give_back(void *block, size_t bytes)
{
    advise(block, bytes, MADV_DONTNEED);
}

void scratch_use_huge_pages(void *block, size_t bytes)
{
    advise(block, bytes, MADV_HUGEPAGE);
}

void scratch_let_go(void *block, size_t bytes)
{
    advise(block, bytes, MADV_FREE);
}

bool arena_pass(struct arena *arena)
{
    switch (arena->passes++) {
    case 0:
        return true;
    case 1:
        arena->block = scratch_alloc(arena->bytes);
        arena->bytes = 0;
        return arena->block != NULL;
    default:
        return false;
    }
}

bool kept_arena_pass(enum kept_slot slot, struct arena *arena)
{
    if (arena->passes != 1) {
        return arena_pass(arena);
    }
    arena->passes++;
    arena->block = kept_alloc(slot, arena->bytes);
    if (arena->block != NULL && arena->bytes >= HUGE_PAGE) {
        scratch_use_huge_pages(arena->block, arena->bytes);
    }
    arena->bytes = 0;
    return arena->block != NULL;
}

size_t scratch_live(void)
{
    return atomic_load(&live);
}

long scratch_fail_after(long n)
{
    const long left = atomic_exchange(&to_fail, n);
    return left > 0 ? left : 0;
}
