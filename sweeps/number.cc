#include "sweeps/number.h"

#include <charconv>
#include <cmath>
#include <cstdio>

namespace plumb::sweeps {
namespace {

// digits [. digits] [e [+-] digits], with a sign; what from_chars takes, less "inf" and "nan".
std::optional<double> Plain(const std::string& text) {
  const char* begin = text.data();
  const char* end = begin + text.size();
  if (begin != end && *begin == '+') ++begin;
  const char* digits = begin != end && *begin == '-' && begin == text.data() ? begin + 1 : begin;
  if (digits == end || !((*digits >= '0' && *digits <= '9') || *digits == '.')) return std::nullopt;
  double value = 0;
  const auto [rest, error] = std::from_chars(begin, end, value);
  if (error != std::errc() || rest != end || !std::isfinite(value)) return std::nullopt;
  return value;
}

}  // namespace

std::optional<double> ParseNumber(const std::string& text) {
  if (text.empty() || text.size() > 64) return std::nullopt;
  if (const size_t slash = text.find('/'); slash != std::string::npos) {
    const auto above = Plain(text.substr(0, slash)), below = Plain(text.substr(slash + 1));
    if (!above || !below || *below == 0 || !std::isfinite(*above / *below)) return std::nullopt;
    return *above / *below;
  }
  double scale = 1;
  switch (text.back()) {
    case 'k':
      scale = 1e3;
      break;
    case 'M':
      scale = 1e6;
      break;
    case 'G':
      scale = 1e9;
      break;
    case 'T':
      scale = 1e12;
      break;
    case '%':
      scale = 100;
      break;
    default:
      return Plain(text);
  }
  const auto value = Plain(text.substr(0, text.size() - 1));
  if (!value) return std::nullopt;
  const double scaled = text.back() == '%' ? *value / scale : *value * scale;
  if (!std::isfinite(scaled)) return std::nullopt;
  return scaled;
}

std::string FormatNumber(double value) {
  if (value == std::floor(value) && std::abs(value) < 1e9) {
    return std::to_string(static_cast<int64_t>(value));
  }
  char buffer[32];
  const auto [end, error] = std::to_chars(buffer, buffer + sizeof buffer, value);
  return std::string(buffer, error == std::errc() ? end : buffer);
}

std::string Grouped(int64_t value) {
  std::string digits = std::to_string(value);
  const int first = value < 0 ? 1 : 0;
  for (int i = static_cast<int>(digits.size()) - 3; i > first; i -= 3) digits.insert(i, 1, ',');
  return digits;
}

std::string Short(double value) {
  static constexpr const char* kSuffix[] = {"", "k", "M", "G", "T", "P", "E"};
  int step = 0;
  while (std::abs(value) >= 999.5 && step < 6) value /= 1000, ++step;
  char buffer[32];
  std::snprintf(buffer, sizeof buffer, "%.3g%s", value, kSuffix[step]);
  return buffer;
}

}  // namespace plumb::sweeps
