#include "app/lineage.h"

#include <algorithm>
#include <map>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "domain/status_macros.h"

namespace plumb::app {
namespace {

// The training of a trial is its root; `up` leads to who began by himself, `down` to all after him.
constexpr char kFamily[] = R"(
WITH RECURSIVE edge (id, source, step, warm) AS MATERIALIZED (
  SELECT id, branch_stage_id, branch_step, 0 FROM stage WHERE branch_stage_id IS NOT NULL
  UNION ALL
  SELECT s.id, k.stage_id, k.step, coalesce(json_extract(t.config_json, '$.init.step'), 0) = 0 FROM trial t JOIN stage s ON s.trial_id = t.id
  JOIN checkpoint k ON k.digest = json_extract(t.config_json, '$.init.digest') AND k.stage_id <> s.id
  WHERE s.kind = 'pretrain' AND s.parent_id IS NULL AND s.branch_stage_id IS NULL
    AND k.stage_id = (SELECT min(f.stage_id) FROM checkpoint f WHERE f.digest = k.digest)
), up (id, n) AS (
  SELECT id, 0 FROM (SELECT id FROM stage WHERE trial_id = ?1 AND kind = 'pretrain' AND parent_id IS NULL LIMIT 1)
  UNION ALL SELECT e.source, n + 1 FROM up JOIN edge e ON e.id = up.id
), down (id, depth) AS (
  SELECT id, 0 FROM (SELECT id FROM up ORDER BY n DESC LIMIT 1)
  UNION ALL SELECT e.id, depth + 1 FROM down JOIN edge e ON e.source = down.id
)
SELECT s.trial_id, coalesce((SELECT b.trial_id FROM stage b WHERE b.id = e.source), 0), coalesce(e.step, 0), d.depth,
  s.step, s.target_step, s.state,
  coalesce((SELECT c.name FROM sweep_trial st JOIN cell c ON c.id = st.cell_id WHERE st.trial_id = s.trial_id
            ORDER BY st.sweep_id DESC LIMIT 1), ''), coalesce(e.warm, 0)
FROM down d JOIN stage s ON s.id = d.id LEFT JOIN edge e ON e.id = d.id ORDER BY d.depth, e.step, s.trial_id)";

void Append(const std::multimap<int64_t, const Relative*>& children, const Relative& of,
            int64_t asked, const std::string& indent, std::string* out) {
  const auto [from, to] = children.equal_range(of.trial);
  for (auto it = from; it != to; ++it) {
    const Relative& r = *it->second;
    const bool last = std::next(it) == to;
    absl::StrAppend(out, indent, last ? "└─ " : "├─ ", "from step ", r.from_step,
                    r.warm ? " (weights alone)" : "", ": trial ", r.trial,
                    r.trial == asked ? " *" : "", ", ", r.state, " at ", r.step, " of ",
                    r.target_step, r.cell.empty() ? "" : ", ", Printable(r.cell), "\n");
    Append(children, r, asked, indent + (last ? "   " : "│  "), out);
  }
}

}  // namespace

absl::StatusOr<std::vector<Relative>> ReadLineage(store::Database& db, int64_t trial) {
  ASSIGN_OR_RETURN(store::Statement s, db.Prepare(kFamily));
  s.Bind(1, trial);
  std::vector<Relative> out;
  for (;;) {
    ASSIGN_OR_RETURN(const bool more, s.Step());
    if (!more) break;
    out.push_back({.trial = s.Int(0),
                   .from_trial = s.Int(1),
                   .from_step = s.Int(2),
                   .depth = s.Int(3),
                   .step = s.Int(4),
                   .target_step = s.Int(5),
                   .state = s.Text(6),
                   .cell = s.Text(7),
                   .warm = s.Int(8) != 0});
  }
  if (out.empty()) {
    return absl::NotFoundError(
        absl::StrCat("no trial ", trial, " that trains; `plumb trial list` shows them"));
  }
  return out;
}

std::string DrawLineage(const std::vector<Relative>& family, int64_t trial) {
  std::multimap<int64_t, const Relative*> children;
  for (const Relative& r : family) {
    if (r.depth > 0) children.emplace(r.from_trial, &r);
  }
  const Relative& root = family.front();
  std::string out = absl::StrCat("trial ", root.trial, root.trial == trial ? " *" : "", ", ",
                                 root.state, " at ", root.step, " of ", root.target_step,
                                 root.cell.empty() ? "" : ", ", Printable(root.cell), "\n");
  Append(children, root, trial, "", &out);
  return out;
}

std::string LineageDot(const std::vector<Relative>& family, int64_t trial) {
  std::string out = "digraph lineage {\n  node [shape=box]\n";
  for (const Relative& r : family) {
    const std::string cell = absl::StrReplaceAll(r.cell, {{"\\", "\\\\"}, {"\"", "\\\""}});
    absl::StrAppend(&out, "  t", r.trial, " [label=\"trial ", r.trial, "\\n", cell, "\\n", r.state,
                    " ", r.step, "/", r.target_step, "\"", r.trial == trial ? ", penwidth=2" : "",
                    "]\n");
    if (r.depth > 0)
      absl::StrAppend(&out, "  t", r.from_trial, " -> t", r.trial, " [label=\"", r.from_step, "\"",
                      r.warm ? ", style=dashed" : "", "]\n");
  }
  return out + "}\n";
}

Table LineageTable(const std::vector<Relative>& family) {
  Table table{.columns = {{"trial"},
                          {"from_trial"},
                          {"from_step"},
                          {"weights_only"},
                          {"depth"},
                          {"state"},
                          {"step"},
                          {"of"},
                          {"cell"}}};
  for (const Relative& r : family) {
    table.rows.push_back({r.trial, r.depth > 0 ? Value(r.from_trial) : Value(),
                          r.depth > 0 ? Value(r.from_step) : Value(), int64_t{r.warm}, r.depth,
                          r.state, r.step, r.target_step, r.cell});
  }
  return table;
}

}  // namespace plumb::app
