// The only pybind11 file: takes NumPy arrays apart, releases the GIL, nothing else.
#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <stdexcept>
#include <string>
#include <vector>

#include "l63fast/kernels.hpp"

namespace py = pybind11;

namespace {

using l63fast::KernelTable;

std::vector<const KernelTable*> tables() {
  const KernelTable* found[4];
  const int count = l63fast::available_kernels(found);
  return {found, found + count};
}

const KernelTable& table_of(const std::string& level) {
  for (const KernelTable* table : tables()) {
    if (level == table->name) return *table;
  }
  throw std::invalid_argument("level: not available: " + level);
}

std::vector<std::string> levels() {
  std::vector<std::string> names;
  for (const KernelTable* table : tables()) names.emplace_back(table->name);
  return names;
}

// Runs Python's signal handlers; true means that one of them raised.
bool signals_pending(void*) {
  const py::gil_scoped_acquire gil;
  return PyErr_CheckSignals() != 0;
}

void rethrow_python_error() {
  if (PyErr_Occurred() != nullptr) throw py::error_already_set();
}

// A contiguous array of n_items values, or an error that the Python side never lets
// happen: the argument checks are made there, these guard the memory.
template <class T>
const T* read(const py::array_t<T>& array, py::ssize_t n_items) {
  if (array.size() != n_items || !(array.flags() & py::array::c_style)) {
    throw std::invalid_argument("array: not contiguous or of unexpected size");
  }
  return array.data();
}

// Calls a kernel without the GIL; a signal handler that raised meanwhile is heard of
// afterwards.
template <class Call>
void without_gil(Call call) {
  {
    const py::gil_scoped_release release;
    call();
  }
  rethrow_python_error();
}

// The observation operator of a job, as components and powers.
template <class Job>
void read_operator(const std::vector<int>& components, const std::vector<int>& powers,
                   Job& job) {
  if (components.empty() || components.size() > 3 || powers.size() != components.size())
    throw std::invalid_argument("components: 1 to 3");
  job.obs_dim = static_cast<int>(components.size());
  for (std::size_t i = 0; i < components.size(); ++i) {
    if (components[i] < 0 || components[i] > 2 || powers[i] < 1 || powers[i] > 4)
      throw std::invalid_argument("components, powers: out of range");
    job.components[i] = components[i];
    job.powers[i] = powers[i];
  }
}

template <class T>
py::ssize_t element_stride(const py::array_t<T>& array, int axis) {
  if (array.strides(axis) % static_cast<py::ssize_t>(sizeof(T)) != 0) {
    throw std::invalid_argument("array: strides are not whole elements");
  }
  return array.strides(axis) / static_cast<py::ssize_t>(sizeof(T));
}

template <class T>
std::int64_t integrate(const py::array_t<T>& initial, py::array_t<T>& out,
                       std::int64_t save_every, double dt, double sigma, double rho,
                       double beta, bool streamed, int n_threads,
                       const std::string& level) {
  if (out.ndim() != 3 || out.shape(2) != 3)
    throw std::invalid_argument("out: not (n, n_saved, 3)");
  const std::int64_t n = out.shape(0);
  l63fast::Integration<T> job{};
  job.initial = read(initial, 3 * n);
  job.out = out.mutable_data();
  job.strides = {element_stride(out, 0), element_stride(out, 1),
                 element_stride(out, 2)};
  job.n_saved = out.shape(1);
  job.save_every = save_every;
  job.dt = dt;
  job.parameters = {sigma, rho, beta};
  job.streamed = streamed;
  const KernelTable& table = table_of(level);
  std::int64_t diverged = 0;
  without_gil([&] {
    diverged = l63fast::integrate(table, job, n, n_threads, signals_pending, nullptr);
  });
  return diverged;
}

template <class T>
py::tuple analyse(const py::array_t<T>& background, const py::array_t<T>& observation,
                  const py::array_t<T>& b_matrices, const py::array_t<T>& r_matrices,
                  const std::vector<int>& components, const std::vector<int>& powers,
                  int n_starts, int max_iter, double tol, int n_threads,
                  const std::string& level) {
  l63fast::Analysis<T> job{};
  read_operator(components, powers, job);
  const py::ssize_t n = background.shape(0), dim = job.obs_dim;
  // One block for all results: freed in parts, as much memory as this would go back to
  // the system after every call, and the next call would fault its pages in again.
  const py::ssize_t n_values = n * (4 + dim);
  py::array_t<std::uint8_t> block(n_values * py::ssize_t{sizeof(T)} + 5 * n);
  T* const values = reinterpret_cast<T*>(block.mutable_data());
  auto* const whole = reinterpret_cast<std::int32_t*>(values + n_values);
  py::array_t<T> state({n, py::ssize_t{3}}, values, block);
  py::array_t<T> residual({n, dim}, values + 3 * n, block);
  py::array_t<T> cost(n, values + (3 + dim) * n, block);
  py::array_t<std::int32_t> n_iter(n, whole, block);
  py::array_t<std::int8_t> status(n, reinterpret_cast<std::int8_t*>(whole + n), block);
  job.background = read(background, 3 * n);
  job.observation = read(observation, dim * n);
  job.each_b = b_matrices.size() != 9;
  job.each_r = r_matrices.size() != dim * dim;
  job.b_matrix = read(b_matrices, job.each_b ? 9 * n : 9);
  job.r_matrix = read(r_matrices, job.each_r ? dim * dim * n : dim * dim);
  job.n_starts = n_starts;
  job.max_iter = max_iter;
  job.tol = tol;
  job.state = state.mutable_data();
  job.status = status.mutable_data();
  job.n_iter = n_iter.mutable_data();
  job.cost = cost.mutable_data();
  job.residual = residual.mutable_data();
  const KernelTable& table = table_of(level);
  without_gil(
      [&] { l63fast::analyse(table, job, n, n_threads, signals_pending, nullptr); });
  return py::make_tuple(state, status, n_iter, cost, residual);
}

// The job that tangent and adjoint share; `out` is shaped like the vectors.
template <class T>
l63fast::Linearised<T> linearised(const py::array_t<T>& state,
                                  const py::array_t<T>& vectors, py::array_t<T>& out,
                                  std::int64_t n_steps, double dt, double sigma,
                                  double rho, double beta) {
  if (vectors.ndim() != 3 || vectors.shape(1) < 1 || vectors.shape(2) != 3)
    throw std::invalid_argument("vectors: not (n, n_vectors, 3)");
  if (n_steps < 1) throw std::invalid_argument("n_steps: below 1");
  l63fast::Linearised<T> job{};
  job.state = read(state, 3 * vectors.shape(0));
  job.vectors = read(vectors, vectors.size());
  job.n_vectors = vectors.shape(1);
  job.n_steps = n_steps;
  job.dt = dt;
  job.parameters = {sigma, rho, beta};
  out = py::array_t<T>({vectors.shape(0), vectors.shape(1), py::ssize_t{3}});
  job.out_vectors = out.mutable_data();
  return job;
}

template <class T>
py::tuple tangent(const py::array_t<T>& state, const py::array_t<T>& perturbation,
                  std::int64_t n_steps, double dt, double sigma, double rho,
                  double beta, int n_threads, const std::string& level) {
  py::array_t<T> carried;
  auto job = linearised(state, perturbation, carried, n_steps, dt, sigma, rho, beta);
  const py::ssize_t n = perturbation.shape(0);
  py::array_t<T> final_state({n, py::ssize_t{3}});
  job.out_state = final_state.mutable_data();
  const KernelTable& table = table_of(level);
  std::int64_t diverged = 0;
  without_gil([&] {
    diverged = l63fast::tangent(table, job, n, n_threads, signals_pending, nullptr);
  });
  return py::make_tuple(final_state, carried, diverged);
}

template <class T>
py::tuple adjoint(const py::array_t<T>& state, const py::array_t<T>& gradient,
                  std::int64_t n_steps, double dt, double sigma, double rho,
                  double beta, int n_threads, const std::string& level) {
  py::array_t<T> carried;
  const auto job = linearised(state, gradient, carried, n_steps, dt, sigma, rho, beta);
  const py::ssize_t n = gradient.shape(0);
  const KernelTable& table = table_of(level);
  std::int64_t diverged = 0;
  without_gil([&] {
    diverged = l63fast::adjoint(table, job, n, n_threads, signals_pending, nullptr);
  });
  return py::make_tuple(carried, diverged);
}

std::int64_t instructions(int kind, bool single, std::int64_t rounds,
                          const std::string& level) {
  if (kind < 0 || kind > 3) throw std::invalid_argument("kind: 0 to 3");
  const KernelTable& table = table_of(level);
  const py::gil_scoped_release release;
  const auto entry = single ? table.instructions_f32 : table.instructions_f64;
  return entry(static_cast<l63fast::Instruction>(kind), rounds);
}

void fill(py::array_t<double>& out, bool non_temporal, const std::string& level) {
  double* const data = out.mutable_data();
  read(out, out.size());
  if (out.size() % 8 != 0 || reinterpret_cast<std::uintptr_t>(data) % 64 != 0)
    throw std::invalid_argument("out: not whole lines of 64 bytes");
  const std::int64_t n = out.size();
  const KernelTable& table = table_of(level);
  const py::gil_scoped_release release;
  table.fill(data, n, non_temporal);
}

py::tuple filter_particles(
    const py::array_t<double>& states, const py::array_t<double>& log_weights,
    const py::array_t<double>& observation, std::int64_t n_cycles, bool forecasts,
    bool analyses, std::int64_t n_steps, double dt, double sigma, double rho,
    double beta, const py::array_t<double>& noise_root,
    const py::array_t<double>& whitening, const std::vector<int>& components,
    const std::vector<int>& powers, double threshold, double bandwidth, double lost,
    const py::array_t<double>& rescue_root, bool folded, std::uint32_t key_0,
    std::uint32_t key_1, std::uint32_t first_stage, int n_threads,
    const std::string& level) {
  if (states.ndim() != 3 || states.shape(1) < 1 || states.shape(2) != 3)
    throw std::invalid_argument("states: not (n, n_particles, 3)");
  if (n_cycles < 0 || n_steps < 0) throw std::invalid_argument("n_cycles, n_steps");
  const py::ssize_t n = states.shape(0), n_particles = states.shape(1);
  l63fast::ParticleFilter job{};
  read_operator(components, powers, job);
  const py::ssize_t dim = job.obs_dim, kept = analyses ? n_cycles : 0;
  py::array_t<double> out_states({n, n_particles, py::ssize_t{3}});
  py::array_t<double> out_log_weights({n, n_particles});
  py::array_t<double> background({n, kept, py::ssize_t{3}});
  py::array_t<double> innovation({n, kept, dim});
  py::array_t<double> observed_covariance({n, kept, dim, dim});
  py::array_t<double> mean({n, kept, py::ssize_t{3}});
  py::array_t<double> spread({n, kept, py::ssize_t{3}});
  py::array_t<double> effective_size({n, kept});
  py::array_t<std::int8_t> status({n, kept});
  job.n_particles = n_particles;
  job.states = read(states, states.size());
  job.log_weights = read(log_weights, n * n_particles);
  job.n_cycles = n_cycles;
  job.forecasts = forecasts;
  job.analyses = analyses;
  job.n_steps = n_steps;
  job.dt = dt;
  job.parameters = {sigma, rho, beta};
  job.noise_root = noise_root.size() == 0 ? nullptr : read(noise_root, 9);
  job.observation = read(observation, n * kept * dim);
  job.whitening = read(whitening, dim * dim);
  job.threshold = threshold;
  job.bandwidth = bandwidth;
  job.lost = lost;
  job.rescue_root = rescue_root.size() == 0 ? nullptr : read(rescue_root, 9);
  job.folded = folded;
  job.key[0] = key_0;
  job.key[1] = key_1;
  job.first_stage = first_stage;
  job.out_states = out_states.mutable_data();
  job.out_log_weights = out_log_weights.mutable_data();
  job.background = background.mutable_data();
  job.innovation = innovation.mutable_data();
  job.observed_covariance = observed_covariance.mutable_data();
  job.mean = mean.mutable_data();
  job.spread = spread.mutable_data();
  job.effective_size = effective_size.mutable_data();
  job.status = status.mutable_data();
  const KernelTable& table = table_of(level);
  without_gil([&] {
    l63fast::filter_particles(table, job, n, n_threads, signals_pending, nullptr);
  });
  return py::make_tuple(out_states, out_log_weights, background, innovation,
                        observed_covariance, mean, spread, effective_size, status);
}

float* written(py::array_t<float>& array, py::ssize_t n_items) {
  read(array, n_items);
  return array.mutable_data();
}

// The shape of a job; the arrays that both ways take.
l63fast::GruWindow gru_window(py::ssize_t n_inputs,
                              const py::array_t<float>& state_weights,
                              const py::array_t<float>& states) {
  if (states.ndim() != 3 || states.shape(0) < 1 || states.shape(2) < 1 || n_inputs < 1)
    throw std::invalid_argument("states: not (n_steps, n, n_units)");
  l63fast::GruWindow job{};
  job.n_steps = states.shape(0);
  job.n = states.shape(1);
  job.n_units = states.shape(2);
  job.n_inputs = n_inputs;
  job.state_weights = read(state_weights, 3 * job.n_units * job.n_units);
  return job;
}

void gru(const py::array_t<float>& inputs, const py::array_t<float>& input_weights,
         const py::array_t<float>& state_weights, const py::array_t<float>& input_bias,
         const py::array_t<float>& state_bias, py::array_t<float>& gates,
         py::array_t<float>& states, int n_threads, const std::string& level) {
  if (inputs.ndim() != 3) throw std::invalid_argument("inputs: not three axes");
  auto job = gru_window(inputs.shape(2), state_weights, states);
  job.inputs = read(inputs, job.n * job.n_steps * job.n_inputs);
  job.input_weights = read(input_weights, 3 * job.n_units * job.n_inputs);
  job.input_bias = read(input_bias, 3 * job.n_units);
  job.state_bias = read(state_bias, 3 * job.n_units);
  job.gates = written(gates, 4 * states.size());
  job.states = written(states, states.size());
  const KernelTable& table = table_of(level);
  without_gil([&] { l63fast::gru(table, job, n_threads, signals_pending, nullptr); });
}

void gru_back(const py::array_t<float>& state_weights, py::array_t<float>& gates,
              py::array_t<float>& states, const py::array_t<float>& gradient,
              py::array_t<float>& slopes, int n_threads, const std::string& level) {
  auto job = gru_window(1, state_weights, states);
  job.gates = written(gates, 4 * states.size());
  job.states = written(states, states.size());
  job.gradient = read(gradient, job.n * job.n_units);
  job.slopes = written(slopes, 4 * states.size());
  const KernelTable& table = table_of(level);
  without_gil(
      [&] { l63fast::gru_back(table, job, n_threads, signals_pending, nullptr); });
}

void define_gru(py::module_& module) {
  module.def("gru", &gru, py::arg("inputs").noconvert(),
             py::arg("input_weights").noconvert(), py::arg("state_weights").noconvert(),
             py::arg("input_bias").noconvert(), py::arg("state_bias").noconvert(),
             py::arg("gates").noconvert(), py::arg("states").noconvert(),
             py::arg("n_threads"), py::arg("level"));
  module.def("gru_back", &gru_back, py::arg("state_weights").noconvert(),
             py::arg("gates").noconvert(), py::arg("states").noconvert(),
             py::arg("gradient").noconvert(), py::arg("slopes").noconvert(),
             py::arg("n_threads"), py::arg("level"));
}

void define_filter(py::module_& module) {
  module.def("filter_particles", &filter_particles, py::arg("states").noconvert(),
             py::arg("log_weights").noconvert(), py::arg("observation").noconvert(),
             py::arg("n_cycles"), py::arg("forecasts"), py::arg("analyses"),
             py::arg("n_steps"), py::arg("dt"), py::arg("sigma"), py::arg("rho"),
             py::arg("beta"), py::arg("noise_root").noconvert(),
             py::arg("whitening").noconvert(), py::arg("components"), py::arg("powers"),
             py::arg("threshold"), py::arg("bandwidth"), py::arg("lost"),
             py::arg("rescue_root").noconvert(), py::arg("folded"), py::arg("key_0"),
             py::arg("key_1"), py::arg("first_stage"), py::arg("n_threads"),
             py::arg("level"));
}

template <class T>
void define(py::module_& module) {
  module.def("integrate", &integrate<T>, py::arg("initial").noconvert(),
             py::arg("out").noconvert(), py::arg("save_every"), py::arg("dt"),
             py::arg("sigma"), py::arg("rho"), py::arg("beta"), py::arg("streamed"),
             py::arg("n_threads"), py::arg("level"));
  module.def("analyse", &analyse<T>, py::arg("background").noconvert(),
             py::arg("observation").noconvert(), py::arg("b_matrices").noconvert(),
             py::arg("r_matrices").noconvert(), py::arg("components"),
             py::arg("powers"), py::arg("n_starts"), py::arg("max_iter"),
             py::arg("tol"), py::arg("n_threads"), py::arg("level"));
  module.def("tangent", &tangent<T>, py::arg("state").noconvert(),
             py::arg("perturbation").noconvert(), py::arg("n_steps"), py::arg("dt"),
             py::arg("sigma"), py::arg("rho"), py::arg("beta"), py::arg("n_threads"),
             py::arg("level"));
  module.def("adjoint", &adjoint<T>, py::arg("state").noconvert(),
             py::arg("gradient").noconvert(), py::arg("n_steps"), py::arg("dt"),
             py::arg("sigma"), py::arg("rho"), py::arg("beta"), py::arg("n_threads"),
             py::arg("level"));
}

}  // namespace

PYBIND11_MODULE(_core, module) {
  module.doc() =
      "The compiled kernels of l63fast; l63fast._kernels.cpp is their only user.";
  module.def("levels", &levels, "Instruction sets that can run here, in rising order.");
  module.def(
      "register_bytes",
      [](const std::string& level) { return table_of(level).register_bytes; },
      py::arg("level"));
  module.def("instructions", &instructions, py::arg("kind"), py::arg("single"),
             py::arg("rounds"), py::arg("level"));
  module.def("fill", &fill, py::arg("out").noconvert(), py::arg("non_temporal"),
             py::arg("level"));
  define<double>(module);
  define<float>(module);
  define_filter(module);
  define_gru(module);
}
