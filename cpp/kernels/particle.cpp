// The bootstrap particle filter (Gordon, Salmond & Smith 1993), compiled once per
// instruction set. The particles of one trajectory stay in the caches of one core
// through all cycles.
//
// Forecast: each particle is stepped by the model, and the model error is added.
// Analysis: (1) the log weight of a particle grows by its log likelihood -1/2 |W (y -
// h(x))|^2, R^-1 = W^T W. (2) Mean, covariance and effective size (sum w)^2 / sum w^2
// are taken under the new weights, before resampling, which would only add noise. (3)
// Where the effective size is at most threshold * n, systematic resampling draws n
// particles of equal weight. (4) A particle that is drawn several times gets noise
// (regularisation, Musso et al. 2001), since its copies would stay equal in a
// deterministic model. (5) Where |W (y - h(x))|^2 of the best particle exceeds
// `lost`, the filter has lost the truth; with a rescue_root all particles are then
// resampled and scattered widely.
#include "levels.hpp"

#include "l63fast/finite.hpp"
#include "l63fast/motion.hpp"
#include "l63fast/observation.hpp"
#include "l63fast/particle_arrays.hpp"
#include "l63fast/posterior.hpp"
#include "l63fast/weights.hpp"

namespace l63fast {
inline namespace L63FAST_LEVEL {
namespace {

// Largest factors of a rescue: of the forecast's root, and of the given rescue_root.
constexpr double widest_forecast = 3, widest_given = 10;

void forecast(const ParticleFilter& job, const StepConstants<double>& k,
              ParticleArrays& particles, const Draws& draws, const int* cancel) {
  constexpr std::int64_t w = width<double>, group = step_packs * w;
  std::int64_t i = 0;
  bool finished = true;
  for (; finished && i + group <= particles.padded; i += group) {
    finished = step_group<step_packs>(particles, i, job.n_steps, k, cancel);
  }
  for (; finished && i + 2 * w <= particles.padded; i += 2 * w) {
    finished = step_group<2>(particles, i, job.n_steps, k, cancel);
  }
  if (finished && i < particles.padded)
    step_group<1>(particles, i, job.n_steps, k, cancel);
  if (finished && job.noise_root != nullptr)
    add_noise(particles, draws, job.noise_root);
  discard_nonfinite(particles);
}

// Pointers to the results of one analysis.
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
// constant. Writes the mean of the state and the mean and covariance of h before the
// observation. Returns the largest log likelihood.
template <int D>
double weigh(const ParticleFilter& job, ParticleArrays& particles, const double* y,
             const Results& out) {
  constexpr int n_pairs = D * (D + 1) / 2;
  const double* const states[3] = {particles.x, particles.y, particles.z};
  const Pack<double> zero{}, none = broadcast(-__builtin_inf());
  Pack<double> best = none;
  double sums[4 + D + n_pairs];
  sum_particles(particles.padded, sums, [&](std::int64_t i, auto& v) {
    const Pack<double> w = load_pack(particles.prior + i);
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
    const Pack<double> log_w = load_pack(particles.log_prior + i) + likelihood;
    const Mask<double> known = at_most(likelihood, zero) & less(none, log_w);
    store_pack(particles.log_weight + i, select(known, log_w, none));
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

// Returns the root of the covariance of the noise that copies get: the unbiased
// covariance of the particles after the observation, or the covariance before it, where
// one particle has all the weight.
Root jitter_root(const Moments& after, const Moments& before, double bandwidth) {
  const double all_but_one = 1 - 1 / after.effective_size;
  if (all_but_one > 1e-10) {
    return lower_root(after.covariance, bandwidth / __builtin_sqrt(all_but_one));
  }
  return lower_root(before.covariance, bandwidth);
}

// Returns the root for a rescue: that of the forecast covariance, scaled so that its
// standard deviation along the misfit of the heaviest particle equals that misfit. With
// d the misfit in units of R and g = H^T W^T d, the variance along d is |root^T g|^2 /
// |d|^2. A factor above widest_forecast means that the forecast excludes the truth or
// has collapsed; then the given root is scaled in the same way.
template <int D>
Root rescue_root(const ParticleFilter& job, const ParticleArrays& particles,
                 const double* y, const Moments& before, const Axis& axis) {
  std::int64_t heaviest = 0;  // the first particle whose normalised log weight is 0
  while (heaviest + 1 < particles.n && particles.log_weight[heaviest] != 0) ++heaviest;
  const double state[3] = {particles.x[heaviest], particles.y[heaviest],
                           particles.z[heaviest]};
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
  // The covariance is that of mirrored particles, so g is mirrored with the particle.
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

// Resamples the particles by weight and adds noise to those that are drawn more than
// once, or to all in a rescue.
template <int D>
void draw(const ParticleFilter& job, ParticleArrays& particles, const Draws& draws,
          const double* y, const Moments& after, bool rescued) {
  const bool scattered = rescued || job.bandwidth > 0;
  Root root{};
  if (scattered) {
    const Moments before = weighted_moments(particles, particles.prior, job.folded);
    root = rescued ? rescue_root<D>(job, particles, y, before, after.axis)
                   : jitter_root(after, before, job.bandwidth);
  }
  Pack<double> offset[3];
  draws.uniforms_of(0, Use::offset, offset);
  resample(particles, offset[0][0], job.ancestors);
  if (rescued) {
    for (std::int64_t i = 0; i < particles.n; ++i) particles.is_copy[i] = 1.0;
  }
  if (scattered) jitter_copies(particles, draws, root, after.axis);
  particles.take_drawn();
}

template <int D>
void analyse(const ParticleFilter& job, ParticleArrays& particles, const Draws& draws,
             const double* y, const Results& out) {
  if (!normalise(particles, particles.log_weight, particles.log_prior,
                 particles.prior)) {
    *out.status = static_cast<std::int8_t>(Status::non_finite);
    return;
  }
  const double best = weigh<D>(job, particles, y, out);
  const bool explained = normalise(particles, particles.log_weight,
                                   particles.log_weight, particles.weight);
  if (!explained)
    normalise(particles, particles.log_prior, particles.log_weight, particles.weight);
  const bool lost = explained && -2 * best > *job.lost;
  const Status status = explained && !lost ? Status::converged : Status::diverged;
  *out.status = static_cast<std::int8_t>(status);
  const Moments after = weighted_moments(particles, particles.weight, job.folded);
  constexpr int diagonal[3] = {0, 3, 5};
  for (int c = 0; c < 3; ++c) {
    out.mean[c] = after.mean[c];
    out.spread[c] = __builtin_sqrt(after.covariance[diagonal[c]]);
  }
  *out.effective_size = after.effective_size;
  const bool rescued = lost && job.rescue_root != nullptr;
  const double fewest = job.threshold * static_cast<double>(particles.n);
  if (rescued || after.effective_size <= fewest)
    draw<D>(job, particles, draws, y, after, rescued);
}

// Makes one analysis. Results that are not finite, or were not computed, are NaN. Zeros
// stand for missing values, which W multiplies by zero; without any value nothing is
// resampled.
void analyse_cycle(ParticleFilter job, ParticleArrays& particles, const Draws& draws,
                   std::int64_t at) {
  const Results out(job, at);
  const int d = job.obs_dim;
  double y[3] = {};
  int present = 0;
  for (int a = 0; a < d; ++a) {
    const double value = job.observation[d * at + a];
    if (value == value) y[a] = value, present |= 1 << a;
  }
  if (job.ancestors != nullptr) {
    job.ancestors += particles.n * at;
    for (std::int64_t i = 0; i < particles.n; ++i)
      job.ancestors[i] = static_cast<std::int32_t>(i);
  }
  job.whitening += d * d * present;
  job.lost += present;
  if (present == 0) job.threshold = -1;
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
    analyse<1>(job, particles, draws, y, out);
  } else if (d == 2) {
    analyse<2>(job, particles, draws, y, out);
  } else {
    analyse<3>(job, particles, draws, y, out);
  }
  for (int a = 0; a < d; ++a) {
    if ((present >> a & 1) == 0) out.innovation[a] = __builtin_nan("");
  }
  for (const auto& result : results) {
    for (int i = 0; i < result.n; ++i) canonicalise(result.values[i]);
  }
}

}  // namespace

void filter_particles(const ParticleFilter& job, std::int64_t begin, std::int64_t end,
                      void* scratch, const int* cancel) {
  ParticleArrays particles(job.n_particles, static_cast<double*>(scratch));
  for (std::int64_t t = begin; t < end; ++t) {
    const std::int64_t first = t * particles.n;
    const double* const own = job.own_parameters;
    const StepConstants<double> k(
        job.dt, own == nullptr
                    ? job.parameters
                    : Parameters{own[3 * t], own[3 * t + 1], own[3 * t + 2]});
    load_particles(particles, job.states + 3 * first, job.log_weights + first);
    discard_nonfinite(particles);
    Draws draws{
        {job.key[0], job.key[1]}, static_cast<std::uint64_t>(t), job.first_stage};
    for (std::int64_t cycle = 0; cycle < job.n_cycles; ++cycle) {
      if (is_set(cancel)) return;
      if (job.forecasts) {
        forecast(job, k, particles, draws, cancel);
        ++draws.stage;
      }
      if (job.analyses) {
        analyse_cycle(job, particles, draws, t * job.n_cycles + cycle);
        ++draws.stage;
      }
    }
    store_particles(particles, job.out_states + 3 * first, job.out_log_weights + first);
  }
}

std::int64_t particle_scratch(std::int64_t n_particles) {
  return ParticleArrays::n_arrays * ParticleArrays::rows(n_particles) *
         static_cast<std::int64_t>(sizeof(double));
}

}  // namespace L63FAST_LEVEL
}  // namespace l63fast
