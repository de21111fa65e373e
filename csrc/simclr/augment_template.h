/*
 * The loops of augment.c over the n pixels of a row, for one compute type. Parameters, undefined at
 * the end:
 *
 *   ELEMENT        C type of an element
 *   NAME(loop)     name of the loop's function for this type
 */
static void NAME(sample)(const void *padded, size_t width, const struct sample_points *points,
                         size_t n, void *view_void)
{
    ELEMENT *view = view_void;
    for (size_t i = 0; i < n; i++) {
        const ELEMENT *upper =
            (const ELEMENT *)padded + (size_t)points->row[i] * width + (size_t)points->column[i];
        const ELEMENT *lower = upper + width;
        const ELEMENT right = (ELEMENT)points->right[i], down = (ELEMENT)points->down[i];
        const ELEMENT above = upper[0] + right * (upper[1] - upper[0]);
        const ELEMENT below = lower[0] + right * (lower[1] - lower[0]);
        view[i] = above + down * (below - above);
    }
}

static void NAME(add)(double deviation, const float *numbers, size_t n, void *view_void)
{
    const ELEMENT factor = (ELEMENT)deviation;
    ELEMENT *view = view_void;
    for (size_t i = 0; i < n; i++) {
        view[i] += factor * (ELEMENT)numbers[i];
    }
}

/* NaN stays NaN. */
static void NAME(clip)(double low_double, double high_double, size_t n, void *view_void)
{
    const ELEMENT low = (ELEMENT)low_double, high = (ELEMENT)high_double;
    ELEMENT *view = view_void;
    for (size_t i = 0; i < n; i++) {
        const ELEMENT raised = low > view[i] ? low : view[i];
        view[i] = high < raised ? high : raised;
    }
}

#undef ELEMENT
#undef NAME
