// The forecast of a trajectory's particles: steps of the model, and model error.
#pragma once

#include "l63fast/cancel.hpp"
#include "l63fast/draws.hpp"
#include "l63fast/lorenz63.hpp"
#include "l63fast/particle_arrays.hpp"

namespace l63fast {
inline namespace L63FAST_LEVEL {

// Steps M packs of particles, from number `first` on. Returns false where it was
// cancelled.
template <int M>
bool step_group(ParticleArrays& particles, std::int64_t first, std::int64_t n_steps,
                const StepConstants<double>& k, const int* cancel) {
  constexpr std::int64_t w = width<double>;
  Components<double> s[M];
  for (int m = 0; m < M; ++m) {
    const std::int64_t i = first + m * w;
    s[m] = {load_pack(particles.x + i), load_pack(particles.y + i),
            load_pack(particles.z + i)};
  }
  for (std::int64_t left = n_steps; left > 0; left -= steps_per_check) {
    if (is_set(cancel)) return false;
    const std::int64_t steps = left < steps_per_check ? left : steps_per_check;
    for (std::int64_t step = 0; step < steps; ++step) {
#pragma GCC unroll 8
      for (int m = 0; m < M; ++m) s[m] = rk4_step<double>(s[m], k);
    }
  }
  for (int m = 0; m < M; ++m) {
    const std::int64_t i = first + m * w;
    store_pack(particles.x + i, s[m].x);
    store_pack(particles.y + i, s[m].y);
    store_pack(particles.z + i, s[m].z);
  }
  return true;
}

// Adds the model error root * N(0, I) to every particle; `root` is (3, 3).
inline void add_noise(ParticleArrays& particles, const Draws& draws,
                      const double* root) {
  for (std::int64_t i = 0; i < particles.padded; i += width<double>) {
    Pack<double> n[3];
    draws.normals_of(i, Use::noise, n);
    double* const states[3] = {particles.x + i, particles.y + i, particles.z + i};
    for (int c = 0; c < 3; ++c) {
      Pack<double> state = load_pack(states[c]);
      for (int j = 0; j < 3; ++j) {
        state = fma(broadcast(root[3 * c + j]), n[j], state);
      }
      store_pack(states[c], state);
    }
  }
  for (std::int64_t i = particles.n; i < particles.padded; ++i) {
    particles.x[i] = particles.y[i] = particles.z[i] = 0.0;
  }
}

}  // namespace L63FAST_LEVEL
}  // namespace l63fast
