// A correctly rounded quotient without the divider, which limits Newton's method for
// one square: for 8 values it takes 16 cycles on Intel, in which the other units issue
// 32 instructions.
//
// Let a, b > 0, scaled by powers of two: a = A / 2^52, b = B / 2^52, and let A, B, Y be
// whole numbers in [2^52, 2^53). An ulp is the unit in the last place of the result.
// (1) y0 is 1 / b to 2^-14 of it, so y0 (1 + e + e^2 + e^3) is to 2^-56. Rounded
//     upwards it is next to 1 / b. So e1 = 1 - b y1 is exact, and the unrounded
//     y1 (1 + e1) is below 1 / b by at most 2^-105 of it. A midpoint lies between them
//     only if B = 2^53 - 1: it differs by a multiple of 2^-106 / b, and not by 0 or 1
//     multiple, because B (2 Y + 1) is not 2^106 and is 2^106 - 1 only for that B.
//     There y1 is the upper neighbour, and y1 (1 + e1) beyond the midpoint. So y = Y /
//     2^53 is 1 / b correctly rounded (Markstein, 1990), and |b y - 1| <= (B - 1) /
//     2^106.
// (2) q = a y is within 1.5 ulp of a / b, and q + r y is a / b + (a / b - q) (b y - 1),
//     up to 2^-52 ulp where r = a - b q is inexact. Let d be the distance of a / b from
//     the nearest midpoint. Where d > 2^-50 ulp, no midpoint is passed. Where not,
//     |a / b - q| <= 1/2 ulp + d: it could only be 3/2 ulp - d, and then a / b < 1 and
//     A > 2^53 - 8, but such a quotient is next to a whole number of ulps. So r is
//     exact. Because d >= 1 / (2 B) ulp, (1/2 + d) (B - 1) / 2^106 < d follows from (B
//     - 1) (B + 1) < 2^106: no midpoint is passed.
#pragma once

#include "l63fast/mask.hpp"

namespace l63fast {
inline namespace L63FAST_LEVEL {

// Whether there is such a quotient of packs of T here.
template <class T>
inline constexpr bool has_quotient = false;

#if defined(L63FAST_AVX512)

template <>
inline constexpr bool has_quotient<double> = true;

// Returns a / b, correctly rounded, for b in [2^-60, 2^510] and a = +0 or |a| in
// [2^-310, 2^750], where nothing under- or overflows.
L63FAST_INLINE Pack<double> quotient(Pack<double> a, Pack<double> b) {
  const Pack<double> one = broadcast(1.0), y0 = _mm512_mask_rcp14_pd(b, 0xff, b);
  const Pack<double> e = _mm512_fnmadd_pd(b, y0, one);
  const Pack<double> y1 = _mm512_fmadd_round_pd(
      fma(fma(e, e, e), e, e), y0, y0, _MM_FROUND_TO_POS_INF | _MM_FROUND_NO_EXC);
  const Pack<double> y = fma(_mm512_fnmadd_pd(b, y1, one), y1, y1), q = a * y;
  return fma(_mm512_fnmadd_pd(b, q, a), y, q);
}

// Returns the smaller of two values, or b where one of them is NaN.
L63FAST_INLINE Pack<double> smaller(Pack<double> a, Pack<double> b) {
  return _mm512_mask_min_pd(a, 0xff, a, b);
}

#endif

}  // namespace L63FAST_LEVEL
}  // namespace l63fast
