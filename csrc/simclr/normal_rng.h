#pragma once

#include <stddef.h>
#include <stdint.h>

/*
 * Random numbers with a standard normal distribution, one stream for each key. Number i of a stream
 * depends only on the key and on i, so any thread can compute any part of the stream directly. The
 * numbers come from the Box-Muller method in float: their error is about 1e-7, and no magnitude
 * exceeds 6.7.
 */
enum { NORMAL_RNG_BLOCK = 32 };

/* Writes block `block` of the stream: NORMAL_RNG_BLOCK numbers from NORMAL_RNG_BLOCK * block on. */
void normal_rng_block(uint64_t key, size_t block, float *numbers);
