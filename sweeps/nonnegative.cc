#include "sweeps/nonnegative.h"

#include <algorithm>
#include <cmath>
#include <cstddef>

namespace plumb::sweeps {
namespace {

using Vector = std::vector<double>;
using Matrix = std::vector<Vector>;

// Least squares in the columns `used`, by modified Gram-Schmidt; a column that the ones before it
// give gets 0.
Vector Solve(const Matrix& columns, const Vector& b, const std::vector<size_t>& used) {
  Matrix q;
  Matrix r(used.size(), Vector(used.size()));
  std::vector<bool> kept(used.size());
  Vector rest = b, projected(used.size());
  for (size_t i = 0; i < used.size(); ++i) {
    Vector v = columns[used[i]];
    for (size_t j = 0; j < i; ++j) {
      if (!kept[j]) continue;
      double dot = 0;
      for (size_t k = 0; k < v.size(); ++k) dot += q[j][k] * v[k];
      for (size_t k = 0; k < v.size(); ++k) v[k] -= dot * q[j][k];
      r[j][i] = dot;
    }
    double norm = 0;
    for (const double x : v) norm += x * x;
    norm = std::sqrt(norm);
    kept[i] = norm > 1e-9;  // columns have unit length
    for (double& x : v) x = kept[i] ? x / norm : 0;
    r[i][i] = norm;
    for (size_t k = 0; kept[i] && k < v.size(); ++k) projected[i] += v[k] * rest[k];
    for (size_t k = 0; kept[i] && k < v.size(); ++k) rest[k] -= projected[i] * v[k];
    q.push_back(std::move(v));
  }
  Vector x(used.size());
  for (size_t i = used.size(); i-- > 0;) {
    if (!kept[i]) continue;
    double sum = projected[i];
    for (size_t j = i + 1; j < used.size(); ++j) sum -= r[i][j] * x[j];
    x[i] = sum / r[i][i];
  }
  return x;
}

}  // namespace

Vector NonNegativeLeastSquares(const Matrix& rows, const Vector& b) {
  const size_t n = rows.front().size();
  Matrix columns(n, Vector(rows.size()));
  Vector length(n);
  for (size_t c = 0; c < n; ++c) {
    for (size_t r = 0; r < rows.size(); ++r) length[c] += rows[r][c] * rows[r][c];
    length[c] = std::sqrt(length[c]);
    for (size_t r = 0; r < rows.size(); ++r)
      columns[c][r] = length[c] > 0 ? rows[r][c] / length[c] : 0;
  }
  Vector x(n);
  std::vector<size_t> used;  // columns whose x is above 0
  double scale = 0;
  for (const double v : b) scale = std::max(scale, std::abs(v));
  for (size_t round = 0; round < 10 * n; ++round) {
    // The column along which the error falls fastest.
    Vector rest = b;
    for (const size_t c : used) {
      for (size_t r = 0; r < rest.size(); ++r) rest[r] -= columns[c][r] * x[c];
    }
    size_t best = n;
    double steepest = 1e-9 * scale;
    for (size_t c = 0; c < n; ++c) {
      if (std::find(used.begin(), used.end(), c) != used.end()) continue;
      double slope = 0;
      for (size_t r = 0; r < rest.size(); ++r) slope += columns[c][r] * rest[r];
      if (slope > steepest) steepest = slope, best = c;
    }
    if (best == n) break;
    used.push_back(best);
    while (true) {
      const Vector wanted = Solve(columns, b, used);
      double most = 1;  // of the way there before one of them is below 0
      for (size_t i = 0; i < used.size(); ++i) {
        if (wanted[i] < 0) most = std::min(most, x[used[i]] / (x[used[i]] - wanted[i]));
      }
      for (size_t i = 0; i < used.size(); ++i) x[used[i]] += most * (wanted[i] - x[used[i]]);
      if (most == 1) break;
      std::erase_if(used, [&](size_t c) {
        if (x[c] > 1e-12 * scale) return false;
        x[c] = 0;
        return true;
      });
      if (used.empty()) break;
    }
  }
  for (size_t c = 0; c < n; ++c) x[c] = length[c] > 0 ? std::max(0.0, x[c]) / length[c] : 0;
  return x;
}

}  // namespace plumb::sweeps
