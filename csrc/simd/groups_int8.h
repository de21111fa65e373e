/*
 * Groups of four bytes, for instruction sets whose vi_dot_codes multiplies any unsigned byte by any
 * signed byte. The bias flips the sign bit of right elements: int8_t elements become unsigned,
 * uint8_t elements signed.
 */
#define GROUP_SIZE 4
#define RIGHT_BIAS_I8 128
#define RIGHT_BIAS_U8 (-128)
typedef uint8_t group_element;

static inline vi vi_dot_groups_i8(vi sums, vc left, vc right)
{
    return vi_dot_codes(sums, right, left);
}
static inline vi vi_dot_groups_u8(vi sums, vc left, vc right)
{
    return vi_dot_codes(sums, left, right);
}
