// Python binding of batched 3D-Var.
#include "bindings.hpp"

namespace bindings {
namespace {

template <class T>
py::tuple analyse(const Job& fields, int n_threads, const std::string& level) {
  l63fast::Analysis<T> job{};
  read_operator(fields, job);
  const auto background = array_of<T>(fields, "background");
  const auto b_matrices = array_of<T>(fields, "b_matrices");
  const auto r_matrices = array_of<T>(fields, "r_matrices");
  const py::ssize_t n = background.shape(0), dim = job.obs_dim;
  // One block of memory for all results. If five arrays of this size were freed one by
  // one, their memory would go back to the system after every call, and the next call
  // would fault its pages in again.
  const py::ssize_t n_values = n * (4 + dim);
  py::array_t<std::uint8_t> block(n_values * py::ssize_t{sizeof(T)} + 5 * n);
  T* const values = reinterpret_cast<T*>(block.mutable_data());
  auto* const integers = reinterpret_cast<std::int32_t*>(values + n_values);
  py::array_t<T> state({n, py::ssize_t{3}}, values, block);
  py::array_t<T> residual({n, dim}, values + 3 * n, block);
  py::array_t<T> cost(n, values + (3 + dim) * n, block);
  py::array_t<std::int32_t> n_iter(n, integers, block);
  py::array_t<std::int8_t> status(n, reinterpret_cast<std::int8_t*>(integers + n),
                                  block);
  job.background = read(background, 3 * n);
  job.observation = read<T>(fields, "observation", dim * n);
  job.each_b = b_matrices.size() != 9;
  job.each_r = r_matrices.size() != dim * dim;
  job.b_matrix = read(b_matrices, job.each_b ? 9 * n : 9);
  job.r_matrix = read(r_matrices, job.each_r ? dim * dim * n : dim * dim);
  job.n_starts = value_of<int>(fields, "n_starts");
  job.max_iter = value_of<int>(fields, "max_iter");
  job.tol = value_of<double>(fields, "tol");
  job.gaps = value_of<bool>(fields, "gaps");
  job.state = state.mutable_data();
  job.status = status.mutable_data();
  job.n_iter = n_iter.mutable_data();
  job.cost = cost.mutable_data();
  job.residual = residual.mutable_data();
  const KernelTable& table = table_of(level);
  without_gil([&](void* gil) {
    l63fast::analyse(table, job, n, n_threads, signals_pending, gil);
  });
  return py::make_tuple(state, status, n_iter, cost, residual);
}

}  // namespace

void define_analysis(py::module_& module) {
  module.def("analyse", either(analyse<double>, analyse<float>), py::arg("job"),
             py::arg("n_threads"), py::arg("level"));
}

}  // namespace bindings
