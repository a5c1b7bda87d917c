// Shared by the two programs: their command line, and their exit codes.
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

// Runs a program with the command line
//   NAME MODEL INPUT OUTPUT (--sha256 HASH | --trust) [--threads N] [--chunk N]
// Returns its exit code: 0 done, 1 failed, 2 wrong command line. The reason goes to
// standard error.
int run_program(int n_words, char** words,
                const std::function<void(const CommandLine&)>& body);

// Measures the seconds that parts of a program take.
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
