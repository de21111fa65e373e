#pragma once

#include <stddef.h>
#include <stdint.h>
#include <string.h>

/*
 * Writes large results past the caches, where the data of the calculation stay. It is faster only
 * for pages that the process already has: the system clears a new page in the cache, and takes long
 * for each page. So call stream_touch for the whole result first. Where the processor has no such
 * stores, these functions copy.
 */
enum { STREAM_LINE = 64, STREAM_PAGE = 4096 };

/* Writes one zero to each page, so that the system provides the page now. */
static inline void stream_touch(char *to, size_t bytes)
{
    for (size_t at = 0; at < bytes; at += STREAM_PAGE) {
        *(volatile char *)(to + at) = 0;
    }
}

#ifdef __SSE2__
typedef long long stream_vector __attribute__((vector_size(16)));

static inline void stream_store(char *to, const char *from)
{
    stream_vector vector;
    memcpy(&vector, from, sizeof vector);
#ifdef __clang__
    __builtin_nontemporal_store(vector, (stream_vector *)to);
#else
    __builtin_ia32_movntdq((stream_vector *)to, vector);
#endif
}
#endif

/* Copies a line to an address that is a multiple of STREAM_LINE. Other threads may read it after
 * stream_finish. */
static inline void stream_line(void *to, const void *from)
{
#ifdef __SSE2__
    for (size_t i = 0; i < STREAM_LINE; i += sizeof(stream_vector)) {
        stream_store((char *)to + i, (const char *)from + i);
    }
#else
    memcpy(to, from, STREAM_LINE);
#endif
}

static inline void stream_finish(void)
{
#ifdef __SSE2__
    __builtin_ia32_sfence();
#endif
}
