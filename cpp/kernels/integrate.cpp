// Ensemble integration, compiled once per instruction set: M packs of members stay in
// registers across all steps between two saved states.
#include "levels.hpp"

#include "l63fast/finite.hpp"
#include "l63fast/interleave.hpp"
#include "l63fast/lorenz63.hpp"

namespace l63fast {
inline namespace L63FAST_LEVEL {
namespace {

constexpr int tile_steps = 16;                // saved states written together
constexpr int lines_open = 16;                // trajectories written at once
constexpr std::int64_t steps_per_look = 256;  // steps between two looks at `cancel`

// Packs in flight per component: enough to hide the latency of fma, few enough that
// the states stay in the registers (32 of them with AVX-512, 16 before).
constexpr int packs_in_flight = register_bytes == 64 ? 5 : 4;

// Writes the first `count` of W states to wherever the strides say.
template <class T>
L63FAST_INLINE void store(T* out, const Strides& s, std::int64_t count,
                          const Components<T>& states) {
  if (s.member == 3 && s.component == 1 && count >= width<T>) {
    store_states(out, states);
    return;
  }
  // Lane by lane from the registers: a detour through memory costs more than it saves.
#pragma GCC unroll 16
  for (int i = 0; i < width<T>; ++i) {
    if (i >= count) return;
    T* state = out + i * s.member;
    state[0] = states.x[i];
    state[s.component] = states.y[i];
    state[2 * s.component] = states.z[i];
  }
}

// Non-finite values become the one canonical NaN; returns how many members have one.
template <class T>
std::int64_t canonicalise_saved(T* out, const Strides& s, std::int64_t n_saved,
                                std::int64_t count) {
  std::int64_t diverged = 0;
  for (std::int64_t i = 0; i < count; ++i) {
    bool finite = true;
    for (std::int64_t k = 0; k < n_saved; ++k) {
      for (int c = 0; c < 3; ++c) {
        finite &= canonicalise(out[i * s.member + k * s.time + c * s.component]);
      }
    }
    diverged += !finite;
  }
  return diverged;
}

// Saved states of M packs of members on their way to trajectories that are contiguous
// in time: they leave `tile_steps` at a time, since writing state by state would keep a
// cache line of every member's trajectory open at once.
template <class T, int M>
struct Tile {
  T rows[tile_steps][3 * M * width<T>];
  int filled = 0;

  L63FAST_INLINE void add(const Components<T>* states) {
    for (int m = 0; m < M; ++m)
      store_states(&rows[filled][3 * m * width<T>], states[m]);
    ++filled;
  }

  // Writes the states that are held, those just before `end`.
  L63FAST_INLINE void empty_into(T* end, std::int64_t stride) {
    for (std::int64_t i = 0; i < M * width<T>; ++i) {
      T* to = end + i * stride - 3 * filled;
      for (int k = 0; k < filled; ++k) {
        for (int c = 0; c < 3; ++c) to[3 * k + c] = rows[k][3 * i + c];
      }
    }
    filled = 0;
  }
};

// Integrates `count` members, at most M packs of them, and returns how many diverged.
// With a tile, the packs are full and trajectories contiguous in time.
template <class T, int M, bool tiled>
std::int64_t integrate_group(const Integration<T>& job, const StepConstants<T>& k,
                             std::int64_t begin, std::int64_t count,
                             const int* cancel) {
  Components<T> states[M];
  for (int m = 0; m < M; ++m) {
    const std::int64_t first = m * width<T>;
    states[m] = load_states(job.initial + 3 * (begin + first), 3, count - first);
  }
  T* out = job.out + begin * job.strides.member;
  [[maybe_unused]] Tile<T, tiled ? M : 1> tile;
  for (std::int64_t saved = 0; saved < job.n_saved; ++saved) {
    for (std::int64_t done = 0; done < job.save_every; done += steps_per_look) {
      const std::int64_t left = job.save_every - done;
      const std::int64_t steps = left < steps_per_look ? left : steps_per_look;
      for (std::int64_t step = 0; step < steps; ++step) {
#pragma GCC unroll 8
        for (int m = 0; m < M; ++m) {
          states[m] = rk4_step(states[m], k);
        }
      }
      if (__atomic_load_n(cancel, __ATOMIC_RELAXED)) return 0;
    }
    if constexpr (tiled) {
      tile.add(states);
      if (tile.filled == tile_steps || saved + 1 == job.n_saved) {
        tile.empty_into(out + 3 * (saved + 1), job.strides.member);
      }
    } else {
      for (int m = 0; m < M; ++m) {
        const std::int64_t first = m * width<T>;
        store(out + saved * job.strides.time + first * job.strides.member, job.strides,
              count - first, states[m]);
      }
    }
  }
  if (all_finite<M>(states)) return 0;
  return canonicalise_saved(out, job.strides, job.n_saved, count);
}

template <class T>
std::int64_t integrate_range(const Integration<T>& job, std::int64_t begin,
                             std::int64_t end, const int* cancel) {
  constexpr std::int64_t group = packs_in_flight * width<T>;
  const StepConstants<T> k(job.dt, job.parameters);
  std::int64_t diverged = 0;
  std::int64_t i = begin;
  const bool tiled = group > lines_open && job.strides.component == 1 &&
                     job.strides.time == 3 && job.n_saved >= tile_steps;
  for (; i + group <= end; i += group) {
    diverged +=
        tiled ? integrate_group<T, packs_in_flight, true>(job, k, i, group, cancel)
              : integrate_group<T, packs_in_flight, false>(job, k, i, group, cancel);
  }
  for (; i < end; i += width<T>) {
    const std::int64_t count = end - i < width<T> ? end - i : width<T>;
    diverged += integrate_group<T, 1, false>(job, k, i, count, cancel);
  }
  return diverged;
}

}  // namespace

std::int64_t integrate_f64(const Integration<double>& job, std::int64_t begin,
                           std::int64_t end, const int* cancel) {
  return integrate_range(job, begin, end, cancel);
}

std::int64_t integrate_f32(const Integration<float>& job, std::int64_t begin,
                           std::int64_t end, const int* cancel) {
  return integrate_range(job, begin, end, cancel);
}

}  // namespace L63FAST_LEVEL
}  // namespace l63fast
