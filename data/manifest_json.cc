#include "data/manifest_json.h"

#include <nlohmann/json.hpp>

namespace plumb::data {

using Json = nlohmann::ordered_json;

namespace {

void ReadCounts(const Json& from, SplitInfo* info) {
  from.at("documents").get_to(info->documents);
  from.at("bytes").get_to(info->bytes);
  from.at("characters").get_to(info->characters);
  from.at("tokens").get_to(info->tokens);
}

Json Counts(const SplitInfo& info) {
  return {{"documents", info.documents},
          {"bytes", info.bytes},
          {"characters", info.characters},
          {"tokens", info.tokens}};
}

}  // namespace

std::string ManifestJson(const Manifest& m) {
  Json json;
  json["corpus"] = m.corpus;
  json["tokenizer"] = m.tokenizer;
  json["description"] = m.description;
  json["digest"] = m.digest;
  json["vocab_size"] = m.vocab_size;
  json["reversible"] = m.reversible;
  for (Split s : kAllSplits) {
    const SplitInfo& info = m.split(s);
    json["splits"][Name(s)] = Counts(info);
    json["splits"][Name(s)]["sha256"] = info.sha256;
    json["overlap_13gram"][Name(s)] = m.overlap_13gram[static_cast<int>(s)];
  }
  for (const Part& part : m.parts) {  // a list: their order is that of the documents
    Json entry = {{"name", part.name}};
    for (Split s : kAllSplits) entry["splits"][Name(s)] = Counts(part.split(s));
    json["parts"].push_back(std::move(entry));
  }
  json["near_duplicates"] = m.near_duplicates;
  json["compressor_bits_per_byte"] = m.compressor_bits_per_byte;
  json["compressor_bits_per_byte_primed"] = m.compressor_bits_per_byte_primed;
  json["input_digest"] = m.input_digest;
  json["tool_version"] = m.tool_version;
  json["split_seed"] = m.split_seed;
  json["exact_duplicates"] = m.exact_duplicates;
  json["unreadable"] = m.unreadable;
  json["sources"] = Json::array();
  for (const Source& source : m.sources) {
    json["sources"].push_back({{"name", source.name}, {"version", source.version}});
  }
  json["notes"] = m.notes;
  return json.dump(2, ' ', false, Json::error_handler_t::replace) + "\n";
}

Manifest ParseManifest(const std::string& text, const std::string& path) {
  try {
    const Json json = Json::parse(text);
    Manifest m;
    json.at("corpus").get_to(m.corpus);
    json.at("tokenizer").get_to(m.tokenizer);
    m.description = json.value("description", "");
    json.at("digest").get_to(m.digest);
    json.at("vocab_size").get_to(m.vocab_size);
    json.at("reversible").get_to(m.reversible);
    for (Split s : kAllSplits) {
      const Json& from = json.at("splits").at(Name(s));
      SplitInfo& info = m.splits[static_cast<int>(s)];
      ReadCounts(from, &info);
      from.at("sha256").get_to(info.sha256);
      if (json.contains("overlap_13gram")) {
        m.overlap_13gram[static_cast<int>(s)] = json["overlap_13gram"].value(Name(s), 0.0);
      }
    }
    for (const Json& entry : json.value("parts", Json::array())) {
      Part part{.name = entry.at("name").get<std::string>()};
      for (Split s : kAllSplits)
        ReadCounts(entry.at("splits").at(Name(s)), &part.splits[static_cast<int>(s)]);
      m.parts.push_back(std::move(part));
    }
    m.near_duplicates = json.value("near_duplicates", int64_t{0});
    m.compressor_bits_per_byte = json.value("compressor_bits_per_byte", 0.0);
    m.compressor_bits_per_byte_primed = json.value("compressor_bits_per_byte_primed", 0.0);
    m.input_digest = json.value("input_digest", "");
    m.tool_version = json.value("tool_version", "");
    m.split_seed = json.value("split_seed", uint64_t{0});
    m.exact_duplicates = json.value("exact_duplicates", int64_t{0});
    m.unreadable = json.value("unreadable", int64_t{0});
    for (const Json& source : json.value("sources", Json::array())) {
      m.sources.push_back({source.value("name", ""), source.value("version", "")});
    }
    m.notes = json.value("notes", std::vector<std::string>{});
    if (m.vocab_size <= 0)
      throw DataError(path + ": vocab_size must be positive; prepare the corpus again");
    return m;
  } catch (const nlohmann::json::exception& e) {
    throw DataError(path + ": not a manifest (" + e.what() +
                    "); prepare the corpus again (plumb data prepare)");
  }
}

}  // namespace plumb::data
