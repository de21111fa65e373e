#ifndef COSSIM_SIMCLR_NORMAL_RNG_H
#define COSSIM_SIMCLR_NORMAL_RNG_H

#include <stddef.h>
#include <stdint.h>

/*
 * Random numbers with a standard normal distribution, one stream for each key. Number i of a stream
 * depends on the key and on i alone, so any thread can compute any part of it directly. Uses the
 * Box-Muller method in float: the error of a number is about 1e-7, and no magnitude exceeds 6.7.
 */
enum { NORMAL_RNG_BLOCK = 32 };

/* Writes NORMAL_RNG_BLOCK numbers of the stream, from number NORMAL_RNG_BLOCK * block on. */
void normal_rng_block(uint64_t key, size_t block, float *numbers);

#endif
