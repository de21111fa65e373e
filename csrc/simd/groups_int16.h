/*
 * Groups of two 8-bit integers, widened to 16 bits, for instruction sets without dot products of
 * 8-bit integers. Products of signed 16-bit integers hold products of either 8-bit type, so
 * elements need no bias. vc and vh are the same type.
 */
#define GROUP_SIZE 2
#define RIGHT_BIAS_I8 0
#define RIGHT_BIAS_U8 0
typedef int16_t group_element;

static inline vi vi_dot_groups_i8(vi sums, vc left, vc right) { return vi_dot(sums, left, right); }
static inline vi vi_dot_groups_u8(vi sums, vc left, vc right) { return vi_dot(sums, left, right); }
