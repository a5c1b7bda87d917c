// Writers of saved states to `out`. A writer is given the states of a group at one
// saved time after another (`add`), and is told after the last one (`finish`).
#pragma once

#include <algorithm>

#include "l63fast/interleave.hpp"
#include "l63fast/kernels.hpp"

namespace l63fast {
inline namespace L63FAST_LEVEL {

// The members in a group of packs. Members from `end` on do not exist; their lanes
// repeat the last member, so that they never diverge or become slow on their own.
struct Members {
  std::int64_t first;  // in lane 0 of pack 0
  std::int64_t packs;  // step from pack to pack
  std::int64_t lanes;  // step from lane to lane
  std::int64_t end;

  L63FAST_INLINE std::int64_t at(int pack, int lane) const {
    return first + pack * packs + lane * lanes;
  }

  // Returns how many of w lanes hold members.
  L63FAST_INLINE int count(int pack, int w) const {
    const std::int64_t left = (end - at(pack, 0) + lanes - 1) / lanes;
    return static_cast<int>(left < 0 ? 0 : left < w ? left : w);
  }
};

template <class T>
L63FAST_INLINE void put_state(T* to, std::ptrdiff_t component, const Components<T>& s,
                              int lane) {
  to[0] = s.x[lane];
  to[component] = s.y[lane];
  to[2 * component] = s.z[lane];
}

// Writes to an array of any strides.
template <class T, int M>
class AnyWriter {
 public:
  L63FAST_INLINE AnyWriter(const Integration<T>& job, const Members& members)
      : strides_(job.strides), out_(job.out + members.first * job.strides.member) {
    for (int m = 0; m < M; ++m) count_[m] = members.count(m, width<T>);
  }

  L63FAST_INLINE void add(const Components<T>* states) {
    for (int m = 0; m < M; ++m)
      store(out_ + m * width<T> * strides_.member, count_[m], states[m]);
    out_ += strides_.time;
  }

  L63FAST_INLINE void finish() {}

 private:
  L63FAST_INLINE void store(T* out, int count, const Components<T>& states) {
    if (strides_.member == 3 && strides_.component == 1 && count == width<T>) {
      store_states(out, states);
      return;
    }
    // Lane by lane from the registers: going through memory costs more than it saves.
#pragma GCC unroll 16
    for (int i = 0; i < width<T>; ++i) {
      if (i >= count) return;
      put_state(out + i * strides_.member, strides_.component, states, i);
    }
  }

  Strides strides_;
  T* out_;
  int count_[M];
};

// Writes rows of contiguous members that begin at a cache line, past the caches.
template <class T, int M>
class LineRowWriter {
 public:
  L63FAST_INLINE LineRowWriter(const Integration<T>& job, const Members& members)
      : time_(job.strides.time), out_(job.out + 3 * members.first) {}

  L63FAST_INLINE void add(const Components<T>* states) {
#pragma GCC unroll 8
    for (int m = 0; m < M; ++m)
      store_states<T, true>(out_ + 3 * m * width<T>, states[m]);
    out_ += time_;
  }

  L63FAST_INLINE void finish() {}

 private:
  std::ptrdiff_t time_;
  T* out_;
};

// Writes rows of contiguous members that begin and end anywhere, past the caches. A row
// is held here until the next row has been computed: if it were read back at once at
// another alignment, it would not yet have reached the cache.
template <class T, int M>
class RowWriter {
 public:
  L63FAST_INLINE RowWriter(const Integration<T>& job, const Members& members)
      : time_(job.strides.time),
        out_(job.out + 3 * members.first - time_),
        size_(3 * static_cast<int>(std::min<std::int64_t>(members.end - members.first,
                                                          M * width<T>))) {}

  L63FAST_INLINE void add(const Components<T>* states) {
    finish();
#pragma GCC unroll 8
    for (int m = 0; m < M; ++m)
      store_states(rows_[turn_] + 3 * m * width<T>, states[m]);
    turn_ = 1 - turn_;
    waits_ = true;
    out_ += time_;
  }

  // Writes the row that is held.
  L63FAST_INLINE void finish() {
    if (!waits_) return;
    const T* row = rows_[1 - turn_];
    T* out = out_;
    const int size = size_;
    const int head = std::min((line<T> - place_in_line(out)) % line<T>, size);
    const int lines_end = size - (size - head) % line<T>;
    for (int i = 0; i < head; ++i) stream(out + i, row[i]);
    for (int i = head; i < lines_end; i += line<T>) {
#pragma GCC unroll 4
      for (int k = i; k < i + line<T>; k += width<T>)
        stream(out + k, load_pack(row + k));
    }
    for (int i = lines_end; i < size; ++i) stream(out + i, row[i]);
  }

 private:
  std::ptrdiff_t time_;
  T* out_;
  int size_;  // values of a row
  int turn_ = 0;
  bool waits_ = false;
  alignas(64) T rows_[2][3 * M * width<T>];
};

}  // namespace L63FAST_LEVEL
}  // namespace l63fast
