// Exact fractions for expressions: 8/3 * 96 is 256, and 0.1 + 0.2 is 0.3.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

namespace plumb::sweeps {

// numerator / denominator in lowest terms, denominator > 0. Operations whose result does not fit
// into 63 bits give nullopt, and the caller goes on in double precision.
class Rational {
 public:
  Rational() = default;
  explicit Rational(int64_t whole) : numerator_(whole) {}
  // The fraction that the decimal text names: "0.1" is 1/10, "1e-3" is 1/1000, "300k", "5%", "1/3".
  static std::optional<Rational> Parse(const std::string& text);
  // The fraction that the shortest text of the value names: 0.1 is 1/10.
  static std::optional<Rational> Of(double value);

  double ToDouble() const {
    return static_cast<double>(numerator_) / static_cast<double>(denominator_);
  }
  int64_t numerator() const { return numerator_; }
  int64_t denominator() const { return denominator_; }

  // -1, 0 or 1 as it is less than, equal to or greater than the other.
  int Compare(const Rational& other) const;
  friend bool operator==(const Rational&, const Rational&) = default;

  static std::optional<Rational> Add(const Rational& a, const Rational& b);
  static std::optional<Rational> Subtract(const Rational& a, const Rational& b);
  static std::optional<Rational> Multiply(const Rational& a, const Rational& b);
  static std::optional<Rational> Divide(const Rational& a, const Rational& b);  // b is not 0
  // What is left after the largest whole multiple of b towards 0, as fmod.
  static std::optional<Rational> Remainder(const Rational& a, const Rational& b);  // b is not 0

  int64_t Floor() const;
  int64_t Ceil() const;
  int64_t Truncate() const { return numerator_ / denominator_; }
  int64_t Round() const;  // halves away from 0

 private:
  static std::optional<Rational> Make(__int128 numerator, __int128 denominator);

  int64_t numerator_ = 0;
  int64_t denominator_ = 1;
};

}  // namespace plumb::sweeps
