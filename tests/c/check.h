#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

/* Each test is a program. It prints "ok NAME: N checks" or "skip NAME: reason" and exits with 0. If
 * a check fails, it prints that check and exits with 1. */

static long checks;

#define CHECK(condition, ...) \
    do { \
        checks++; \
        if (!(condition)) { \
            fprintf(stderr, "%s:%d: %s: ", __FILE__, __LINE__, #condition); \
            fprintf(stderr, __VA_ARGS__); \
            fprintf(stderr, "\n"); \
            exit(1); \
        } \
    } while (0)

static inline int finish(const char *name)
{
    printf("ok %s: %ld checks\n", name, checks);
    return 0;
}

/* Returns a pseudo-random number in [-1, 1). Every execution gets the same sequence. */
static inline double random_number(void)
{
    static uint64_t state = 88172645463325252u;
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    return (double)(int64_t)state / 9223372036854775808.0;
}

/* True if long double has more digits than double. Under valgrind and on some machines it does not,
 * and sqrtl and expl may be off by one unit of a double. */
static inline bool long_double_is_longer(void)
{
    volatile long double one = 1.0L, small = 0x1p-60L;
    return one + small != one;
}
