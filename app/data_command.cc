// plumb data prepare|list|show.
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <filesystem>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "app/children.h"
#include "app/commands.h"
#include "app/exit_code.h"
#include "app/prepare_corpus.h"
#include "app/signals.h"
#include "app/table.h"
#include "data/dataset.h"
#include "data/manifest_json.h"

namespace plumb::app {
namespace {

std::string Root(const DataArgs& args) {
  return args.data_root.empty() ? data::DefaultRoot() : args.data_root;
}

}  // namespace

int PrepareData(const Context& context, const DataArgs& args) {
  const bool json = context.format == "json";
  DataArgs resolved = args;
  std::string request;
  try {
    resolved.data_root = Root(args);
    request = PrepareRequest(resolved, json);
  } catch (const std::exception& e) {
    return Finish(absl::InvalidArgumentError(e.what()));
  }
  if (args.tokenizer == "bytes" || !args.nanogpt.empty()) return PrepareCorpus(resolved, json);
  const std::string helper =
      (std::filesystem::path(ThisProgram()).parent_path() / "plumb-prepare").string();
  execl(helper.c_str(), helper.c_str(), request.c_str(), static_cast<char*>(nullptr));
  return Finish(absl::FailedPreconditionError(
      absl::StrCat(helper, ": cannot be run: ", std::strerror(errno),
                   "; it belongs beside plumb and makes SentencePiece tokenizers")));
}

int ListData(const Context& context, const DataArgs& args) try {
  absl::StatusOr<Format> format = ParseFormat(context.format);
  if (!format.ok()) return Finish(format.status());
  Table table{.columns = {{"corpus"},
                          {"tokenizer"},
                          {"parts"},
                          {"train_tokens"},
                          {"test_bytes"},
                          {"documents"},
                          {"xz_bits_per_byte", 3},
                          {"digest"}}};
  for (const data::Manifest& m : data::ListDatasets(Root(args))) {
    int64_t documents = 0;
    for (const data::SplitInfo& s : m.splits) documents += s.documents;
    std::vector<std::string> parts;
    for (const data::Part& p : m.parts) parts.push_back(p.name);
    table.rows.push_back({m.corpus, m.tokenizer, absl::StrJoin(parts, ","),
                          m.split(data::Split::kTrain).tokens, m.split(data::Split::kTest).bytes,
                          documents, m.compressor_bits_per_byte_primed,
                          *format == Format::kTable ? m.digest.substr(0, 8) : m.digest});
  }
  if (table.rows.empty() && *format == Format::kTable) {
    std::fprintf(stderr, "no corpus under %s; make one: plumb data prepare python-docs-en\n",
                 Root(args).c_str());
  }
  std::fputs(Print(table, *format, StdoutIsTerminal() ? TerminalWidth() : 0).c_str(), stdout);
  return kDone;
} catch (const std::exception& e) {
  return Finish(absl::FailedPreconditionError(e.what()));
}

int ShowData(const Context& context, const DataArgs& args) try {
  const std::string dir = data::DatasetDir(Root(args), args.corpus, args.tokenizer);
  if (access((dir + "/manifest.json").c_str(), R_OK) != 0) {
    return Finish(absl::NotFoundError(absl::StrCat(
        "no corpus ", args.corpus, " with tokenizer ", args.tokenizer, " (", dir,
        "); make it: plumb data prepare ", args.corpus, " --tokenizer ", args.tokenizer)));
  }
  const data::Manifest m = data::ReadManifest(dir);
  if (context.format == "json") {
    std::fputs(data::ManifestJson(m).c_str(), stdout);
    return kDone;
  }
  absl::StatusOr<Format> format = ParseFormat(context.format);
  if (!format.ok()) return Finish(format.status());
  Table table{
      .columns = {
          {"split"}, {"documents"}, {"bytes"}, {"characters"}, {"tokens"}, {"overlap_13gram", 3}}};
  for (data::Split s : data::kAllSplits) {
    const data::SplitInfo& i = m.split(s);
    table.rows.push_back({data::Name(s), i.documents, i.bytes, i.characters, i.tokens,
                          m.overlap_13gram[static_cast<int>(s)]});
    for (const data::Part& p : m.parts) {
      const data::SplitInfo& of = p.split(s);
      table.rows.push_back({std::string(data::Name(s)) + "/" + p.name, of.documents, of.bytes,
                            of.characters, of.tokens, std::monostate()});
    }
  }
  if (*format == Format::kTable) {
    std::printf(
        "%s, tokenizer %s, vocabulary %lld%s\n%s\nfolder %s\ndigest %s\nxz -9e on the test text: "
        "%.3f bits per byte alone, %.3f after train text; near-duplicates dropped: %lld\n\n",
        m.corpus.c_str(), m.tokenizer.c_str(), static_cast<long long>(m.vocab_size),
        m.reversible ? "" : ", not reversible (no bits per byte)", m.description.c_str(),
        dir.c_str(), m.digest.c_str(), m.compressor_bits_per_byte,
        m.compressor_bits_per_byte_primed, static_cast<long long>(m.near_duplicates));
  }
  std::fputs(Print(table, *format).c_str(), stdout);
  return kDone;
} catch (const std::exception& e) {
  return Finish(absl::FailedPreconditionError(e.what()));
}

}  // namespace plumb::app
