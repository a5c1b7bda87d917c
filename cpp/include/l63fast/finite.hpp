// Non-finite results: how they are found, and the one NaN that they become.
#pragma once

#include <cstdint>

#include "l63fast/interleave.hpp"
#include "l63fast/mask.hpp"

namespace l63fast {
inline namespace L63FAST_LEVEL {

template <int N, class T>  // N states
L63FAST_INLINE bool all_finite(const Components<T>* s) {
  Mask<T> good = Mask<T>::all();
  for (int i = 0; i < N; ++i) good = good & finite<T>((s[i].x + s[i].y) + s[i].z);
  return !any(~good);
}

// Makes a non-finite value the one canonical NaN; returns whether it was finite.
template <class T>
L63FAST_INLINE bool canonicalise(T& value) {
  if (value - value == T(0)) return true;
  value = static_cast<T>(__builtin_nan(""));
  return false;
}

}  // namespace L63FAST_LEVEL
}  // namespace l63fast
