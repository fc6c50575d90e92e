// From an assignment to the commands that make a trainer run it.
#pragma once

#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "plumb/v1/plumb.pb.h"

namespace plumb::worker {

// The trainer that the attempt needs: "" for plumb-trainer, "commands", or the name of another that
// the worker was given (external: {trainer: NAME}), after "trainer=".
std::string ProgramOf(const v1::Assignment& assignment);

struct RowCommands {
  std::string bundle;                    // that will be open afterwards
  std::vector<nlohmann::json> commands;  // in order
};

// Where corpora lie on this worker: by name as `plumb data prepare` puts them ("": at
// data::DefaultRoot()), and by content digest those that came from the server.
struct CorpusRoots {
  std::string prepared, fetched;
};

struct CorpusName {
  std::string corpus, tokenizer, digest;
};
// What the assignment reads; none for a noop, or where its config cannot be read.
std::optional<CorpusName> CorpusOf(const v1::Assignment& assignment);

// A training that the coordinator names no checkpoint for begins with the one its config names, if
// any.
void BeginWith(v1::Assignment* assignment);

// Its folder. FailedPrecondition: nowhere with this digest; the message names the fix.
absl::StatusOr<std::string> FindCorpus(const CorpusName& corpus, const CorpusRoots& roots);

// `open_bundle`: the one that is open at the trainer, "" for none. FailedPrecondition: this worker
// cannot run it (no such corpus, another digest, a config it does not read); the message names the
// fix. `gang_address`: where this worker's ranks are reached.
absl::StatusOr<RowCommands> CommandsFor(const v1::Assignment& assignment, const std::string& row,
                                        const std::string& open_bundle, const CorpusRoots& corpora,
                                        const std::string& checkpoint_dir,
                                        const std::string& gang_address = "");

}  // namespace plumb::worker
