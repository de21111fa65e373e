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

/* Copies as memcpy does. Other threads may read the copy after stream_finish. */
static inline void stream_copy(char *to, const char *from, size_t bytes)
{
#ifdef __SSE2__
    const size_t beyond = (uintptr_t)to % STREAM_LINE, room = (STREAM_LINE - beyond) % STREAM_LINE,
                 head = room < bytes ? room : bytes;
    memcpy(to, from, head);
    size_t at = head;
    for (; at + STREAM_LINE <= bytes; at += STREAM_LINE) {
        for (size_t i = 0; i < STREAM_LINE; i += sizeof(stream_vector)) {
            stream_store(to + at + i, from + at + i);
        }
    }
    memcpy(to + at, from + at, bytes - at);
#else
    memcpy(to, from, bytes);
#endif
}

static inline void stream_finish(void)
{
#ifdef __SSE2__
    __builtin_ia32_sfence();
#endif
}
