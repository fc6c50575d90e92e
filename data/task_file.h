// Downstream tasks with known answers, read from local files in the forms in which they are
// published, and put as the questions that lm-evaluation-harness 0.4.13 asks of a language model.
// docs/tasks.md lists the forms. Torch-free.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "data/tokenizer.h"

namespace plumb::data {

// One question: which of `choices` the model likes best after `context`.
struct TaskItem {
  std::string context;               // may be empty
  std::vector<std::string> choices;  // without the delimiter before them
  int64_t gold = 0;                  // index of the right one
  std::string group;                 // e.g. a paradigm of BLiMP; "" where the file has none
  int64_t line = 0;                  // of the file, from 1
};

struct TaskData {
  std::string format;
  std::string version;    // of the task in the harness
  std::string delimiter;  // between context and choice; scored, and not part of a choice's length
  // True: of every item the one choice is what follows, and right when greedy decoding says it
  // (LAMBADA).
  bool last_word = false;
  std::vector<TaskItem> items;
};

// "arc", "blimp", … in the order of the documentation.
const std::vector<std::string>& TaskFormats();

// Strict: a line that is anything else is an error that names it. `labels`: of formats whose right
// answers are published in a file of their own, one integer a line; "" where they stand in the
// file. `limit`: the first so many lines; 0: all. Throws DataError.
TaskData ReadTask(const std::string& format, const std::string& path, const std::string& labels,
                  int64_t limit);

// The tokens of a question and one of its answers as the harness cuts them: spaces at the end of
// the context go to the answer, both are encoded together and cut where the context alone ends;
// after an empty context comes the separator.
struct EncodedPair {
  std::vector<int64_t> tokens;  // context, then continuation
  int64_t continuation = 0;     // how many at the end are the answer's
  bool spanning =
      false;  // one token held the end of the context and all of the answer: encoded apart
};
// `separator_first`: the context begins as a document does (the harness's add_bos_token).
EncodedPair EncodePair(const Tokenizer& tokenizer, const std::string& context,
                       const std::string& continuation, bool separator_first);

}  // namespace plumb::data
