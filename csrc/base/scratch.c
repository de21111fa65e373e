#include "base/scratch.h"

#include <stdint.h>
#include <stdlib.h>

#if defined(_WIN32) /* has no aligned_alloc, and its free takes none of its aligned blocks */
#include <malloc.h>
#define aligned_alloc(alignment, bytes) _aligned_malloc(bytes, alignment)
#define aligned_free(block) _aligned_free(block)
#else
#define aligned_free(block) free(block)
#endif

void *scratch_alloc(size_t bytes)
{
    if (bytes > PTRDIFF_MAX - SCRATCH_ALIGN) {
        return NULL;
    }
    return aligned_alloc(SCRATCH_ALIGN, bytes == 0 ? SCRATCH_ALIGN : scratch_round(bytes));
}

void scratch_free(void *block)
{
    aligned_free(block);
}
