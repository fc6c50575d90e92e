// An engine's events as lines of the journal.
#pragma once

#include <string>
#include <vector>

#include "trainer/protocol/engine.h"
#include "trainer/protocol/journal.h"

namespace plumb::trainer {

class JournalSink : public EventSink {
 public:
  explicit JournalSink(JournalWriter& journal) : journal_(journal) {}  // must outlive this
  void Gathering(const std::string& row, const std::string& address,
                 const std::string& secret) override;
  void RowStarted(const std::string& row, int64_t step) override;
  void Points(const std::string& row, int64_t step, const std::vector<PointValue>& values) override;
  // In lines of at most 2,000 documents, so that a worker's message stays small.
  void Documents(const std::string& row, const std::string& split,
                 const std::vector<DocumentScore>& scores) override;
  void Record(const std::string& row, int64_t step, const std::string& kind,
              const std::string& name, int64_t index, const std::string& json) override;
  void Checkpoint(const std::string& row, int64_t step, const std::string& path,
                  const std::string& digest, int64_t bytes) override;
  void RowEnded(const std::string& row, int64_t step, RowOutcome outcome, const std::string& cause,
                const std::string& summary_json) override;

 private:
  JournalWriter& journal_;
};

// Non-finite numbers are the strings "NaN", "Infinity", "-Infinity".
nlohmann::json NumberToJson(double value);
double NumberFromJson(const nlohmann::json& json);  // NaN where it is neither

}  // namespace plumb::trainer
