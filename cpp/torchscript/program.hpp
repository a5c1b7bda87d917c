// What the two programs share: their command line, and how they end.
#pragma once

#include <chrono>
#include <functional>
#include <string>

#include "l63fast/encoder.hpp"

namespace l63fast {

struct CommandLine {
  std::string model, input, output;
  Permission permission;
  Batching batching;
};

// Runs a program on
// `NAME MODEL INPUT OUTPUT (--sha256 HASH | --trust) [--threads N] [--chunk N]`.
// Returns its exit code: 0 done, 1 failed, 2 misused, the reason on standard error.
int run_program(int n_words, char** words,
                const std::function<void(const CommandLine&)>& body);

// Seconds of the parts of a program.
class Stopwatch {
 public:
  // Adds the time since the last call to `part`.
  void stop(double& part) {
    const auto now = Clock::now();
    part += std::chrono::duration<double>(now - last_).count();
    last_ = now;
  }

 private:
  using Clock = std::chrono::steady_clock;
  Clock::time_point last_ = Clock::now();
};

}  // namespace l63fast
