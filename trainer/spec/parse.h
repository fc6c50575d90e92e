// From JSON to a resolved TrialSpec and back to the canonical form.
#pragma once

#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>
#include <vector>

#include "trainer/spec/trial_spec.h"

namespace plumb::spec {

// One thing wrong with a config. `path` is the dotted field ("" for the document).
struct SpecError {
  std::string path;
  std::string message;  // names the fix
  friend bool operator==(const SpecError&, const SpecError&) = default;
};
std::string Format(const std::vector<SpecError>& errors);  // one line each: "path: message"

// Reads a config, strictly: unknown keys, wrong types and values out of range are errors, all
// reported at once. The preset's row is applied first, then the fields given. Does not resolve.
// `spec` is written only when errors is empty. `json` may nest ({"model": {"d_model": 64}}) or use
// dotted keys ({"model.d_model": 64}) or mix both.
std::vector<SpecError> Parse(const nlohmann::json& json, TrialSpec* spec);
// The same from text; a syntax error is one SpecError with the byte position.
std::vector<SpecError> ParseText(const std::string& text, TrialSpec* spec);

// Fills derived fields (heads, head width, ffn width, vocabulary, positions, evaluation length,
// steps from tokens or FLOPs) and checks what several fields say together. Idempotent. `spec` is
// written only when the result is empty.
std::vector<SpecError> Resolve(TrialSpec* spec);

// Turns train.epochs, if it is given, into train.steps of a corpus of that many training tokens.
void ResolveEpochs(TrialSpec* spec, int64_t train_tokens);

// Parse and Resolve.
std::vector<SpecError> ParseResolved(const std::string& text, TrialSpec* spec);

// Vocabulary of a tokenizer name ("bytes": 256, "sentencepiece:4096": 4096, imported "ids:65": 65);
// nullopt for an unknown name.
std::optional<int64_t> TokenizerVocabSize(const std::string& tokenizer);

// The canonical form of a resolved spec: nested JSON, keys sorted, no preset, fields at their
// default left out, the budget as steps. Equal computations have equal canonical forms. With
// execution fields only when asked for.
enum class With { kResultOnly, kExecution };
nlohmann::json Canonical(const TrialSpec& resolved, With with);

// The identity of a trial's pretrain stage: SHA-256 (hex) of the canonical result fields and of the
// semantics versions of the components used. The data digest is a field (data.digest).
std::string Key(const TrialSpec& resolved);

// The last step whose state is the same in every run of this prefix key; 0: there is none. Before
// its cooldown a run of schedule constant or wsd does not depend on its budget: all of a constant
// run's steps, and those of wsd up to its cooldown.
int64_t TrunkSteps(const TrialSpec& resolved);

// SHA-256 (hex) of what decides the state, weights and moments, at steps up to TrunkSteps(): of
// Key() without the budget, the cooldown, and what is measured when; threads and micro-batch are in
// it, as they decide the last bits. Empty where TrunkSteps() is 0, and where it is not to be shared
// (execution.share_trunk).
std::string PrefixKey(const TrialSpec& resolved);

// Trials of equal fusion key may share a bundle: SHA-256 (hex) of the fields marked Fusion::kKey.
std::string FusionKey(const TrialSpec& resolved);

// JSON Schema (2020-12) of a trial config.
nlohmann::json Schema();

// {"path", "type", "default", "unit", "min", "max", "choices", "doc", "identity", "fusion"} per
// field.
nlohmann::json FieldReference();

// The choices of router.path; empty when it is not a list of whole numbers.
std::vector<int64_t> RouterPath(const std::string& text);

}  // namespace plumb::spec
