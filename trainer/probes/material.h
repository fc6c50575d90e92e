// What linear probes are asked: of which examples, which class or number each has, and which of
// them are for what. Torch-free; docs/probes.md has the definitions.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "trainer/spec/stage_settings.h"

namespace plumb::trainer::probes {

// Of the definitions here and of what is fitted.
inline constexpr int64_t kDefinition = spec::kProbesDefinition;

// Of a token's first character that is no white space: "lower", "upper", "digit" and "punctuation"
// are ASCII's; "space" where there is none but white space; "other": all else.
const std::vector<std::string>& CharacterClasses();
int32_t CharacterClass(std::string_view text);  // index into them

// Tokens in order of falling count (equal ones: the smaller id first), cut into `classes` of about
// equal mass: class floor(classes · share of the tokens before it). By token id; those that are not
// there are in the last.
std::vector<int32_t> FrequencyClasses(const std::vector<int64_t>& counts, int64_t classes);

// Those that are asked, in the order in which their states come.
struct Examples {
  std::vector<int64_t> document;  // what is not independent: examples of one are kept together
  std::vector<int64_t> type;      // of a token: its id; empty for texts
  int64_t size() const { return static_cast<int64_t>(document.size()); }
};

// One side's answers: exactly one of the two is filled.
struct Answers {
  std::vector<int32_t> label;  // index into the classes; -1: none of them
  std::vector<double> number;
};

struct Question {
  // kControl: for each type of token a class at random, with the frequencies of the property's own:
  // what a probe can learn about it, it learned by heart (Hewitt & Liang 2019, section 2).
  enum class Kind { kClasses, kControl, kNumber };
  std::string property;
  Kind kind = Kind::kClasses;
  std::vector<std::string> classes;
  bool with_control = false;  // of tokens alone
  Answers fit, score;
  std::vector<std::string> warnings;
  int64_t width() const { return kind == Kind::kNumber ? 1 : static_cast<int64_t>(classes.size()); }
};

struct Material {
  std::string fit_name, score_name;  // "tune", "val"
  std::vector<Question> questions;   // a control follows its property
  Examples fit, score;
  std::vector<uint8_t> choosing;  // by example of fit: it only chooses the penalty
  std::vector<int64_t> sample;    // rising; examples of fit that the logistic probe sees
  std::vector<std::string> warnings;
};

// About a fifth of the examples, by whole documents, of one document its end. Never all of them;
// none where there are fewer than five.
std::vector<uint8_t> ChoosingPart(const std::vector<int64_t>& document);

// Fills in what follows from `questions` (without controls), `fit` and `score`: the parts, the
// controls, and the classes that stay: those of which the sample has two
// examples or more to fit on. Throws std::runtime_error
// where there is too little to ask.
void Complete(Material* material, int64_t sample);

}  // namespace plumb::trainer::probes
