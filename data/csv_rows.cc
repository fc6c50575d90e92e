#include "data/csv_rows.h"

#include <set>

#include "data/dataset.h"

namespace plumb::data {

CsvRows::CsvRows(std::string path) : path_(std::move(path)), in_(path_, std::ios::binary) {
  if (!in_) throw DataError(path_ + ": cannot be read");
  if (!Fields(&columns_)) throw DataError(path_ + ": has no row");
  if (columns_.front().starts_with("\xEF\xBB\xBF")) columns_.front().erase(0, 3);
  if (std::set<std::string>(columns_.begin(), columns_.end()).size() != columns_.size())
    Wrong("a column's name stands twice in the first row");
}

bool CsvRows::Next(std::map<std::string, std::string>* row) {
  std::vector<std::string> fields;
  if (!Fields(&fields)) return false;
  if (fields.size() != columns_.size()) {
    Wrong(std::to_string(fields.size()) + " fields, the first row has " +
          std::to_string(columns_.size()));
  }
  row->clear();
  for (size_t i = 0; i < fields.size(); ++i) (*row)[columns_[i]] = std::move(fields[i]);
  return true;
}

// Empty lines are passed over.
bool CsvRows::Fields(std::vector<std::string>* out) {
  out->clear();
  std::string field;
  bool quoted = false, was_quoted = false, any = false;
  for (int c = in_.get(); c != EOF; c = in_.get()) {
    if (!any && (c == '\n' || c == '\r')) {
      next_ += c == '\n';
      continue;
    }
    if (!any) line_ = next_, any = true;
    if (quoted) {
      if (c == '"' && in_.peek() == '"') {
        field += static_cast<char>(in_.get());
      } else if (c == '"') {
        quoted = false;
      } else {
        next_ += c == '\n';
        field += static_cast<char>(c);
      }
    } else if (c == '"' && field.empty() && !was_quoted) {
      quoted = was_quoted = true;
    } else if (c == ',') {
      out->push_back(std::move(field));
      field.clear(), was_quoted = false;
    } else if (c == '\n') {
      ++next_;
      break;
    } else if (c != '\r') {
      field += static_cast<char>(c);
    }
  }
  if (quoted) Wrong("a quote is not closed");
  if (any) out->push_back(std::move(field));
  return any;
}

void CsvRows::Wrong(const std::string& what) const {
  throw DataError(path_ + ":" + std::to_string(line_) + ": " + what);
}

}  // namespace plumb::data
