// W values side by side; every multiply-add is an explicit fma.
//
// Everything that is compiled once per instruction set lives in the inline namespace
// L63FAST_LEVEL, a macro that the build defines per level: without it the linker would
// keep one copy of each template for all levels.
#pragma once

#include <cmath>
#include <cstdint>
#if defined(__AVX2__) || defined(__AVX512F__)
#include <immintrin.h>
#endif

#ifndef L63FAST_LEVEL
#define L63FAST_LEVEL generic
#endif

#define L63FAST_INLINE inline __attribute__((always_inline))

namespace l63fast {
inline namespace L63FAST_LEVEL {

#if defined(__AVX512F__) && defined(__AVX512DQ__) && defined(__AVX512VL__)
inline constexpr int register_bytes = 64;
#elif defined(__AVX2__) && defined(__FMA__)
inline constexpr int register_bytes = 32;
#else
inline constexpr int register_bytes = 16;
#endif

template <class T>
struct PackOf {
  static constexpr int width = register_bytes / static_cast<int>(sizeof(T));
  typedef T type __attribute__((vector_size(register_bytes)));
};

// A register of T; + - * / and comparisons act lane by lane.
template <class T>
using Pack = typename PackOf<T>::type;

template <class T>
inline constexpr int width = PackOf<T>::width;

template <class T>
L63FAST_INLINE Pack<T> broadcast(T value) {
  return Pack<T>{} + value;
}

// a * b + c, rounded once.
template <class P>
L63FAST_INLINE P fma(P a, P b, P c) {
#if defined(__AVX512F__) && defined(__AVX512DQ__) && defined(__AVX512VL__)
  if constexpr (sizeof(a[0]) == 8) {
    return (P)_mm512_fmadd_pd((__m512d)a, (__m512d)b, (__m512d)c);
  } else {
    return (P)_mm512_fmadd_ps((__m512)a, (__m512)b, (__m512)c);
  }
#elif defined(__AVX2__) && defined(__FMA__)
  if constexpr (sizeof(a[0]) == 8) {
    return (P)_mm256_fmadd_pd((__m256d)a, (__m256d)b, (__m256d)c);
  } else {
    return (P)_mm256_fmadd_ps((__m256)a, (__m256)b, (__m256)c);
  }
#else
  P result;
  for (unsigned i = 0; i < sizeof(P) / sizeof(a[0]); ++i) {
    if constexpr (sizeof(a[0]) == 8) {
      result[i] = __builtin_fma(a[i], b[i], c[i]);
    } else {
      result[i] = __builtin_fmaf(a[i], b[i], c[i]);
    }
  }
  return result;
#endif
}

template <class P>
L63FAST_INLINE P square_root(P a) {
  // The masked form: GCC warns of the undefined operand in the plain one's header.
#if defined(__AVX512F__) && defined(__AVX512DQ__) && defined(__AVX512VL__)
  if constexpr (sizeof(a[0]) == 8) {
    return (P)_mm512_mask_sqrt_pd((__m512d)a, 0xff, (__m512d)a);
  } else {
    return (P)_mm512_mask_sqrt_ps((__m512)a, 0xffff, (__m512)a);
  }
#else
  P result;
  for (unsigned i = 0; i < sizeof(P) / sizeof(a[0]); ++i) {
    if constexpr (sizeof(a[0]) == 8) {
      result[i] = __builtin_sqrt(a[i]);
    } else {
      result[i] = __builtin_sqrtf(a[i]);
    }
  }
  return result;
#endif
}

// Lane masks are what comparing two packs gives.
template <class T>
using Mask = decltype(Pack<T>{} < Pack<T>{});

template <class M>
L63FAST_INLINE bool any(M mask) {
  std::int64_t bits = 0;
  for (unsigned i = 0; i < sizeof(M) / sizeof(mask[0]); ++i) bits |= mask[i];
  return bits != 0;
}

}  // namespace L63FAST_LEVEL
}  // namespace l63fast
