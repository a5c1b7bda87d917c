// One truth value per lane of a pack, and selection by it, without a branch per sample.
#pragma once

#include <type_traits>

#include "l63fast/pack.hpp"

namespace l63fast {
inline namespace L63FAST_LEVEL {

#if defined(L63FAST_AVX512)

// One bit per lane, so that the mask stays in a mask register.
template <class T>
struct Mask {
  using Bits = std::conditional_t<sizeof(T) == 8, __mmask8, __mmask16>;
  Bits bits;

  static L63FAST_INLINE Mask all() { return {static_cast<Bits>(~0)}; }
  L63FAST_INLINE Mask operator&(Mask other) const {
    return {static_cast<Bits>(bits & other.bits)};
  }
  L63FAST_INLINE Mask operator|(Mask other) const {
    return {static_cast<Bits>(bits | other.bits)};
  }
  L63FAST_INLINE Mask operator~() const { return {static_cast<Bits>(~bits)}; }
};

template <class T>
L63FAST_INLINE bool any(Mask<T> mask) {
  return mask.bits != 0;
}

L63FAST_INLINE Mask<double> less(Pack<double> a, Pack<double> b) {
  return {_mm512_cmp_pd_mask(a, b, _CMP_LT_OQ)};
}
L63FAST_INLINE Mask<float> less(Pack<float> a, Pack<float> b) {
  return {_mm512_cmp_ps_mask(a, b, _CMP_LT_OQ)};
}
L63FAST_INLINE Mask<double> at_most(Pack<double> a, Pack<double> b) {
  return {_mm512_cmp_pd_mask(a, b, _CMP_LE_OQ)};
}
L63FAST_INLINE Mask<float> at_most(Pack<float> a, Pack<float> b) {
  return {_mm512_cmp_ps_mask(a, b, _CMP_LE_OQ)};
}
L63FAST_INLINE Mask<double> equal(Pack<double> a, Pack<double> b) {
  return {_mm512_cmp_pd_mask(a, b, _CMP_EQ_OQ)};
}
L63FAST_INLINE Mask<float> equal(Pack<float> a, Pack<float> b) {
  return {_mm512_cmp_ps_mask(a, b, _CMP_EQ_OQ)};
}

// The lanes of `among` where a < b does not hold, NaN included.
L63FAST_INLINE Mask<double> not_less(Mask<double> among, Pack<double> a,
                                     Pack<double> b) {
  return {_mm512_mask_cmp_pd_mask(among.bits, a, b, _CMP_NLT_UQ)};
}
L63FAST_INLINE Mask<float> not_less(Mask<float> among, Pack<float> a, Pack<float> b) {
  return {_mm512_mask_cmp_ps_mask(among.bits, a, b, _CMP_NLT_UQ)};
}

L63FAST_INLINE Pack<double> magnitude(Pack<double> a) { return _mm512_abs_pd(a); }
L63FAST_INLINE Pack<float> magnitude(Pack<float> a) { return _mm512_abs_ps(a); }

// a where the mask is set, b elsewhere.
L63FAST_INLINE Pack<double> select(Mask<double> mask, Pack<double> a, Pack<double> b) {
  return _mm512_mask_blend_pd(mask.bits, b, a);
}
L63FAST_INLINE Pack<float> select(Mask<float> mask, Pack<float> a, Pack<float> b) {
  return _mm512_mask_blend_ps(mask.bits, b, a);
}

#else

// The result of comparing two packs: integers of the lane's width, 0 or -1.
template <class T>
using Bits = decltype(Pack<T>{} < Pack<T>{});

template <class T>
struct Mask {
  Bits<T> bits;

  static L63FAST_INLINE Mask all() { return {~Bits<T>{}}; }
  L63FAST_INLINE Mask operator&(Mask other) const { return {bits & other.bits}; }
  L63FAST_INLINE Mask operator|(Mask other) const { return {bits | other.bits}; }
  L63FAST_INLINE Mask operator~() const { return {~bits}; }
};

template <class T>
L63FAST_INLINE bool any(Mask<T> mask) {
#if defined(L63FAST_AVX2)
  return _mm256_movemask_epi8((__m256i)mask.bits) != 0;
#else
  std::int64_t bits = 0;
  for (int i = 0; i < width<T>; ++i) bits |= mask.bits[i];
  return bits != 0;
#endif
}

L63FAST_INLINE Mask<double> less(Pack<double> a, Pack<double> b) { return {a < b}; }
L63FAST_INLINE Mask<float> less(Pack<float> a, Pack<float> b) { return {a < b}; }
L63FAST_INLINE Mask<double> at_most(Pack<double> a, Pack<double> b) { return {a <= b}; }
L63FAST_INLINE Mask<float> at_most(Pack<float> a, Pack<float> b) { return {a <= b}; }
L63FAST_INLINE Mask<double> equal(Pack<double> a, Pack<double> b) { return {a == b}; }
L63FAST_INLINE Mask<float> equal(Pack<float> a, Pack<float> b) { return {a == b}; }

// The lanes of `among` where a < b does not hold, NaN included.
L63FAST_INLINE Mask<double> not_less(Mask<double> among, Pack<double> a,
                                     Pack<double> b) {
  return {among.bits & ~(a < b)};
}
L63FAST_INLINE Mask<float> not_less(Mask<float> among, Pack<float> a, Pack<float> b) {
  return {among.bits & ~(a < b)};
}

template <class P>
L63FAST_INLINE P without_sign(P a) {
  using Lanes = decltype(a < a);
  return (P)((Lanes)a & ~(Lanes)-P{});
}
L63FAST_INLINE Pack<double> magnitude(Pack<double> a) { return without_sign(a); }
L63FAST_INLINE Pack<float> magnitude(Pack<float> a) { return without_sign(a); }

// a where the mask is set, b elsewhere.
#if defined(L63FAST_AVX2)
L63FAST_INLINE Pack<double> select(Mask<double> mask, Pack<double> a, Pack<double> b) {
  return _mm256_blendv_pd(b, a, (__m256d)mask.bits);
}
L63FAST_INLINE Pack<float> select(Mask<float> mask, Pack<float> a, Pack<float> b) {
  return _mm256_blendv_ps(b, a, (__m256)mask.bits);
}
#else
L63FAST_INLINE Pack<double> select(Mask<double> mask, Pack<double> a, Pack<double> b) {
  return mask.bits ? a : b;
}
L63FAST_INLINE Pack<float> select(Mask<float> mask, Pack<float> a, Pack<float> b) {
  return mask.bits ? a : b;
}
#endif

#endif

// Neither NaN nor infinite.
template <class T>
L63FAST_INLINE Mask<T> finite(Pack<T> a) {
  return equal(a - a, Pack<T>{});
}

}  // namespace L63FAST_LEVEL
}  // namespace l63fast
