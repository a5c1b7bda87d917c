// Conversion between W contiguous states in memory, (W, 3), and one register per
// component.
#pragma once

#include <utility>

#include "l63fast/pack.hpp"
#include "l63fast/stream.hpp"

namespace l63fast {
inline namespace L63FAST_LEVEL {

template <class T>
struct Components {
  Pack<T> x, y, z;
};

// Value number p of the sequence x0 y0 z0 x1 ... lies in lane p % W of vector p / W.
// Since 3 and W have no common divisor, each component fills every lane exactly once
// over the three vectors: two blends and one permutation bring it together.
namespace lane {

constexpr int component(int vector, int lane, int w) { return (vector * w + lane) % 3; }

// Returns the vector that holds a value of `component` in `lane`.
constexpr int vector(int component, int lane, int w) {
  for (int v = 0; v < 2; ++v) {
    if ((v * w + lane) % 3 == component) return v;
  }
  return 2;
}

// Return the lane of state i's component, and the state whose component is in `lane`.
constexpr int of_state(int component, int i, int w) { return (3 * i + component) % w; }

constexpr int state(int component, int lane, int w) {
  int i = 0;
  while (of_state(component, i, w) != lane) ++i;
  return i;
}

}  // namespace lane

// Takes each lane from one of three packs, chosen by number.
template <class T, int... Choice, int... I>
L63FAST_INLINE Pack<T> blend(Pack<T> a, Pack<T> b, Pack<T> c,
                             std::integer_sequence<int, Choice...>,
                             std::integer_sequence<int, I...>) {
  constexpr int w = width<T>;
  const Pack<T> two = picked<T, (Choice == 1 ? w + I : I)...>(a, b);
  return picked<T, (Choice == 2 ? w + I : I)...>(two, c);
}

template <class T, int C, int... I>
L63FAST_INLINE Pack<T> component_of(const Pack<T>* v,
                                    std::integer_sequence<int, I...> lanes) {
  constexpr int w = width<T>;
  using Vectors = std::integer_sequence<int, lane::vector(C, I, w)...>;
  const Pack<T> values = blend<T>(v[0], v[1], v[2], Vectors{}, lanes);
  return picked<T, lane::of_state(C, I, w)...>(values, values);
}

template <class T, int C, int... I>
L63FAST_INLINE Pack<T> in_place(Pack<T> values, std::integer_sequence<int, I...>) {
  return picked<T, lane::state(C, I, width<T>)...>(values, values);
}

template <class T, int V, int... I>
L63FAST_INLINE Pack<T> vector_of(const Components<T>& placed,
                                 std::integer_sequence<int, I...> lanes) {
  using Chosen = std::integer_sequence<int, lane::component(V, I, width<T>)...>;
  return blend<T>(placed.x, placed.y, placed.z, Chosen{}, lanes);
}

// Reads W states, 3 W values from `states` on.
template <class T>
L63FAST_INLINE Components<T> load_states(const T* states) {
  constexpr auto lanes = std::make_integer_sequence<int, width<T>>{};
  const Pack<T> v[3] = {load_pack(states), load_pack(states + width<T>),
                        load_pack(states + 2 * width<T>)};
  return {component_of<T, 0>(v, lanes), component_of<T, 1>(v, lanes),
          component_of<T, 2>(v, lanes)};
}

// Reads the first `count` of W states, `stride` values apart. The other lanes repeat
// the last state, so that they never diverge or become slow on their own.
template <class T>
L63FAST_INLINE Components<T> load_states(const T* states, std::int64_t stride,
                                         std::int64_t count) {
  if (stride == 3 && count >= width<T>) return load_states(states);
  T padded[3 * width<T>];
  for (int i = 0; i < width<T>; ++i) {
    const T* state = states + stride * (i < count ? i : count - 1);
    for (int c = 0; c < 3; ++c) padded[3 * i + c] = state[c];
  }
  return load_states(padded);
}

// Writes W states, 3 W values from `states` on. With `streamed` the address must be
// aligned.
template <class T, bool streamed = false>
L63FAST_INLINE void store_states(T* states, const Components<T>& s) {
  constexpr auto lanes = std::make_integer_sequence<int, width<T>>{};
  const Components<T> placed{in_place<T, 0>(s.x, lanes), in_place<T, 1>(s.y, lanes),
                             in_place<T, 2>(s.z, lanes)};
  put<streamed>(states, vector_of<T, 0>(placed, lanes));
  put<streamed>(states + width<T>, vector_of<T, 1>(placed, lanes));
  put<streamed>(states + 2 * width<T>, vector_of<T, 2>(placed, lanes));
}

// The same for W pairs, (W, 2), and one register per column.
template <class T, int... I>
L63FAST_INLINE void load_pairs(const T* pairs, Pack<T>& first, Pack<T>& second,
                               std::integer_sequence<int, I...>) {
  const Pack<T> a = load_pack(pairs), b = load_pack(pairs + width<T>);
  first = picked<T, (2 * I)...>(a, b);
  second = picked<T, (2 * I + 1)...>(a, b);
}

template <class T, int... I>
L63FAST_INLINE void store_pairs(T* pairs, Pack<T> first, Pack<T> second,
                                std::integer_sequence<int, I...>) {
  constexpr int w = width<T>;
  store_pack(pairs, picked<T, (I / 2 + I % 2 * w)...>(first, second));
  store_pack(pairs + w, picked<T, ((w + I) / 2 + I % 2 * w)...>(first, second));
}

template <class T>
L63FAST_INLINE void load_pairs(const T* pairs, Pack<T>& first, Pack<T>& second) {
  load_pairs(pairs, first, second, std::make_integer_sequence<int, width<T>>{});
}

template <class T>
L63FAST_INLINE void store_pairs(T* pairs, Pack<T> first, Pack<T> second) {
  store_pairs(pairs, first, second, std::make_integer_sequence<int, width<T>>{});
}

// Writes the first `count` of W states, `stride` values apart.
template <class T>
L63FAST_INLINE void store_states(T* states, std::int64_t stride, std::int64_t count,
                                 const Components<T>& s) {
  if (stride == 3 && count >= width<T>) {
    store_states(states, s);
    return;
  }
  T rows[3 * width<T>];
  store_states(rows, s);
  for (int i = 0; i < width<T> && i < count; ++i) {
    for (int c = 0; c < 3; ++c) states[stride * i + c] = rows[3 * i + c];
  }
}

}  // namespace L63FAST_LEVEL
}  // namespace l63fast
