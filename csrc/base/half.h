#pragma once

#include <math.h>
#include <stdint.h>
#include <string.h>

/* The two 16-bit float formats, float16 and bfloat16, stored in uint16_t. Widening is exact.
 * Narrowing rounds once, to nearest, ties to even. */

static inline float f32_from_bits(uint32_t bits)
{
    float f;
    memcpy(&f, &bits, sizeof f);
    return f;
}

static inline float bf16_to_f32(uint16_t h)
{
    return f32_from_bits((uint32_t)h << 16);
}

static inline float f16_to_f32(uint16_t h)
{
    uint32_t sign = (uint32_t)(h & 0x8000) << 16, exponent = (h >> 10) & 31, fraction = h & 0x3ff;
    if (exponent == 31) {
        return f32_from_bits(sign | 0x7f800000 | fraction << 13);
    }
    if (exponent == 0) { /* zero and subnormals: fraction * 2^-24 is exact in float */
        float magnitude = (float)fraction * 0x1p-24f;
        return sign ? -magnitude : magnitude;
    }
    return f32_from_bits(sign | (exponent + 112) << 23 | fraction << 13);
}

/*
 * Rounds a double to a 16-bit format. Going through float would round twice. The format is
 * described by its number of fraction bits, the smallest exponent of its normal numbers, and the
 * bits of infinity.
 *
 * The value is scaled so that one unit in the last place of the result becomes 1. nearbyint then
 * rounds it to nearest, ties to even, in the fixed mode of fp_mode.h. The exponent is added to the
 * rounded fraction, so a carry out of the fraction increments the exponent, up to infinity.
 */
static inline uint16_t half_from_double(double value, int fraction_bits, int min_exponent,
                                        uint16_t infinity)
{
    uint16_t sign = signbit(value) ? 0x8000 : 0;
    double magnitude = fabs(value);
    if (isnan(value)) {
        return sign | infinity | (uint16_t)(1u << (fraction_bits - 1));
    }
    if (isinf(value)) {
        return sign | infinity;
    }
    int exponent;
    frexp(magnitude, &exponent);
    exponent -= 1; /* magnitude in [2^exponent, 2^(exponent+1)) */
    if (magnitude == 0.0 || exponent < min_exponent) {
        exponent = min_exponent;
    }
    double units = nearbyint(ldexp(magnitude, fraction_bits - exponent));
    /* A normal number with min_exponent has 1 in the exponent field. The hidden bit in `units` adds
     * this 1. */
    double bits = units + ldexp((double)(exponent - min_exponent), fraction_bits);
    return sign | (uint16_t)(bits < infinity ? bits : infinity);
}

static inline uint16_t f16_from_double(double value)
{
    return half_from_double(value, 10, -14, 0x7c00);
}

static inline uint16_t bf16_from_double(double value)
{
    return half_from_double(value, 7, -126, 0x7f80);
}

/*
 * Returns a float that rounds to the same 16 bits as the double. The value is truncated to 24 bits.
 * The last of these is set if any bit that was cut off is 1 (rounding to odd). Rounding the float
 * to 16 bits then gives the same result as rounding the double once. Not valid below the normal
 * range of float.
 */
static inline float f32_rounded_to_odd(double value)
{
    const uint64_t cut = 0x1fffffff, last = cut + 1;
    uint64_t bits;
    memcpy(&bits, &value, sizeof bits);
    bits = (bits & ~cut) | (((bits & cut) + cut) & last);
    memcpy(&value, &bits, sizeof value);
    return (float)value;
}

/* Like f32_rounded_to_odd, but for every double. A value below the normal range of float is rounded
 * to bfloat16. A later rounding to bfloat16 leaves it unchanged, and one to float16 gives 0. */
static inline float f32_for_half(double value)
{
    return fabs(value) < 0x1p-126 && value != 0.0 ? bf16_to_f32(bf16_from_double(value))
                                                  : f32_rounded_to_odd(value);
}
