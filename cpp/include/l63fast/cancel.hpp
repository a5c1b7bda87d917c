// Cancellation: a flag that kernels read now and then.
#pragma once

#include <cstdint>

#include "l63fast/pack.hpp"

namespace l63fast {
inline namespace L63FAST_LEVEL {

constexpr std::int64_t steps_per_check =
    256;  // model steps between two reads of the flag

L63FAST_INLINE bool is_set(const int* cancel) {
  return __atomic_load_n(cancel, __ATOMIC_RELAXED) != 0;
}

}  // namespace L63FAST_LEVEL
}  // namespace l63fast
