// Reading samples from arrays into lanes, and writing them back: contiguous samples, or
// samples chosen by index.
#pragma once

#include "l63fast/interleave.hpp"
#include "l63fast/mask.hpp"
#include "l63fast/small_matrix.hpp"

namespace l63fast {
inline namespace L63FAST_LEVEL {

// The samples of one pack: `count` of them, contiguous from `first` on or given by
// `index`. Lanes beyond them repeat the last sample and are never written.
struct Lanes {
  std::int64_t first;
  std::int64_t count;
  const std::int64_t* index;

  L63FAST_INLINE std::int64_t sample(std::int64_t lane) const {
    if (lane >= count) lane = count > 0 ? count - 1 : 0;
    return index != nullptr ? index[lane] : first + lane;
  }
  template <class T>
  L63FAST_INLINE bool side_by_side() const {
    return index == nullptr && count >= width<T>;
  }
};

// Returns the k-th pack of the samples [begin, end), or of index[begin, end).
template <class T>
L63FAST_INLINE Lanes lanes_of(std::int64_t begin, std::int64_t end,
                              const std::int64_t* index, int k) {
  std::int64_t first = begin + k * width<T>;
  std::int64_t count = end - first < width<T> ? end - first : width<T>;
  if (count <= 0) first = end - 1, count = 0;
  return {first, count, index != nullptr ? index + first : nullptr};
}

// Returns the pack whose lanes are value(sample of the lane).
template <class T, class F>
L63FAST_INLINE Pack<T> lane_by_lane(const Lanes& lanes, F value) {
  T values[width<T>];
  for (int lane = 0; lane < width<T>; ++lane) {
    values[lane] = value(lanes.sample(lane));
  }
  return load_pack(values);
}

// Returns entry `offset` of an array with `size` entries per sample, or of one array
// for all samples.
template <class T>
L63FAST_INLINE Pack<T> gather(const T* values, int size, int offset, bool each,
                              const Lanes& lanes) {
  if (!each) return broadcast(values[offset]);
  return lane_by_lane<T>(lanes, [=](std::int64_t i) __attribute__((always_inline)) {
    return values[size * i + offset];
  });
}

// Read and write rows of C values, (n, C).
template <class T, int C>
L63FAST_INLINE Vector<T, C> load_rows(const T* rows, const Lanes& lanes) {
  Vector<T, C> out;
  if (lanes.side_by_side<T>()) {
    const T* from = rows + C * lanes.first;
    if constexpr (C == 1) {
      out.at[0] = load_pack(from);
      return out;
    } else if constexpr (C == 2) {
      load_pairs(from, out.at[0], out.at[1]);
      return out;
    } else {
      const Components<T> s = load_states(from);
      return {{s.x, s.y, s.z}};
    }
  }
  for (int c = 0; c < C; ++c) out.at[c] = gather(rows, C, c, true, lanes);
  return out;
}

template <class T, int C>
L63FAST_INLINE void store_rows(T* rows, const Lanes& lanes,
                               const Vector<T, C>& values) {
  if (lanes.side_by_side<T>()) {
    T* to = rows + C * lanes.first;
    if constexpr (C == 1) {
      store_pack(to, values.at[0]);
    } else if constexpr (C == 2) {
      store_pairs(to, values.at[0], values.at[1]);
    } else {
      store_states<T>(to, {values.at[0], values.at[1], values.at[2]});
    }
    return;
  }
  for (int lane = 0; lane < width<T> && lane < lanes.count; ++lane) {
    for (int c = 0; c < C; ++c) rows[C * lanes.sample(lane) + c] = values.at[c][lane];
  }
}

// Writes whole numbers as integers.
template <class T, class I>
L63FAST_INLINE void store_whole(I* to, const Lanes& lanes, Pack<T> values) {
  typedef std::int32_t Whole __attribute__((vector_size(4 * width<T>)));
  typedef I Narrow __attribute__((vector_size(sizeof(I) * width<T>)));
  const Narrow narrow =
      __builtin_convertvector(__builtin_convertvector(values, Whole), Narrow);
  if (lanes.side_by_side<T>()) {
    __builtin_memcpy(to + lanes.first, &narrow, sizeof narrow);
    return;
  }
  for (int lane = 0; lane < width<T> && lane < lanes.count; ++lane) {
    to[lanes.sample(lane)] = narrow[lane];
  }
}

}  // namespace L63FAST_LEVEL
}  // namespace l63fast
