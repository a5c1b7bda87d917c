// The surface of the core: the kernels, every argument with shape and unit. Kernels
// throw nothing; the count or status they return says how they ended.
#pragma once

#include <cstddef>
#include <cstdint>

namespace l63fast {

// Lorenz (1963): dx = sigma (y - x), dy = x (rho - z) - y, dz = x y - beta z.
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

// Ensemble integration by classical RK4. The order of every operation is that of
// rk4_step in lorenz63.hpp.
template <class T>
struct Integration {
  const T* initial;         // (n, 3) contiguous
  T* out;                   // (n, n_saved, 3), by strides; without the initial state
  Strides strides;          // of `out`
  std::int64_t n_saved;     // saved states per member
  std::int64_t save_every;  // steps between saved states
  double dt;                // time step (time units)
  Parameters parameters;    // of the model
  bool streamed;            // write past the caches: worth it for outputs larger than
                            // they are, in memory that has been written before
};

// Batched 3D-Var, x_a = argmin J; the order is that of three_d_var.hpp.
template <class T>
struct Analysis {
  const T* background;   // (n, 3)
  const T* observation;  // (n, obs_dim)
  const T* b_matrix;     // (3, 3), or (n, 3, 3) where each_b
  const T* r_matrix;     // (obs_dim, obs_dim), or (n, obs_dim, obs_dim)
  bool each_b;           // one B per sample
  bool each_r;           // one R per sample
  int obs_dim;           // 1 to 3
  int components[3];     // observed component of each observation, 0 to 2
  int powers[3];         // exponent of each, 1 to 4
  int n_starts;          // basins tried: 1, or 2^k for k nonlinear components
  int max_iter;          // iterations at most, per start
  double tol;            // step that ends the iteration, relative
  T* state;              // (n, 3)
  std::int8_t* status;   // (n): Status
  std::int32_t* n_iter;  // (n)
  T* cost;               // (n): J(state)
  T* residual;           // (n, obs_dim): y - h(state)
};

// Vectors carried by the derivative of n_steps RK4 steps about the trajectory from
// `state`; the order is that of tangent.hpp. Tangent-linear: perturbations, from the
// start to the end. Adjoint: gradients, from the end to the start.
template <class T>
struct Linearised {
  const T* state;          // (n, 3) at the start
  const T* vectors;        // (n, n_vectors, 3)
  std::int64_t n_vectors;  // per member, at least 1
  std::int64_t n_steps;    // at least 1
  double dt;               // time step (time units)
  Parameters parameters;   // of the model
  T* out_state;            // (n, 3) at the end; the adjoint's is null
  T* out_vectors;          // (n, n_vectors, 3)
};

// Bootstrap particle filter: for each trajectory n_cycles times a forecast, an
// analysis, or both. Each of these is a stage; random numbers depend on the key, the
// stage, the trajectory and the particle alone.
struct ParticleFilter {
  std::int64_t n_particles;      // of each trajectory
  const double* states;          // (n, n_particles, 3)
  const double* log_weights;     // (n, n_particles), up to a constant; -inf: none
  std::int64_t n_cycles;         // times that the following is done
  bool forecasts;                // n_steps of the model, then noise
  bool analyses;                 // weights by the observation, resampling
  std::int64_t n_steps;          // 0 and more
  double dt;                     // time step (time units)
  Parameters parameters;         // of the model
  const double* noise_root;      // (3, 3): noise is root * N(0, I); null: none
  const double* observation;     // (n, n_cycles, obs_dim)
  const double* whitening;       // (obs_dim, obs_dim), lower, W with R^-1 = W^T W
  int obs_dim;                   // 1 to 3
  int components[3], powers[3];  // as in Analysis
  double threshold;              // resample where the effective size is at most this
  double bandwidth;              // of what is added to copies, in standard deviations
  double lost;                   // |W (y - h)|^2 of the best particle, beyond which
                                 // they have lost the truth: status diverged
  const double* rescue_root;     // (3, 3), lower: not null, all are then drawn anew and
                                 // scattered with the forecast's covariance, or with
                                 // this root, scaled so that it explains that misfit
  bool folded;                   // mean and covariance of one of each mirrored pair
  std::uint32_t key[2];          // of the random numbers
  std::uint32_t first_stage;     // of the first forecast or analysis
  double* out_states;            // (n, n_particles, 3)
  double* out_log_weights;       // (n, n_particles), the largest 0
  double* background;            // (n, n_cycles, 3): means before the observation
  double* innovation;            // (n, n_cycles, obs_dim): y - mean of h
  double* observed_covariance;   // (n, n_cycles, obs_dim, obs_dim): of h
  double* mean;                  // (n, n_cycles, 3)
  double* spread;                // (n, n_cycles, 3)
  double* effective_size;        // (n, n_cycles): (sum w)^2 / sum w^2
  std::int8_t* status;           // (n, n_cycles): Status
};

// A gated recurrent unit that reads windows from the state zero, and the way back of a
// gradient with respect to its last state; the order is that of gates.hpp and gru.cpp.
// Weights and biases hold the rows of r, z and the candidate, as torch's nn.GRU does.
struct GruWindow {
  std::int64_t n;              // windows
  std::int64_t n_steps;        // at least 1
  std::int64_t n_inputs;       // per step, at least 1
  std::int64_t n_units;        // at least 1
  const float* inputs;         // (n, n_steps, n_inputs)
  const float* input_weights;  // (3 n_units, n_inputs)
  const float* state_weights;  // (3 n_units, n_units)
  const float* input_bias;     // (3 n_units)
  const float* state_bias;     // (3 n_units)
  float* gates;                // (n_steps, n, 4 n_units): r, z, the candidate and its
                               // state part; the way there writes, the way back reads
  float* states;               // (n_steps, n, n_units): after each step; likewise
  const float* gradient;       // (n, n_units): with respect to the last state
  float* preactivation_grad;   // (n_steps, n, 4 n_units): with respect to r's, z's and
                               // the candidate's state part and its input part, all
                               // before the gate; written by the way back
};

enum class Status : std::int8_t { converged, max_iter, diverged, non_finite };

// Instruction sets, in rising order. `generic` is the only one off x86-64.
enum class Level : int { generic, v2, v3, v4 };

// What a ceiling counts: independent vector instructions of one kind, or those of an
// RK4 step in their proportion.
enum class Instruction : int { fma, add, divide, rk4_step };

// The kernels of one level, over members [begin, end). `cancel` is read every few
// hundred steps; once it is not 0 the rest is left undone.
struct KernelTable {
  Level level;
  const char* name;
  // Returns how many members ended non-finite (their non-finite values are NaN).
  std::int64_t (*integrate_f64)(const Integration<double>&, std::int64_t begin,
                                std::int64_t end, const int* cancel);
  std::int64_t (*integrate_f32)(const Integration<float>&, std::int64_t begin,
                                std::int64_t end, const int* cancel);
  void (*analyse_f64)(const Analysis<double>&, std::int64_t begin, std::int64_t end,
                      const int* cancel);
  void (*analyse_f32)(const Analysis<float>&, std::int64_t begin, std::int64_t end,
                      const int* cancel);
  // Return how many members have non-finite results (those values are NaN).
  std::int64_t (*tangent_f64)(const Linearised<double>&, std::int64_t begin,
                              std::int64_t end, const int* cancel);
  std::int64_t (*tangent_f32)(const Linearised<float>&, std::int64_t begin,
                              std::int64_t end, const int* cancel);
  std::int64_t (*adjoint_f64)(const Linearised<double>&, std::int64_t begin,
                              std::int64_t end, void* scratch, const int* cancel);
  std::int64_t (*adjoint_f32)(const Linearised<float>&, std::int64_t begin,
                              std::int64_t end, void* scratch, const int* cancel);
  // Bytes of scratch, aligned to 64, that one call of an adjoint needs.
  std::int64_t (*adjoint_scratch)(std::int64_t n_steps);
  // The machine's ceilings. Both run rounds of instructions and return how many.
  int register_bytes;
  std::int64_t (*instructions_f64)(Instruction kind, std::int64_t rounds);
  std::int64_t (*instructions_f32)(Instruction kind, std::int64_t rounds);
  // Fills out[0 .. n): aligned to 64 bytes, n a multiple of 8.
  void (*fill)(double* out, std::int64_t n, bool non_temporal);
  void (*filter_particles)(const ParticleFilter&, std::int64_t begin, std::int64_t end,
                           void* scratch, const int* cancel);
  // Bytes of scratch, aligned to 64, that one call of filter_particles needs.
  std::int64_t (*particle_scratch)(std::int64_t n_particles);
  void (*gru)(const GruWindow&, std::int64_t begin, std::int64_t end, void* scratch,
              const int* cancel);
  void (*gru_backward)(const GruWindow&, std::int64_t begin, std::int64_t end,
                       void* scratch, const int* cancel);
  // Bytes of scratch, aligned to 64, that one call of either needs.
  std::int64_t (*gru_scratch)(std::int64_t n_units, std::int64_t n_inputs);
};

// The tables that were compiled in and that this processor can run, in rising order.
// Returns how many there are; tables[0 .. count) are valid.
int available_kernels(const KernelTable* tables[4]);

// Asked now and then by the calling thread while workers run; true cancels them.
using Poll = bool (*)(void*);

// The whole job over n members on n_threads threads of its own. Threads are joined
// before return. Throws std::system_error where no thread can be started.
template <class T>
std::int64_t integrate(const KernelTable& kernels, const Integration<T>& job,
                       std::int64_t n, int n_threads, Poll poll, void* poll_data);
template <class T>
void analyse(const KernelTable& kernels, const Analysis<T>& job, std::int64_t n,
             int n_threads, Poll poll, void* poll_data);
template <class T>
std::int64_t tangent(const KernelTable& kernels, const Linearised<T>& job,
                     std::int64_t n, int n_threads, Poll poll, void* poll_data);
// Throws std::bad_alloc where there is no memory for the scratch.
template <class T>
std::int64_t adjoint(const KernelTable& kernels, const Linearised<T>& job,
                     std::int64_t n, int n_threads, Poll poll, void* poll_data);
// Trajectories go to threads one by one. Throws std::bad_alloc likewise.
void filter_particles(const KernelTable& kernels, const ParticleFilter& job,
                      std::int64_t n, int n_threads, Poll poll, void* poll_data);
// All windows of the job, there or back. Throw std::bad_alloc likewise.
void gru(const KernelTable& kernels, const GruWindow& job, int n_threads, Poll poll,
         void* poll_data);
void gru_backward(const KernelTable& kernels, const GruWindow& job, int n_threads,
                  Poll poll, void* poll_data);

}  // namespace l63fast
