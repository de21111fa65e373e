/* Checks base/half.h: doubles are rounded to 16-bit floats once, to nearest even. */
#include "base/half.h"
#include "check.h"

struct format {
    const char *name;
    float (*widen)(uint16_t);
    uint16_t (*narrow)(double);
    uint16_t infinity;
};

static void check_format(const struct format *f)
{
    for (unsigned pattern = 0; pattern < 65536; pattern++) {
        const uint16_t bits = (uint16_t)pattern;
        const double value = f->widen(bits);
        if (isnan(value)) {
            CHECK(isnan(f->widen(f->narrow(value))), "%s %04x", f->name, bits);
        } else {
            CHECK(f->narrow(value) == bits, "%s %04x -> %04x", f->name, bits, f->narrow(value));
        }
    }
    /* Values right below, in and right above the middle between each number and the next one. */
    for (uint16_t bits = 0; bits < f->infinity; bits++) {
        const double low = f->widen(bits);
        const double high = bits + 1 == f->infinity ? 2 * low - f->widen((uint16_t)(bits - 1))
                                                    : f->widen((uint16_t)(bits + 1));
        const double middle = (low + high) / 2;
        const uint16_t even = bits % 2 == 0 ? bits : (uint16_t)(bits + 1);
        CHECK(f->narrow(nextafter(middle, 0)) == bits, "%s below the middle after %04x", f->name,
              bits);
        CHECK(f->narrow(middle) == even, "%s in the middle after %04x", f->name, bits);
        CHECK(f->narrow(nextafter(middle, INFINITY)) == bits + 1, "%s above the middle after %04x",
              f->name, bits);
        CHECK(f->narrow(-middle) == (even | 0x8000), "%s negative middle after %04x", f->name,
              bits);
    }
    CHECK(f->narrow(1e308) == f->infinity && f->narrow(INFINITY) == f->infinity, "%s overflow",
          f->name);
    CHECK(f->narrow(5e-324) == 0 && f->narrow(-5e-324) == 0x8000, "%s underflow", f->name);
}

static uint16_t f16_through_float(double value)
{
    return f16_from_double(f32_for_half(value));
}

static uint16_t bf16_through_float(double value)
{
    return bf16_from_double(f32_for_half(value));
}

int main(void)
{
    const struct format f16 = {"f16", f16_to_f32, f16_from_double, 0x7c00},
                        bf16 = {"bf16", bf16_to_f32, bf16_from_double, 0x7f80};
    check_format(&f16);
    const struct format f16_float = {"f16 through float", f16_to_f32, f16_through_float, 0x7c00};
    const struct format bf16_float = {"bf16 through float", bf16_to_f32, bf16_through_float,
                                      0x7f80};
    check_format(&bf16);
    check_format(&f16_float);
    check_format(&bf16_float);
    return finish("half");
}
