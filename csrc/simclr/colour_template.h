/*
 * The loops of colour.c, for one compute type. Parameters, undefined at the end:
 *
 *   ELEMENT        C type of an element
 *   NAME(loop)     name of the loop's function for this type
 */

/* Applies a colour to a view (channels, n). */
static void NAME(recolour)(const struct colour *colour, size_t channels, size_t n, void *view_void)
{
    ELEMENT *red = view_void, *green = red + (channels == 3 ? n : 0),
            *blue = red + (channels == 3 ? 2 * n : 0);
    const double (*m)[3] = colour->matrix;
    double sum = 0.0;
    for (size_t i = 0; i < n; i++) {
        sum += RED * (double)red[i] + GREEN * (double)green[i] + BLUE * (double)blue[i];
    }
    const double shift = colour->pivot == 0.0 ? 0.0 : colour->pivot * (sum / (double)n);
    if (channels == 1) {
        const double factor = m[0][0] + m[0][1] + m[0][2];
        for (size_t i = 0; i < n; i++) {
            red[i] = (ELEMENT)(factor * (double)red[i] + shift);
        }
        return;
    }
    for (size_t i = 0; i < n; i++) {
        const double r = red[i], g = green[i], b = blue[i];
        red[i] = (ELEMENT)(m[0][0] * r + m[0][1] * g + m[0][2] * b + shift);
        green[i] = (ELEMENT)(m[1][0] * r + m[1][1] * g + m[1][2] * b + shift);
        blue[i] = (ELEMENT)(m[2][0] * r + m[2][1] * g + m[2][2] * b + shift);
    }
}

/* Blurs one channel. weights[k] is the weight of a pixel k columns or rows away. scratch holds
 * height * width + width + 2 * radius elements. */
static void NAME(blur)(const double *weights, size_t radius, size_t height, size_t width,
                       void *plane_void, void *scratch_void)
{
    ELEMENT *plane = plane_void, *rows = scratch_void, *row = rows + height * width;
    for (size_t y = 0; y < height; y++) {
        const ELEMENT *from = plane + y * width;
        ELEMENT *to = rows + y * width;
        for (size_t x = 0; x < width + 2 * radius; x++) {
            row[x] = from[smaller(x < radius ? 0 : x - radius, width - 1)];
        }
        for (size_t x = 0; x < width; x++) {
            to[x] = (ELEMENT)weights[0] * row[x + radius];
        }
        for (size_t k = 1; k <= radius; k++) {
            const ELEMENT weight = (ELEMENT)weights[k];
            for (size_t x = 0; x < width; x++) {
                to[x] += weight * (row[x + radius - k] + row[x + radius + k]);
            }
        }
    }
    for (size_t y = 0; y < height; y++) {
        ELEMENT *to = plane + y * width;
        for (size_t x = 0; x < width; x++) {
            to[x] = (ELEMENT)weights[0] * rows[y * width + x];
        }
        for (size_t k = 1; k <= radius; k++) {
            const ELEMENT weight = (ELEMENT)weights[k], *above = rows + (y < k ? 0 : y - k) * width,
                          *below = rows + smaller(y + k, height - 1) * width;
            for (size_t x = 0; x < width; x++) {
                to[x] += weight * (above[x] + below[x]);
            }
        }
    }
}

#undef ELEMENT
#undef NAME
