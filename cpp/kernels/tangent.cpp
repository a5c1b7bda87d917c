// Tangent-linear and adjoint of many RK4 steps, compiled once per instruction set.
//
// The tangent-linear model steps the trajectory and the perturbations together. The
// adjoint needs the trajectory in reverse order, so it integrates forwards first and
// keeps states (checkpoints), from which it integrates again where they are too few.
#include "l63fast/tangent.hpp"

#include "levels.hpp"

#include "l63fast/cancel.hpp"
#include "l63fast/finite.hpp"
#include "l63fast/interleave.hpp"

namespace l63fast {
inline namespace L63FAST_LEVEL {
namespace {

// States of the trajectory that the adjoint keeps per level of checkpoints.
constexpr std::int64_t segment = 512;

// Packs of members that are stepped together: their chains of dependent operations
// overlap.
constexpr int tangent_packs = 3;
constexpr int adjoint_packs = 4;

// M packs of members with K vectors each, from member `begin` and vector `first_vector`
// on, and their positions in the arrays of a job.
template <class T, int M, int K>
struct Group {
  const Linearised<T>& job;
  std::int64_t begin, count, first_vector;

  L63FAST_INLINE std::int64_t member(int m) const { return begin + m * width<T>; }
  L63FAST_INLINE std::int64_t left(int m) const { return count - m * width<T>; }
  L63FAST_INLINE std::int64_t at(int m, int k) const {
    return 3 * (job.n_vectors * member(m) + first_vector + k);
  }

  L63FAST_INLINE void load(Components<T>* states, Components<T> (*vectors)[K]) const {
    for (int m = 0; m < M; ++m) {
      states[m] = load_states(job.state + 3 * member(m), 3, left(m));
      for (int k = 0; k < K; ++k) {
        vectors[m][k] = load_states(job.vectors + at(m, k), 3 * job.n_vectors, left(m));
      }
    }
  }

  // Writes the vectors; returns whether all are finite.
  L63FAST_INLINE bool store(const Components<T> (*vectors)[K]) const {
    for (int m = 0; m < M; ++m) {
      for (int k = 0; k < K; ++k) {
        store_states(job.out_vectors + at(m, k), 3 * job.n_vectors, left(m),
                     vectors[m][k]);
      }
    }
    return all_finite<M * K>(&vectors[0][0]);
  }
};

// Returns whether all results are finite.
template <class T, int M, int K>
bool tangent_group(const Group<T, M, K>& group, const StepConstants<T>& k,
                   const int* cancel) {
  Components<T> states[M], vectors[M][K];
  group.load(states, vectors);
  const std::int64_t n_steps = group.job.n_steps;
  for (std::int64_t done = 0; done < n_steps; done += steps_per_check) {
    const std::int64_t left = n_steps - done;
    const std::int64_t steps = left < steps_per_check ? left : steps_per_check;
    for (std::int64_t step = 0; step < steps; ++step) {
#pragma GCC unroll 8
      for (int m = 0; m < M; ++m) {
        const Stages<T> at = stages_of(states[m], k);
#pragma GCC unroll 4
        for (int i = 0; i < K; ++i) vectors[m][i] = tangent_step(at, vectors[m][i], k);
        states[m] = combined(states[m], at.k1, at.k2, at.k3, at.k4, k);
      }
    }
    if (is_set(cancel)) return true;
  }
  for (int m = 0; m < M; ++m) {
    store_states(group.job.out_state + 3 * group.member(m), 3, group.left(m),
                 states[m]);
  }
  return group.store(vectors) & all_finite<M>(states);
}

// Carries the vectors, gradients at the end of n_steps steps from `states`, back to the
// start. Of a trajectory longer than a segment at most `segment` checkpoints are kept,
// and the steps between two of them are done by a recursive call. Each level of
// checkpoints integrates the trajectory once more and needs `segment` states of scratch
// memory. Overwrites `states`.
template <class T, int M, int K>
void adjoint_steps(Components<T>* states, Components<T> (*vectors)[K],
                   std::int64_t n_steps, const StepConstants<T>& k,
                   Components<T>* scratch, const int* cancel) {
  std::int64_t stride = 1;
  while (stride <= (n_steps - 1) / segment) stride *= segment;
  const std::int64_t n_kept = (n_steps - 1) / stride + 1;
  for (std::int64_t i = 0; i < n_kept; ++i) {
    for (int m = 0; m < M; ++m) scratch[M * i + m] = states[m];
    if (i + 1 == n_kept) break;
    if (stride > 1 && is_set(cancel)) return;
    for (std::int64_t step = 0; step < stride; ++step) {
#pragma GCC unroll 8
      for (int m = 0; m < M; ++m) states[m] = rk4_step(states[m], k);
    }
  }
  for (std::int64_t i = n_kept - 1; i >= 0; --i) {
    if (stride == 1) {
#pragma GCC unroll 8
      for (int m = 0; m < M; ++m) {
        const Stages<T> at = stages_of(scratch[M * i + m], k);
#pragma GCC unroll 4
        for (int j = 0; j < K; ++j) vectors[m][j] = adjoint_step(at, vectors[m][j], k);
      }
      continue;
    }
    if (is_set(cancel)) return;
    for (int m = 0; m < M; ++m) states[m] = scratch[M * i + m];
    const std::int64_t left = n_steps - i * stride;
    adjoint_steps<T, M, K>(states, vectors, left < stride ? left : stride, k,
                           scratch + M * segment, cancel);
  }
}

template <class T, int M, int K>
bool adjoint_group(const Group<T, M, K>& group, const StepConstants<T>& k,
                   Components<T>* scratch, const int* cancel) {
  Components<T> states[M], vectors[M][K];
  group.load(states, vectors);
  adjoint_steps<T, M, K>(states, vectors, group.job.n_steps, k, scratch, cancel);
  return group.store(vectors);
}

// Replaces non-finite results by the canonical NaN; returns how many members have one.
template <class T>
std::int64_t canonicalise_results(const Linearised<T>& job, std::int64_t begin,
                                  std::int64_t count) {
  std::int64_t diverged = 0;
  for (std::int64_t i = begin; i < begin + count; ++i) {
    bool finite = true;
    for (int c = 0; job.out_state != nullptr && c < 3; ++c) {
      finite &= canonicalise(job.out_state[3 * i + c]);
    }
    const std::int64_t size = 3 * job.n_vectors;
    for (std::int64_t c = 0; c < size; ++c) {
      finite &= canonicalise(job.out_vectors[size * i + c]);
    }
    diverged += !finite;
  }
  return diverged;
}

// Calls run(group) for all vectors of at most M packs of members; returns whether all
// results are finite.
template <class T, int M, class Run>
L63FAST_INLINE bool all_vectors(const Linearised<T>& job, std::int64_t begin,
                                std::int64_t count, Run run) {
  bool finite = true;
  std::int64_t first = 0;
  for (; job.n_vectors - first >= 3; first += 3) {
    finite &= run(Group<T, M, 3>{job, begin, count, first});
  }
  if (job.n_vectors - first == 2) {
    finite &= run(Group<T, M, 2>{job, begin, count, first});
  } else if (job.n_vectors - first == 1) {
    finite &= run(Group<T, M, 1>{job, begin, count, first});
  }
  return finite;
}

// Does the same for members [begin, end); returns how many became non-finite.
template <int M, class T, class Run>
L63FAST_INLINE std::int64_t all_members(const Linearised<T>& job, std::int64_t begin,
                                        std::int64_t end, const int* cancel, Run run) {
  constexpr std::int64_t group = M * width<T>;
  std::int64_t diverged = 0, count = 0;
  for (std::int64_t i = begin; i < end && !is_set(cancel); i += count) {
    const std::int64_t left = end - i;
    bool finite = true;
    if (left >= group) {
      count = group;
      finite = all_vectors<T, M>(job, i, count, run);
    } else {
      count = left < width<T> ? left : width<T>;
      finite = all_vectors<T, 1>(job, i, count, run);
    }
    if (!finite) diverged += canonicalise_results(job, i, count);
  }
  return diverged;
}

template <class T>
std::int64_t tangent_range(const Linearised<T>& job, std::int64_t begin,
                           std::int64_t end, const int* cancel) {
  const StepConstants<T> k(job.dt, job.parameters);
  return all_members<tangent_packs>(job, begin, end, cancel, [&](const auto& group) {
    return tangent_group(group, k, cancel);
  });
}

template <class T>
std::int64_t adjoint_range(const Linearised<T>& job, std::int64_t begin,
                           std::int64_t end, void* scratch, const int* cancel) {
  const StepConstants<T> k(job.dt, job.parameters);
  Components<T>* kept = static_cast<Components<T>*>(scratch);
  return all_members<adjoint_packs>(job, begin, end, cancel, [&](const auto& group) {
    return adjoint_group(group, k, kept, cancel);
  });
}

}  // namespace

std::int64_t tangent_f64(const Linearised<double>& job, std::int64_t begin,
                         std::int64_t end, const int* cancel) {
  return tangent_range(job, begin, end, cancel);
}

std::int64_t tangent_f32(const Linearised<float>& job, std::int64_t begin,
                         std::int64_t end, const int* cancel) {
  return tangent_range(job, begin, end, cancel);
}

std::int64_t adjoint_f64(const Linearised<double>& job, std::int64_t begin,
                         std::int64_t end, void* scratch, const int* cancel) {
  return adjoint_range(job, begin, end, scratch, cancel);
}

std::int64_t adjoint_f32(const Linearised<float>& job, std::int64_t begin,
                         std::int64_t end, void* scratch, const int* cancel) {
  return adjoint_range(job, begin, end, scratch, cancel);
}

std::int64_t adjoint_scratch(std::int64_t n_steps) {
  std::int64_t kept = n_steps < segment ? n_steps : segment;
  for (std::int64_t left = n_steps; left > segment; left = (left - 1) / segment + 1) {
    kept += segment;
  }
  return kept * adjoint_packs * 3 * register_bytes;
}

}  // namespace L63FAST_LEVEL
}  // namespace l63fast
