// exp, log and the normal quantile for packs: polynomials in explicit fma instead of
// the C library's functions, so that every instruction set gives the same bits.
#pragma once

#include "l63fast/mask.hpp"
#include "l63fast/pack.hpp"
#include "l63fast/philox.hpp"

namespace l63fast {
inline namespace L63FAST_LEVEL {

// Returns coefficients[0] + coefficients[1] u + ..., by Horner's rule.
template <int N>
L63FAST_INLINE Pack<double> polynomial(const double (&coefficients)[N],
                                       Pack<double> u) {
  Pack<double> value = broadcast(coefficients[N - 1]);
#pragma GCC unroll 16
  for (int i = N - 2; i >= 0; --i) value = fma(value, u, broadcast(coefficients[i]));
  return value;
}

// Returns exp(a) for a <= 0, to 1 ulp. With a = n ln 2 + r and |r| <= ln(2)/2, exp(a)
// is 2^n exp(r), and exp(r) is its Taylor series. Returns 0 below -708 (the smallest
// normal result) and for NaN.
L63FAST_INLINE Pack<double> exponential(Pack<double> a) {
  constexpr double taylor[14] = {
      1.0,          1.0,           1.0 / 2,        1.0 / 6,        1.0 / 24,
      1.0 / 120,    1. / 720,      1. / 5040,      1. / 40320,     1. / 362880,
      1. / 3628800, 1. / 39916800, 1. / 479001600, 1. / 6227020800};
  // Adding 1.5 * 2^52 rounds to a whole number n and leaves n in the lowest bits.
  const Pack<double> shift = broadcast(6755399441055744.0);
  const Pack<double> moved = fma(a, broadcast(1.4426950408889634), shift);
  const Pack<double> n = moved - shift;
  // ln 2 is subtracted in two parts (Cody & Waite), so that r keeps its accuracy.
  Pack<double> r = fma(n, broadcast(-0x1.62e42fefa39efp-1), a);
  r = fma(n, broadcast(-0x1.abc9e3b39803fp-56), r);
  const Words scaled = (Words)polynomial(taylor, r) + ((Words)moved << 52);
  return select(at_most(broadcast(-708.0), a), (Pack<double>)scaled, Pack<double>{});
}

// Returns log(a) for normal a > 0. With a = 2^k m and m between sqrt(1/2) and sqrt(2),
// log(a) is k ln 2 + 2 artanh((m - 1) / (m + 1)), and artanh is its Taylor series.
L63FAST_INLINE Pack<double> logarithm(Pack<double> a) {
  constexpr double taylor[11] = {1.0,      1.0 / 3,  1.0 / 5,  1.0 / 7,
                                 1.0 / 9,  1.0 / 11, 1.0 / 13, 1.0 / 15,
                                 1.0 / 17, 1.0 / 19, 1.0 / 21};
  constexpr std::uint64_t root_half = 0x3fe6a09e667f3bcdu, bias = 1024;
  // Subtracting sqrt(1/2) first makes the exponent field k for m >= sqrt(1/2); the bias
  // keeps it non-negative.
  const Words moved =
      ((Words)a - broadcast_word(root_half) + broadcast_word(bias << 52)) >> 52;
  const Words m_bits = (Words)a - ((moved - broadcast_word(bias)) << 52);
  const Pack<double> k = to_double(moved) - broadcast(1024.0);
  const Pack<double> m = (Pack<double>)m_bits, one = broadcast(1.0);
  const Pack<double> s = (m - one) / (m + one);
  const Pack<double> artanh = s * polynomial(taylor, s * s);
  return fma(k, broadcast(0x1.62e42fefa39efp-1), artanh + artanh);
}

// Returns the quantile of the standard normal distribution for u between 2^-43 and 1 -
// 2^-43: algorithm AS 241, PPND16, of Wichura (Applied Statistics 37, 1988), with its
// first two ranges only. The second range is made for min(u, 1 - u) above 1.4e-11; down
// to 2^-43 it keeps a relative error of 1e-14.
L63FAST_INLINE Pack<double> normal_quantile(Pack<double> u) {
  constexpr double a[8] = {3.3871328727963666080e0, 1.3314166789178437745e2,
                           1.9715909503065514427e3, 1.3731693765509461125e4,
                           4.5921953931549871457e4, 6.7265770927008700853e4,
                           3.3430575583588128105e4, 2.5090809287301226727e3};
  constexpr double b[8] = {1.0,
                           4.2313330701600911252e1,
                           6.8718700749205790830e2,
                           5.3941960214247511077e3,
                           2.1213794301586595867e4,
                           3.9307895800092710610e4,
                           2.8729085735721942674e4,
                           5.2264952788528545610e3};
  constexpr double c[8] = {1.42343711074968357734e0,  4.63033784615654529590e0,
                           5.76949722146069140550e0,  3.64784832476320460504e0,
                           1.27045825245236838258e0,  2.41780725177450611770e-1,
                           2.27238449892691845833e-2, 7.74545014278341407640e-4};
  constexpr double d[8] = {1.0,
                           2.05319162663775882187e0,
                           1.67638483018380384940e0,
                           6.89767334985100004550e-1,
                           1.48103976427480074590e-1,
                           1.51986665636164571966e-2,
                           5.47593808499534494600e-4,
                           1.05075007164441684324e-9};
  const Pack<double> q = u - broadcast(0.5), half = broadcast(0.5);
  const Mask<double> central = at_most(magnitude(q), broadcast(0.425));
  const Pack<double> near = fma(-q, q, broadcast(0.180625));
  const Pack<double> tail = square_root(-logarithm(half - magnitude(q)));
  const Pack<double> r = tail - broadcast(1.6), zero{};
  const Pack<double> far = polynomial(c, r);
  const Pack<double> numerator =
      select(central, q * polynomial(a, near), select(less(q, zero), -far, far));
  return numerator / select(central, polynomial(b, near), polynomial(d, r));
}

}  // namespace L63FAST_LEVEL
}  // namespace l63fast
