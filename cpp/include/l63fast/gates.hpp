// The activation functions of networks and their derivatives, in float32: those of the
// gates of recurrent units, and silu.
#pragma once

#include "l63fast/mask.hpp"
#include "l63fast/pack.hpp"

namespace l63fast {
inline namespace L63FAST_LEVEL {

// exp(a) = scale + scale * rest for -126 ln 2 < a <= 0. The scale is a power of two,
// and rest = exp(r) - 1 with |r| <= ln(2)/2 keeps its relative accuracy near zero.
struct Exponential {
  Pack<float> scale, rest;
};

L63FAST_INLINE Exponential exponential_parts(Pack<float> a) {
  typedef std::uint32_t Words __attribute__((vector_size(register_bytes)));
  // Adding 1.5 * 2^23 rounds to a whole number n and leaves n in the lowest bits.
  const Pack<float> shift = broadcast(12582912.0f);
  const Pack<float> moved = fma(a, broadcast(0x1.715476p0f), shift);
  const Pack<float> n = moved - shift;
  Pack<float> r = fma(n, broadcast(-0x1.62e43p-1f), a);
  r = fma(n, broadcast(0x1.05c61p-29f), r);
  // The Taylor series of exp(r) - 1, by Horner's rule.
  Pack<float> u = fma(broadcast(1.0f / 5040), r, broadcast(1.0f / 720));
  u = fma(u, r, broadcast(1.0f / 120));
  u = fma(u, r, broadcast(1.0f / 24));
  u = fma(u, r, broadcast(1.0f / 6));
  u = fma(u, r, broadcast(0.5f));
  const Words scale = ((Words)moved << 23) + (Words{} + 0x3f800000u);
  return {(Pack<float>)scale, fma(u, r * r, r)};
}

// Returns 1 / (1 + exp(-a)); 0 below -87, NaN for NaN. exp is taken of -|a|, so it
// never overflows.
L63FAST_INLINE Pack<float> sigmoid(Pack<float> a) {
  const Pack<float> size = magnitude(a), one = broadcast(1.0f), zero{};
  const Exponential e = exponential_parts(-size);
  const Pack<float> tail =
      select(less(broadcast(87.0f), size), zero, fma(e.scale, e.rest, e.scale));
  return select(less(a, zero), tail, one) / (one + tail);
}

// Returns tanh(a) = -(exp(-2 |a|) - 1) / (exp(-2 |a|) + 1) with the sign of a; NaN for
// NaN.
L63FAST_INLINE Pack<float> hyperbolic_tangent(Pack<float> a) {
  const Pack<float> size = magnitude(a), one = broadcast(1.0f), zero{};
  const Exponential e = exponential_parts(-(size + size));
  const Pack<float> less_one =
      select(less(broadcast(40.0f), size), -one, fma(e.scale, e.rest, e.scale - one));
  const Pack<float> t = less_one / (broadcast(2.0f) + less_one);
  return select(less(a, zero), t, -t);
}

// a / (1 + exp(-a)) and its derivative.
struct Silu {
  Pack<float> value, slope;
};

L63FAST_INLINE Silu silu(Pack<float> a) {
  const Pack<float> s = sigmoid(a), value = a * s;
  return {value, fma(value, broadcast(1.0f) - s, s)};
}

// A gated recurrent unit (Cho et al. 2014, in the form of cuDNN): reset gate r, update
// gate z, candidate c = tanh(input part + r * state part), next state c + z (state -
// c).
struct Gates {
  Pack<float> reset, update, candidate, part;  // part: the candidate's state part
};

// Returns the gates, given the pre-activations of r and z and the two parts of the
// candidate's.
L63FAST_INLINE Gates gates_of(Pack<float> reset, Pack<float> update, Pack<float> input,
                              Pack<float> part) {
  const Pack<float> r = sigmoid(reset);
  return {r, sigmoid(update), hyperbolic_tangent(fma(r, part, input)), part};
}

L63FAST_INLINE Pack<float> next_state(const Gates& g, Pack<float> state) {
  return fma(g.update, state - g.candidate, g.candidate);
}

// The gradient with respect to the pre-activations, and the direct part of the gradient
// with respect to the state, which does not pass through the gates.
struct GateGradient {
  Pack<float> reset, update, part, input, state;
};

L63FAST_INLINE GateGradient gradient_of(const Gates& g, Pack<float> state,
                                        Pack<float> gradient) {
  const Pack<float> one = broadcast(1.0f);
  const Pack<float> kept = gradient * g.update;
  const Pack<float> input = (gradient - kept) * fma(-g.candidate, g.candidate, one);
  const Pack<float> part = input * g.reset;
  return {part * g.part * (one - g.reset),
          kept * (one - g.update) * (state - g.candidate), part, input, kept};
}

// A long short-term memory (Hochreiter & Schmidhuber 1997, with a forget gate): the
// next cell is c' = f c + i g, the output o tanh(c').
struct CellGates {
  Pack<float> input, forget, candidate, output, squashed, cell;  // squashed: tanh(c')
};

L63FAST_INLINE CellGates cell_gates(Pack<float> input, Pack<float> forget,
                                    Pack<float> candidate, Pack<float> output,
                                    Pack<float> cell) {
  const Pack<float> i = sigmoid(input), g = hyperbolic_tangent(candidate);
  const Pack<float> f = sigmoid(forget), next = fma(f, cell, i * g);
  return {i, f, g, sigmoid(output), hyperbolic_tangent(next), next};
}

// The gradient with respect to the pre-activations, and to the cell before.
struct CellGradient {
  Pack<float> input, forget, candidate, output, cell;
};

// `gradient` is with respect to the output, `later` with respect to the next cell.
L63FAST_INLINE CellGradient gradient_of(const CellGates& g, Pack<float> cell,
                                        Pack<float> gradient, Pack<float> later) {
  const Pack<float> one = broadcast(1.0f);
  const Pack<float> next =
      fma(gradient * g.output, fma(-g.squashed, g.squashed, one), later);
  return {next * g.candidate * g.input * (one - g.input),
          next * cell * g.forget * (one - g.forget),
          next * g.input * fma(-g.candidate, g.candidate, one),
          gradient * g.squashed * g.output * (one - g.output), next * g.forget};
}

}  // namespace L63FAST_LEVEL
}  // namespace l63fast
