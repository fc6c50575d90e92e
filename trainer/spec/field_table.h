// Builds the table of fields: one method per type of field. Included by the files that list fields.
#pragma once

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>

#include "trainer/spec/choices.h"
#include "trainer/spec/fields.h"

namespace plumb::spec {

using nlohmann::json;

inline std::string Join(const std::vector<std::string>& v) {
  std::string out;
  for (const auto& s : v) out += (out.empty() ? "" : ", ") + s;
  return out;
}

inline std::string Number(double v) {
  if (v == std::floor(v) && std::abs(v) < 1e15) return std::to_string(static_cast<int64_t>(v));
  char buffer[32];
  std::snprintf(buffer, sizeof buffer, "%g", v);
  return buffer;
}

struct About {
  const char* doc;
  const char* unit = "";
  Identity identity = Identity::kResult;
  Fusion fusion = Fusion::kKey;
};

// Collects the table; one method per type of field.
class Table {
 public:
  std::vector<Field> fields;

  void Integer(const char* path, int64_t& v, double min, double max, About about) {
    Field& f = Add(path, FieldType::kInteger, about);
    f.min = min, f.max = max;
    f.get = [&v] { return json(v); };
    f.set = [&v, min, max](const json& j) -> std::string {
      // 1e6 is an integer to everyone but JSON parsers.
      const bool whole = j.is_number_integer() ||
                         (j.is_number_float() && std::floor(j.get<double>()) == j.get<double>());
      if (!j.is_number() || !whole) return "expected an integer, got " + j.dump();
      const double d = j.get<double>();
      if (!(d >= min && d <= max))
        return Number(d) + " is outside [" + Number(min) + ", " + Number(max) + "]";
      v = j.is_number_integer() ? j.get<int64_t>() : static_cast<int64_t>(d);
      return "";
    };
  }
  void Real(const char* path, double& v, double min, double max, About about) {
    Field& f = Add(path, FieldType::kNumber, about);
    f.min = min, f.max = max;
    f.get = [&v] { return json(v); };
    f.set = [&v, min, max](const json& j) -> std::string {
      if (!j.is_number()) return "expected a number, got " + j.dump();
      const double d = j.get<double>();
      if (!(d >= min && d <= max))
        return Number(d) + " is outside [" + Number(min) + ", " + Number(max) + "]";
      v = d;
      return "";
    };
  }
  void Flag(const char* path, bool& v, About about) {
    Field& f = Add(path, FieldType::kBoolean, about);
    f.get = [&v] { return json(v); };
    f.set = [&v](const json& j) -> std::string {
      if (!j.is_boolean()) return "expected true or false, got " + j.dump();
      v = j.get<bool>();
      return "";
    };
  }
  void Text(const char* path, std::string& v, About about) {
    Field& f = Add(path, FieldType::kString, about);
    f.get = [&v] { return json(v); };
    f.set = [&v](const json& j) -> std::string {
      if (!j.is_string()) return "expected a string, got " + j.dump();
      if (j.get<std::string>().size() > 1024) return "longer than 1024 bytes";
      v = j.get<std::string>();
      return "";
    };
  }
  // Text of which `canonical` makes the one form it is kept in.
  void Mixture(const char* path, std::string& v,
               std::string (*canonical)(const std::string&, std::string*), About about) {
    Text(path, v, about);
    fields.back().set = [&v, canonical, check = fields.back().set](const json& j) -> std::string {
      const std::string before = v;
      std::string wrong = check(j);
      if (wrong.empty()) wrong = canonical(j.get<std::string>(), &v);
      if (!wrong.empty()) v = before;
      return wrong;
    };
  }
  template <typename E>
  void Choice(const char* path, E& v, About about) {
    Field& f = Add(path, FieldType::kChoice, about);
    f.choices.assign(std::begin(Choices<E>::kNames), std::end(Choices<E>::kNames));
    const auto names = f.choices;
    f.get = [&v] { return json(Choices<E>::kNames[static_cast<int>(v)]); };
    f.set = [&v, names](const json& j) -> std::string {
      const auto it =
          j.is_string() ? std::find(names.begin(), names.end(), j.get<std::string>()) : names.end();
      if (it == names.end()) return "expected one of " + Join(names) + "; got " + j.dump();
      v = static_cast<E>(it - names.begin());
      return "";
    };
  }
  void Named(const char* path, std::string& v, std::vector<std::string> names, About about) {
    Text(path, v, about);
    Field& f = fields.back();
    f.type = FieldType::kChoice;
    f.choices = names;
    f.set = [&v, names](const json& j) -> std::string {
      if (!j.is_string() ||
          std::find(names.begin(), names.end(), j.get<std::string>()) == names.end()) {
        return "expected one of " + Join(names) + "; got " + j.dump();
      }
      v = j.get<std::string>();
      return "";
    };
  }

 private:
  Field& Add(const char* path, FieldType type, const About& about) {
    Field f;
    f.path = path, f.type = type, f.doc = about.doc, f.unit = about.unit;
    f.identity = about.identity, f.fusion = about.fusion;
    fields.push_back(std::move(f));
    return fields.back();
  }
};

// The sections model, base and router (model_fields.cc).
void AddModelFields(ModelSpec& m, Table* t);

}  // namespace plumb::spec
