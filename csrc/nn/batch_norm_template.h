/*
 * The loops of batch_norm.c over the n elements of one channel of one image, for one compute type.
 * Parameters, undefined at the end:
 *
 *   ELEMENT        C type of an element
 *   NAME(loop)     name of the loop's function for this type
 */

/* Adds the elements of y and of v * y to LANES partial sums each. */
static void NAME(add_sums)(size_t n, const void *x_void, const void *y_void, double centre,
                           double (*sums)[LANES])
{
    const ELEMENT *x = x_void, *y = y_void;
    size_t i = 0;
    for (; i + LANES <= n; i += LANES) {
        for (size_t j = 0; j < LANES; j++) {
            const double v = (double)x[i + j] - centre, w = y == NULL ? v : (double)y[i + j];
            sums[0][j] += w;
            sums[1][j] += v * w;
        }
    }
    for (size_t j = 0; i < n; i++, j++) {
        const double v = (double)x[i] - centre, w = y == NULL ? v : (double)y[i];
        sums[0][j] += w;
        sums[1][j] += v * w;
    }
}

static void NAME(affine)(size_t n, const void *x_void, const void *y_void, double centre,
                         const double *factors, void *output_void)
{
    const ELEMENT *restrict x = x_void, *restrict y = y_void;
    ELEMENT *restrict output = output_void;
    const double a = factors[0], b = factors[1], c = factors[2];
    if (y == NULL) {
        for (size_t i = 0; i < n; i++) {
            output[i] = (ELEMENT)(((double)x[i] - centre) * a + c);
        }
        return;
    }
    for (size_t i = 0; i < n; i++) {
        output[i] = (ELEMENT)(((double)x[i] - centre) * a + (double)y[i] * b + c);
    }
}

#undef ELEMENT
#undef NAME
