// Linear algebra of 1x1, 2x2 and 3x3 matrices on packs, in closed form, without
// overflow wherever the result itself does not overflow.
#pragma once

#include "l63fast/mask.hpp"

namespace l63fast {
inline namespace L63FAST_LEVEL {

template <class T, int M>
struct Matrix {
  Pack<T> at[M][M];
};

template <class T, int M>
struct Vector {
  Pack<T> at[M];
};

template <class T, int M>
L63FAST_INLINE Vector<T, M> times(const Matrix<T, M>& a, const Vector<T, M>& v) {
  Vector<T, M> out;
  for (int i = 0; i < M; ++i) {
    Pack<T> s = a.at[i][0] * v.at[0];
    for (int j = 1; j < M; ++j) s = fma(a.at[i][j], v.at[j], s);
    out.at[i] = s;
  }
  return out;
}

// Returns the inverse of a symmetric positive definite matrix S, by S = L D L^T. Let r
// be the first row and column of S, l = r / r_00, and T the inverse of the remaining
// block, S_ij - l_i r_j. Then the inverse is
//   [[1 / r_00 + l.T l, -(T l)^T], [-T l, T]].
// No product has more factors than two entries divided by a pivot. So nothing leaves
// the floating-point range unless the result does, whatever the scales of the entries.
// Adding a row and a column of the identity does not change the bits of the other
// entries.
template <class T, int M>
L63FAST_INLINE Matrix<T, M> inverse(const Matrix<T, M>& matrix) {
  const auto& r = matrix.at;
  Matrix<T, M> out;
  auto& q = out.at;
  const Pack<T> pivot = broadcast(T(1)) / r[0][0];
  q[0][0] = pivot;
  if constexpr (M > 1) {
    Vector<T, M - 1> l;
    Matrix<T, M - 1> rest;
    for (int i = 0; i < M - 1; ++i) {
      l.at[i] = r[0][i + 1] * pivot;
      for (int j = i; j < M - 1; ++j) {
        rest.at[i][j] = rest.at[j][i] = fma(-l.at[i], r[0][j + 1], r[i + 1][j + 1]);
      }
    }
    const Matrix<T, M - 1> t = inverse(rest);
    const Vector<T, M - 1> moved = times(t, l);
    for (int i = 0; i < M - 1; ++i) {
      q[0][0] = fma(l.at[i], moved.at[i], q[0][0]);
      q[0][i + 1] = q[i + 1][0] = -moved.at[i];
      for (int j = 0; j < M - 1; ++j) q[i + 1][j + 1] = t.at[i][j];
    }
  }
  return out;
}

// Divides each row i of a w = b by the largest power of two that is not above 1 +
// |a_ii|; returns these divisors.
template <class T, int M>
L63FAST_INLINE Vector<T, M> divide_rows(Matrix<T, M>& a, Vector<T, M>& b) {
  Vector<T, M> scale;
  for (int i = 0; i < M; ++i) {
    scale.at[i] = power_of_two<T>(magnitude(a.at[i][i]) + broadcast(T(1)));
    const Pack<T> factor = one_over_power<T>(scale.at[i]);
    for (int j = 0; j < M; ++j) a.at[i][j] = a.at[i][j] * factor;
    b.at[i] = b.at[i] * factor;
  }
  return scale;
}

// Solves a w = b by the adjugate (Cramer's rule). Returns the lanes where every
// eigenvalue of a is positive; `inside` are the lanes whose determinant is finite.
//
// The matrix a must be similar to a symmetric one. Then its eigenvalues are real, and
// all are positive where the trace, the sum of the principal minors and the determinant
// are positive. With `scaled` the rows of a were divided by `scale`, and the answer is
// about the matrix before that division.
template <bool scaled, class T, int M>
L63FAST_INLINE Mask<T> adjugate(const Matrix<T, M>& matrix, const Vector<T, M>& right,
                                const Vector<T, M>& scale, Vector<T, M>& solution,
                                Mask<T>& inside) {
  const auto& a = matrix.at;
  const auto& b = right.at;
  const auto& s = scale.at;
  auto& w = solution.at;
  const Pack<T> zero{}, one = broadcast(T(1));
  Mask<T> positive;
  Pack<T> det = a[0][0];
  if constexpr (M == 1) {
    w[0] = b[0] / det;
    positive = less(zero, det);
  } else if constexpr (M == 2) {
    det = fma(a[0][0], a[1][1], -(a[0][1] * a[1][0]));
    const Pack<T> inv = one / det;
    w[0] = fma(a[1][1], b[0], -(a[0][1] * b[1])) * inv;
    w[1] = fma(a[0][0], b[1], -(a[1][0] * b[0])) * inv;
    Pack<T> trace = a[0][0] + a[1][1];
    if constexpr (scaled) trace = fma(s[1], a[1][1], s[0] * a[0][0]);
    positive = less(zero, det) & less(zero, trace);
  } else {
    const Pack<T> m00 = fma(a[1][1], a[2][2], -(a[1][2] * a[2][1]));
    const Pack<T> m01 = fma(a[0][2], a[2][1], -(a[0][1] * a[2][2]));
    const Pack<T> m02 = fma(a[0][1], a[1][2], -(a[0][2] * a[1][1]));
    const Pack<T> m10 = fma(a[1][2], a[2][0], -(a[1][0] * a[2][2]));
    const Pack<T> m11 = fma(a[0][0], a[2][2], -(a[0][2] * a[2][0]));
    const Pack<T> m12 = fma(a[0][2], a[1][0], -(a[0][0] * a[1][2]));
    const Pack<T> m20 = fma(a[1][0], a[2][1], -(a[1][1] * a[2][0]));
    const Pack<T> m21 = fma(a[0][1], a[2][0], -(a[0][0] * a[2][1]));
    const Pack<T> m22 = fma(a[0][0], a[1][1], -(a[0][1] * a[1][0]));
    det = fma(a[0][2], m20, fma(a[0][1], m10, a[0][0] * m00));
    const Pack<T> inv = one / det;
    w[0] = fma(m02, b[2], fma(m01, b[1], m00 * b[0])) * inv;
    w[1] = fma(m12, b[2], fma(m11, b[1], m10 * b[0])) * inv;
    w[2] = fma(m22, b[2], fma(m21, b[1], m20 * b[0])) * inv;
    Pack<T> trace = (a[0][0] + a[1][1]) + a[2][2], minors = (m00 + m11) + m22;
    if constexpr (scaled) {
      trace = fma(s[2], a[2][2], fma(s[1], a[1][1], s[0] * a[0][0]));
      minors = one_over_power<T>(s[0]) * m00;
      minors = fma(one_over_power<T>(s[1]), m11, minors);
      minors = fma(one_over_power<T>(s[2]), m22, minors);
    }
    positive = less(zero, det) & less(zero, trace) & less(zero, minors);
  }
  inside = finite<T>(det);
  return positive;
}

}  // namespace L63FAST_LEVEL
}  // namespace l63fast
