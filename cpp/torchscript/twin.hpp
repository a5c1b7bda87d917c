// A twin experiment, truth and observations, made from the random draws in a file.
#pragma once

#include <cstddef>
#include <string>
#include <vector>

#include "data_file.hpp"
#include "l63fast/encoder.hpp"
#include "l63fast/kernels.hpp"

namespace l63fast {

// Returns the fastest kernels of this processor; all kernels give the same bits.
const KernelTable& fastest_kernels();

struct Model {
  double dt;  // time units
  Parameters parameters;
  int steps_per_cycle;
  int n_threads;

  // Returns the states (n, 3) one cycle later; states that are or become non-finite are
  // NaN.
  std::vector<double> forecast(const std::vector<double>& states) const;
};

struct Twin {
  Model model;
  std::size_t n, n_obs, obs_dim;
  std::vector<double> truth;         // (n, n_obs, 3), at each observation
  std::vector<double> observations;  // (n, n_obs, obs_dim)

  // Throws std::runtime_error where the file does not hold the inputs of a cycled
  // experiment.
  static Twin from(const InputFile& file, const ObservationOperator& h, int n_threads);
};

}  // namespace l63fast
