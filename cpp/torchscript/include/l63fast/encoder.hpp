// An exported encoder in C++: loaded from its directory, in physical units, in batches.
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <span>
#include <stdexcept>
#include <string>
#include <vector>

namespace l63fast {

// What is wrong with a model, its file first.
class ModelError : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

// h(x): some components of the state, each to a power.
struct ObservationOperator {
  std::string name;             // "xy", "x2z"
  std::vector<int> components;  // of each observation, 0 to 2
  std::vector<int> powers;      // of each, 1 to 4

  // Throws std::invalid_argument where the name is none.
  static ObservationOperator named(const std::string& name);
  int obs_dim() const { return int(components.size()); }
  // state (3), out (obs_dim)
  void observe(const double* state, double* out) const;
};

// TorchScript is a program: it runs when it is loaded and can do what this process can.
// A hash beside the file shows that it is unchanged, not that it is yours.
class Permission {
 public:
  // The hash you expect, 64 hexadecimal digits, from a source you trust.
  static Permission sha256(std::string expected) { return Permission(expected); }
  // Whatever program there is.
  static Permission trust() { return Permission(""); }
  const std::string& expected() const { return expected_; }  // empty: trust

 private:
  explicit Permission(std::string expected) : expected_(std::move(expected)) {}
  std::string expected_;
};

// How a large batch is worked off.
struct Batching {
  std::int64_t chunk = 512;  // samples per call of the program: they stay in cache
  int n_threads = 1;         // more: threads of our own, joined before return, each of
                             // which has one thread of torch
};

// Corrects backgrounds with windows of observations; numbers inside are float32.
// One object may be used by several threads at once.
class Encoder {
 public:
  // Reads model.json and model.ts.pt. The bytes that are checked are those that are
  // loaded. Throws ModelError.
  Encoder(const std::filesystem::path& directory, const Permission& permission);
  Encoder(Encoder&&) noexcept;
  Encoder& operator=(Encoder&&) noexcept;
  ~Encoder();

  const ObservationOperator& observation_operator() const;
  int window() const;        // observations it reads, L
  int hidden_size() const;   // of its memory; 0: it has none
  bool looks_ahead() const;  // the window's other observations are later than its last
  double interval() const;   // between observations (time units); NaN: not in the card

  // Analyses n states. Throws std::invalid_argument where sizes disagree or an input is
  // not finite, ModelError where the program fails.
  void analyse(std::span<const double> background,  // (n, 3), at analysis time
               std::span<const double> obs_window,  // (n, L, obs_dim), the latest last
               std::span<float> hidden,  // (n, hidden_size): zeros at first; replaced
               std::span<double> analysis,  // (n, 3)
               const Batching& batching = {}) const;

 private:
  struct Parts;
  std::unique_ptr<Parts> parts_;
};

}  // namespace l63fast
