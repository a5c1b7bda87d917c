// Detection of non-finite results, and their replacement by one canonical NaN.
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

// Replaces a non-finite value by the canonical NaN, since the bits of NaN and infinity
// may differ between instruction sets. Returns whether the value was finite.
template <class T>
L63FAST_INLINE bool canonicalise(T& value) {
  if (value - value == T(0)) return true;
  value = static_cast<T>(__builtin_nan(""));
  return false;
}

}  // namespace L63FAST_LEVEL
}  // namespace l63fast
