// The observation operator h, given as (component, power) pairs, and its derivatives.
#pragma once

#include "l63fast/pack.hpp"

namespace l63fast {
inline namespace L63FAST_LEVEL {

// Returns u^p for p >= 0, by repeated multiplication.
template <class T>
L63FAST_INLINE Pack<T> power(Pack<T> u, int p) {
  Pack<T> value = p >= 1 ? u : broadcast(T(1));
  for (int i = 1; i < p; ++i) value = value * u;
  return value;
}

// Returns y - u^p; the last multiplication and the subtraction are rounded once.
template <class T>
L63FAST_INLINE Pack<T> misfit(Pack<T> u, Pack<T> y, int p) {
  return fma(-power<T>(u, p - 1), u, y);
}

// Returns dh/du = p u^(p-1).
template <class T>
L63FAST_INLINE Pack<T> slope(Pack<T> u, int p) {
  return broadcast(static_cast<T>(p)) * power<T>(u, p - 1);
}

// Returns d2h/du2 = p (p - 1) u^(p-2), for p >= 2.
template <class T>
L63FAST_INLINE Pack<T> second_derivative(Pack<T> u, int p) {
  return broadcast(static_cast<T>(p * (p - 1))) * power<T>(u, p - 2);
}

}  // namespace L63FAST_LEVEL
}  // namespace l63fast
