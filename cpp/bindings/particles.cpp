// Python binding of the particle filter.
#include "bindings.hpp"

namespace bindings {
namespace {

// Returns a root (3, 3) of a job, or null where it is None.
const double* root_of(const Job& fields, const char* name) {
  return field(fields, name).is_none() ? nullptr : read<double>(fields, name, 9);
}

py::tuple filter_particles(const Job& fields, int n_threads, const std::string& level) {
  const auto states = array_of<double>(fields, "states");
  if (states.ndim() != 3 || states.shape(1) < 1 || states.shape(2) != 3)
    throw std::invalid_argument("states: not (n, n_particles, 3)");
  const py::ssize_t n = states.shape(0), n_particles = states.shape(1);
  l63fast::ParticleFilter job{};
  read_operator(fields, job);
  job.forecasts = !field(fields, "n_steps").is_none();
  if (job.forecasts) job.n_steps = value_of<std::int64_t>(fields, "n_steps");
  if (job.n_steps < 0) throw std::invalid_argument("n_steps: below 0");
  const py::ssize_t dim = job.obs_dim;
  job.analyses = !field(fields, "observation").is_none();
  job.n_cycles = 1;
  if (job.analyses) {
    const auto observation = array_of<double>(fields, "observation");
    job.n_cycles = observation.shape(1);
    job.observation = read(observation, n * job.n_cycles * dim);
  }
  const py::ssize_t kept = job.analyses ? job.n_cycles : 0;
  py::array_t<double> out_states({n, n_particles, py::ssize_t{3}});
  py::array_t<double> out_log_weights({n, n_particles});
  py::array_t<double> background({n, kept, py::ssize_t{3}});
  py::array_t<double> innovation({n, kept, dim});
  py::array_t<double> observed_covariance({n, kept, dim, dim});
  py::array_t<double> mean({n, kept, py::ssize_t{3}});
  py::array_t<double> spread({n, kept, py::ssize_t{3}});
  py::array_t<double> effective_size({n, kept});
  py::array_t<std::int8_t> status({n, kept});
  const bool ancestry = value_of<bool>(fields, "ancestry");
  py::array_t<std::int32_t> ancestors({n, kept, ancestry ? n_particles : 0});
  job.n_particles = n_particles;
  job.states = read(states, states.size());
  job.log_weights = read<double>(fields, "log_weights", n * n_particles);
  job.dt = value_of<double>(fields, "dt");
  read_parameters(fields, job, n);
  job.noise_root = root_of(fields, "noise_root");
  job.whitening = read<double>(fields, "whitening", (dim * dim) << dim);
  job.threshold = value_of<double>(fields, "threshold");
  job.bandwidth = value_of<double>(fields, "bandwidth");
  job.lost = read<double>(fields, "lost", py::ssize_t{1} << dim);
  job.rescue_root = root_of(fields, "rescue_root");
  job.folded = value_of<bool>(fields, "folded");
  const auto key = value_of<std::array<std::uint32_t, 2>>(fields, "key");
  job.key[0] = key[0];
  job.key[1] = key[1];
  job.first_stage = value_of<std::uint32_t>(fields, "first_stage");
  job.out_states = out_states.mutable_data();
  job.out_log_weights = out_log_weights.mutable_data();
  job.background = background.mutable_data();
  job.innovation = innovation.mutable_data();
  job.observed_covariance = observed_covariance.mutable_data();
  job.mean = mean.mutable_data();
  job.spread = spread.mutable_data();
  job.effective_size = effective_size.mutable_data();
  job.status = status.mutable_data();
  if (ancestry) job.ancestors = ancestors.mutable_data();
  const KernelTable& table = table_of(level);
  without_gil([&](void* gil) {
    l63fast::filter_particles(table, job, n, n_threads, signals_pending, gil);
  });
  return py::make_tuple(out_states, out_log_weights, background, innovation,
                        observed_covariance, mean, spread, effective_size, status,
                        ancestors);
}

}  // namespace

void define_particles(py::module_& module) {
  module.def("filter_particles", &filter_particles, py::arg("job"),
             py::arg("n_threads"), py::arg("level"));
}

}  // namespace bindings
