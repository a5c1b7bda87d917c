// Stores that pass the caches by: an output larger than they are is not read before it
// is written, and evicts nothing.
#pragma once

#include "l63fast/pack.hpp"

#if defined(__SSE2__)
#include <immintrin.h>
#endif

namespace l63fast {
inline namespace L63FAST_LEVEL {

// Values in one cache line, and where in its line a value lies.
template <class T>
inline constexpr int line = 64 / static_cast<int>(sizeof(T));

template <class T>
L63FAST_INLINE int place_in_line(const T* value) {
  return static_cast<int>(reinterpret_cast<std::uintptr_t>(value) / sizeof(T) %
                          line<T>);
}

// One register, to a multiple of its size; and one value. A line that is written whole
// and close in time costs one transfer; values alone are for the ends of a row.
#if defined(L63FAST_AVX512)
L63FAST_INLINE void stream(double* to, Pack<double> v) { _mm512_stream_pd(to, v); }
L63FAST_INLINE void stream(float* to, Pack<float> v) { _mm512_stream_ps(to, v); }
#elif defined(L63FAST_AVX2)
L63FAST_INLINE void stream(double* to, Pack<double> v) { _mm256_stream_pd(to, v); }
L63FAST_INLINE void stream(float* to, Pack<float> v) { _mm256_stream_ps(to, v); }
#elif defined(__SSE2__)
L63FAST_INLINE void stream(double* to, Pack<double> v) { _mm_stream_pd(to, v); }
L63FAST_INLINE void stream(float* to, Pack<float> v) { _mm_stream_ps(to, v); }
#else
template <class T>
L63FAST_INLINE void stream(T* to, Pack<T> v) {
  __builtin_memcpy(to, &v, sizeof v);
}
#endif

#if defined(__SSE2__)
L63FAST_INLINE void stream(double* to, double value) {
  long long bits;
  __builtin_memcpy(&bits, &value, sizeof bits);
  _mm_stream_si64(reinterpret_cast<long long*>(to), bits);
}
L63FAST_INLINE void stream(float* to, float value) {
  int bits;
  __builtin_memcpy(&bits, &value, sizeof bits);
  _mm_stream_si32(reinterpret_cast<int*>(to), bits);
}
// Orders the stores above before all later ones, for readers on other cores.
L63FAST_INLINE void stream_fence() { _mm_sfence(); }
#else
template <class T>
L63FAST_INLINE void stream(T* to, T value) {
  *to = value;
}
L63FAST_INLINE void stream_fence() {}
#endif

// A register or a value, past the caches or not.
template <bool streamed, class T, class Value>
L63FAST_INLINE void put(T* to, const Value& v) {
  if constexpr (streamed) {
    stream(to, v);
  } else {
    __builtin_memcpy(to, &v, sizeof v);
  }
}

}  // namespace L63FAST_LEVEL
}  // namespace l63fast
