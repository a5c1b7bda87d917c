// The bootstrap particle filter, compiled once per instruction set. One trajectory's
// particles stay in the caches of one core through all its cycles.
#include "levels.hpp"

#include "l63fast/cloud.hpp"
#include "l63fast/finite.hpp"
#include "l63fast/motion.hpp"
#include "l63fast/observation.hpp"
#include "l63fast/posterior.hpp"
#include "l63fast/weights.hpp"

namespace l63fast {
inline namespace L63FAST_LEVEL {
namespace {

// A rescue scatters with at most so many times the spread of the forecast, or with at
// most so many times the root that is given for it.
constexpr double widest_forecast = 3, widest_given = 10;

void forecast(const ParticleFilter& job, const StepConstants<double>& k, Cloud& cloud,
              const Draws& draws, const int* cancel) {
  constexpr std::int64_t w = width<double>, group = step_packs * w;
  std::int64_t i = 0;
  bool whole = true;
  for (; whole && i + group <= cloud.padded; i += group) {
    whole = step_group<step_packs>(cloud, i, job.n_steps, k, cancel);
  }
  for (; whole && i + 2 * w <= cloud.padded; i += 2 * w) {
    whole = step_group<2>(cloud, i, job.n_steps, k, cancel);
  }
  if (whole && i < cloud.padded) step_group<1>(cloud, i, job.n_steps, k, cancel);
  if (whole && job.noise_root != nullptr) add_noise(cloud, draws, job.noise_root);
  bury_the_dead(cloud);
}

// Where the results of one analysis go.
struct Results {
  double *background, *innovation, *observed_covariance, *mean, *spread;
  double* effective_size;
  std::int8_t* status;

  Results(const ParticleFilter& job, std::int64_t at)
      : background(job.background + 3 * at),
        innovation(job.innovation + job.obs_dim * at),
        observed_covariance(job.observed_covariance + job.obs_dim * job.obs_dim * at),
        mean(job.mean + 3 * at),
        spread(job.spread + 3 * at),
        effective_size(job.effective_size + at),
        status(job.status + at) {}
};

// Bayes' rule for D observed values: log_weight = log_prior + log likelihood, up to a
// constant. Writes what the weights before it say of the state and of h; returns the
// largest log likelihood.
template <int D>
double weigh(const ParticleFilter& job, Cloud& cloud, const double* y,
             const Results& out) {
  constexpr int n_pairs = D * (D + 1) / 2;
  const double* const states[3] = {cloud.x, cloud.y, cloud.z};
  const Pack<double> zero{}, none = broadcast(-__builtin_inf());
  Pack<double> best = none;
  double sums[4 + D + n_pairs];
  sum_particles(cloud.padded, sums, [&](std::int64_t i, auto& v) {
    const Pack<double> w = load_pack(cloud.prior + i);
    Pack<double> d[D];
    v[0] = w;
    for (int c = 0; c < 3; ++c) v[1 + c] = w * load_pack(states[c] + i);
    Pack<double> square{};
    for (int a = 0, pair = 4 + D; a < D; ++a) {
      const Pack<double> u = load_pack(states[job.components[a]] + i);
      d[a] = misfit<double>(u, broadcast(y[a]), job.powers[a]);
      v[4 + a] = w * d[a];
      Pack<double> scaled{};
      for (int b = 0; b <= a; ++b, ++pair) {
        v[pair] = w * d[a] * d[b];
        scaled = fma(broadcast(job.whitening[D * a + b]), d[b], scaled);
      }
      square = fma(scaled, scaled, square);
    }
    const Pack<double> likelihood = fma(broadcast(-0.5), square, zero);
    const Pack<double> log_w = load_pack(cloud.log_prior + i) + likelihood;
    const Mask<double> known = at_most(likelihood, zero) & less(none, log_w);
    store_pack(cloud.log_weight + i, select(known, log_w, none));
    best = select(less(best, likelihood) & known, likelihood, best);
  });
  for (int c = 0; c < 3; ++c) out.background[c] = sums[1 + c] / sums[0];
  for (int a = 0, pair = 4 + D; a < D; ++a) {
    out.innovation[a] = sums[4 + a] / sums[0];
    for (int b = 0; b <= a; ++b, ++pair) {
      const double product = out.innovation[a] * out.innovation[b];
      out.observed_covariance[D * a + b] = out.observed_covariance[D * b + a] =
          sums[pair] / sums[0] - product;
    }
  }
  return largest(best);
}

// The covariance that copies are scattered with: that of the particles, unbiased; or of
// those before the observation, where one particle has all the weight after it.
Root jitter_root(const Moments& after, const Moments& before, double bandwidth) {
  const double all_but_one = 1 - 1 / after.effective_size;
  if (all_but_one > 1e-10) {
    return lower_root(after.covariance, bandwidth / __builtin_sqrt(all_but_one));
  }
  return lower_root(before.covariance, bandwidth);
}

// The root that lost particles are scattered with: the forecast's, scaled so that its
// variance along the misfit of the heaviest particle is the square of that misfit. With
// d the misfit in units of R and g = H^T W^T d, that variance is |root^T g|^2 / |d|^2.
// Where it takes more than widest_forecast, the forecast excludes the truth or has
// collapsed, and the root that is given for it is scaled in the same way.
template <int D>
Root rescue_root(const ParticleFilter& job, const Cloud& cloud, const double* y,
                 const Moments& before, const Axis& axis) {
  std::int64_t heaviest = 0;  // the first whose normalised log weight is 0
  while (heaviest + 1 < cloud.n && cloud.log_weight[heaviest] != 0) ++heaviest;
  const double state[3] = {cloud.x[heaviest], cloud.y[heaviest], cloud.z[heaviest]};
  double d[D], g[3] = {}, square = 0;
  for (int a = 0; a < D; ++a) {
    const Pack<double> u = broadcast(state[job.components[a]]);
    d[a] = misfit<double>(u, broadcast(y[a]), job.powers[a])[0];
  }
  for (int a = 0; a < D; ++a) {
    double scaled = 0;
    for (int b = 0; b <= a; ++b) scaled = scaled + job.whitening[D * a + b] * d[b];
    square = square + scaled * scaled;
    for (int b = 0; b <= a; ++b) {
      const int c = job.components[b];
      const double slope_b = slope<double>(broadcast(state[c]), job.powers[b])[0];
      g[c] = g[c] + slope_b * job.whitening[D * a + b] * scaled;
    }
  }
  // The covariance is that of the mirror images of particles on the negative side.
  if (axis.x * state[0] + axis.y * state[1] < 0) g[0] = -g[0], g[1] = -g[1];
  const auto needed = [&](const Root& r) {
    const double v[3] = {r.xx * g[0] + r.yx * g[1] + r.zx * g[2],
                         r.yy * g[1] + r.zy * g[2], r.zz * g[2]};
    return square / __builtin_sqrt(v[0] * v[0] + v[1] * v[1] + v[2] * v[2]);
  };
  const Root forecast = lower_root(before.covariance, 1.0);
  const double factor = needed(forecast);
  if (factor <= widest_forecast) return forecast.scaled(factor);
  const double* const r = job.rescue_root;
  const Root given{r[0], r[3], r[4], r[6], r[7], r[8]};
  const double wider = needed(given);
  return given.scaled(wider < widest_given ? wider : widest_given);
}

// Particles drawn anew by weight, those drawn more than once scattered; all of them
// where they are rescued from having lost the truth.
template <int D>
void draw(const ParticleFilter& job, Cloud& cloud, const Draws& draws, const double* y,
          const Moments& after, bool rescued) {
  const bool scattered = rescued || job.bandwidth > 0;
  Root root{};
  if (scattered) {
    const Moments before = weighted_moments(cloud, cloud.prior, job.folded);
    root = rescued ? rescue_root<D>(job, cloud, y, before, after.axis)
                   : jitter_root(after, before, job.bandwidth);
  }
  Pack<double> offset[3];
  draws.uniforms_of(0, Use::offset, offset);
  resample(cloud, offset[0][0]);
  if (rescued) {
    for (std::int64_t i = 0; i < cloud.n; ++i) cloud.is_copy[i] = 1.0;
  }
  if (scattered) jitter_copies(cloud, draws, root, after.axis);
  cloud.take_drawn();
}

template <int D>
void analyse(const ParticleFilter& job, Cloud& cloud, const Draws& draws,
             const double* y, const Results& out) {
  if (!normalise(cloud, cloud.log_weight, cloud.log_prior, cloud.prior)) {
    *out.status = static_cast<std::int8_t>(Status::non_finite);
    return;
  }
  const double best = weigh<D>(job, cloud, y, out);
  const bool explained =
      normalise(cloud, cloud.log_weight, cloud.log_weight, cloud.weight);
  if (!explained) normalise(cloud, cloud.log_prior, cloud.log_weight, cloud.weight);
  const bool lost = explained && -2 * best > job.lost;
  const Status status = explained && !lost ? Status::converged : Status::diverged;
  *out.status = static_cast<std::int8_t>(status);
  const Moments after = weighted_moments(cloud, cloud.weight, job.folded);
  constexpr int diagonal[3] = {0, 3, 5};
  for (int c = 0; c < 3; ++c) {
    out.mean[c] = after.mean[c];
    out.spread[c] = __builtin_sqrt(after.covariance[diagonal[c]]);
  }
  *out.effective_size = after.effective_size;
  const bool rescued = lost && job.rescue_root != nullptr;
  const double fewest = job.threshold * static_cast<double>(cloud.n);
  if (rescued || after.effective_size <= fewest)
    draw<D>(job, cloud, draws, y, after, rescued);
}

// One analysis, in full or as NaN; what is not finite is the canonical NaN.
void analyse_cycle(const ParticleFilter& job, Cloud& cloud, const Draws& draws,
                   std::int64_t at) {
  const Results out(job, at);
  const int d = job.obs_dim;
  const double* y = job.observation + d * at;
  struct {
    double* values;
    int n;
  } const results[] = {
      {out.background, 3}, {out.innovation, d}, {out.observed_covariance, d * d},
      {out.mean, 3},       {out.spread, 3},     {out.effective_size, 1}};
  for (const auto& result : results) {
    for (int i = 0; i < result.n; ++i) result.values[i] = __builtin_nan("");
  }
  if (d == 1) {
    analyse<1>(job, cloud, draws, y, out);
  } else if (d == 2) {
    analyse<2>(job, cloud, draws, y, out);
  } else {
    analyse<3>(job, cloud, draws, y, out);
  }
  for (const auto& result : results) {
    for (int i = 0; i < result.n; ++i) canonicalise(result.values[i]);
  }
}

}  // namespace

void filter_particles(const ParticleFilter& job, std::int64_t begin, std::int64_t end,
                      void* scratch, const int* cancel) {
  const StepConstants<double> k(job.dt, job.parameters);
  Cloud cloud(job.n_particles, static_cast<double*>(scratch));
  for (std::int64_t t = begin; t < end; ++t) {
    const std::int64_t first = t * cloud.n;
    load_cloud(cloud, job.states + 3 * first, job.log_weights + first);
    bury_the_dead(cloud);
    Draws draws{
        {job.key[0], job.key[1]}, static_cast<std::uint64_t>(t), job.first_stage};
    for (std::int64_t cycle = 0; cycle < job.n_cycles; ++cycle) {
      if (is_set(cancel)) return;
      if (job.forecasts) {
        forecast(job, k, cloud, draws, cancel);
        ++draws.stage;
      }
      if (job.analyses) {
        analyse_cycle(job, cloud, draws, t * job.n_cycles + cycle);
        ++draws.stage;
      }
    }
    store_cloud(cloud, job.out_states + 3 * first, job.out_log_weights + first);
  }
}

std::int64_t particle_scratch(std::int64_t n_particles) {
  return Cloud::n_arrays * Cloud::rows(n_particles) *
         static_cast<std::int64_t>(sizeof(double));
}

}  // namespace L63FAST_LEVEL
}  // namespace l63fast
