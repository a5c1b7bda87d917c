// Takes the arrays of the particle filter apart.
#include "bindings.hpp"

namespace bindings {
namespace {

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

}  // namespace

void define_particles(py::module_& module) {
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

}  // namespace bindings
