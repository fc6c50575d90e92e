#include "trainer/protocol/retention.h"

#include <signal.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <stdexcept>
#include <utility>
#include <vector>

namespace plumb::trainer {
namespace {

namespace fs = std::filesystem;

constexpr size_t kLast = 2;
constexpr size_t kUnacknowledged = 32;

// "step-<12 digits>"; −1 for anything else.
int64_t StepOf(const std::string& name) {
  long long step = 0;
  int end = 0;
  if (name.size() != 17 || std::sscanf(name.c_str(), "step-%12lld%n", &step, &end) != 1 ||
      end != 17)
    return -1;
  return step;
}

}  // namespace

void RetainCheckpoints(const std::string& dir, const std::string& newest) {
  std::error_code ignored;
  int64_t acknowledged = -1;
  const bool any = static_cast<bool>(std::ifstream(dir + "/acknowledged") >> acknowledged);
  int64_t kept = -1;
  std::ifstream(dir + "/kept") >> kept;
  const int64_t last = newest.empty() ? INT64_MAX : StepOf(fs::path(newest).filename());
  std::vector<std::pair<int64_t, fs::path>> steps;
  for (const auto& e : fs::directory_iterator(dir, ignored)) {
    const int64_t step = StepOf(e.path().filename());
    if (step >= 0 && step <= last && fs::exists(e.path() / "DONE", ignored))
      steps.emplace_back(step, e.path());
  }
  std::sort(steps.begin(), steps.end());
  const auto first = std::find_if(steps.begin(), steps.end(),
                                  [&](const auto& s) { return any && s.first >= acknowledged; });
  const size_t from = static_cast<size_t>(first - steps.begin());
  for (size_t i = 0; i + kLast < steps.size(); ++i) {
    if ((i >= from && i <= from + kUnacknowledged) || steps[i].first == kept) continue;
    fs::remove(steps[i].second / "DONE", ignored);  // first: half a checkpoint is none
    fs::remove_all(steps[i].second, ignored);
  }
}

namespace {
bool WriteStep(const std::string& dir, const char* name, int64_t step) {
  std::error_code error;
  fs::create_directories(dir, error);
  const std::string path = dir + "/" + name, temporary = path + ".new";
  {
    std::ofstream file(temporary, std::ios::trunc);
    file << step << "\n";
    file.flush();
    if (!file) {
      fs::remove(temporary, error);
      return false;
    }
  }
  fs::rename(temporary, path, error);
  return !error;
}
}  // namespace

bool WriteAcknowledged(const std::string& dir, int64_t step) {
  return WriteStep(dir, "acknowledged", step);
}

void WriteKept(const std::string& dir, int64_t step) {
  if (!WriteStep(dir, "kept", step))
    throw std::runtime_error("cannot write " + dir + "/kept: is the disk full?");
}

void RemoveLeftovers(const std::string& dir) {
  std::error_code ignored;
  std::vector<fs::path> left;
  for (const auto& e : fs::directory_iterator(dir, ignored)) {
    const std::string name = e.path().filename();
    const size_t at = name.rfind(".tmp-");
    const int pid = at == std::string::npos ? 0 : std::atoi(name.c_str() + at + 5);
    if (name == "acknowledged.new" || name == "kept.new" ||
        (pid > 0 && kill(pid, 0) != 0 && errno == ESRCH))
      left.push_back(e.path());
  }
  for (const fs::path& path : left) fs::remove_all(path, ignored);
}

}  // namespace plumb::trainer
