// Batched 3D-Var, compiled once per instruction set: a sample in each lane.
#include "l63fast/three_d_var.hpp"
#include "levels.hpp"

namespace l63fast {
inline namespace L63FAST_LEVEL {
namespace {

constexpr std::int64_t packs_per_look = 64;  // packs between two looks at `cancel`

// What one pack of samples needs: the problem and the columns of B that x_b follows.
template <class T, int M>
struct Batch {
  Problem<T, M> problem;
  Pack<T> background[3];
  Pack<T> columns[3][M];
  Matrix<T, M> innovation_covariance;  // G + R, used where h is linear
};

template <class T, int M>
L63FAST_INLINE void load(const Analysis<T>& job, std::int64_t begin, std::int64_t count,
                         Batch<T, M>& batch) {
  Matrix<T, M> r;
  Problem<T, M>& s = batch.problem;
  for (int lane = 0; lane < width<T>; ++lane) {
    const std::int64_t i = begin + (lane < count ? lane : count - 1);
    const T* b_matrix = job.b_matrix + (job.each_b ? 9 * i : 0);
    const T* r_matrix = job.r_matrix + (job.each_r ? M * M * i : 0);
    for (int c = 0; c < 3; ++c) {
      batch.background[c][lane] = job.background[3 * i + c];
      for (int j = 0; j < M; ++j) {
        batch.columns[c][j][lane] = b_matrix[3 * c + job.components[j]];
      }
    }
    for (int j = 0; j < M; ++j) {
      s.y.at[j][lane] = job.observation[M * i + j];
      for (int k = 0; k < M; ++k) r.at[j][k][lane] = r_matrix[M * j + k];
    }
  }
  for (int j = 0; j < M; ++j) {
    s.powers[j] = job.powers[j];
    s.u_background.at[j] = batch.background[job.components[j]];
    for (int k = 0; k < M; ++k) {
      s.g.at[j][k] = batch.columns[job.components[j]][k];
      batch.innovation_covariance.at[j][k] = s.g.at[j][k] + r.at[j][k];
    }
    s.spread.at[j] = square_root(s.g.at[j][j]);
  }
  s.r_inverse = inverse(r);
}

template <class T, int M>
L63FAST_INLINE bool is_linear(const Problem<T, M>& s) {
  bool linear = true;
  for (int i = 0; i < M; ++i) linear = linear && s.powers[i] == 1;
  return linear;
}

// Finds w for each lane and how its iteration ended.
template <class T, int M>
L63FAST_INLINE Ending<T> minimise(const Analysis<T>& job, const Batch<T, M>& batch,
                                  Vector<T, M>& w) {
  const Problem<T, M>& s = batch.problem;
  Point<T, M> at_background;
  for (int i = 0; i < M; ++i) {
    w.at[i] = at_background.w.at[i] = at_background.v.at[i] = Pack<T>{};
    at_background.u.at[i] = s.u_background.at[i];
  }
  look(s, at_background);
  at_background.cost = cost_of(at_background);
  Ending<T> ending{lane_status<T>(Status::max_iter), Mask<T>{}};
  if (job.max_iter <= 0) return ending;
  if (is_linear(s)) {
    solve(batch.innovation_covariance, at_background.r, w);
    return {lane_status<T>(Status::converged), lanes<T>(1)};
  }
  Point<T, M> best{};
  for (int basin = 0; basin < job.n_starts; ++basin) {
    Point<T, M> p;
    const T tol = static_cast<T>(job.tol);
    const Ending<T> ended = iterate(s, basin, job.max_iter, tol * tol, p);
    const Mask<T> better = basin == 0 ? lanes<T>(-1) : (p.cost < best.cost);
    choose(better, p, best);
    ending.status = better ? ended.status : ending.status;
    ending.n_iter = better ? ended.n_iter : ending.n_iter;
  }
  w = best.w;
  const Mask<T> worse = (ending.status == lane_status<T>(Status::max_iter)) &
                        ~(best.cost <= at_background.cost);
  ending.status = worse ? lane_status<T>(Status::diverged) : ending.status;
  return ending;
}

template <class T, int M>
L63FAST_INLINE void store(const Analysis<T>& job, std::int64_t begin,
                          std::int64_t count, const Pack<T>* state,
                          const Point<T, M>& p, const Ending<T>& ending) {
  for (int lane = 0; lane < count; ++lane) {
    const std::int64_t i = begin + lane;
    for (int c = 0; c < 3; ++c) job.state[3 * i + c] = state[c][lane];
    for (int j = 0; j < M; ++j) job.residual[M * i + j] = p.r.at[j][lane];
    job.cost[i] = p.cost[lane];
    job.status[i] = static_cast<std::int8_t>(ending.status[lane]);
    job.n_iter[i] = static_cast<std::int32_t>(ending.n_iter[lane]);
  }
}

template <class T, int M>
void analyse_pack(const Analysis<T>& job, std::int64_t begin, std::int64_t count) {
  Batch<T, M> batch;
  load(job, begin, count, batch);
  Point<T, M> p;
  Ending<T> ending = minimise(job, batch, p.w);
  Pack<T> state[3];
  Mask<T> usable = ending.status != lane_status<T>(Status::non_finite);
  for (int c = 0; c < 3; ++c) {
    Pack<T> t = batch.columns[c][0] * p.w.at[0];
    for (int j = 1; j < M; ++j) t = fma(batch.columns[c][j], p.w.at[j], t);
    state[c] = batch.background[c] + t;
    usable = usable & finite<T>(state[c]);
  }
  for (int j = 0; j < M; ++j) p.u.at[j] = state[job.components[j]];
  look(batch.problem, p);
  p.v = times(batch.problem.g, p.w);
  p.cost = cost_of(p);
  usable = usable & finite<T>(p.cost);
  const Pack<T> nan = broadcast(static_cast<T>(__builtin_nan("")));
  for (int c = 0; c < 3; ++c) state[c] = usable ? state[c] : nan;
  for (int j = 0; j < M; ++j) p.r.at[j] = usable ? p.r.at[j] : nan;
  p.cost = usable ? p.cost : nan;
  ending.status = usable ? ending.status : lane_status<T>(Status::non_finite);
  store(job, begin, count, state, p, ending);
}

template <class T, int M>
void analyse_range(const Analysis<T>& job, std::int64_t begin, std::int64_t end,
                   const int* cancel) {
  std::int64_t packs = 0;
  for (std::int64_t i = begin; i < end; i += width<T>) {
    const std::int64_t count = end - i < width<T> ? end - i : width<T>;
    analyse_pack<T, M>(job, i, count);
    if (++packs % packs_per_look == 0 && __atomic_load_n(cancel, __ATOMIC_RELAXED)) {
      return;
    }
  }
}

template <class T>
void analyse_any(const Analysis<T>& job, std::int64_t begin, std::int64_t end,
                 const int* cancel) {
  if (job.obs_dim == 1) return analyse_range<T, 1>(job, begin, end, cancel);
  if (job.obs_dim == 2) return analyse_range<T, 2>(job, begin, end, cancel);
  return analyse_range<T, 3>(job, begin, end, cancel);
}

}  // namespace

void analyse_f64(const Analysis<double>& job, std::int64_t begin, std::int64_t end,
                 const int* cancel) {
  analyse_any(job, begin, end, cancel);
}

void analyse_f32(const Analysis<float>& job, std::int64_t begin, std::int64_t end,
                 const int* cancel) {
  analyse_any(job, begin, end, cancel);
}

}  // namespace L63FAST_LEVEL
}  // namespace l63fast
