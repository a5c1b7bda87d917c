// Between W states side by side in memory, (W, 3), and one register per component.
#pragma once

#include <cstdint>
#include <utility>

#include "l63fast/pack.hpp"

namespace l63fast {
inline namespace L63FAST_LEVEL {

template <class T>
struct Components {
  Pack<T> x, y, z;
};

// Where value `position` of the stream x0 y0 z0 x1 ... comes from, as the lane of a
// shuffle. A value that the first shuffle of two cannot reach takes any lane.
namespace lane {

constexpr int first_of_two(int component, int i, int w) {
  const int position = 3 * i + component;
  return position < 2 * w ? position : 0;
}

constexpr int with_third(int component, int i, int w) {
  const int position = 3 * i + component;
  return position < 2 * w ? i : position - w;
}

constexpr int of_x_and_y(int vector, int i, int w) {
  const int position = vector * w + i;
  return position % 3 == 2 ? 0 : position % 3 * w + position / 3;
}

constexpr int and_z(int vector, int i, int w) {
  const int position = vector * w + i;
  return position % 3 == 2 ? w + position / 3 : i;
}

}  // namespace lane

template <class T, int C, int... I>
L63FAST_INLINE Pack<T> pick(Pack<T> a, Pack<T> b, Pack<T> c,
                            std::integer_sequence<int, I...>) {
  constexpr int w = width<T>;
  const Pack<T> two = __builtin_shufflevector(a, b, lane::first_of_two(C, I, w)...);
  return __builtin_shufflevector(two, c, lane::with_third(C, I, w)...);
}

template <class T, int V, int... I>
L63FAST_INLINE Pack<T> mix(const Components<T>& s, std::integer_sequence<int, I...>) {
  constexpr int w = width<T>;
  const Pack<T> two = __builtin_shufflevector(s.x, s.y, lane::of_x_and_y(V, I, w)...);
  return __builtin_shufflevector(two, s.z, lane::and_z(V, I, w)...);
}

// Reads W states, 3 W values from `states` on.
template <class T>
L63FAST_INLINE Components<T> load_states(const T* states) {
  constexpr auto lanes = std::make_integer_sequence<int, width<T>>{};
  const Pack<T> v[3] = {load_pack(states), load_pack(states + width<T>),
                        load_pack(states + 2 * width<T>)};
  return {pick<T, 0>(v[0], v[1], v[2], lanes), pick<T, 1>(v[0], v[1], v[2], lanes),
          pick<T, 2>(v[0], v[1], v[2], lanes)};
}

// Reads the first `count` of W states, `stride` values apart; lanes beyond repeat the
// last, so that they can neither diverge on their own nor be slow.
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

// Writes W states, 3 W values from `states` on.
template <class T>
L63FAST_INLINE void store_states(T* states, const Components<T>& s) {
  constexpr auto lanes = std::make_integer_sequence<int, width<T>>{};
  store_pack(states, mix<T, 0>(s, lanes));
  store_pack(states + width<T>, mix<T, 1>(s, lanes));
  store_pack(states + 2 * width<T>, mix<T, 2>(s, lanes));
}

// The same for W pairs, (W, 2), and one register per column.
template <class T, int... I>
L63FAST_INLINE void load_pairs(const T* pairs, Pack<T>& first, Pack<T>& second,
                               std::integer_sequence<int, I...>) {
  const Pack<T> a = load_pack(pairs), b = load_pack(pairs + width<T>);
  first = __builtin_shufflevector(a, b, (2 * I)...);
  second = __builtin_shufflevector(a, b, (2 * I + 1)...);
}

template <class T, int... I>
L63FAST_INLINE void store_pairs(T* pairs, Pack<T> first, Pack<T> second,
                                std::integer_sequence<int, I...>) {
  constexpr int w = width<T>;
  store_pack(pairs, __builtin_shufflevector(first, second, (I / 2 + I % 2 * w)...));
  store_pack(pairs + w,
             __builtin_shufflevector(first, second, ((w + I) / 2 + I % 2 * w)...));
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
