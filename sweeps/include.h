// `include: base.yaml`: a sweep file that begins where another ends.
//
// The client inlines what is included, so that the server gets one text that means the same for
// ever. In that text each file stands whole, the included ones first, after a line that names it:
//
//   #plumb-include base.yaml
//   …
//   #plumb-file
//   include: base.yaml
//   sweep: mine
//
// so that every error still has the file and line it was written in.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "sweeps/problem.h"
#include "sweeps/yaml_reader.h"

namespace plumb::sweeps {

// The text with what it includes before it; a text that includes nothing, or cannot be read, comes
// back as it is. Paths begin at the folder of the file that names them. InvalidArgument, with line,
// column and caret, for an include that is none or goes in a circle, NotFound for a missing file.
absl::StatusOr<std::string> InlineIncludes(const std::string& yaml, const std::string& file_name,
                                           const std::string& folder);

// One file of an inlined text.
struct SourcePart {
  int first_line = 1;  // of the whole text, from 1; the last part ends with it
  std::string name;    // path from the folder of the file that was given; "" for that file itself
};
// In the order of the text; one part where nothing was inlined.
std::vector<SourcePart> PartsOf(const std::string& text);

// The tree of a text that may be inlined. Each key of a later file takes the place of the same key
// before, but for `trial`, to which its fields are added. Positions are lines of the whole text.
std::optional<YamlNode> ReadTree(const std::string& text, std::vector<Problem>* problems);

}  // namespace plumb::sweeps
