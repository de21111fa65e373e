#include "simclr/normal_rng.h"

#include <math.h>
#include <string.h>

enum { PAIRS = NORMAL_RNG_BLOCK / 2 };

/* Returns 64 random bits for a counter (SplitMix64). */
static uint64_t random_bits(uint64_t counter)
{
    uint64_t bits = counter * 0x9E3779B97F4A7C15u;
    bits = (bits ^ (bits >> 30)) * 0xBF58476D1CE4E5B9u;
    bits = (bits ^ (bits >> 27)) * 0x94D049BB133111EBu;
    return bits ^ (bits >> 31);
}

/* Returns ln x for a positive normal float x = fraction * 2^exponent, with the fraction in
 * [sqrt(1/2), sqrt(2)): a polynomial in the fraction, plus exponent * ln 2. */
static inline float logarithm(float x)
{
    int32_t bits;
    float fraction;
    memcpy(&bits, &x, sizeof bits);
    const int32_t exponent = (bits - 0x3F3504F3) >> 23; /* 0x3F3504F3: the bits of sqrt(1/2) */
    bits -= exponent * (1 << 23);
    memcpy(&fraction, &bits, sizeof fraction);
    const float f = fraction - 1.0f;
    float tail = 0.0870043486f;
    tail = tail * f - 0.142674938f;
    tail = tail * f + 0.149147704f;
    tail = tail * f - 0.165775836f;
    tail = tail * f + 0.199630633f;
    tail = tail * f - 0.250013381f;
    tail = tail * f + 0.333339095f;
    return (float)exponent * 0.693147181f + (f - 0.5f * f * f + f * f * f * tail);
}

/* Returns sin(2 pi x) for x in [-1/4, 1/4]. */
static inline float sine_of_cycles(float x)
{
    const float square = x * x;
    float factor = 39.5367012f;
    factor = factor * square - 76.5497818f;
    factor = factor * square + 81.6010056f;
    factor = factor * square - 41.3416557f;
    factor = factor * square + 6.28318501f;
    return factor * x;
}

void normal_rng_block(uint64_t key, size_t block, float *numbers)
{
    int32_t radii[PAIRS], angles[PAIRS];
    for (size_t i = 0; i < PAIRS; i++) {
        const uint64_t bits = random_bits(key + block * PAIRS + i);
        radii[i] = (int32_t)(bits >> 33);
        angles[i] = (int32_t)(uint32_t)bits;
    }
    for (size_t i = 0; i < PAIRS; i++) {
        const float uniform = ((float)radii[i] + 0.5f) * 0x1p-31f; /* 2^-32 to 1 */
        const float radius = sqrtf(-2.0f * logarithm(uniform));
        const float cycles = (float)angles[i] * 0x1p-32f; /* -1/2 to 1/2 */
        const float magnitude = fabsf(cycles), folded = 0.5f - magnitude;
        const float reduced = magnitude < folded ? magnitude : folded;
        numbers[i] = radius * sine_of_cycles(0.25f - magnitude); /* cos(2 pi cycles) */
        numbers[PAIRS + i] = radius * sine_of_cycles(copysignf(reduced, cycles));
    }
}
