#include "sweeps/rational.h"

#include <limits>

#include "sweeps/number.h"

namespace plumb::sweeps {
namespace {

__int128 Gcd(__int128 a, __int128 b) {
  while (b != 0) {
    const __int128 rest = a % b;
    a = b, b = rest;
  }
  return a < 0 ? -a : a;
}

constexpr int64_t kMost = std::numeric_limits<int64_t>::max();

// digits [. digits] [e [+-] digits], which ParseNumber has taken already.
std::optional<Rational> Plain(const std::string& text) {
  size_t i = 0;
  bool negative = false;
  if (i < text.size() && (text[i] == '+' || text[i] == '-')) negative = text[i++] == '-';
  __int128 digits = 0;
  int exponent = 0;
  bool fraction = false;
  for (; i < text.size() && text[i] != 'e' && text[i] != 'E'; ++i) {
    if (text[i] == '.') {
      fraction = true;
      continue;
    }
    digits = digits * 10 + (text[i] - '0');
    if (digits > kMost) return std::nullopt;
    exponent -= fraction;
  }
  if (i < text.size()) {
    int given = 0;
    bool minus = false;
    ++i;
    if (i < text.size() && (text[i] == '+' || text[i] == '-')) minus = text[i++] == '-';
    for (; i < text.size(); ++i) {
      given = given * 10 + (text[i] - '0');
      if (given > 40) return std::nullopt;
    }
    exponent += minus ? -given : given;
  }
  std::optional<Rational> out = Rational(static_cast<int64_t>(negative ? -digits : digits));
  for (; exponent > 0 && out; --exponent) out = Rational::Multiply(*out, Rational(10));
  for (; exponent < 0 && out; ++exponent) out = Rational::Divide(*out, Rational(10));
  return out;
}

}  // namespace

std::optional<Rational> Rational::Make(__int128 numerator, __int128 denominator) {
  if (denominator < 0) numerator = -numerator, denominator = -denominator;
  const __int128 common = Gcd(numerator, denominator);
  if (common > 1) numerator /= common, denominator /= common;
  if (numerator > kMost || numerator < -static_cast<__int128>(kMost) || denominator > kMost)
    return std::nullopt;
  Rational out;
  out.numerator_ = static_cast<int64_t>(numerator);
  out.denominator_ = static_cast<int64_t>(denominator);
  return out;
}

std::optional<Rational> Rational::Parse(const std::string& text) {
  if (!ParseNumber(text)) return std::nullopt;
  if (const size_t slash = text.find('/'); slash != std::string::npos) {
    const auto above = Plain(text.substr(0, slash)), below = Plain(text.substr(slash + 1));
    if (!above || !below || below->numerator_ == 0) return std::nullopt;
    return Divide(*above, *below);
  }
  int64_t scale = 1;
  switch (text.back()) {
    case 'k':
      scale = 1000;
      break;
    case 'M':
      scale = 1000000;
      break;
    case 'G':
      scale = 1000000000;
      break;
    case 'T':
      scale = 1000000000000;
      break;
    case '%':
      if (const auto v = Plain(text.substr(0, text.size() - 1))) return Divide(*v, Rational(100));
      return std::nullopt;
    default:
      return Plain(text);
  }
  const auto value = Plain(text.substr(0, text.size() - 1));
  return value ? Multiply(*value, Rational(scale)) : std::nullopt;
}

std::optional<Rational> Rational::Of(double value) { return Parse(FormatNumber(value)); }

int Rational::Compare(const Rational& other) const {
  const __int128 a = static_cast<__int128>(numerator_) * other.denominator_;
  const __int128 b = static_cast<__int128>(other.numerator_) * denominator_;
  return a < b ? -1 : a > b ? 1 : 0;
}

std::optional<Rational> Rational::Add(const Rational& a, const Rational& b) {
  return Make(static_cast<__int128>(a.numerator_) * b.denominator_ +
                  static_cast<__int128>(b.numerator_) * a.denominator_,
              static_cast<__int128>(a.denominator_) * b.denominator_);
}

std::optional<Rational> Rational::Subtract(const Rational& a, const Rational& b) {
  return Make(static_cast<__int128>(a.numerator_) * b.denominator_ -
                  static_cast<__int128>(b.numerator_) * a.denominator_,
              static_cast<__int128>(a.denominator_) * b.denominator_);
}

std::optional<Rational> Rational::Multiply(const Rational& a, const Rational& b) {
  return Make(static_cast<__int128>(a.numerator_) * b.numerator_,
              static_cast<__int128>(a.denominator_) * b.denominator_);
}

std::optional<Rational> Rational::Divide(const Rational& a, const Rational& b) {
  return Make(static_cast<__int128>(a.numerator_) * b.denominator_,
              static_cast<__int128>(a.denominator_) * b.numerator_);
}

std::optional<Rational> Rational::Remainder(const Rational& a, const Rational& b) {
  const auto times = Divide(a, b);
  const auto whole = times ? Multiply(Rational(times->Truncate()), b) : std::nullopt;
  return whole ? Subtract(a, *whole) : std::nullopt;
}

int64_t Rational::Floor() const {
  const int64_t t = Truncate();
  return t * denominator_ > numerator_ ? t - 1 : t;
}

int64_t Rational::Ceil() const {
  const int64_t t = Truncate();
  return t * denominator_ < numerator_ ? t + 1 : t;
}

int64_t Rational::Round() const {
  const int64_t t = Truncate();
  const __int128 rest = static_cast<__int128>(numerator_) - static_cast<__int128>(t) * denominator_;
  const __int128 twice = rest < 0 ? -2 * rest : 2 * rest;
  if (twice < denominator_) return t;
  return numerator_ < 0 ? t - 1 : t + 1;
}

}  // namespace plumb::sweeps
