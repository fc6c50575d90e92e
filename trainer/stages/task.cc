// Stage "task": questions with known answers, by the conventions of lm-evaluation-harness 0.4.13
// (docs/tasks.md).
#include "trainer/stages/task.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <numeric>

#include "trainer/stages/stage.h"

namespace plumb::trainer {

TaskRun::TaskRun(const Bundle& bundle, int64_t row, const data::Tokenizer& tokenizer,
                 const data::TaskData& task, int64_t context, bool separator_first)
    : bundle_(bundle), row_(row), context_(context), scores_(task.items.size()) {
  for (size_t i = 0; i < task.items.size(); ++i) {
    const data::TaskItem& item = task.items[i];
    scores_[i].log_likelihood.resize(item.choices.size());
    scores_[i].greedy.resize(item.choices.size());
    for (size_t c = 0; c < item.choices.size(); ++c) {
      data::EncodedPair pair = data::EncodePair(tokenizer, item.context,
                                                task.delimiter + item.choices[c], separator_first);
      if (pair.continuation > context)
        throw Infeasible("line " + std::to_string(item.line) + ": an answer of " +
                         std::to_string(pair.continuation) +
                         " tokens is longer than the context of " + std::to_string(context));
      spanning_ += pair.spanning;
      // From the left; the last token is only predicted.
      const auto most = static_cast<size_t>(context) + 1;
      if (pair.tokens.size() > most) {
        pair.tokens.erase(pair.tokens.begin(), pair.tokens.end() - static_cast<int64_t>(most));
        ++cut_;
      }
      requests_.push_back({i, c, std::move(pair)});
    }
  }
  order_.resize(requests_.size());
  std::iota(order_.begin(), order_.end(), 0);
  std::stable_sort(order_.begin(), order_.end(), [&](size_t a, size_t b) {
    return requests_[a].pair.tokens.size() > requests_[b].pair.tokens.size();
  });
  // The longest first: what does not fit in memory fails at once.
  constexpr int64_t kLogitsPerPass = int64_t{1} << 24;
  for (size_t first = 0; first < order_.size();) {
    const auto length = static_cast<int64_t>(requests_[order_[first]].pair.tokens.size());
    const int64_t texts =
        std::max<int64_t>(1, kLogitsPerPass / (length * bundle.model().vocab_size));
    const size_t count = std::min<size_t>(order_.size() - first, std::min<int64_t>(texts, 256));
    passes_.push_back({first, count});
    first += count;
  }
}

void TaskRun::Pass(size_t pass) {
  const auto [first, count] = passes_[pass];
  const auto n = static_cast<int64_t>(count);
  const auto T = static_cast<int64_t>(requests_[order_[first]].pair.tokens.size()) - 1;
  at::Tensor ids = at::zeros({1, n, T}, at::kLong);
  for (int64_t i = 0; i < n; ++i) {
    const std::vector<int64_t>& tokens = requests_[order_[first + i]].pair.tokens;
    std::copy(tokens.begin(), tokens.end() - 1, ids.data_ptr<int64_t>() + i * T);
  }
  Extras extras;
  const at::Tensor logits =
      bundle_.Logits(row_, ids.to(bundle_.device()), &extras)[0].view({n, T, -1});
  for (int64_t i = 0; i < n; ++i) {
    const Request& r = requests_[order_[first + i]];
    const int64_t m = r.pair.continuation, end = static_cast<int64_t>(r.pair.tokens.size()) - 1;
    const at::Tensor said = at::log_softmax(logits[i].slice(0, end - m, end), -1, at::kDouble);
    const at::Tensor wanted =
        at::tensor(at::ArrayRef<int64_t>(r.pair.tokens.data() + r.pair.tokens.size() - m, m),
                   at::kLong)
            .to(bundle_.device());
    scores_[r.item].log_likelihood[r.choice] =
        said.gather(1, wanted.unsqueeze(1)).sum().item<double>();
    scores_[r.item].greedy[r.choice] = said.argmax(1).eq(wanted).all().item<bool>();
  }
}

static StageWork PlanTask(const StageContext& c) {
  const nlohmann::json& s = c.settings;
  const spec::ModelSpec& m = c.spec.model;
  if (!m.causal) throw Infeasible("a model of the mlm objective has no next token to score");
  if (spec::Routed(m) && m.router.pool == spec::RouterPool::kFull)
    throw Infeasible("the router reads the whole text, answers included (router.pool full)");
  const auto asked = s.at("context").get<int64_t>();
  const int64_t context = asked > 0 ? asked : c.spec.data.seq_len;
  if (m.max_positions > 0 && context > m.max_positions)
    throw Infeasible("context " + std::to_string(context) + ": the model has " +
                     std::to_string(m.max_positions) + " positions");
  if (const int64_t longest = std::max(c.spec.data.seq_len, c.spec.eval.seq_len); context > longest)
    throw Infeasible("context " + std::to_string(context) +
                     " is longer than what the trial was made for, " + std::to_string(longest));
  const auto tokenizer = std::shared_ptr<data::Tokenizer>(data::OpenTokenizer(c.data_dir));
  std::shared_ptr<data::TaskData> task;
  try {
    task = std::make_shared<data::TaskData>(data::ReadTask(
        s.at("format"), CheckedFile(s.at("file")), CheckedFile(s.at("labels")), s.at("limit")));
  } catch (const data::DataError& e) {
    throw Infeasible(e.what());
  }
  const bool bos = s.at("bos");
  const auto run = std::make_shared<TaskRun>(*c.bundle, 0, *tokenizer, *task, context, bos);
  StageWork work;
  for (size_t pass = 0; pass < run->passes(); ++pass)
    work.push_back([run, pass] { run->Pass(pass); });
  work.push_back([&c, run, task, context, bos] {
    int64_t index = 0;
    for (const data::GroupScore& g : data::ScoreTask(*task, run->scores())) {
      nlohmann::json record = {{"task", c.settings.at("file").at("path")},
                               {"format", task->format},
                               {"version", task->version},
                               {"items", g.items},
                               {"shots", 0},
                               {"context", context},
                               {"bos", bos}};
      if (index == 0) record["cut"] = run->cut(), record["spanning"] = run->spanning();
      for (const data::TaskMetric& metric : g.metrics) {
        record[metric.name] = metric.value;
        if (metric.stderr_) record[metric.name + "_stderr"] = *metric.stderr_;
        if (g.group.empty()) c.Point("task/" + metric.name, metric.value);
      }
      c.Record("task", g.group.empty() ? "all" : g.group, index++, record);
    }
  });
  return work;
}

static const RegisterStage kTask("task", PlanTask);

}  // namespace plumb::trainer
