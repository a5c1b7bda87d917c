// How a kernel is told to stop: a flag that it looks at now and then.
#pragma once

#include <cstdint>

#include "l63fast/pack.hpp"

namespace l63fast {
inline namespace L63FAST_LEVEL {

constexpr std::int64_t steps_per_look = 256;  // model steps between two looks

L63FAST_INLINE bool is_set(const int* cancel) {
  return __atomic_load_n(cancel, __ATOMIC_RELAXED) != 0;
}

}  // namespace L63FAST_LEVEL
}  // namespace l63fast
