// An exported encoder in C++: loaded from its directory, applied in batches, with
// inputs and outputs in physical units.
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <span>
#include <stdexcept>
#include <string>
#include <vector>

namespace l63fast {

// A model cannot be loaded or has failed; the message begins with its file.
class ModelError : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

// The observation operator h(x): some components of the state, each to a power.
struct ObservationOperator {
  std::string name;             // "xy", "x2z"
  std::vector<int> components;  // of each observation, 0 to 2
  std::vector<int> powers;      // of each, 1 to 4

  // Throws std::invalid_argument where this is not the name of an operator.
  static ObservationOperator named(const std::string& name);
  int obs_dim() const { return int(components.size()); }
  // state (3), out (obs_dim)
  void observe(const double* state, double* out) const;
};

// Permission to load a program. TorchScript is a program: it runs when it is loaded and
// can do everything that this process can do. A hash stored beside the file shows that
// the file is unchanged, not that its source can be trusted.
class Permission {
 public:
  // Loads only a file with this hash, 64 hexadecimal digits, from a source you trust.
  static Permission sha256(std::string expected) { return Permission(expected); }
  // Loads any program.
  static Permission trust() { return Permission(""); }
  const std::string& expected() const { return expected_; }  // empty: trust

 private:
  explicit Permission(std::string expected) : expected_(std::move(expected)) {}
  std::string expected_;
};

// Settings for large batches.
struct Batching {
  std::int64_t chunk = 512;  // samples per call of the program, few enough to stay in
                             // cache
  int n_threads = 1;         // above 1: new threads, joined before return, each with
                             // one thread of torch
};

// Analyses backgrounds with windows of observations; it computes in float32. Several
// threads may use one object at the same time.
class Encoder {
 public:
  // Reads model.json and model.ts.pt; the loaded bytes are the checked ones. Throws
  // ModelError.
  Encoder(const std::filesystem::path& directory, const Permission& permission);
  Encoder(Encoder&&) noexcept;
  Encoder& operator=(Encoder&&) noexcept;
  ~Encoder();

  const ObservationOperator& observation_operator() const;
  int window() const;        // observations in a window, L
  int hidden_size() const;   // size of the hidden state; 0: it has none
  bool looks_ahead() const;  // whether the window's other observations are later than
                             // the analysis time
  bool reads_gaps() const;   // whether observations may have gaps
  int observation_size() const;  // values of an observation in a window: obs_dim, and
                                 // with gaps the time since the previous observation
  int n_components()
      const;                // normals of an estimated distribution, k; 0: there is none
  double interval() const;  // between observations (time units); NaN: not given in the
                            // card

  // Analyses n states. Throws std::invalid_argument where sizes disagree or an input is
  // not finite, and ModelError where the program fails.
  void analyse(
      std::span<const double> background,  // (n, 3), at analysis time
                                           // (n, L, observation_size), the latest last;
                                           // with gaps NaN where a value is missing
      std::span<const double> obs_window,
      std::span<float> hidden,     // (n, hidden_size): zeros for the first
                                   // analysis; replaced by the next hidden state
      std::span<double> analysis,  // (n, 3)
      const Batching& batching = {},
      // (n, k, 13) or empty: weight, mean, rows of A with the covariance A A^T
      std::span<double> components = {}) const;

 private:
  struct Parts;
  std::unique_ptr<Parts> parts_;
};

}  // namespace l63fast
