// Changes of a sweep file's text: one key at a time is written anew, the rest stays as it is
// written, comments too.
#pragma once

#include <string>
#include <vector>

#include "absl/status/statusor.h"

namespace plumb::sweeps {

struct TextEdit {
  enum class Kind {
    kSet,         // the key's value
    kAddValues,   // of an axis, to those that it has; a new axis where there is none
    kDropValues,  // of an axis
  };
  Kind kind = Kind::kSet;
  // "replicates", "limits.trials", "axes.model.n_layers"; a field alone is one of the trial:
  // "train.lr" is "trial.train.lr". Of the other kinds the axis: "model.n_layers".
  std::string path;
  std::string value;                // YAML; of kSet
  std::vector<std::string> values;  // YAML scalars; of the other kinds
  std::string
      base;  // of kAddValues: the value that the field has where it is no axis yet; "": unknown
};

// The text with the edits; it is not checked as a sweep file. InvalidArgument for a text that is no
// map, a value that is no YAML, an axis that is no list.
absl::StatusOr<std::string> EditText(const std::string& yaml, const std::vector<TextEdit>& edits);

// A key's value, written in one way whatever way the text writes it; "" where it is absent.
std::string SectionOf(const std::string& yaml, const std::string& key);

// "axes.train.lr=[0.01, 0.1]" → path and value. InvalidArgument without "=".
absl::StatusOr<TextEdit> ParseSet(const std::string& text);
// "model.n_layers=16,32" → the axis and its values.
absl::StatusOr<TextEdit> ParseAxis(const std::string& text, TextEdit::Kind kind);

// The line of a forked file that says what it was made of: "#plumb-fork {…}"; the object's text, ""
// where there is none.
std::string ForkOf(const std::string& yaml);
std::string WithFork(const std::string& yaml, const std::string& origin_json);

}  // namespace plumb::sweeps
