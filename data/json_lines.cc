#include "data/json_lines.h"

#include <filesystem>
#include <set>

#include "data/dataset.h"

namespace plumb::data {

using nlohmann::json;

JsonLines::JsonLines(std::string path, std::string like, int64_t max_file_bytes,
                     int64_t max_line_bytes)
    : path_(std::move(path)), like_(std::move(like)), max_line_bytes_(max_line_bytes) {
  std::error_code error;
  const auto bytes = std::filesystem::file_size(path_, error);
  if (error) throw DataError(path_ + ": cannot be read: " + error.message());
  if (static_cast<int64_t>(bytes) > max_file_bytes) {
    throw DataError(path_ + ": " + std::to_string(bytes) + " bytes are more than the " +
                    std::to_string(max_file_bytes) + " allowed; take a sample of it");
  }
  in_.open(path_, std::ios::binary);
}

bool JsonLines::Next(json* object) {
  std::string text;
  while (std::getline(in_, text)) {
    ++line_;
    if (static_cast<int64_t>(text.size()) > max_line_bytes_)
      Wrong("longer than " + std::to_string(max_line_bytes_) +
            " bytes; is the file one object a line?");
    if (text.find_first_not_of(" \t\r") == std::string::npos) continue;
    *object = Parse(text);
    return true;
  }
  if (in_.bad()) throw DataError(path_ + ": cannot be read to its end");
  return false;
}

void JsonLines::Wrong(const std::string& what) const {
  throw DataError(path_ + ":" + std::to_string(line_) + ": " + what);
}

// The parser alone does not see to it that keys are given once.
json JsonLines::Parse(const std::string& text) const {
  std::set<std::string> keys;
  std::string twice;
  const auto watch = [&](int depth, json::parse_event_t event, json& parsed) {
    if (event == json::parse_event_t::key && depth == 1 &&
        !keys.insert(parsed.get<std::string>()).second)
      twice = parsed.get<std::string>();
    return depth < 8;
  };
  json object;
  try {
    object = json::parse(text, watch);
  } catch (const json::parse_error& e) {
    Wrong("not JSON in UTF-8 (byte " + std::to_string(e.byte) + " of the line)");
  } catch (const json::out_of_range&) {
    Wrong("a number is too large: at most 1.7e308");
  }
  if (!object.is_object()) Wrong("each line must be a JSON object, as " + like_);
  if (!twice.empty()) Wrong("\"" + twice + "\" is given twice");
  return object;
}

std::string JsonLines::Text(const json& object, const std::string& key) const {
  const auto it = object.find(key);
  if (it == object.end()) Wrong("\"" + key + "\" is missing");
  if (!it->is_string()) Wrong("\"" + key + "\" must be a string");
  std::string text = it->get<std::string>();
  if (text.find_first_not_of(" \t\r\n") == std::string::npos) Wrong("\"" + key + "\" is empty");
  if (text.find('\0') != std::string::npos)
    Wrong("\"" + key + "\" holds a NUL character, which separates texts here");
  return text;
}

int64_t JsonLines::Integer(const json& object, const std::string& key, int64_t min,
                           int64_t max) const {
  const auto it = object.find(key);
  if (it == object.end()) Wrong("\"" + key + "\" is missing");
  const bool whole = it->is_number_integer() || it->is_boolean();
  const int64_t value = !whole ? 0 : it->is_boolean() ? it->get<bool>() : it->get<int64_t>();
  if (!whole || value < min || value > max)
    Wrong("\"" + key + "\" must be a whole number from " + std::to_string(min) + " to " +
          std::to_string(max) + ", not " + it->dump());
  return value;
}

}  // namespace plumb::data
