// What an encoder reads of a background: its coordinates and innovations, their ways
// back, and the state of an analysis.
#pragma once

#include <cmath>
#include <cstdint>

#include "l63fast/network.hpp"

namespace l63fast {

// Keeps the radius differentiable on the z axis.
constexpr float least_square_radius = 1e-12f;

inline float radius_of(float x, float y) {
  return std::sqrt(x * x + y * y + least_square_radius);
}

// Doubles the angle around the z axis: a state and its mirror image become the same.
inline void fold(const float* state, float* coordinates) {
  const float x = state[0], y = state[1], radius = radius_of(x, y);
  coordinates[0] = (x * x - y * y) / radius;
  coordinates[1] = 2.0f * x * y / radius;
  coordinates[2] = state[2];
}

inline void fold_backward(const float* state, float* gradient) {
  const float x = state[0], y = state[1], radius = radius_of(x, y);
  const float p = gradient[0] / radius, q = gradient[1] / radius;
  // That of the radius, which both coordinates are divided by.
  const float r = -((x * x - y * y) * p + 2.0f * x * y * q) / (radius * radius);
  gradient[0] = 2.0f * (x * p + y * q) + x * r;
  gradient[1] = 2.0f * (x * q - y * p) + y * r;
}

// Halves the angle. With a gradient, turns that of the state into that of the
// coordinates, for the mirror image that is nearer to the background.
inline void unfold(const float* coordinates, const float* background, float* state,
                   float* gradient = nullptr) {
  const float p = coordinates[0], q = coordinates[1], radius = radius_of(p, q);
  const bool is_positive = p >= 0.0f;
  const float side = is_positive ? 1.0f : -1.0f, length = radius + side * p;
  const float scale = std::sqrt(0.5f * radius / length);
  const float x = scale * (is_positive ? length : q);
  const float y = scale * (is_positive ? q : length);
  const float agreement = x * background[0] + y * background[1];
  const float sign = agreement < 0.0f ? -1.0f : 1.0f;
  state[0] = sign * x;
  state[1] = sign * y;
  state[2] = coordinates[2];
  if (!gradient) return;
  const float of_long = sign * gradient[is_positive ? 0 : 1];
  const float of_q = sign * gradient[is_positive ? 1 : 0];
  const float of_scale = length * of_long + q * of_q;
  // scale^2 is half of radius / length.
  const float part = of_scale * 0.25f / (scale * length);
  const float of_length = scale * of_long - part * radius / length;
  const float of_radius = part + of_length;
  gradient[0] = side * of_length + of_radius * p / radius;
  gradient[1] = scale * of_q + of_radius * q / radius;
}

// Writes the innovations of a state, in their scale, and where the chain reads slopes
// the two functions of them in `Encoder.innovation`; zero for a missing value. With
// gradients of these, adds those of the state.
inline void innovations(const Chain& chain, const float* state, const float* observed,
                        float* values, const float* of_values = nullptr,
                        float* of_state = nullptr) {
  const int m = chain.n_observed;
  for (int j = 0; j < m; ++j) {
    const std::int64_t component = chain.components[j], power = chain.powers[j];
    const float x = state[component], unit = chain.innovation_std[j];
    float value = x, slope = 1.0f, curvature = 0.0f;  // of x to its power
    for (std::int64_t k = 1; k < power; ++k) {
      curvature = curvature * x + 2.0f * slope;
      slope = slope * x + value;
      value *= x;
    }
    const bool missing = observed[j] != observed[j];
    const float d = missing ? 0.0f : (observed[j] - value) / unit;
    const float of_d = missing ? 0.0f : -slope / unit;
    if (!chain.reads_slope) {
      if (values) values[j] = d;
      if (of_state) of_state[component] += of_values[j] * of_d;
      continue;
    }
    const float factor = chain.scale[component] / unit;
    const bool turns = chain.folds && slope < 0.0f;
    const float a = (turns ? -slope : slope) * factor;
    const float of_a = missing ? 0.0f : (turns ? -curvature : curvature) * factor;
    const float square = 1.0f + a * a, spread = std::sqrt(square);
    if (values) {
      values[j] = d / spread;
      values[m + j] = a * d / square;
    }
    if (!of_state) continue;
    const float first = of_d / spread - d * a * of_a / (square * spread);
    const float second =
        (of_a * d + a * of_d) / square - 2.0f * a * a * d * of_a / (square * square);
    of_state[component] += of_values[j] * first + of_values[m + j] * second;
  }
}

}  // namespace l63fast
