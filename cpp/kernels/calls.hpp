// What every call of a kernel needs: default arithmetic, aligned scratch memory.
#pragma once

#include <cfenv>

#include "l63fast/kernels.hpp"

namespace l63fast {

// Sets default IEEE 754 arithmetic during its lifetime, also for threads that are
// started meanwhile. Code built with fast-math, or a caller that uses another rounding
// mode or flushes denormal numbers to zero, would change the bits.
class DefaultArithmetic {
 public:
  DefaultArithmetic() {
    std::fegetenv(&callers_);
    std::fesetenv(FE_DFL_ENV);
  }
  ~DefaultArithmetic() { std::fesetenv(&callers_); }
  DefaultArithmetic(const DefaultArithmetic&) = delete;
  DefaultArithmetic& operator=(const DefaultArithmetic&) = delete;

 private:
  std::fenv_t callers_;
};

struct alignas(64) CacheLine {
  unsigned char bytes[64];
};

}  // namespace l63fast
