#ifndef COSSIM_CORE_NOISE_H
#define COSSIM_CORE_NOISE_H

#include <stddef.h>
#include <stdint.h>

/*
 * Numbers of a standard normal distribution, a stream for every key: number i of a stream depends on the key and on i alone,
 * so that any part of it can be had at once, on any thread. Box and Muller's method in float: exact to about 1e-7, none
 * beyond 6.7.
 */
enum { NOISE_BLOCK = 32 };

/* Numbers NOISE_BLOCK * block and the NOISE_BLOCK - 1 after it. */
void noise_block(uint64_t key, size_t block, float *numbers);

#endif
