// Takes the arrays of integrations apart: the model, its tangent and its adjoint.
#include "bindings.hpp"

namespace bindings {
namespace {

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

template <class T>
void define(py::module_& module) {
  module.def("integrate", &integrate<T>, py::arg("initial").noconvert(),
             py::arg("out").noconvert(), py::arg("save_every"), py::arg("dt"),
             py::arg("sigma"), py::arg("rho"), py::arg("beta"), py::arg("streamed"),
             py::arg("n_threads"), py::arg("level"));
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

void define_model(py::module_& module) {
  define<double>(module);
  define<float>(module);
}

}  // namespace bindings
