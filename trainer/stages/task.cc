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

void TaskRun::Pass(size_t pass, const Bundle& bundle, int64_t row, const Substitutes* substitutes) {
  const auto [first, count] = passes_[pass];
  const auto n = static_cast<int64_t>(count);
  const auto T = static_cast<int64_t>(requests_[order_[first]].pair.tokens.size()) - 1;
  at::Tensor ids = at::zeros({1, n, T}, at::kLong);
  for (int64_t i = 0; i < n; ++i) {
    const std::vector<int64_t>& tokens = requests_[order_[first + i]].pair.tokens;
    std::copy(tokens.begin(), tokens.end() - 1, ids.data_ptr<int64_t>() + i * T);
  }
  Extras extras{.substitutes = substitutes};
  const at::Tensor logits =
      bundle.Logits(row, ids.to(bundle.device()), &extras)[0].view({n, T, -1});
  for (int64_t i = 0; i < n; ++i) {
    const Request& r = requests_[order_[first + i]];
    const int64_t m = r.pair.continuation, end = static_cast<int64_t>(r.pair.tokens.size()) - 1;
    const at::Tensor said = at::log_softmax(logits[i].slice(0, end - m, end), -1, at::kDouble);
    const at::Tensor wanted =
        at::tensor(at::ArrayRef<int64_t>(r.pair.tokens.data() + r.pair.tokens.size() - m, m),
                   at::kLong)
            .to(bundle.device());
    scores_[r.item].log_likelihood[r.choice] =
        said.gather(1, wanted.unsqueeze(1)).sum().item<double>();
    scores_[r.item].greedy[r.choice] = said.argmax(1).eq(wanted).all().item<bool>();
  }
}

AskedTask OpenTask(const StageContext& c, const nlohmann::json& s) {
  const spec::ModelSpec& m = c.spec.model;
  if (!m.causal) throw Infeasible("a model of the mlm objective has no next token to score");
  if (spec::Routed(m) && m.router.pool == spec::RouterPool::kFull)
    throw Infeasible("the router reads the whole text, answers included (router.pool full)");
  const auto asked = s.at("context").get<int64_t>();
  AskedTask out{.settings = s,
                .context = asked > 0 ? asked : c.spec.data.seq_len,
                .bos = s.at("bos").get<bool>()};
  if (m.max_positions > 0 && out.context > m.max_positions)
    throw Infeasible("context " + std::to_string(out.context) + ": the model has " +
                     std::to_string(m.max_positions) + " positions");
  if (const int64_t longest = std::max(c.spec.data.seq_len, c.spec.eval.seq_len);
      out.context > longest)
    throw Infeasible("context " + std::to_string(out.context) +
                     " is longer than what the trial was made for, " + std::to_string(longest));
  try {
    const auto tokenizer = data::OpenTokenizer(c.data_dir);
    out.data = std::make_shared<data::TaskData>(data::ReadTask(
        s.at("format"), CheckedFile(s.at("file")), CheckedFile(s.at("labels")), s.at("limit")));
    out.run = std::make_shared<TaskRun>(*c.bundle, 0, *tokenizer, *out.data, out.context, out.bos);
  } catch (const data::DataError& e) {
    throw Infeasible(e.what());
  }
  return out;
}

std::vector<std::pair<std::string, nlohmann::json>> TaskScores(const AskedTask& task) {
  std::vector<std::pair<std::string, nlohmann::json>> out;
  for (const data::GroupScore& g : data::ScoreTask(*task.data, task.run->scores())) {
    nlohmann::json of = {{"items", g.items}};
    for (const data::TaskMetric& metric : g.metrics) {
      of[metric.name] = metric.value;
      if (metric.stderr_) of[metric.name + "_stderr"] = *metric.stderr_;
    }
    out.emplace_back(g.group, std::move(of));
  }
  return out;
}

static StageWork PlanTask(const StageContext& c) {
  const AskedTask task = OpenTask(c, c.settings);
  StageWork work;
  for (size_t pass = 0; pass < task.run->passes(); ++pass)
    work.push_back([run = task.run, pass] { run->Pass(pass); });
  work.push_back([&c, task] {
    int64_t index = 0;
    for (const auto& [group, scores] : TaskScores(task)) {
      nlohmann::json record = {{"task", task.settings.at("file").at("path")},
                               {"format", task.data->format},
                               {"version", task.data->version},
                               {"shots", 0},
                               {"context", task.context},
                               {"bos", task.bos}};
      if (index == 0) record["cut"] = task.run->cut(), record["spanning"] = task.run->spanning();
      record.update(scores);
      for (const auto& [name, value] : scores.items()) {
        if (group.empty() && name != "items" && !name.ends_with("_stderr"))
          c.Point("task/" + name, value);
      }
      c.Record("task", group.empty() ? "all" : group, index++, record);
    }
  });
  return work;
}

static const RegisterStage kTask("task", PlanTask);

}  // namespace plumb::trainer
