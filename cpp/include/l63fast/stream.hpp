// Stores that go past the caches to memory (non-temporal stores): a large output is not
// read into the cache before it is written, and evicts nothing from it.
#pragma once

#include "l63fast/pack.hpp"

#if defined(__SSE2__)
#include <immintrin.h>
#endif

namespace l63fast {
inline namespace L63FAST_LEVEL {

// Number of values in one cache line, and the position of a value in its line.
template <class T>
inline constexpr int line = 64 / static_cast<int>(sizeof(T));

template <class T>
L63FAST_INLINE int place_in_line(const T* value) {
  return static_cast<int>(reinterpret_cast<std::uintptr_t>(value) / sizeof(T) %
                          line<T>);
}

// Store one register, at an address that is a multiple of its size, or one value. A
// line whose parts are all written soon after each other costs one transfer; single
// values are for the ends of a row only.
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
// Completes the stores above before all later stores, for readers on other cores.
L63FAST_INLINE void stream_fence() { _mm_sfence(); }
#else
template <class T>
L63FAST_INLINE void stream(T* to, T value) {
  *to = value;
}
L63FAST_INLINE void stream_fence() {}
#endif

// Stores a register or a value, past the caches or through them.
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
