// h = x^2 with independent observation errors, over a batch: the fast Newton iteration,
// and then the safeguarded iteration for the samples that it could not certify.
#pragma once

#include "analyse_safeguarded.hpp"
#include "l63fast/squares.hpp"

namespace l63fast {
inline namespace L63FAST_LEVEL {

// Packs of samples that are iterated together: a single pack would wait for its
// divisions, the more so the fewer operations lie between them. With AVX-512 there are
// mask registers for six.
template <class T, int M>
constexpr int packs_in_flight = M > 1             ? 4
                                : has_quotient<T> ? 6
                                                  : 8;

// Returns the lanes whose R is diagonal.
template <class T, int M>
L63FAST_INLINE Mask<T> independent(const Matrix<T, M>& r) {
  Mask<T> yes = Mask<T>::all();
  for (int i = 0; i < M; ++i) {
    for (int j = 0; j < M; ++j) {
      if (i != j) yes = yes & equal(r.at[i][j], Pack<T>{});
    }
  }
  return yes;
}

// The covariances of one pack, or of all samples, and the constants made of them.
template <class T, int M>
struct SquareCovariances {
  Covariances<T, M> covariances;
  SquareConstants<T, M> constants;
  Mask<T> usable;

  L63FAST_INLINE void load(const Analysis<T>& job, const Lanes& lanes) {
    covariances = load_covariances<T, M>(job, lanes);
    Vector<T, M> variances;
    for (int j = 0; j < M; ++j) variances.at[j] = covariances.r.at[j][j];
    constants = square_constants(covariances.g, variances, reachable<T>(job.tol));
    usable = independent(covariances.r);
  }
};

// Iterates a group of K packs by step(k), at most max_iter - 1 times. Returns false
// where it was cancelled.
template <int K, class T, int M, class Step>
L63FAST_INLINE bool iterate(int max_iter, const FastNewton<T, M>* iterations,
                            const int* cancel, Step step) {
  for (int n = 1; n < max_iter; ++n) {
    Mask<T> active = ~Mask<T>::all();
#pragma GCC unroll 8
    for (int k = 0; k < K; ++k) {
      step(k);
      active = active | iterations[k].active;
    }
    if (!any(active)) break;
    if (n % iterations_per_check == 0 && is_set(cancel)) return false;
  }
  return true;
}

// Iterates a group of one square, some packs by the divider and the others meanwhile
// without it. Returns false, and starts the iterations again, where a quotient may have
// been out of range.
template <int K, class T>
L63FAST_INLINE bool iterate_quickly(int max_iter, const SquareConstants<T, 1>& s,
                                    FastNewton<T, 1>* iterations, const int* cancel) {
  Mask<T> fine = Mask<T>::all();
  Pack<T> least = broadcast(T(1));
#pragma GCC unroll 8
  for (int k = 0; k < K; ++k) fine = fine & may_be_quick(s, iterations[k]);
  iterate<K>(max_iter, iterations, cancel, [&](int k) __attribute__((always_inline)) {
    if (k % 3 == 0) {  // then the divider and the other units take as long
      quick_step<true>(s, iterations[k], least);
    } else {
      quick_step<false>(s, iterations[k], least);
    }
  });
  if (!any(~(fine & at_most(broadcast(T(least_pivot)), least)))) return true;
#pragma GCC unroll 8
  for (int k = 0; k < K; ++k) start_newton(s, iterations[k]);
  return false;
}

// Analyses a group of K packs; appends to `left` the samples that must be analysed by
// the safeguarded iteration, and returns how many these are.
template <class T, int M, bool each, int K>
L63FAST_INLINE std::int64_t square_group(const Analysis<T>& job, std::int64_t begin,
                                         std::int64_t end,
                                         SquareCovariances<T, M>* known,
                                         std::int64_t* left, const int* cancel) {
  FastNewton<T, M> iterations[K];
  bool quick = false;
#pragma GCC unroll 8
  for (int k = 0; k < K; ++k) {
    const Lanes lanes = lanes_of<T>(begin, end, nullptr, k);
    if (each) known[k].load(job, lanes);
    iterations[k].u_background =
        observed<T, M>(job, load_rows<T, 3>(job.background, lanes));
    iterations[k].y = load_rows<T, M>(job.observation, lanes);
    start_newton(known[each ? k : 0].constants, iterations[k]);
  }
  if constexpr (M == 1 && has_quotient<T> && !each) {
    quick = iterate_quickly<K>(job.max_iter, known[0].constants, iterations, cancel);
  }
  if (!quick && !iterate<K>(job.max_iter, iterations, cancel,
                            [&](int k) __attribute__((always_inline)) {
                              newton_step(known[each ? k : 0].constants, iterations[k]);
                            })) {
    return 0;
  }
  std::int64_t n_left = 0;
#pragma GCC unroll 8
  for (int k = 0; k < K; ++k) {
    const SquareCovariances<T, M>& s = known[each ? k : 0];
    const Lanes lanes = lanes_of<T>(begin, end, nullptr, k);
    Point<T, M> p;
    Mask<T> converged;
    Mask<T> done =
        s.usable & certify(s.constants, iterations[k], job.n_starts > 1, p, converged);
    const Vector<T, 3> state = state_of<T, M>(load_rows<T, 3>(job.background, lanes),
                                              s.covariances.columns, p.w);
    done = done & finite_state(state);
    const Pack<T> status =
        select(converged, number<T>(Status::converged), number<T>(Status::max_iter));
    const Pack<T> n_iter = select(iterations[k].active, broadcast(T(job.max_iter)),
                                  iterations[k].n_steps + broadcast(T(1)));
    write(job, lanes, state, p, status, n_iter);
    if (!any(~done)) continue;
    const Pack<T> open = select(done, Pack<T>{}, broadcast(T(1)));
    for (int lane = 0; lane < lanes.count; ++lane) {
      if (open[lane] != T(0)) left[n_left++] = lanes.first + lane;
    }
  }
  return n_left;
}

template <class T, int M, bool each>
void analyse_squares(const Analysis<T>& job, std::int64_t begin, std::int64_t end,
                     const int* cancel) {
  constexpr int packs = each ? 1 : packs_in_flight<T, M>;
  SquareCovariances<T, M> known[each ? packs : 1];
  if (!each) {
    known[0].load(job, lanes_of<T>(begin, end, nullptr, 0));
    if (!any(known[0].usable)) {
      return analyse_safeguarded<T, M, 2>(job, begin, end, nullptr, cancel);
    }
  }
  constexpr std::int64_t group = packs * width<T>, groups = block / group * group;
  for (std::int64_t first = begin; first < end; first += groups) {
    if (is_set(cancel)) return;
    const std::int64_t last = end - first < groups ? end : first + groups;
    std::int64_t left[block], n_left = 0;
    for (std::int64_t i = first; i < last; i += group) {
      n_left +=
          square_group<T, M, each, packs>(job, i, last, known, left + n_left, cancel);
    }
    if (n_left > 0) analyse_safeguarded<T, M, 2>(job, 0, n_left, left, cancel);
  }
}

}  // namespace L63FAST_LEVEL
}  // namespace l63fast
