#ifndef COSSIM_SIMCLR_NORMAL_RNG_H
#define COSSIM_SIMCLR_NORMAL_RNG_H

#include <stddef.h>
#include <stdint.h>

/*
 * Numbers of a standard normal distribution, a stream for every key: number i of a stream depends
 * on the key and on i alone, so that any part of it can be had at once, on any thread. Box and
 * Muller's method in float: exact to about 1e-7, none beyond 6.7.
 */
enum { NORMAL_RNG_BLOCK = 32 };

/* Numbers NORMAL_RNG_BLOCK * block and the NORMAL_RNG_BLOCK - 1 after it. */
void normal_rng_block(uint64_t key, size_t block, float *numbers);

#endif
