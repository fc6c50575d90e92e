// As much of JSON Schema (2020-12) as SweepSchema() uses; a keyword that is not known here fails.
#pragma once

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>
#include <regex>
#include <set>
#include <string>

#include "gtest/gtest.h"

namespace plumb::sweeps {

inline bool IsOfType(const nlohmann::json& v, const std::string& type) {
  if (type == "object") return v.is_object();
  if (type == "array") return v.is_array();
  if (type == "string") return v.is_string();
  if (type == "boolean") return v.is_boolean();
  if (type == "null") return v.is_null();
  if (type == "number") return v.is_number();
  if (type == "integer") return v.is_number() && v.get<double>() == std::floor(v.get<double>());
  ADD_FAILURE() << "type " << type;
  return false;
}

inline bool Matches(const std::string& pattern, const std::string& text) {
  return std::regex_search(text, std::regex(pattern));
}

inline bool Accepts(const nlohmann::json& root, const nlohmann::json& schema,
                    const nlohmann::json& v) {
  static const std::set<std::string> kKnown = {"$ref",
                                               "$schema",
                                               "$defs",
                                               "title",
                                               "description",
                                               "type",
                                               "enum",
                                               "const",
                                               "anyOf",
                                               "properties",
                                               "required",
                                               "additionalProperties",
                                               "patternProperties",
                                               "propertyNames",
                                               "minProperties",
                                               "maxProperties",
                                               "items",
                                               "minItems",
                                               "maxItems",
                                               "pattern",
                                               "minimum",
                                               "maximum",
                                               "exclusiveMinimum",
                                               "exclusiveMaximum"};
  if (schema.is_boolean()) return schema.get<bool>();
  for (const auto& [key, value] : schema.items())
    EXPECT_TRUE(kKnown.count(key) > 0) << "keyword " << key;
  if (schema.contains("$ref")) {
    const auto ref = schema["$ref"].get<std::string>();
    const auto& def = root.at("$defs").at(ref.substr(std::string("#/$defs/").size()));
    if (!Accepts(root, def, v)) return false;
  }
  if (schema.contains("type")) {
    const auto& type = schema["type"];
    const bool fits = type.is_string() ? IsOfType(v, type.get<std::string>())
                                       : std::any_of(type.begin(), type.end(), [&](const auto& t) {
                                           return IsOfType(v, t.template get<std::string>());
                                         });
    if (!fits) return false;
  }
  if (schema.contains("const") && schema["const"] != v) return false;
  if (schema.contains("enum") &&
      std::find(schema["enum"].begin(), schema["enum"].end(), v) == schema["enum"].end()) {
    return false;
  }
  if (schema.contains("anyOf") &&
      std::none_of(schema["anyOf"].begin(), schema["anyOf"].end(),
                   [&](const auto& s) { return Accepts(root, s, v); })) {
    return false;
  }
  if (v.is_number()) {
    const double n = v.get<double>();
    if (schema.contains("minimum") && n < schema["minimum"]) return false;
    if (schema.contains("maximum") && n > schema["maximum"]) return false;
    if (schema.contains("exclusiveMinimum") && n <= schema["exclusiveMinimum"]) return false;
    if (schema.contains("exclusiveMaximum") && n >= schema["exclusiveMaximum"]) return false;
  }
  if (v.is_string() && schema.contains("pattern") &&
      !Matches(schema["pattern"].get<std::string>(), v.get<std::string>())) {
    return false;
  }
  if (v.is_array()) {
    if (schema.contains("minItems") && v.size() < schema["minItems"]) return false;
    if (schema.contains("maxItems") && v.size() > schema["maxItems"]) return false;
    for (const auto& item : v) {
      if (schema.contains("items") && !Accepts(root, schema["items"], item)) return false;
    }
  }
  if (!v.is_object()) return true;
  if (schema.contains("minProperties") && v.size() < schema["minProperties"]) return false;
  if (schema.contains("maxProperties") && v.size() > schema["maxProperties"]) return false;
  for (const auto& name : schema.value("required", nlohmann::json::array())) {
    if (!v.contains(name.get<std::string>())) return false;
  }
  for (const auto& [key, value] : v.items()) {
    if (schema.contains("propertyNames") &&
        !Accepts(root, schema["propertyNames"], nlohmann::json(key))) {
      return false;
    }
    bool known = false;
    if (schema.contains("properties") && schema["properties"].contains(key)) {
      known = true;
      if (!Accepts(root, schema["properties"][key], value)) return false;
    }
    if (schema.contains("patternProperties")) {
      for (const auto& [pattern, inner] : schema["patternProperties"].items()) {
        if (!Matches(pattern, key)) continue;
        known = true;
        if (!Accepts(root, inner, value)) return false;
      }
    }
    if (!known && schema.contains("additionalProperties") &&
        !Accepts(root, schema["additionalProperties"], value)) {
      return false;
    }
  }
  return true;
}

}  // namespace plumb::sweeps
