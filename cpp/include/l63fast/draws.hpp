// The random numbers of one trajectory of a particle filter, by stage and particle.
#pragma once

#include "l63fast/elementary.hpp"
#include "l63fast/philox.hpp"

namespace l63fast {
inline namespace L63FAST_LEVEL {

// The use of a random number; with particle, trajectory and stage it is the counter.
enum class Use : std::uint32_t { noise, jitter, offset };

struct Draws {
  PhiloxKey key;
  std::uint64_t trajectory, stage;

  // Draws for the particles of one register, from number `first` on.
  L63FAST_INLINE void uniforms_of(std::int64_t first, Use use,
                                  Pack<double> (&u)[3]) const {
    const Words particles =
        lane_numbers() + broadcast_word(static_cast<std::uint64_t>(first));
    uniforms(philox({particles, broadcast_word(trajectory), broadcast_word(stage),
                     broadcast_word(static_cast<std::uint64_t>(use))},
                    key),
             u);
  }

  L63FAST_INLINE void normals_of(std::int64_t first, Use use,
                                 Pack<double> (&normals)[3]) const {
    uniforms_of(first, use, normals);
    for (Pack<double>& value : normals) value = normal_quantile(value);
  }
};

}  // namespace L63FAST_LEVEL
}  // namespace l63fast
