// Colours that differ in lightness too, and small pieces that figures share.
#pragma once

#include <string>
#include <vector>

namespace plumb::analysis {

struct Rgb {
  int r, g, b;
};
// 0 (best, dark blue) to 1 (worst, pale yellow): lightness grows all the way, so that it reads in
// grey and with any colour vision.
Rgb Heat(double share);
bool DarkInk(Rgb paper);  // whether black text reads better on it
// Okabe and Ito's hues that stand out on white.
Rgb Hue(size_t i);
std::string Hex(Rgb c);

std::string Escaped(const std::string& text);  // for XML
std::string CsvText(const std::string& text);
std::string Format(const char* format, double value);
std::string Exact(double value);  // shortest text that reads back equal; "" for NaN
std::string Si(double value);     // 1.5e11 -> "150 G"

// Round numbers inside [low, high]: about `count` of them.
std::vector<double> Ticks(double low, double high, int count);
std::vector<double> LogTicks(double low, double high);

}  // namespace plumb::analysis
