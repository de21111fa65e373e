#ifndef COSSIM_VECTORS_FORMULA_H
#define COSSIM_VECTORS_FORMULA_H

#include <math.h>

/*
 * What torch means by cosine similarity, in one place:
 *
 *     x . y / (max(|x|, eps) * max(|y|, eps))
 *
 * (torch.nn.functional.cosine_similarity since 1.13: each norm is clamped by itself.) NaN goes
 * through: comparisons below are written so that NaN takes the branch that keeps it.
 */

/*
 * max(|x|, eps) from |x|^2. For a zero row any positive number does as well as eps, since all its
 * products are 0: one whose product with another such number, or whose inverse, does not leave the
 * range.
 */
static inline double formula_clamped_norm(double square, double eps)
{
    const double norm = sqrt(square),
                 least = square == 0.0 && eps > 0.0 && eps < 1e-100 ? 1e-100 : eps;
    return norm < least ? least : norm;
}

/* Kept in [-1, 1]: the exact value lies there, so cutting off a rounding error only brings it
 * closer. */
static inline double formula_clip(double cosine)
{
    return cosine > 1.0 ? 1.0 : cosine < -1.0 ? -1.0 : cosine;
}

/*
 * From x.y, x.x and y.y. When no norm is clamped one square root serves both: sqrt(xx * yy) rounds
 * less than sqrt(xx) * sqrt(yy), and since sqrt(a * a) == a in IEEE arithmetic, identical rows give
 * exactly 1. The caller sees to it that xx * yy neither overflows nor underflows. Two eps, because
 * each side may have been scaled by a power of two.
 */
static inline double formula_cosine(double xy, double xx, double yy, double x_eps, double y_eps)
{
    double x_norm = sqrt(xx), y_norm = sqrt(yy);
    if (x_norm >= x_eps && y_norm >= y_eps) {
        return formula_clip(xy / sqrt(xx * yy));
    }
    return formula_clip(xy / (formula_clamped_norm(xx, x_eps) * formula_clamped_norm(yy, y_eps)));
}

/* Squares from here on are those of norms that eps does not clamp, whatever the square root rounds
 * to. */
static inline double formula_unclamped_square(double eps)
{
    return eps * eps * (1.0 + 0x1p-40) + 0x1p-1000;
}

#endif
