// Vector registers of W values; every multiply-add is an explicit fma.
//
// Everything that is compiled once per instruction set lives in the inline namespace
// L63FAST_LEVEL, a macro that the build defines for each level. Without it the linker
// would keep one copy of each template and use it for all levels.
#pragma once

#if defined(__FAST_MATH__) || defined(__ASSOCIATIVE_MATH__) || \
    defined(__RECIPROCAL_MATH__) ||                            \
    (defined(__FINITE_MATH_ONLY__) && __FINITE_MATH_ONLY__)
#error \
    "-Ofast and -ffast-math change results and overlook NaN: take them out of \
CXXFLAGS and CMAKE_CXX_FLAGS"
#endif

#include <cstdint>

#ifndef L63FAST_LEVEL
#define L63FAST_LEVEL generic
#endif

#define L63FAST_INLINE inline __attribute__((always_inline))

#if defined(__AVX512F__) && defined(__AVX512DQ__) && defined(__AVX512VL__)
#define L63FAST_AVX512
#include <immintrin.h>
#elif defined(__AVX2__) && defined(__FMA__)
#define L63FAST_AVX2
#include <immintrin.h>
#endif

namespace l63fast {
inline namespace L63FAST_LEVEL {

#if defined(L63FAST_AVX512)
inline constexpr int register_bytes = 64;
#elif defined(L63FAST_AVX2)
inline constexpr int register_bytes = 32;
#else
inline constexpr int register_bytes = 16;
#endif

template <class T>
struct PackOf {
  static constexpr int width = register_bytes / static_cast<int>(sizeof(T));
  typedef T type __attribute__((vector_size(register_bytes)));
};

// A vector register of T; + - * / act on each lane.
template <class T>
using Pack = typename PackOf<T>::type;

template <class T>
inline constexpr int width = PackOf<T>::width;

template <class T>
L63FAST_INLINE Pack<T> broadcast(T value) {
  return Pack<T>{} + value;
}

// Read and write W contiguous values at any address. Arrays of registers are loaded one
// register at a time: GCC copies an array of registers in halves, and reading such a
// half at full width stalls.
template <class T>
L63FAST_INLINE Pack<T> load_pack(const T* values) {
  Pack<T> pack;
  __builtin_memcpy(&pack, values, sizeof pack);
  return pack;
}

template <class T>
L63FAST_INLINE void store_pack(T* values, Pack<T> pack) {
  __builtin_memcpy(values, &pack, sizeof pack);
}

// The lanes I of two packs, where those of the second are counted from W on.
template <class T, int... I>
L63FAST_INLINE Pack<T> picked(Pack<T> a, Pack<T> b) {
#if defined(__GNUC__) && !defined(__clang__) && __GNUC__ < 12
  using Bits = decltype(a < a);
  return __builtin_shuffle(a, b, Bits{I...});
#else
  return __builtin_shufflevector(a, b, I...);
#endif
}

// Returns the largest power of two that is not above a, for a >= 1: the mantissa's bits
// are cleared.
template <class T>
L63FAST_INLINE Pack<T> power_of_two(Pack<T> a) {
  using Bits = decltype(a < a);
  return (Pack<T>)((Bits)a & (Bits)broadcast(static_cast<T>(__builtin_inf())));
}

// Returns 1 / a, exactly, where a is such a power; 0 where a is the largest of them.
template <class T>
L63FAST_INLINE Pack<T> one_over_power(Pack<T> a) {
  using Bits = decltype(a < a);
  const Bits one = (Bits)broadcast(T(1));
  return (Pack<T>)(one + one - (Bits)a);
}

// Returns a * b + c, rounded once; and the correctly rounded square root.
#if defined(L63FAST_AVX512)
L63FAST_INLINE Pack<double> fma(Pack<double> a, Pack<double> b, Pack<double> c) {
  return _mm512_fmadd_pd(a, b, c);
}
L63FAST_INLINE Pack<float> fma(Pack<float> a, Pack<float> b, Pack<float> c) {
  return _mm512_fmadd_ps(a, b, c);
}
// The masked form: GCC warns about an undefined operand in the plain one's header.
L63FAST_INLINE Pack<double> square_root(Pack<double> a) {
  return _mm512_mask_sqrt_pd(a, 0xff, a);
}
L63FAST_INLINE Pack<float> square_root(Pack<float> a) {
  return _mm512_mask_sqrt_ps(a, 0xffff, a);
}
#elif defined(L63FAST_AVX2)
L63FAST_INLINE Pack<double> fma(Pack<double> a, Pack<double> b, Pack<double> c) {
  return _mm256_fmadd_pd(a, b, c);
}
L63FAST_INLINE Pack<float> fma(Pack<float> a, Pack<float> b, Pack<float> c) {
  return _mm256_fmadd_ps(a, b, c);
}
L63FAST_INLINE Pack<double> square_root(Pack<double> a) { return _mm256_sqrt_pd(a); }
L63FAST_INLINE Pack<float> square_root(Pack<float> a) { return _mm256_sqrt_ps(a); }
#else
L63FAST_INLINE Pack<double> fma(Pack<double> a, Pack<double> b, Pack<double> c) {
  Pack<double> out;
  for (int i = 0; i < width<double>; ++i) out[i] = __builtin_fma(a[i], b[i], c[i]);
  return out;
}
L63FAST_INLINE Pack<float> fma(Pack<float> a, Pack<float> b, Pack<float> c) {
  Pack<float> out;
  for (int i = 0; i < width<float>; ++i) out[i] = __builtin_fmaf(a[i], b[i], c[i]);
  return out;
}
L63FAST_INLINE Pack<double> square_root(Pack<double> a) {
  for (int i = 0; i < width<double>; ++i) a[i] = __builtin_sqrt(a[i]);
  return a;
}
L63FAST_INLINE Pack<float> square_root(Pack<float> a) {
  for (int i = 0; i < width<float>; ++i) a[i] = __builtin_sqrtf(a[i]);
  return a;
}
#endif

}  // namespace L63FAST_LEVEL
}  // namespace l63fast
