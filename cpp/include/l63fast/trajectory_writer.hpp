// Writer of trajectories that are contiguous in time: it writes whole cache lines,
// which it gets by transposing one register per component.
#pragma once

#include <algorithm>

#include "l63fast/transpose.hpp"
#include "l63fast/writers.hpp"

namespace l63fast {
inline namespace L63FAST_LEVEL {

// Lane i of a pack holds the member i line<T> after the member of lane 0. Hence all
// trajectories of a pack begin at the same position in a cache line, whatever the
// stride, and W values of each, transposed, form a register that does not cross the end
// of a line.
//
// A tile of line<T> saved states is three lines of every trajectory. It is written
// while the next tile is computed, a part of it after each saved state, so that the
// shuffles fill the gaps that the latency of fma leaves.
template <class T, int M, bool streamed>
class TrajectoryWriter {
 public:
  L63FAST_INLINE TrajectoryWriter(const Integration<T>& job, const Members& members)
      : lanes_(members.lanes * job.strides.member) {
    for (int m = 0; m < M; ++m) {
      count_[m] = members.count(m, w);
      T* out = job.out + members.at(m, 0) * job.strides.member;
      begin_[m] = place_in_line(out);
      line_[m] = out - begin_[m];
      place_[m] = begin_[m];
    }
  }

  L63FAST_INLINE void add(const Components<T>* states) {
#pragma GCC unroll 8
    for (int m = 0; m < M; ++m) {
      Pack<T>* to = &rows_[turn_][m][place_[m] + 3 * filled_];
      to[0] = states[m].x;
      to[1] = states[m].y;
      to[2] = states[m].z;
    }
    ++filled_;
    if (waits_) {
      for (; written_ * tile < filled_ * squares; ++written_) write_waiting(written_);
    }
    if (filled_ == tile) turn();
  }

  // Writes all that is still held.
  void finish() {
    if (waits_) {
      for (; written_ < squares; ++written_) write_waiting(written_);
    }
    for (int m = 0; m < M; ++m) write_now(m, place_[m] + 3 * filled_);
  }

 private:
  static constexpr int w = width<T>;
  static constexpr int tile = line<T>;
  static constexpr int squares = M * 3 * tile / w;

  L63FAST_INLINE void write_waiting(int square) {
    constexpr int per_pack = squares / M;
    const int m = square / per_pack;
    write(rows_[1 - turn_][m], line_[m] - 3 * tile, m, square % per_pack * w);
  }

  // Keeps the full tile for writing; its remainder, less than a line, begins the next
  // tile. The first tile, which may begin within a line, is written at once.
  L63FAST_INLINE void turn() {
    for (int m = 0; m < M; ++m) {
      if (is_first_) write_now(m, 3 * tile);
      begin_[m] = 0;
      for (int i = 0; i < line<T>; ++i)
        rows_[1 - turn_][m][i] = rows_[turn_][m][3 * tile + i];
      line_[m] += 3 * tile;
    }
    turn_ = 1 - turn_;
    waits_ = !is_first_;
    is_first_ = false;
    written_ = 0;
    filled_ = 0;
  }

  // Writes rows [begin, end) of the tile that is being filled.
  __attribute__((noinline)) void write_now(int m, int end) {
    const Pack<T>* rows = rows_[turn_][m];
    for (int row = 0; row < end; row += w) {
      if (row >= begin_[m] && row + w <= end) {
        write(rows, line_[m], m, row);
      } else {
        write_some(rows, line_[m], m, std::max(row, begin_[m]), std::min(row + w, end));
      }
    }
  }

  // Writes a square of W rows from `row` on.
  L63FAST_INLINE void write(const Pack<T>* rows, T* to, int m, int row) {
    Pack<T> square[w];
#pragma GCC unroll 16
    for (int i = 0; i < w; ++i) square[i] = rows[row + i];
    transpose<T>(square);
    // Local copies: the compiler must assume that a store changes the members.
    const std::ptrdiff_t lanes = lanes_;
    const int count = count_[m];
    to += row;
    if (count == w) {
#pragma GCC unroll 16
      for (int i = 0; i < w; ++i) put<streamed>(to + i * lanes, square[i]);
      return;
    }
    for (int i = 0; i < count; ++i) put<streamed>(to + i * lanes, square[i]);
  }

  void write_some(const Pack<T>* rows, T* to, int m, int first, int last) {
    for (int i = 0; i < count_[m]; ++i) {
      for (int row = first; row < last; ++row) {
        put<streamed>(to + i * lanes_ + row, T(rows[row][i]));
      }
    }
  }

  std::ptrdiff_t lanes_;  // in elements, between the trajectories of two lanes
  int count_[M];          // lanes that exist
  int begin_[M];          // row of the first value in the first tile
  int place_[M];          // row of a tile's first value: its position in the line
  T* line_[M];            // address of row 0 of lane 0
  int turn_ = 0;
  int filled_ = 0;
  int written_ = 0;
  bool waits_ = false;    // whether the other tile is full and not yet written
  bool is_first_ = true;  // no tile has been full yet
  Pack<T> rows_[2][M][3 * tile + line<T>];
};

}  // namespace L63FAST_LEVEL
}  // namespace l63fast
