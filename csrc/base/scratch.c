#include "base/scratch.h"

#include <stdint.h>
#include <stdlib.h>

void *scratch_alloc(size_t bytes)
{
    if (bytes > PTRDIFF_MAX - SCRATCH_ALIGN) {
        return NULL;
    }
    return aligned_alloc(SCRATCH_ALIGN, bytes == 0 ? SCRATCH_ALIGN : scratch_round(bytes));
}

void scratch_free(void *block)
{
    free(block);
}
