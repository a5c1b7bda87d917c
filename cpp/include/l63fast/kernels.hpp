// The public interface of the core: the kernels, with shape and unit of every argument.
// Kernels throw no exceptions; the count or status that they return says how they
// ended.
#pragma once

#include <cstddef>
#include <cstdint>

namespace l63fast {

// The model of Lorenz (1963, equations 25 to 27):
//   dx = sigma (y - x),   dy = x (rho - z) - y,   dz = x y - beta z.
struct Parameters {
  double sigma;
  double rho;
  double beta;
};

// Distances in elements between neighbours along each axis of an (n, n_saved, 3) array.
struct Strides {
  std::ptrdiff_t member;
  std::ptrdiff_t time;
  std::ptrdiff_t component;
};

// Ensemble integration by the classical Runge-Kutta method of order 4 (RK4). The order
// of every floating-point operation is that of rk4_step in lorenz63.hpp.
template <class T>
struct Integration {
  const T* initial;         // (n, 3), contiguous
  T* out;                   // (n, n_saved, 3), with these strides; without the initial
                            // state
  Strides strides;          // of `out`
  std::int64_t n_saved;     // saved states per member
  std::int64_t save_every;  // steps between saved states
  double dt;                // time step (time units)
  Parameters parameters;    // of the model
  bool streamed;            // write to memory past the caches: faster for outputs that
                            // are larger than the caches and in memory that was written
                            // before
  // (n, 3): sigma, rho and beta of each member, used instead of `parameters`; or null.
  const double* own_parameters = nullptr;
};

// Batched 3D-Var, x_a = argmin J (notation of Ide et al. 1997); the order of operations
// is that of three_d_var.hpp and squares.hpp.
template <class T>
struct Analysis {
  const T* background;   // (n, 3)
  const T* observation;  // (n, obs_dim); where gaps, NaN is a missing value
  const T* b_matrix;     // (3, 3), or (n, 3, 3) where each_b
  const T* r_matrix;     // (obs_dim, obs_dim), or (n, obs_dim, obs_dim)
  bool each_b;           // one B per sample instead of one for all
  bool each_r;           // one R per sample instead of one for all
  int obs_dim;           // 1 to 3
  int components[3];     // observed component of each observation, 0 to 2
  int powers[3];         // exponent of each, 1 to 4
  int n_starts;          // starting points tried, one per basin of J: 1, or 2^k for k
                         // nonlinear components
  int max_iter;          // largest number of iterations per start
  double tol;            // the iteration ends at a relative step below this
  bool gaps;             // whether values may be missing: they have no row in H and R;
                         // without any value the analysis is the background and J 0
  T* state;              // (n, 3)
  std::int8_t* status;   // (n): Status
  std::int32_t* n_iter;  // (n)
  T* cost;               // (n): J(state)
  T* residual;           // (n, obs_dim): y - h(state), NaN where missing
};

// The tangent-linear and the adjoint model: vectors multiplied by the derivative of
// n_steps RK4 steps along the trajectory from `state`, or by its transpose. The order
// of operations is that of tangent.hpp. Tangent-linear: the vectors are perturbations,
// carried from the start to the end. Adjoint: the vectors are gradients, carried from
// the end to the start.
template <class T>
struct Linearised {
  const T* state;          // (n, 3) at the start
  const T* vectors;        // (n, n_vectors, 3)
  std::int64_t n_vectors;  // per member, at least 1
  std::int64_t n_steps;    // at least 1
  double dt;               // time step (time units)
  Parameters parameters;   // of the model
  T* out_state;            // (n, 3) at the end; null for the adjoint
  T* out_vectors;          // (n, n_vectors, 3)
};

// Bootstrap particle filter (Gordon, Salmond & Smith 1993). Every trajectory gets
// n_cycles times a forecast, an analysis, or both. Each forecast and each analysis is
// one stage. A random number depends only on the key, the stage, the trajectory and the
// particle.
struct ParticleFilter {
  std::int64_t n_particles;      // per trajectory
  const double* states;          // (n, n_particles, 3)
  const double* log_weights;     // (n, n_particles), up to a constant; -inf: weight
                                 // zero
  std::int64_t n_cycles;         // number of forecasts, analyses or both
  bool forecasts;                // whether to step the model n_steps times and add
                                 // noise
  bool analyses;                 // whether to weight by the observation and resample
  std::int64_t n_steps;          // 0 and more
  double dt;                     // time step (time units)
  Parameters parameters;         // of the model
  const double* noise_root;      // (3, 3): the model error is root * N(0, I); null:
                                 // none
  const double* observation;     // (n, n_cycles, obs_dim); NaN is a missing value
  const double* whitening;       // (2^obs_dim, obs_dim, obs_dim), lower triangular, W
                                 // with R^-1 = W^T W for each set of present values,
                                 // numbered by its bits; zeros for the missing values
  int obs_dim;                   // 1 to 3
  int components[3], powers[3];  // as in Analysis
  double threshold;              // resample where the effective size is at most this
                                 // share of n_particles
  double bandwidth;              // of the noise added to copies, in standard deviations
  const double* lost;            // (2^obs_dim): the filter has lost the truth (status
                                 // diverged) where |W (y - h)|^2 of the best particle
                                 // exceeds this
  const double* rescue_root;     // (3, 3), lower triangular, or null. Not null: a
                                 // filter that has lost the truth resamples all
                                 // particles and adds noise with the forecast
                                 // covariance, or with this root, scaled so that the
                                 // spread explains the misfit
  bool folded;                   // replace each particle by its mirror image where that
                                 // lies on the positive side, before mean and
                                 // covariance are taken
  std::uint32_t key[2];          // key of the random numbers
  std::uint32_t first_stage;     // number of the first forecast or analysis
  double* out_states;            // (n, n_particles, 3)
  double* out_log_weights;       // (n, n_particles); after an analysis the largest is 0
  double* background;            // (n, n_cycles, 3): means before the observation
  double* innovation;            // (n, n_cycles, obs_dim): y - mean of h, NaN where
                                 // missing
  double* observed_covariance;   // (n, n_cycles, obs_dim, obs_dim): covariance of h(x)
  double* mean;                  // (n, n_cycles, 3)
  double* spread;                // (n, n_cycles, 3)
  double* effective_size;        // (n, n_cycles): (sum w)^2 / sum w^2
  std::int8_t* status;           // (n, n_cycles): Status
  // (n, n_cycles, n_particles): the particle before an analysis that each one after it
  // was; null: not wanted.
  std::int32_t* ancestors;
  // (n, 3): sigma, rho and beta of each trajectory, used instead of `parameters`; or
  // null.
  const double* own_parameters = nullptr;
};

// How an analysis ended. max_iter: all iterations are used up. diverged: the same with
// a cost above that of the background, or a filter that has lost the truth. non_finite:
// the results are NaN.
enum class Status : std::int8_t { converged, max_iter, diverged, non_finite };

// Instruction sets, from the oldest to the newest. On processors other than x86-64 only
// `generic` exists.
enum class Level : int { generic, v2, v3, v4 };

// The instructions that a speed limit of the machine counts: independent vector
// instructions of one kind, or the mixture of an RK4 step.
enum class Instruction : int { fma, add, divide, rk4_step };

struct Network;  // in network.hpp

// The kernels of one instruction set, over members [begin, end). A kernel reads
// `cancel` every few hundred steps; when it is not 0, the kernel returns and leaves the
// rest undone.
struct KernelTable {
  Level level;
  const char* name;
  // Returns the number of members with a non-finite result; such values become NaN.
  std::int64_t (*integrate_f64)(const Integration<double>&, std::int64_t begin,
                                std::int64_t end, const int* cancel);
  std::int64_t (*integrate_f32)(const Integration<float>&, std::int64_t begin,
                                std::int64_t end, const int* cancel);
  void (*analyse_f64)(const Analysis<double>&, std::int64_t begin, std::int64_t end,
                      const int* cancel);
  void (*analyse_f32)(const Analysis<float>&, std::int64_t begin, std::int64_t end,
                      const int* cancel);
  // Return the number of members with a non-finite result; such values become NaN.
  std::int64_t (*tangent_f64)(const Linearised<double>&, std::int64_t begin,
                              std::int64_t end, const int* cancel);
  std::int64_t (*tangent_f32)(const Linearised<float>&, std::int64_t begin,
                              std::int64_t end, const int* cancel);
  std::int64_t (*adjoint_f64)(const Linearised<double>&, std::int64_t begin,
                              std::int64_t end, void* scratch, const int* cancel);
  std::int64_t (*adjoint_f32)(const Linearised<float>&, std::int64_t begin,
                              std::int64_t end, void* scratch, const int* cancel);
  // Returns the bytes of scratch memory, aligned to 64, that one call of an adjoint
  // needs.
  std::int64_t (*adjoint_scratch)(std::int64_t n_steps);
  // Speed limits of the machine: run rounds of instructions and return how many ran.
  int register_bytes;
  std::int64_t (*instructions_f64)(Instruction kind, std::int64_t rounds);
  std::int64_t (*instructions_f32)(Instruction kind, std::int64_t rounds);
  // Fills out[0 .. n); out is aligned to 64 bytes and n is a multiple of 8.
  void (*fill)(double* out, std::int64_t n, bool non_temporal);
  void (*filter_particles)(const ParticleFilter&, std::int64_t begin, std::int64_t end,
                           void* scratch, const int* cancel);
  // Returns the bytes of scratch memory, aligned to 64, that filter_particles needs.
  std::int64_t (*particle_scratch)(std::int64_t n_particles);
  void (*network_pack)(const Network&);
  void (*network)(const Network&);
  void (*network_backward)(const Network&);
};

// Finds the kernels that were compiled in and that this processor can run, from the
// oldest to the newest instruction set. Returns their number; tables[0 .. number) are
// valid.
int available_kernels(const KernelTable* tables[4]);

// Called now and then by the calling thread while workers run; true cancels them.
using Poll = bool (*)(void*);

// Run the whole job over n members on n_threads new threads, which are joined before
// the return. Throw std::system_error where no thread can be started.
template <class T>
std::int64_t integrate(const KernelTable& kernels, const Integration<T>& job,
                       std::int64_t n, int n_threads, Poll poll, void* poll_data);
template <class T>
void analyse(const KernelTable& kernels, const Analysis<T>& job, std::int64_t n,
             int n_threads, Poll poll, void* poll_data);
template <class T>
std::int64_t tangent(const KernelTable& kernels, const Linearised<T>& job,
                     std::int64_t n, int n_threads, Poll poll, void* poll_data);
// Throws std::bad_alloc where there is no memory for the scratch arrays.
template <class T>
std::int64_t adjoint(const KernelTable& kernels, const Linearised<T>& job,
                     std::int64_t n, int n_threads, Poll poll, void* poll_data);
// Each thread takes one trajectory after another. Throws std::bad_alloc likewise.
void filter_particles(const KernelTable& kernels, const ParticleFilter& job,
                      std::int64_t n, int n_threads, Poll poll, void* poll_data);
}  // namespace l63fast
