// Inputs from outside, mutated: plumb-fuzz TARGET [--seconds 5] [--seed 1] [--last FILE] SEED-FILE…
// An input must neither crash nor hang its reader, and what a target promises of it must hold. The
// input at work is in FILE (for a crash, its last one). plumb-fuzz TARGET --once FILE runs one.
#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <functional>
#include <iomanip>
#include <iterator>
#include <map>
#include <nlohmann/json.hpp>
#include <random>
#include <set>
#include <sstream>
#include <string>
#include <vector>

#include "store/blobs.h"
#include "sweeps/expression.h"
#include "sweeps/plan.h"
#include "trainer/files/safetensors.h"
#include "trainer/protocol/commands.h"
#include "trainer/protocol/journal.h"
#include "trainer/spec/parse.h"
#include "trainer/spec/sha256.h"

namespace {

constexpr size_t kLongest = 16 << 10;
constexpr double kStuck = 300;  // seconds that pass
constexpr double kHang = 10;    // seconds; a sweep of a million trials is planned in less

using Clock = std::chrono::steady_clock;
// Of the whole process: a machine that is busy otherwise makes no input slow.
double CpuSeconds() {
  timespec now = {};
  clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now);
  return static_cast<double>(now.tv_sec) + 1e-9 * static_cast<double>(now.tv_nsec);
}
double Since(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

void Must(bool holds, const char* what) {
  if (holds) return;
  std::fprintf(stderr, "does not hold: %s\n", what);
  std::abort();
}

// ---- targets ----

// A sweep file gives a plan or errors with their places; the same text gives the same plan.
void Yaml(const std::string& text) {
  using namespace plumb::sweeps;
  const CorpusLookup corpora = [](const std::string&,
                                  const std::string&) -> absl::StatusOr<CorpusInfo> {
    return CorpusInfo{"d", 256, 5'000'000, 0};
  };
  // Numbers of trials are not what is looked for here.
  const auto plan = PlanSweep(text, "f.yaml", corpora);
  if (!plan.ok()) {
    Must(!plan.status().message().empty(), "a refused sweep file has a message");
    return;
  }
  Must(plan->trials.size() <= 1'000'000, "a plan has an end");
  if (plan->trials.size() > 2000) return;
  const auto again = PlanSweep(text, "f.yaml", corpora);
  Must(again.ok() && again->trials.size() == plan->trials.size(), "the same text, the same plan");
  for (size_t i = 0; i < plan->trials.size(); ++i)
    Must(again->trials[i].key == plan->trials[i].key, "the same text, the same keys");
}

void Expression(const std::string& text) {
  using plumb::sweeps::Value;
  plumb::sweeps::Expression::Error error;
  const auto e = plumb::sweeps::Expression::Parse(text, &error);
  if (!e) {
    Must(!error.message.empty(), "a refused expression has a message");
    Must(error.offset >= 0 && error.offset <= static_cast<int>(text.size()), "its place is in it");
    return;
  }
  (void)e->Evaluate([](const std::string& name) -> absl::StatusOr<Value> {
    return Value::Number(static_cast<double>(name.size()));
  });
}

// What is taken is resolved, and its canonical form is taken again and is itself.
void Trial(const std::string& text) {
  namespace spec = plumb::spec;
  spec::TrialSpec s;
  if (!spec::ParseResolved(text, &s).empty()) return;
  const nlohmann::json canonical = spec::Canonical(s, spec::With::kExecution);
  spec::TrialSpec again;
  Must(spec::ParseResolved(canonical.dump(), &again).empty(), "a canonical form is taken");
  Must(spec::Canonical(again, spec::With::kExecution) == canonical, "a canonical form is itself");
  Must(spec::Key(again) == spec::Key(s), "and has the same key");
}

std::string folder;

void WriteFile(const std::string& path, const std::string& text) {
  std::ofstream(path, std::ios::binary | std::ios::trunc)
      .write(text.data(), static_cast<std::streamsize>(text.size()));
}

// A journal, whatever is in its file, is read to the last newline, in order; a writer goes on after
// it, and what it says is read.
void Journal(const std::string& text) {
  const std::string dir = folder + "/journal";
  std::filesystem::remove_all(dir);
  std::filesystem::create_directories(dir);
  WriteFile(dir + "/00000001.jsonl", text);
  const auto read = [&] {
    std::vector<plumb::trainer::JournalEvent> all;
    plumb::trainer::JournalReader reader(dir);
    for (auto some = reader.Read(); !some.empty(); some = reader.Read())
      all.insert(all.end(), some.begin(), some.end());
    return all;
  };
  try {
    const auto before = read();
    for (const auto& e : before) {
      Must(e.json.is_object(), "an event is an object");
      Must(e.begin < e.end && e.end.offset <= static_cast<int64_t>(text.size()) &&
               text[static_cast<size_t>(e.end.offset) - 1] == '\n',
           "an event is a whole line");
    }
    int64_t seq = 0;
    {
      plumb::trainer::JournalWriter writer(dir);
      seq = writer.Append({{"event", "said"}});
    }
    const auto after = read();
    Must(
        !after.empty() && after.back().seq == seq && after.back().json.value("event", "") == "said",
        "what is appended is read");
    Must(after.size() == before.size() + 1, "and nothing else has changed");
  } catch (const std::runtime_error&) {
    // Refused as a whole, with a reason.
  }
}

// What a trainer says of its rows, looked at: begun once, ended once.
class RowsSaid : public plumb::trainer::EventSink {
 public:
  void RowStarted(const std::string& row, int64_t) override {
    Must(live.insert(row).second, "a row that is live does not begin again");
    ++said;
  }
  void RowEnded(const std::string& row, int64_t, plumb::trainer::RowOutcome outcome,
                const std::string& cause, const std::string&) override {
    using plumb::trainer::RowOutcome;
    const bool was_live = live.erase(row) == 1;
    Must(was_live != (outcome == RowOutcome::kInfeasible),
         "only a row that never began is refused");
    Must(was_live || !cause.empty(), "and with a cause");
    ++said;
  }
  void Points(const std::string&, int64_t,
              const std::vector<plumb::trainer::PointValue>&) override {}
  void Documents(const std::string&, const std::string&,
                 const std::vector<plumb::trainer::DocumentScore>&) override {}
  void Record(const std::string&, int64_t, const std::string&, const std::string&, int64_t,
              const std::string&) override {}
  void Checkpoint(const std::string&, int64_t, const std::string&, const std::string&,
                  int64_t) override {}
  std::set<std::string> live;
  int64_t said = 0;
};

// Every line is answered by an object; one that is refused has a reason and changes nothing.
void Commands(const std::string& text) {
  using nlohmann::json;
  const std::string dir = folder + "/commands";
  std::filesystem::remove_all(dir);
  plumb::trainer::JournalWriter journal(dir);
  RowsSaid rows;
  const auto engine = plumb::trainer::MakeNoopEngine(rows);
  plumb::trainer::Commands commands(journal, rows, *engine);
  json state = json::parse(commands.Answer(R"({"command":"hello"})"));
  for (size_t begin = 0, end; begin < text.size() && !commands.shutdown(); begin = end + 1) {
    end = std::min(text.find('\n', begin), text.size());
    const int64_t said = rows.said + journal.last_seq();
    const std::string answer = commands.Answer(text.substr(begin, end - begin));
    Must(answer.find('\n') == std::string::npos, "an answer is a line");
    const json a = json::parse(answer, nullptr, false);
    Must(a.is_object() && a.contains("ok") && a["ok"].is_boolean(), "an answer says ok or not");
    const json now = json::parse(commands.Answer(R"({"command":"hello"})"));
    if (!a["ok"]) Must(!a.value("error", "").empty(), "a refused command has a reason");
    if (!a["ok"] || a.contains("repeated"))
      Must(now == state && said == rows.said + journal.last_seq(),
           "what is refused changes nothing");
    Must(now["last_n"] >= state["last_n"], "numbers rise");
    Must(json(rows.live) == now["rows"], "the rows that began and did not end are the live ones");
    state = now;
  }
  commands.CloseBundle();
  Must(rows.live.empty(), "what is closed has ended");
}

// A header is refused, or describes tensors that lie in the file.
void Safetensors(const std::string& text) {
  const std::string path = folder + "/model.safetensors";
  WriteFile(path, text);
  try {
    const plumb::trainer::SafetensorsHeader header = plumb::trainer::ReadSafetensorsHeader(path);
    for (const auto& [name, t] : header.tensors) {
      Must(t.begin >= header.data_begin && t.begin + t.bytes >= t.begin &&
               t.begin + t.bytes <= text.size(),
           "a tensor lies in the file");
    }
    (void)plumb::trainer::TensorFile::Read(path);
  } catch (const std::runtime_error& e) {
    Must(std::strstr(e.what(), "model.safetensors") != nullptr, "the error names the file");
  }
}

// Each line asks a store of blobs for something, under a name from outside. Only names that are
// digests get anywhere, nothing is written outside the folder, and what is complete is what its
// name says.
void BlobNames(const std::string& text) {
  namespace fs = std::filesystem;
  const std::string outer = folder + "/blobs", inner = outer + "/a/b";
  fs::remove_all(outer);
  const auto blobs = plumb::store::Blobs::Open(inner, {.quota_bytes = 4096, .reserve_bytes = 0});
  Must(blobs.ok(), "a new folder can be made");
  plumb::store::Blobs& store = **blobs;
  const auto is_digest = [](const std::string& name) {
    return name.size() == 64 && name.find_first_not_of("0123456789abcdef") == std::string::npos;
  };
  std::istringstream lines(text);
  for (std::string line; std::getline(lines, line);) {
    std::istringstream words(line);
    std::string what, name;
    int64_t number = 0;
    words >> what >> std::quoted(name) >> number;
    std::string rest;
    std::getline(words, rest);
    if (!rest.empty()) rest.erase(0, 1);
    // "=" stands for the digest of what is written: mutations do not find one.
    if (name == "=") name = plumb::spec::Sha256Hex(rest);
    bool ok = false;
    if (what == "append") {
      ok = store.Append(name, number, rest).ok();
    } else if (what == "finish") {
      ok = store.Finish(name, number).ok();
    } else if (what == "read") {
      const auto bytes = store.Read(name, number, 100);
      ok = bytes.ok();
      Must(!ok || bytes->size() <= 100, "no more is read than was asked for");
    } else if (what == "collect") {
      Must(store.Collect({name}, absl::ZeroDuration()).ok(), "tidying up goes well");
    } else {
      ok = store.Stat(name).ok();
      Must(ok == is_digest(name), "every digest may be asked for");
    }
    Must(!ok || is_digest(name), "only digests are names");
    Must(plumb::store::CheckDigest(name).ok() == is_digest(name), "a digest is 64 hex digits");
  }
  int64_t bytes = 0;
  for (const auto& entry : fs::recursive_directory_iterator(outer)) {
    if (entry.is_directory()) continue;
    const std::string path = entry.path().string(), file = entry.path().filename().string();
    Must(path.compare(0, inner.size(), inner) == 0, "nothing is written elsewhere");
    bytes += static_cast<int64_t>(entry.file_size());
    if (is_digest(file))
      Must(plumb::spec::Sha256HexOfFile(path) == file, "a blob is what its name says");
  }
  Must(bytes <= 4096, "the quota holds");
}

const std::map<std::string, std::function<void(const std::string&)>> kTargets = {
    {"yaml", Yaml},         {"expression", Expression},   {"trial", Trial},    {"journal", Journal},
    {"commands", Commands}, {"safetensors", Safetensors}, {"blobs", BlobNames}};

// ---- mutation ----

class Mutator {
 public:
  Mutator(std::vector<std::string> seeds, uint64_t seed) : pool_(std::move(seeds)), random_(seed) {
    if (pool_.empty()) pool_.push_back("");
    for (const std::string& text : pool_) Learn(text);
  }
  std::string Next() {
    std::string text = pool_[Below(pool_.size())];
    for (size_t n = 1 + Below(6); n > 0; --n) Mutate(text);
    if (text.size() > kLongest) text.resize(kLongest);
    // Some of what was made goes on as a seed: mutations add up.
    if (Below(50) == 0) pool_[Below(pool_.size())].swap(kept_), kept_ = text;
    if (Below(200) == 0 && pool_.size() < 500) pool_.push_back(text);
    return text;
  }

 private:
  size_t Below(size_t n) { return n == 0 ? 0 : random_() % n; }
  void Learn(const std::string& text) {
    std::string word;
    for (char c : text + " ") {
      if (std::isalnum(static_cast<unsigned char>(c)) || c == '_' || c == '.') {
        word += c;
      } else if (!word.empty()) {
        if (words_.size() < 5000) words_.push_back(word);
        word.clear();
      }
    }
  }
  void Mutate(std::string& t) {
    static const std::vector<std::string> kOdd = {"0",
                                                  "-1",
                                                  "1e308",
                                                  "1e-308",
                                                  "nan",
                                                  "inf",
                                                  "9223372036854775807",
                                                  "-9223372036854775808",
                                                  "18446744073709551616",
                                                  "null",
                                                  "true",
                                                  "{}",
                                                  "[]",
                                                  "{",
                                                  "[",
                                                  "}",
                                                  "]",
                                                  "\"",
                                                  "'",
                                                  ":",
                                                  "\n",
                                                  "  ",
                                                  "\t",
                                                  "&a",
                                                  "*a",
                                                  "<<",
                                                  "!!int",
                                                  "---",
                                                  "%",
                                                  "k",
                                                  "M",
                                                  "\xff",
                                                  "\xc3",
                                                  "\\u0000",
                                                  "((((((((",
                                                  "))))",
                                                  "min(",
                                                  "max(",
                                                  " and ",
                                                  " or ",
                                                  "not ",
                                                  "==",
                                                  "<=",
                                                  ",",
                                                  "|",
                                                  ">"};
    const size_t at = Below(t.size() + 1);
    switch (Below(10)) {
      case 0:
        if (!t.empty()) t[Below(t.size())] ^= static_cast<char>(1 << Below(8));
        break;
      case 1:
        t.insert(at, kOdd[Below(kOdd.size())]);
        break;
      case 2:
        t.erase(at, Below(20));
        break;
      case 3:
        if (!words_.empty()) t.insert(at, words_[Below(words_.size())]);
        break;
      case 4: {  // another's middle
        const std::string& other = pool_[Below(pool_.size())];
        const size_t from = Below(other.size() + 1);
        t.insert(at, other.substr(from, Below(200)));
        break;
      }
      case 5: {  // a line again, elsewhere
        const size_t begin = t.rfind('\n', at);
        const size_t from = begin == std::string::npos ? 0 : begin + 1;
        const size_t end = t.find('\n', from);
        const std::string line = t.substr(from, end == std::string::npos ? end : end - from + 1);
        t.insert(Below(t.size() + 1), line);
        break;
      }
      case 6: {  // a line less
        const size_t begin = t.rfind('\n', at);
        const size_t from = begin == std::string::npos ? 0 : begin + 1;
        const size_t end = t.find('\n', from);
        t.erase(from, end == std::string::npos ? end : end - from + 1);
        break;
      }
      case 7:
        t.resize(at);
        break;
      case 8: {  // a word for a word
        const size_t begin = t.find_first_of("abcdefghijklmnopqrstuvwxyz0123456789", at);
        if (begin == std::string::npos || words_.empty()) break;
        const size_t end = t.find_first_not_of("abcdefghijklmnopqrstuvwxyz0123456789_.", begin);
        t.replace(begin, end == std::string::npos ? end : end - begin,
                  Below(3) == 0 ? kOdd[Below(kOdd.size())] : words_[Below(words_.size())]);
        break;
      }
      default:
        t.insert(at, 1, static_cast<char>(Below(256)));
    }
  }
  std::vector<std::string> pool_, words_;
  std::string kept_;
  std::mt19937_64 random_;
};

std::string Slurp(const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(in), {}};
}

int Usage() {
  std::fprintf(stderr,
               "usage: plumb-fuzz yaml|expression|trial|journal|commands|safetensors [--seconds 5] "
               "[--seed 1] "
               "[--last FILE] [--once FILE] SEED-FILE…\n");
  return 2;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc < 2 || !kTargets.contains(argv[1])) return Usage();
  const auto& target = kTargets.at(argv[1]);
  double seconds = 5;
  uint64_t seed = 1;
  std::string last, once;
  std::vector<std::string> seeds;
  for (int i = 2; i < argc; ++i) {
    const std::string word = argv[i];
    if (word.rfind("--", 0) == 0) {
      if (i + 1 == argc) return Usage();
      const char* value = argv[++i];
      if (word == "--seconds") {
        seconds = std::atof(value);
      } else if (word == "--seed") {
        seed = std::strtoull(value, nullptr, 10);
      } else if (word == "--last") {
        last = value;
      } else if (word == "--once") {
        once = value;
      } else {
        return Usage();
      }
    } else {
      seeds.push_back(Slurp(word));
    }
  }
  // In memory where there is such a place: a disk would be what is measured.
  const std::filesystem::path memory = "/dev/shm";
  std::string pattern =
      ((std::filesystem::is_directory(memory) ? memory : std::filesystem::temp_directory_path()) /
       "plumb-fuzz-XXXXXX")
          .string();
  folder = mkdtemp(pattern.data());
  if (!once.empty()) {
    target(Slurp(once));
    std::filesystem::remove_all(folder);
    return 0;
  }
  if (last.empty()) last = std::string("plumb-fuzz-") + argv[1] + ".last";
  // Shared memory: it is in the file when the process has died.
  const int fd = open(last.c_str(), O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
  constexpr size_t kRoom = 2 * kLongest;
  if (fd < 0 || ftruncate(fd, kRoom) != 0) return Usage();
  auto* room = static_cast<char*>(mmap(nullptr, kRoom, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0));
  if (room == MAP_FAILED) return Usage();
  const auto run = [&](const std::string& text) {
    const size_t n = std::min(text.size(), kRoom);
    std::memcpy(room, text.data(), n);
    std::memset(room + n, 0, std::min(kRoom - n, size_t{64}));
    const auto start = Clock::now();
    const double cpu = CpuSeconds();
    target(text);
    const double took = CpuSeconds() - cpu;
    Must(took < kHang && Since(start) < kStuck,
         "an input is answered within 10 s of processor time");
    return took;
  };
  const auto start = Clock::now();
  for (const std::string& text : seeds) run(text);
  Mutator mutator(seeds, seed);
  int64_t runs = static_cast<int64_t>(seeds.size());
  double slowest = 0;
  while (Since(start) < seconds) {
    slowest = std::max(slowest, run(mutator.Next()));
    ++runs;
  }
  std::printf("%s: %lld inputs in %.0f s, the slowest %.3f s, seed %llu\n", argv[1],
              static_cast<long long>(runs), Since(start), slowest,
              static_cast<unsigned long long>(seed));
  munmap(room, kRoom);
  close(fd);
  std::filesystem::remove(last);
  std::filesystem::remove_all(folder);
  return 0;
}
