// Python bindings of the model, its tangent-linear and its adjoint.
#include "bindings.hpp"

namespace bindings {
namespace {

template <class T>
std::int64_t integrate(const Job& fields, bool streamed, int n_threads,
                       const std::string& level) {
  auto out = array_of<T>(fields, "out");
  if (out.ndim() != 3 || out.shape(2) != 3)
    throw std::invalid_argument("out: not (n, n_saved, 3)");
  const std::int64_t n = out.shape(0);
  l63fast::Integration<T> job{};
  job.initial = read<T>(fields, "initial", 3 * n);
  job.out = out.mutable_data();
  job.strides = {element_stride(out, 0), element_stride(out, 1),
                 element_stride(out, 2)};
  job.n_saved = out.shape(1);
  job.save_every = value_of<std::int64_t>(fields, "save_every");
  job.dt = value_of<double>(fields, "dt");
  read_parameters(fields, job, n);
  job.streamed = streamed;
  const KernelTable& table = table_of(level);
  std::int64_t diverged = 0;
  without_gil([&](void* gil) {
    diverged = l63fast::integrate(table, job, n, n_threads, signals_pending, gil);
  });
  return diverged;
}

// Reads the fields that tangent and adjoint share; `out` becomes an array shaped like
// the vectors.
template <class T>
l63fast::Linearised<T> linearised(const Job& fields, py::array_t<T>& out) {
  const auto vectors = array_of<T>(fields, "vectors");
  if (vectors.ndim() != 3 || vectors.shape(1) < 1 || vectors.shape(2) != 3)
    throw std::invalid_argument("vectors: not (n, n_vectors, 3)");
  l63fast::Linearised<T> job{};
  job.state = read<T>(fields, "state", 3 * vectors.shape(0));
  job.vectors = read(vectors, vectors.size());
  job.n_vectors = vectors.shape(1);
  job.n_steps = value_of<std::int64_t>(fields, "n_steps");
  if (job.n_steps < 1) throw std::invalid_argument("n_steps: below 1");
  job.dt = value_of<double>(fields, "dt");
  job.parameters = parameters_of(fields);
  out = py::array_t<T>({vectors.shape(0), vectors.shape(1), py::ssize_t{3}});
  job.out_vectors = out.mutable_data();
  return job;
}

template <class T>
py::tuple tangent(const Job& fields, int n_threads, const std::string& level) {
  py::array_t<T> carried;
  auto job = linearised(fields, carried);
  const py::ssize_t n = carried.shape(0);
  py::array_t<T> final_state({n, py::ssize_t{3}});
  job.out_state = final_state.mutable_data();
  const KernelTable& table = table_of(level);
  std::int64_t diverged = 0;
  without_gil([&](void* gil) {
    diverged = l63fast::tangent(table, job, n, n_threads, signals_pending, gil);
  });
  return py::make_tuple(final_state, carried, diverged);
}

template <class T>
py::tuple adjoint(const Job& fields, int n_threads, const std::string& level) {
  py::array_t<T> carried;
  const auto job = linearised(fields, carried);
  const py::ssize_t n = carried.shape(0);
  const KernelTable& table = table_of(level);
  std::int64_t diverged = 0;
  without_gil([&](void* gil) {
    diverged = l63fast::adjoint(table, job, n, n_threads, signals_pending, gil);
  });
  return py::make_tuple(carried, diverged);
}

}  // namespace

void define_model(py::module_& module) {
  module.def("integrate", either(integrate<double>, integrate<float>), py::arg("job"),
             py::arg("streamed"), py::arg("n_threads"), py::arg("level"));
  module.def("tangent", either(tangent<double>, tangent<float>), py::arg("job"),
             py::arg("n_threads"), py::arg("level"));
  module.def("adjoint", either(adjoint<double>, adjoint<float>), py::arg("job"),
             py::arg("n_threads"), py::arg("level"));
}

}  // namespace bindings
