// A gated recurrent unit over a window and back, compiled once per instruction set.
//
// A few rows of the batch go through all steps together: their products with the
// weights stay in registers until the gates have used them. Each element is a sum in
// the order of its terms, so that a row's bits depend on nothing but that row.
#include "l63fast/gates.hpp"

#include "levels.hpp"

#include "l63fast/cancel.hpp"

namespace l63fast {
inline namespace L63FAST_LEVEL {
namespace {

constexpr int w = width<float>;

// Rows at once: three accumulators each, and the weights, fill the registers.
constexpr int rows = register_bytes == 64 ? 8 : 4;

// Packs that the way back takes at once, per row.
constexpr int columns = 2;

std::int64_t padded(std::int64_t n) {
  return (n + columns * w - 1) / w / columns * columns * w;
}

// Unlike broadcast's addition, which makes +0 of -0, this one costs no instruction.
L63FAST_INLINE Pack<float> splat(float value) { return value - Pack<float>{}; }

L63FAST_INLINE Pack<float> load_some(const float* values, std::int64_t count) {
  if (count >= w) return load_pack(values);
  float some[w] = {};
  for (std::int64_t i = 0; i < count; ++i) some[i] = values[i];
  return load_pack(some);
}

L63FAST_INLINE void store_some(float* values, std::int64_t count, Pack<float> pack) {
  if (count >= w) return store_pack(values, pack);
  float some[w];
  store_pack(some, pack);
  for (std::int64_t i = 0; i < count; ++i) values[i] = some[i];
}

// For each pack of units, in the order in which they are used: what the gates' sums
// start from (r, z, the candidate's state and input part), then r, z and c of each
// state's weights, then of each input's.
void pack_weights(const GruWindow& job, float* packed) {
  const std::int64_t h = job.n_units, d = job.n_inputs;
  for (std::int64_t first = 0; first < h; first += w) {
    for (int lane = 0; lane < w; ++lane) {
      const std::int64_t j = first + lane;
      float* out = packed + lane;
      const auto put = [&](float value) {
        *out = value;
        out += w;
      };
      if (j >= h) {
        for (std::int64_t k = 0; k < 4 + 3 * (h + d); ++k) put(0.0f);
        continue;
      }
      const float *bi = job.input_bias + j, *bs = job.state_bias + j;
      put(bi[0] + bs[0]);
      put(bi[h] + bs[h]);
      put(bs[2 * h]);
      put(bi[2 * h]);
      for (std::int64_t k = 0; k < h; ++k) {
        for (int g = 0; g < 3; ++g) put(job.state_weights[(g * h + j) * h + k]);
      }
      for (std::int64_t k = 0; k < d; ++k) {
        for (int g = 0; g < 3; ++g) put(job.input_weights[(g * h + j) * d + k]);
      }
    }
    packed += w * (4 + 3 * (h + d));
  }
}

// One step of M rows.
template <int M>
void step(const GruWindow& job, const float* packed, std::int64_t t, std::int64_t row) {
  const std::int64_t h = job.n_units, d = job.n_inputs;
  const float* const input = job.inputs + (row * job.n_steps + t) * d;
  float* const gates = job.gates + (t * job.n + row) * 4 * h;
  float* const next = job.states + (t * job.n + row) * h;
  const float* const state = t > 0 ? next - job.n * h : nullptr;
  for (std::int64_t j = 0; j < h; j += w) {
    Pack<float> r[M], z[M], s[M];
#pragma GCC unroll 8
    for (int m = 0; m < M; ++m) {
      r[m] = load_pack(packed);
      z[m] = load_pack(packed + w);
      s[m] = load_pack(packed + 2 * w);
    }
    const Pack<float> start = load_pack(packed + 3 * w);
    packed += 4 * w;
    for (std::int64_t k = 0; t > 0 && k < h; ++k) {
      const Pack<float> wr = load_pack(packed + 3 * w * k);
      const Pack<float> wz = load_pack(packed + 3 * w * k + w);
      const Pack<float> ws = load_pack(packed + 3 * w * k + 2 * w);
#pragma GCC unroll 8
      for (int m = 0; m < M; ++m) {
        const Pack<float> value = splat(state[m * h + k]);
        r[m] = fma(value, wr, r[m]);
        z[m] = fma(value, wz, z[m]);
        s[m] = fma(value, ws, s[m]);
      }
    }
    packed += 3 * w * h;
#pragma GCC unroll 8
    for (int m = 0; m < M; ++m) {
      Pack<float> c = start;
      for (std::int64_t k = 0; k < d; ++k) {
        const Pack<float> value = splat(input[m * job.n_steps * d + k]);
        r[m] = fma(value, load_pack(packed + 3 * w * k), r[m]);
        z[m] = fma(value, load_pack(packed + 3 * w * k + w), z[m]);
        c = fma(value, load_pack(packed + 3 * w * k + 2 * w), c);
      }
      const Gates g = gates_of(r[m], z[m], c, s[m]);
      float* const out = gates + 4 * h * m + j;
      store_some(out, h - j, g.reset);
      store_some(out + h, h - j, g.update);
      store_some(out + 2 * h, h - j, g.candidate);
      store_some(out + 3 * h, h - j, g.part);
      const Pack<float> before =
          t > 0 ? load_some(state + m * h + j, h - j) : Pack<float>{};
      store_some(next + m * h + j, h - j, next_state(g, before));
    }
    packed += 3 * w * d;
  }
}

// One step back of M rows: `gradient` (M, padded units), with respect to the state
// after the step, becomes that with respect to the state before it.
template <int M>
void step_back(const GruWindow& job, const float* packed, std::int64_t t,
               std::int64_t row, float* gradient) {
  const std::int64_t h = job.n_units, wide = padded(h);
  const float* const gates = job.gates + (t * job.n + row) * 4 * h;
  float* const slopes = job.slopes + (t * job.n + row) * 4 * h;
  const float* const state = t > 0 ? job.states + ((t - 1) * job.n + row) * h : nullptr;
#pragma GCC unroll 8
  for (int m = 0; m < M; ++m) {
    for (std::int64_t j = 0; j < h; j += w) {
      const float* const in = gates + 4 * h * m + j;
      const Gates g = {load_some(in, h - j), load_some(in + h, h - j),
                       load_some(in + 2 * h, h - j), load_some(in + 3 * h, h - j)};
      const Pack<float> before =
          t > 0 ? load_some(state + m * h + j, h - j) : Pack<float>{};
      float* const later = gradient + m * wide + j;
      const GateGradient slope = gradient_of(g, before, load_pack(later));
      float* const out = slopes + 4 * h * m + j;
      store_some(out, h - j, slope.reset);
      store_some(out + h, h - j, slope.update);
      store_some(out + 2 * h, h - j, slope.part);
      store_some(out + 3 * h, h - j, slope.input);
      store_pack(later, slope.state);
    }
  }
  for (std::int64_t j = 0; t > 0 && j < wide; j += columns * w) {
    Pack<float> sum[M][columns];
#pragma GCC unroll 8
    for (int m = 0; m < M; ++m) {
#pragma GCC unroll 2
      for (int i = 0; i < columns; ++i) {
        sum[m][i] = load_pack(gradient + m * wide + j + i * w);
      }
    }
    for (std::int64_t k = 0; k < 3 * h; ++k) {
      const Pack<float> w0 = load_pack(packed + k * wide + j);
      const Pack<float> w1 = load_pack(packed + k * wide + j + w);
#pragma GCC unroll 8
      for (int m = 0; m < M; ++m) {
        const Pack<float> value = splat(slopes[4 * h * m + k]);
        sum[m][0] = fma(value, w0, sum[m][0]);
        sum[m][1] = fma(value, w1, sum[m][1]);
      }
    }
#pragma GCC unroll 8
    for (int m = 0; m < M; ++m) {
#pragma GCC unroll 2
      for (int i = 0; i < columns; ++i) {
        store_pack(gradient + m * wide + j + i * w, sum[m][i]);
      }
    }
  }
}

template <int M>
void window(const GruWindow& job, const float* packed, std::int64_t row) {
  for (std::int64_t t = 0; t < job.n_steps; ++t) step<M>(job, packed, t, row);
}

template <int M>
void window_back(const GruWindow& job, const float* packed, std::int64_t row,
                 float* gradient) {
  const std::int64_t h = job.n_units, wide = padded(h);
#pragma GCC unroll 8
  for (int m = 0; m < M; ++m) {
    for (std::int64_t j = 0; j < wide; ++j) {
      gradient[m * wide + j] = j < h ? job.gradient[(row + m) * h + j] : 0.0f;
    }
  }
  for (std::int64_t t = job.n_steps - 1; t >= 0; --t) {
    step_back<M>(job, packed, t, row, gradient);
  }
}

}  // namespace

std::int64_t gru_scratch(std::int64_t n_units, std::int64_t n_inputs) {
  const std::int64_t wide = padded(n_units);
  const std::int64_t there = wide * (4 + 3 * (n_units + n_inputs));
  const std::int64_t back = wide * (3 * n_units + rows);
  return (there > back ? there : back) * static_cast<std::int64_t>(sizeof(float));
}

void gru(const GruWindow& job, std::int64_t begin, std::int64_t end, void* scratch,
         const int* cancel) {
  float* const packed = static_cast<float*>(scratch);
  pack_weights(job, packed);
  std::int64_t row = begin;
  for (; end - row >= rows && !is_set(cancel); row += rows) {
    window<rows>(job, packed, row);
  }
  for (; row < end && !is_set(cancel); ++row) window<1>(job, packed, row);
}

void gru_back(const GruWindow& job, std::int64_t begin, std::int64_t end, void* scratch,
              const int* cancel) {
  const std::int64_t h = job.n_units, wide = padded(h);
  float* const gradient = static_cast<float*>(scratch);
  float* const packed = gradient + rows * wide;
  for (std::int64_t k = 0; k < 3 * h; ++k) {
    for (std::int64_t j = 0; j < wide; ++j) {
      packed[k * wide + j] = j < h ? job.state_weights[k * h + j] : 0.0f;
    }
  }
  std::int64_t row = begin;
  for (; end - row >= rows && !is_set(cancel); row += rows) {
    window_back<rows>(job, packed, row, gradient);
  }
  for (; row < end && !is_set(cancel); ++row) {
    window_back<1>(job, packed, row, gradient);
  }
}

}  // namespace L63FAST_LEVEL
}  // namespace l63fast
