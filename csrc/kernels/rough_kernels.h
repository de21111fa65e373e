#pragma once

#include <stddef.h>
#include <stdint.h>

/*
 * Rough cosines of rows of floats with the rows of a query, as integers. The code of an element is
 * x * ROUGH_UNIT / max(|x|, eps), rounded to 16 bits. The dot product of the codes of two rows is
 * their cosine times ROUGH_UNIT^2, and fits 32 bits. Only instruction sets that multiply 16-bit
 * integers faster than floats have these kernels.
 *
 * rough_codes_kernel writes the codes of 1 to ROUGH_ROWS rows of n <= ROUGH_DEPTH elements. The
 * rows begin `step` bytes apart. codes is (ROUGH_ROWS, rough_length(n)), where the elements of a
 * row are in an order of the kernel's own. Returns a mask: bit r is set if the squared norm of row
 * r is not between 2^-79 and 2^79. Codes of such rows and of rows from `rows` on are unspecified.
 *
 * rough_dots_kernel multiplies codes of ROUGH_ROWS rows with a panel. scores is (ROUGH_ROWS,
 * ROUGH_COLUMNS), and panel is (rough_length(n) / 2, ROUGH_COLUMNS, 2). Unless next is NULL, it
 * also prefetches the ROUGH_ROWS * rough_length(n) floats there.
 *
 * rough_near_kernel raises largest (ROUGH_COLUMNS,) to the largest of the scores (rows,
 * ROUGH_COLUMNS) in each column. Sets near[r] to 1 if a score of row r is at least the largest
 * score of its column minus margin, or if the first score of the row is ROUGH_NONE.
 */
enum {
    ROUGH_ROWS = 16,
    ROUGH_COLUMNS = 32,
    ROUGH_DEPTH = 1024,
    ROUGH_UNIT = 32700,
    ROUGH_NONE = INT32_MIN
};
static inline size_t rough_length(size_t n)
{
    return (n + 31) / 32 * 32;
}

typedef unsigned rough_codes_kernel(int16_t *codes, const void *x, ptrdiff_t step, size_t rows,
                                    size_t n, double eps);
typedef void rough_dots_kernel(int32_t *scores, const int16_t *codes, const int16_t *panel,
                               size_t n, const char *next);
typedef void rough_near_kernel(uint8_t *near, int32_t *largest, const int32_t *scores, size_t rows,
                               int32_t margin);

struct rough_kernels {
    rough_codes_kernel *codes;
    rough_dots_kernel *dots;
    rough_near_kernel *near;
};
