#include "sweeps/shape_names.h"

#include <algorithm>
#include <optional>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "sweeps/field_values.h"
#include "sweeps/number.h"

namespace plumb::sweeps {
namespace {

struct Size {
  const char* name;
  int64_t n_layers, d_model, n_heads, head_dim, d_ff;
  int64_t n_kv_heads;  // 0: n_heads
};

constexpr Size kSizes[] = {
    // GPT-2 (Radford et al. 2019); nanoGPT's are the same, and its small one for characters.
    {"gpt2", 12, 768, 12, 64, 3072, 0},
    {"gpt2-small", 12, 768, 12, 64, 3072, 0},
    {"gpt2-medium", 24, 1024, 16, 64, 4096, 0},
    {"gpt2-large", 36, 1280, 20, 64, 5120, 0},
    {"gpt2-xl", 48, 1600, 25, 64, 6400, 0},
    {"nanogpt", 12, 768, 12, 64, 3072, 0},
    {"nanogpt-shakespeare-char", 6, 384, 6, 64, 1536, 0},
    // Llama (Touvron et al. 2023), Llama 2 and 3 (Meta 2023, 2024).
    {"llama-7b", 32, 4096, 32, 128, 11008, 0},
    {"llama-13b", 40, 5120, 40, 128, 13824, 0},
    {"llama-33b", 60, 6656, 52, 128, 17920, 0},
    {"llama-65b", 80, 8192, 64, 128, 22016, 0},
    {"llama2-7b", 32, 4096, 32, 128, 11008, 0},
    {"llama2-13b", 40, 5120, 40, 128, 13824, 0},
    {"llama2-70b", 80, 8192, 64, 128, 28672, 8},
    {"llama3.2-1b", 16, 2048, 32, 64, 8192, 8},
    {"llama3.2-3b", 28, 3072, 24, 128, 8192, 8},
    {"llama3-8b", 32, 4096, 32, 128, 14336, 8},
    {"llama3-70b", 80, 8192, 64, 128, 28672, 8},
    // Pythia (Biderman et al. 2023, arXiv 2304.01373).
    {"pythia-14m", 6, 128, 4, 32, 512, 0},
    {"pythia-31m", 6, 256, 8, 32, 1024, 0},
    {"pythia-70m", 6, 512, 8, 64, 2048, 0},
    {"pythia-160m", 12, 768, 12, 64, 3072, 0},
    {"pythia-410m", 24, 1024, 16, 64, 4096, 0},
    {"pythia-1b", 16, 2048, 8, 256, 8192, 0},
    {"pythia-1.4b", 24, 2048, 16, 128, 8192, 0},
    {"pythia-2.8b", 32, 2560, 32, 80, 10240, 0},
    {"pythia-6.9b", 32, 4096, 32, 128, 16384, 0},
    {"pythia-12b", 36, 5120, 40, 128, 20480, 0},
    // The widths of T5's sizes (Tay et al. 2021), as decoders; the depth is given.
    {"deepnarrow-tiny", 0, 256, 4, 64, 1024, 0},
    {"deepnarrow-mini", 0, 384, 8, 64, 1536, 0},
    {"deepnarrow-small", 0, 512, 8, 64, 2048, 0},
    {"deepnarrow-base", 0, 768, 12, 64, 3072, 0},
    {"deepnarrow-large", 0, 1024, 16, 64, 4096, 0},
    {"deepnarrow-xl", 0, 1024, 32, 128, 16384, 0},
};

// Released checkpoints have heads of 64 where the paper's table prints 32 for the first three.
constexpr Size kT5Sizes[] = {
    {"tiny", 4, 256, 4, 64, 1024, 0},      {"mini", 4, 384, 8, 64, 1536, 0},
    {"small", 6, 512, 8, 64, 2048, 0},     {"base", 12, 768, 12, 64, 3072, 0},
    {"large", 24, 1024, 16, 64, 4096, 0},  {"xl", 24, 1024, 32, 128, 16384, 0},
    {"xxl", 24, 1024, 128, 128, 65536, 0},
};

struct Knob {
  std::string letters;
  int64_t value = 0;
};

// "nl24"; nullopt for anything else.
std::optional<Knob> AsKnob(const std::string& part) {
  size_t digits = 0;
  while (digits < part.size() && absl::ascii_islower(static_cast<unsigned char>(part[digits])))
    ++digits;
  Knob out{part.substr(0, digits), 0};
  if (digits == 0 || digits == part.size() || part.size() - digits > 7) return std::nullopt;
  for (size_t i = digits; i < part.size(); ++i) {
    if (!absl::ascii_isdigit(static_cast<unsigned char>(part[i]))) return std::nullopt;
  }
  if (!absl::SimpleAtoi(part.substr(digits), &out.value) || out.value < 1) return std::nullopt;
  return out;
}

absl::Status SetKnob(const std::string& name, const Knob& knob, Size* size) {
  if (knob.letters == "nl") {
    size->n_layers = knob.value;
  } else if (knob.letters == "dm") {
    size->d_model = knob.value;
  } else if (knob.letters == "ff") {
    size->d_ff = knob.value;
  } else if (knob.letters == "kv") {
    size->head_dim = knob.value;
  } else if (knob.letters == "nh") {
    size->n_heads = knob.value, size->n_kv_heads = 0;
  } else {
    return absl::InvalidArgumentError(absl::StrCat(
        name, ": no knob ", knob.letters, "; the knobs are nl, dm, ff, nh, kv, as in gpt2-nl24"));
  }
  return absl::OkStatus();
}

}  // namespace

std::vector<std::string> ShapeNames() {
  std::vector<std::string> out;
  for (const Size& s : kSizes) out.push_back(s.name);
  return out;
}

std::string ShapeNamePattern() {
  std::vector<std::string> names;
  for (const Size& s : kSizes) {
    std::string name = s.name;
    if (const size_t dot = name.find('.'); dot != std::string::npos) name.insert(dot, "\\");
    names.push_back(s.n_layers > 0 ? name : name + "(-(dm|ff|nh|kv)[0-9]+)*-nl[0-9]+");
  }
  return absl::StrCat("^(", absl::StrJoin(names, "|"), ")(-(nl|dm|ff|nh|kv)[0-9]+)*$");
}

absl::StatusOr<ShapeFields> ShapeByName(const std::string& name) {
  if (absl::StartsWith(name, "t5-") || name == "t5") {
    const auto t5 = T5ByName(name);
    if (!t5.ok()) return t5.status();
    return absl::InvalidArgumentError(absl::StrCat(
        name, " is an encoder-decoder of ", Grouped(CountT5(*t5)),
        " parameters, which this version counts and cannot train; for a decoder of its "
        "widths write deepnarrow-small-nl24"));
  }
  // The longest size that the name begins with; what follows are knobs.
  const Size* found = nullptr;
  for (const Size& s : kSizes) {
    const bool begins = name == s.name || absl::StartsWith(name, std::string(s.name) + "-");
    if (begins &&
        (found == nullptr || std::string(s.name).size() > std::string(found->name).size()))
      found = &s;
  }
  if (found == nullptr) {
    return absl::InvalidArgumentError(
        absl::StrCat("no shape \"", name, "\"", Suggest(name, ShapeNames())));
  }
  Size size = *found;
  const std::string rest = name.substr(std::string(found->name).size());
  for (const auto& part : std::vector<std::string>(absl::StrSplit(rest, '-', absl::SkipEmpty()))) {
    const auto knob = AsKnob(part);
    if (!knob) {
      return absl::InvalidArgumentError(
          absl::StrCat(name, ": ", part, " is no knob of ", found->name,
                       "; a knob is letters and a number, as nl24, dm512, ff2048, nh8, kv64"));
    }
    if (absl::Status s = SetKnob(name, *knob, &size); !s.ok()) return s;
  }
  if (size.n_layers == 0) {
    return absl::InvalidArgumentError(
        absl::StrCat(name, " needs its depth: ", found->name, "-nl24"));
  }
  return ShapeFields{{"model.n_layers", size.n_layers},
                     {"model.d_model", size.d_model},
                     {"model.n_heads", size.n_heads},
                     {"model.n_kv_heads", size.n_kv_heads > 0 ? size.n_kv_heads : size.n_heads},
                     {"model.head_dim", size.head_dim},
                     {"model.d_ff", size.d_ff}};
}

absl::StatusOr<T5Shape> T5ByName(const std::string& name) {
  std::vector<std::string> parts = absl::StrSplit(name, '-');
  std::vector<std::string> sizes;
  for (const Size& s : kT5Sizes) sizes.push_back(s.name);
  size_t at = 1;
  if (parts.size() > at && parts[at] == "efficient") ++at;
  const std::string which = parts.size() > at ? parts[at] : "";
  const auto* size = std::find_if(std::begin(kT5Sizes), std::end(kT5Sizes),
                                  [&](const Size& s) { return which == s.name; });
  if (parts[0] != "t5" || size == std::end(kT5Sizes)) {
    return absl::InvalidArgumentError(
        absl::StrCat("no T5 size \"", which, "\"", Suggest(which, sizes)));
  }
  Size s = *size;
  int64_t encoder = 0, decoder = 0;
  for (size_t i = at + 1; i < parts.size(); ++i) {
    const auto knob = AsKnob(parts[i]);
    if (!knob) {
      return absl::InvalidArgumentError(
          absl::StrCat(name, ": ", parts[i],
                       " is no knob; they are nl, el, dl, dm, ff, kv, nh and "
                       "a number"));
    }
    if (knob->letters == "el") {
      encoder = knob->value;
    } else if (knob->letters == "dl") {
      decoder = knob->value;
    } else if (absl::Status set = SetKnob(name, *knob, &s); !set.ok()) {
      return set;
    }
  }
  return T5Shape{.encoder_layers = encoder > 0 ? encoder : s.n_layers,
                 .decoder_layers = decoder > 0 ? decoder : s.n_layers,
                 .d_model = s.d_model,
                 .d_ff = s.d_ff,
                 .head_dim = s.head_dim,
                 .n_heads = s.n_heads};
}

std::vector<T5Parameter> T5Layout(const T5Shape& s) {
  constexpr int64_t kBuckets = 32;
  const int64_t heads = s.n_heads * s.head_dim;
  std::vector<T5Parameter> out = {{"shared.weight", {s.vocab_size, s.d_model}}};
  const auto attention = [&](const std::string& at) {
    for (const char* part : {"q", "k", "v"})
      out.push_back({absl::StrCat(at, ".", part, ".weight"), {s.d_model, heads}});
    out.push_back({at + ".o.weight", {heads, s.d_model}});
  };
  const auto norm = [&](const std::string& at) { out.push_back({at + ".weight", {s.d_model}}); };
  const auto stack = [&](const std::string& name, int64_t layers, bool cross) {
    out.push_back({name + ".relative_bias.weight", {kBuckets, s.n_heads}});
    for (int64_t l = 0; l < layers; ++l) {
      const std::string block = absl::StrCat(name, ".blocks.", l);
      norm(block + ".attn_norm"), attention(block + ".attn");
      if (cross) norm(block + ".cross_norm"), attention(block + ".cross");
      norm(block + ".mlp_norm");
      out.push_back({block + ".mlp.in.weight", {s.d_model, s.d_ff}});
      out.push_back({block + ".mlp.out.weight", {s.d_ff, s.d_model}});
    }
    norm(name + ".final_norm");
  };
  stack("encoder", s.encoder_layers, false);
  stack("decoder", s.decoder_layers, true);
  return out;
}

int64_t CountT5(const T5Shape& shape) {
  int64_t total = 0;
  for (const T5Parameter& p : T5Layout(shape)) {
    int64_t size = 1;
    for (int64_t n : p.shape) size *= n;
    total += size;
  }
  return total;
}

}  // namespace plumb::sweeps
