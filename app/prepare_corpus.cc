#include "app/prepare_corpus.h"

#include <algorithm>
#include <cstdio>
#include <nlohmann/json.hpp>

#include "absl/strings/str_cat.h"
#include "app/exit_code.h"
#include "app/table.h"
#include "data/manifest_json.h"
#include "data/prepare.h"

namespace plumb::app {

int PrepareCorpus(const DataArgs& args, bool json) try {
  data::PrepareOptions options;
  options.corpus = args.corpus;
  options.text = args.files;
  for (const std::string& part : args.parts) {
    const size_t equals = part.find('=');
    if (equals == std::string::npos) {
      return Finish(absl::InvalidArgumentError(
          absl::StrCat("--part takes NAME=SOURCE, as ja=wiki.txt; got ", part)));
    }
    options.parts.push_back({part.substr(0, equals), part.substr(equals + 1)});
  }
  options.tokenizer = args.tokenizer;
  options.nanogpt = args.nanogpt;
  options.vocab_size = args.vocab_size;
  options.split_seed = static_cast<uint64_t>(args.split_seed);
  options.disjoint = args.disjoint;
  if (args.shares.size() == options.shares.size())
    std::copy(args.shares.begin(), args.shares.end(), options.shares.begin());
  options.root = args.data_root;
  options.progress = [](const std::string& step) { std::fprintf(stderr, "%s\n", step.c_str()); };
  const data::Manifest m = data::Prepare(options);
  const std::string dir = data::DatasetDir(options.root, m.corpus, m.tokenizer);
  if (json) {
    std::fputs(data::ManifestJson(m).c_str(), stdout);
  } else {
    std::printf("%s (%s): %s train tokens, vocabulary %lld\n%s\n", m.corpus.c_str(),
                m.tokenizer.c_str(),
                Scaled(static_cast<double>(m.split(data::Split::kTrain).tokens)).c_str(),
                static_cast<long long>(m.vocab_size), dir.c_str());
  }
  return kDone;
} catch (const std::exception& e) {
  return Finish(absl::InvalidArgumentError(e.what()));
}

std::string PrepareRequest(const DataArgs& a, bool json) {
  const nlohmann::json request = {{"corpus", a.corpus},
                                  {"tokenizer", a.tokenizer},
                                  {"data_root", a.data_root},
                                  {"nanogpt", a.nanogpt},
                                  {"vocab_size", a.vocab_size},
                                  {"split_seed", a.split_seed},
                                  {"files", a.files},
                                  {"parts", a.parts},
                                  {"disjoint", a.disjoint},
                                  {"shares", a.shares},
                                  {"json", json}};
  return request.dump();  // throws for a file's name that is not UTF-8
}

DataArgs ParsePrepareRequest(const std::string& text, bool* json) {
  const nlohmann::json request = nlohmann::json::parse(text);
  DataArgs a;
  request.at("corpus").get_to(a.corpus);
  request.at("tokenizer").get_to(a.tokenizer);
  request.at("data_root").get_to(a.data_root);
  request.at("nanogpt").get_to(a.nanogpt);
  request.at("vocab_size").get_to(a.vocab_size);
  request.at("split_seed").get_to(a.split_seed);
  request.at("files").get_to(a.files);
  request.at("parts").get_to(a.parts);
  request.at("disjoint").get_to(a.disjoint);
  request.at("shares").get_to(a.shares);
  request.at("json").get_to(*json);
  return a;
}

}  // namespace plumb::app
