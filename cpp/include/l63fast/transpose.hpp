// Transposes a square of W x W values in registers.
#pragma once

#include <utility>

#include "l63fast/pack.hpp"

namespace l63fast {
inline namespace L63FAST_LEVEL {

// One step of the transposition: of two rows that lie D apart, exchanges the lanes of
// the first whose number has bit D set with the lanes of the second whose number has
// not. Steps with D = 1, 2, 4, ... transpose the square.
template <class T, int D, int... I>
L63FAST_INLINE void exchange(Pack<T>& a, Pack<T>& b, std::integer_sequence<int, I...>) {
  constexpr int w = width<T>;
  const Pack<T> first = picked<T, ((I & D) ? w + I - D : I)...>(a, b);
  b = picked<T, ((I & D) ? w + I : I + D)...>(a, b);
  a = first;
}

template <class T, int D = 1>
L63FAST_INLINE void transpose(Pack<T>* rows) {
  constexpr int w = width<T>;
  if constexpr (D < w) {
#pragma GCC unroll 16
    for (int i = 0; i < w; ++i) {
      if ((i & D) == 0)
        exchange<T, D>(rows[i], rows[i + D], std::make_integer_sequence<int, w>{});
    }
    transpose<T, 2 * D>(rows);
  }
}

}  // namespace L63FAST_LEVEL
}  // namespace l63fast
