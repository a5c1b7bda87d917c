// Closed-form 1x1, 2x2 and 3x3 algebra on packs, by the adjugate.
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

// Inverse of a symmetric matrix.
template <class T, int M>
L63FAST_INLINE Matrix<T, M> inverse(const Matrix<T, M>& matrix) {
  const auto& r = matrix.at;
  const Pack<T> one = broadcast(T(1));
  Matrix<T, M> out;
  auto& q = out.at;
  if constexpr (M == 1) {
    q[0][0] = one / r[0][0];
  } else if constexpr (M == 2) {
    const Pack<T> inv = one / fma(r[0][0], r[1][1], -(r[0][1] * r[0][1]));
    q[0][0] = r[1][1] * inv;
    q[0][1] = q[1][0] = -(r[0][1] * inv);
    q[1][1] = r[0][0] * inv;
  } else {
    const Pack<T> m00 = fma(r[1][1], r[2][2], -(r[1][2] * r[1][2]));
    const Pack<T> m01 = fma(r[0][2], r[1][2], -(r[0][1] * r[2][2]));
    const Pack<T> m02 = fma(r[0][1], r[1][2], -(r[0][2] * r[1][1]));
    const Pack<T> m11 = fma(r[0][0], r[2][2], -(r[0][2] * r[0][2]));
    const Pack<T> m12 = fma(r[0][2], r[0][1], -(r[0][0] * r[1][2]));
    const Pack<T> m22 = fma(r[0][0], r[1][1], -(r[0][1] * r[0][1]));
    const Pack<T> inv = one / fma(r[0][2], m02, fma(r[0][1], m01, r[0][0] * m00));
    q[0][0] = m00 * inv;
    q[0][1] = q[1][0] = m01 * inv;
    q[0][2] = q[2][0] = m02 * inv;
    q[1][1] = m11 * inv;
    q[1][2] = q[2][1] = m12 * inv;
    q[2][2] = m22 * inv;
  }
  return out;
}

// Solves a w = b; the mask says where every eigenvalue of a is positive.
//
// a must be similar to a symmetric matrix: then its eigenvalues are real, and all are
// positive where the trace, the sum of the principal minors and the determinant are.
template <class T, int M>
L63FAST_INLINE Mask<T> solve(const Matrix<T, M>& matrix, const Vector<T, M>& right,
                             Vector<T, M>& solution) {
  const auto& a = matrix.at;
  const auto& b = right.at;
  auto& w = solution.at;
  const Pack<T> zero{}, one = broadcast(T(1));
  if constexpr (M == 1) {
    w[0] = b[0] / a[0][0];
    return less(zero, a[0][0]);
  } else if constexpr (M == 2) {
    const Pack<T> det = fma(a[0][0], a[1][1], -(a[0][1] * a[1][0]));
    const Pack<T> inv = one / det;
    w[0] = fma(a[1][1], b[0], -(a[0][1] * b[1])) * inv;
    w[1] = fma(a[0][0], b[1], -(a[1][0] * b[0])) * inv;
    return less(zero, det) & less(zero, a[0][0] + a[1][1]);
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
    const Pack<T> det = fma(a[0][2], m20, fma(a[0][1], m10, a[0][0] * m00));
    const Pack<T> inv = one / det;
    w[0] = fma(m02, b[2], fma(m01, b[1], m00 * b[0])) * inv;
    w[1] = fma(m12, b[2], fma(m11, b[1], m10 * b[0])) * inv;
    w[2] = fma(m22, b[2], fma(m21, b[1], m20 * b[0])) * inv;
    const Pack<T> trace = (a[0][0] + a[1][1]) + a[2][2];
    return less(zero, det) & less(zero, trace) & less(zero, (m00 + m11) + m22);
  }
}

}  // namespace L63FAST_LEVEL
}  // namespace l63fast
