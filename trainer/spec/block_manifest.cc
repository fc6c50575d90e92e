#include "trainer/spec/block_manifest.h"

#include <cctype>
#include <filesystem>
#include <fstream>
#include <map>
#include <mutex>
#include <nlohmann/json.hpp>
#include <set>
#include <sstream>
#include <stdexcept>
#include <tuple>

#include "trainer/spec/sha256.h"

namespace plumb::spec {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

constexpr int kInterface = 1;

std::string ReadFile(const std::string& path, const std::string& fix) {
  std::ifstream in(path, std::ios::binary);
  if (!in) throw std::runtime_error(path + " is not there; " + fix);
  std::ostringstream out;
  out << in.rdbuf();
  return out.str();
}

// What a file's answer was, while the file is the same one.
template <typename T, typename Make>
T Kept(const std::string& path, const Make& make) {
  using Stamp = std::tuple<fs::file_time_type, uintmax_t>;
  static std::mutex kept_mutex;
  static auto* const kept = new std::map<std::string, std::pair<Stamp, T>>;  // under kept_mutex
  std::error_code none;
  const Stamp stamp{fs::last_write_time(path, none), fs::file_size(path, none)};
  const std::lock_guard lock(kept_mutex);
  const auto it = kept->find(path);
  if (it != kept->end() && it->second.first == stamp) return it->second.second;
  return kept->insert_or_assign(path, std::pair{stamp, T(make())}).first->second.second;
}

BlockManifest Parsed(const json& j) {
  static const std::set<std::string> kKeys = {"name",  "interface", "causal",
                                              "array", "flops",     "parameters"};
  for (const auto& [key, value] : j.items()) {
    if (kKeys.count(key) == 0) throw std::runtime_error("no such key: " + key);
  }
  if (j.at("interface") != kInterface) {
    throw std::runtime_error("interface " + j.at("interface").dump() + ", but this Plumb has " +
                             std::to_string(kInterface));
  }
  BlockManifest m{.name = j.at("name"), .causal = j.at("causal"), .flops = j.value("flops", "0")};
  const std::string array = j.value("array", "row_loop");
  if (array != "batched" && array != "row_loop")
    throw std::runtime_error("array is batched or row_loop, not " + array);
  m.batched = array == "batched";
  std::set<std::string> names;
  for (const json& p : j.at("parameters")) {
    using Kind = BlockParameter::Kind;
    static const std::map<std::string, Kind> kKinds = {
        {"matrix", Kind::kMatrix}, {"gain", Kind::kGain}, {"bias", Kind::kBias}};
    static const std::set<std::string> kInits = {"normal", "output", "ones", "zeros"};
    BlockParameter out{.name = p.at("name")};
    const auto kind = kKinds.find(p.at("kind").get<std::string>());
    if (kind == kKinds.end()) throw std::runtime_error(out.name + ": kind is matrix, gain or bias");
    out.kind = kind->second;
    for (const json& size : p.at("shape"))
      out.shape.push_back(size.is_string() ? size.get<std::string>() : size.dump());
    const json& init = p.at("init");
    out.init = init.is_string() ? init.get<std::string>() : init.dump();
    if (!init.is_number() && kInits.count(out.init) == 0)
      throw std::runtime_error(out.name + ": init is normal, output, ones, zeros or a number");
    if (out.shape.size() != (out.kind == Kind::kMatrix ? 2 : 1))
      throw std::runtime_error(out.name + ": a matrix is [in, out], a gain or bias [n]");
    if (out.name.empty() || !names.insert(out.name).second)
      throw std::runtime_error("two parameters named \"" + out.name + "\"");
    m.parameters.push_back(std::move(out));
  }
  return m;
}

// Recursive descent over + - * / ( ).
class Expression {
 public:
  Expression(const std::string& text, const std::map<char, int64_t>& names)
      : text_(text), names_(names) {}

  int64_t Value() {
    const int64_t v = Sum();
    if (Peek() != '\0') Fail("unexpected " + text_.substr(at_));
    return v;
  }

 private:
  [[noreturn]] void Fail(const std::string& why) const {
    throw std::runtime_error("\"" + text_ + "\": " + why);
  }
  char Peek() {
    while (at_ < text_.size() && text_[at_] == ' ') ++at_;
    return at_ < text_.size() ? text_[at_] : '\0';
  }
  bool Take(char c) { return Peek() == c && ++at_ > 0; }
  int64_t Sum() {
    int64_t v = Product();
    for (;;) {
      if (Take('+')) {
        v += Product();
      } else if (Take('-')) {
        v -= Product();
      } else {
        return v;
      }
    }
  }
  int64_t Product() {
    int64_t v = Atom();
    for (;;) {
      if (Take('*')) {
        if (__builtin_mul_overflow(v, Atom(), &v)) Fail("too large");
      } else if (Take('/')) {
        const int64_t by = Atom();
        if (by == 0 || v % by != 0) Fail("does not divide to a whole number");
        v /= by;
      } else {
        return v;
      }
    }
  }
  int64_t Atom() {
    if (Take('(')) {
      const int64_t v = Sum();
      if (!Take(')')) Fail("a bracket is not closed");
      return v;
    }
    const char c = Peek();
    if (std::isdigit(static_cast<unsigned char>(c))) {
      int64_t v = 0;
      for (; std::isdigit(static_cast<unsigned char>(text_[at_])) && v < 1'000'000'000; ++at_)
        v = 10 * v + (text_[at_] - '0');
      return v;
    }
    const auto it = names_.find(c);
    if (it == names_.end()) Fail("knows whole numbers and d, f, H, G, h, L, T");
    ++at_;
    return it->second;
  }

  const std::string text_;
  const std::map<char, int64_t>& names_;
  size_t at_ = 0;
};

}  // namespace

BlockManifest ReadBlockManifest(const std::string& folder) {
  const std::string path = folder + "/block.json";
  return Kept<BlockManifest>(path, [&] {
    const std::string text = ReadFile(path, "plumb block new NAME writes a block's folder");
    try {
      return Parsed(json::parse(text));
    } catch (const std::exception& e) {
      throw std::runtime_error(path + ": " + e.what());
    }
  });
}

std::string BlockLibrary(const std::string& folder) { return folder + "/build/libblock.so"; }

std::string BlockDigest(const std::string& folder) {
  const std::string fix = "build it: plumb block test " + folder;
  const auto digest = [&](const std::string& path) {
    return Kept<std::string>(path, [&] { return Sha256Hex(ReadFile(path, fix)); });
  };
  return Sha256Hex(digest(folder + "/block.json") + digest(BlockLibrary(folder)));
}

int64_t EvaluateShape(const std::string& expression, const ModelSpec& m, int64_t seq_len) {
  const std::map<char, int64_t> names = {{'d', m.d_model},    {'f', m.d_ff},     {'H', m.n_heads},
                                         {'G', m.n_kv_heads}, {'h', m.head_dim}, {'L', m.n_layers},
                                         {'T', seq_len}};
  return Expression(expression, names).Value();
}

}  // namespace plumb::spec
