// Ensemble integration, compiled once per instruction set. Each lane of a pack holds
// one member; M packs stay in registers through all steps between two saved states.
#include <algorithm>

#include "levels.hpp"

#include "l63fast/cancel.hpp"
#include "l63fast/finite.hpp"
#include "l63fast/lorenz63.hpp"
#include "l63fast/trajectory_writer.hpp"
#include "l63fast/writers.hpp"

namespace l63fast {
inline namespace L63FAST_LEVEL {
namespace {

// Packs that are stepped together where trajectories are written by lines: a divisor of
// line<T>.
constexpr int packs_by_lines = 4;

template <class T>
L63FAST_INLINE Components<T> load(const T* initial, const Members& members, int pack) {
  const int count = members.count(pack, width<T>);
  const std::int64_t first = count == 0 ? members.end - 1 : members.at(pack, 0);
  return load_states(initial + 3 * first, 3 * members.lanes, count == 0 ? 1 : count);
}

// Replaces non-finite values of a member by the canonical NaN; returns whether it has
// any.
template <class T>
bool canonicalise_saved(T* out, const Strides& s, std::int64_t n_saved) {
  bool finite = true;
  for (std::int64_t k = 0; k < n_saved; ++k) {
    for (int c = 0; c < 3; ++c)
      finite &= canonicalise(out[k * s.time + c * s.component]);
  }
  return !finite;
}

// The constants of a group of M packs: the same for all, or `own` in each lane.
template <class T, int M, bool own>
struct GroupConstants {
  L63FAST_INLINE GroupConstants(const Integration<T>&, const StepConstants<T>& all,
                                const Members&)
      : k(all) {}
  L63FAST_INLINE const StepConstants<T>& of(int) const { return k; }
  StepConstants<T> k;
};

template <class T, int M>
struct GroupConstants<T, M, true> {
  GroupConstants(const Integration<T>& job, const StepConstants<T>&,
                 const Members& members) {
    for (int m = 0; m < M; ++m) {
      const int count = members.count(m, width<T>);
      const std::int64_t first = count == 0 ? members.end - 1 : members.at(m, 0);
      k[m] = lane_constants<T>(job.dt, job.own_parameters + 3 * first, members.lanes,
                               count == 0 ? 1 : count);
    }
  }
  L63FAST_INLINE const LaneConstants<T>& of(int m) const { return k[m]; }
  LaneConstants<T> k[M];
};

// The work of one call, by groups of M packs of members. The writer is chosen by the
// layout of `out` and does not change a result.
template <class T, bool own>
class Range {
 public:
  Range(const Integration<T>& job, const int* cancel)
      : job_(job), k_(job.dt, job.parameters), cancel_(cancel) {}

  std::int64_t run(std::int64_t begin, std::int64_t end) {
    const Strides& s = job_.strides;
    if constexpr (own) {
      contiguous<AnyWriter>(begin, end);
    } else if (s.component == 1 && s.time == 3 && job_.n_saved >= line<T>) {
      by_trajectories(begin, end);
    } else if (s.component == 1 && s.member == 3 && job_.n_saved > 1 && job_.streamed) {
      by_rows(begin, end);
    } else {
      contiguous<AnyWriter>(begin, end);
    }
    if (job_.streamed) stream_fence();
    return diverged_;
  }

 private:
  static constexpr int w = width<T>;
  static constexpr std::int64_t group_size = step_packs * w;

  void by_trajectories(std::int64_t begin, std::int64_t end) {
    constexpr std::int64_t block = line<T> * w;
    for (; end - begin > 2 * w; begin += block) {
      for (int pack = 0; pack < line<T> && begin + pack < end; pack += packs_by_lines) {
        const Members members{begin + pack, 1, line<T>, std::min(end, begin + block)};
        if (job_.streamed) {
          group<TrajectoryWriter<T, packs_by_lines, true>, packs_by_lines>(members);
        } else {
          group<TrajectoryWriter<T, packs_by_lines, false>, packs_by_lines>(members);
        }
      }
    }
    contiguous<AnyWriter>(begin, end);
  }

  void by_rows(std::int64_t begin, std::int64_t end) {
    if (job_.strides.time % line<T> == 0) {
      std::int64_t first = begin;
      while (first < end && place_in_line(job_.out + 3 * first) != 0) ++first;
      contiguous<RowWriter>(begin, first);
      for (begin = first; end - begin >= group_size; begin += group_size) {
        group<LineRowWriter<T, step_packs>, step_packs>({begin, w, 1, end});
      }
    }
    contiguous<RowWriter>(begin, end);
  }

  template <template <class, int> class Writer>
  void contiguous(std::int64_t begin, std::int64_t end) {
    for (; end - begin > w; begin += group_size) {
      group<Writer<T, step_packs>, step_packs>({begin, w, 1, end});
    }
    if (begin < end) group<Writer<T, 1>, 1>({begin, w, 1, end});
  }

  template <class Writer, int M>
  void group(const Members& members) {
    Components<T> states[M];
#pragma GCC unroll 8
    for (int m = 0; m < M; ++m) states[m] = load(job_.initial, members, m);
    Writer writer(job_, members);
    if (!integrate<Writer, M>(states, writer, members)) return;
    bool fine[M];
#pragma GCC unroll 8
    for (int m = 0; m < M; ++m) fine[m] = all_finite<1>(&states[m]);
    for (int m = 0; m < M; ++m) {
      if (fine[m]) continue;
      for (int i = 0; i < members.count(m, w); ++i) {
        T* out = job_.out + members.at(m, i) * job_.strides.member;
        diverged_ += canonicalise_saved(out, job_.strides, job_.n_saved);
      }
    }
  }

  // Returns false where it was cancelled. The last step before a saved state stands
  // outside the loop over steps: where every state is saved, there is one loop only,
  // and the states stay in registers.
  template <class Writer, int M>
  L63FAST_INLINE bool integrate(Components<T>* states, Writer& writer,
                                const Members& members) {
    // A local copy: no store can change it.
    const GroupConstants<T, M, own> k(job_, k_, members);
    for (std::int64_t saved = 0; saved < job_.n_saved; ++saved) {
      for (std::int64_t done = 1; done < job_.save_every; done += steps_per_check) {
        const std::int64_t left = job_.save_every - done;
        const std::int64_t steps = left < steps_per_check ? left : steps_per_check;
        for (std::int64_t step = 0; step < steps; ++step) step_all<M>(states, k);
        if (is_set(cancel_)) return false;
      }
      step_all<M>(states, k);
      writer.add(states);
      if (saved % steps_per_check == 0 && is_set(cancel_)) return false;
    }
    writer.finish();
    return true;
  }

  template <int M>
  L63FAST_INLINE static void step_all(Components<T>* states,
                                      const GroupConstants<T, M, own>& k) {
#pragma GCC unroll 8
    for (int m = 0; m < M; ++m) states[m] = rk4_step(states[m], k.of(m));
  }

  const Integration<T>& job_;
  const StepConstants<T> k_;
  const int* cancel_;
  std::int64_t diverged_ = 0;
};

}  // namespace

std::int64_t integrate_f64(const Integration<double>& job, std::int64_t begin,
                           std::int64_t end, const int* cancel) {
  return job.own_parameters == nullptr
             ? Range<double, false>(job, cancel).run(begin, end)
             : Range<double, true>(job, cancel).run(begin, end);
}

std::int64_t integrate_f32(const Integration<float>& job, std::int64_t begin,
                           std::int64_t end, const int* cancel) {
  return job.own_parameters == nullptr
             ? Range<float, false>(job, cancel).run(begin, end)
             : Range<float, true>(job, cancel).run(begin, end);
}

}  // namespace L63FAST_LEVEL
}  // namespace l63fast
