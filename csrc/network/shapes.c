/* The shapes between the layers of a network, and which layers are fused. */
#include "network/shapes.h"

/* True if memory can hold an image of this shape. No array exists between layers, so the sizes are
 * checked here. */
static bool may_fit(const struct shape *s)
{
    return (double)s->channels * (double)s->size.h * (double)s->size.w < 0x1p48;
}

bool shape_after(const struct layer *l, struct shape *s)
{
    const struct extent2 in = s->size;
    size_t channels;
    switch (l->kind) {
    case LAYER_CONV2D:
        if (s->flat || !size_mul(l->in, l->groups, &channels) || s->channels != channels) {
            return false;
        }
        s->channels = l->out;
        s->size.h =
            window_count(in.h + l->before.h + l->after.h, l->kernel.h, l->stride.h, l->dilation.h);
        s->size.w =
            window_count(in.w + l->before.w + l->after.w, l->kernel.w, l->stride.w, l->dilation.w);
        return s->size.h > 0 && s->size.w > 0 && may_fit(s);
    case LAYER_MAX_POOL2D:
        if (s->flat || s->channels == 0) {
            return false;
        }
        s->size.h = pool_window_count(in.h, l->kernel.h, l->stride.h, l->dilation.h, l->before.h,
                                      l->ceil_mode);
        s->size.w = pool_window_count(in.w, l->kernel.w, l->stride.w, l->dilation.w, l->before.w,
                                      l->ceil_mode);
        return s->size.h > 0 && s->size.w > 0 && may_fit(s);
    case LAYER_LINEAR:
        if (!s->flat || s->channels != l->in) {
            return false;
        }
        s->channels = l->out;
        return true;
    case LAYER_FLATTEN:
        if (!s->flat && !may_fit(s)) { /* an empty array: its other sizes may be huge */
            return false;
        }
        if (!s->flat) {
            s->channels *= s->size.h * s->size.w;
            s->flat = true;
        }
        return true;
    default:
        return true;
    }
}

size_t network_shape(const struct layer *layers, size_t count, struct shape *shape)
{
    for (size_t i = 0; i < count; i++) {
        struct shape after = *shape;
        if (!shape_after(&layers[i], &after)) {
            return i;
        }
        *shape = after;
    }
    return count;
}

static bool is_2x2_pool(const struct layer *l)
{
    return l->kind == LAYER_MAX_POOL2D && l->kernel.h == 2 && l->kernel.w == 2 &&
           l->stride.h == 2 && l->stride.w == 2 && l->dilation.h == 1 && l->dilation.w == 1 &&
           l->before.h == 0 && l->before.w == 0 && !l->ceil_mode;
}

size_t network_fused(const struct layer *layers, size_t count)
{
    const bool conv = layers->kind == LAYER_CONV2D;
    size_t fused = 1;
    if (conv || layers->kind == LAYER_LINEAR) {
        fused += fused < count && layers[fused].kind == LAYER_RELU;
        fused += conv && fused < count && is_2x2_pool(&layers[fused]);
    }
    return fused;
}
