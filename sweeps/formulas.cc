#include "sweeps/formulas.h"

#include <algorithm>
#include <functional>
#include <map>
#include <set>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"

namespace plumb::sweeps {
namespace {

// What a formula of `variant` names there: fields and measures without ref(), its own included.
std::vector<std::string> OwnNames(const Computed& formula, const NameContext& names,
                                  const std::string& variant) {
  std::vector<std::string> out;
  for (const Expression::Name& n : formula.expression.names()) {
    const std::string resolved = *ResolveName(n.text, names);
    const auto reference = AsReference(resolved);
    if (!reference) {
      out.push_back(resolved);
    } else if (reference->variant == variant) {
      out.push_back(reference->name);
    }
  }
  return out;
}

// Visits formulas depth first; `circle` gets the fields of the first circle found.
void Visit(const Overlay& fields, const NameContext& names, const std::string& variant,
           const std::string& field, std::vector<std::string>* path, std::set<std::string>* done,
           std::vector<Computed>* order, std::vector<std::string>* circle) {
  const auto formula = fields.computed.find(field);
  if (formula == fields.computed.end() || done->count(field) > 0) return;
  if (const auto open = std::find(path->begin(), path->end(), field); open != path->end()) {
    if (circle->empty()) circle->assign(open, path->end());
    return;
  }
  path->push_back(field);
  for (const std::string& name : OwnNames(formula->second, names, variant))
    Visit(fields, names, variant, name, path, done, order, circle);
  path->pop_back();
  if (done->insert(field).second) order->push_back(formula->second);
}

std::string NameOf(const SweepFile& file, size_t variant) {
  return file.variants.empty() ? "" : file.variants[variant].name;
}

// Variants whose values a variant's must wait for: around several it can be a circle.
class References {
 public:
  References(const SweepFile& file, const NameContext& names, std::vector<Problem>* problems)
      : file_(file), names_(names), problems_(problems) {}

  void Check() {
    for (size_t v = 0; v < file_.variants.size(); ++v) Walk({v, true});
  }

 private:
  using Node = std::pair<size_t, bool>;  // variant; its budget too, or its shape alone

  void Walk(Node node) {
    if (done_.count(node) > 0 || circle_) return;
    if (std::find(open_.begin(), open_.end(), node) != open_.end()) return;
    open_.push_back(node);
    if (node.second) Walk({node.first, false});
    const std::string& own = file_.variants[node.first].name;
    for (const auto& [field, formula] : FieldsOf(file_, node.first).computed) {
      if (IsShapeField(field) == node.second) continue;
      for (const Expression::Name& n : formula.expression.names()) {
        const auto reference = AsReference(*ResolveName(n.text, names_));
        if (!reference || reference->variant == own) continue;
        const size_t other =
            std::find_if(file_.variants.begin(), file_.variants.end(),
                         [&](const Variant& v) { return v.name == reference->variant; }) -
            file_.variants.begin();
        if (other == file_.variants.size()) continue;  // it was no variant, which is said already
        const bool budget =
            KnownIn(reference->name) == Phase::kBudget ||
            (KnownIn(reference->name) == Phase::kFields && !IsShapeField(reference->name));
        const Node to{other, budget};
        if (std::find(open_.begin(), open_.end(), to) != open_.end() && !circle_) {
          circle_ = true;
          problems_->push_back(
              {formula.at, absl::StrCat(field, " of ", own, " waits for ", n.text,
                                        ", which waits for ", field, " of ", own)});
        }
        Walk(to);
      }
    }
    open_.pop_back();
    done_.insert(node);
  }

  const SweepFile& file_;
  const NameContext& names_;
  std::vector<Problem>* problems_;
  std::vector<Node> open_;
  std::set<Node> done_;
  bool circle_ = false;
};

}  // namespace

Overlay FieldsOf(const SweepFile& file, size_t variant) {
  Overlay out = file.trial;
  if (file.variants.empty()) return out;
  const Overlay& own = file.variants[variant].overlay;
  const auto drop = [&](const std::string& field) {
    out.values.erase(field), out.computed.erase(field), out.at.erase(field);
  };
  for (const auto& [field, at] : own.at) {
    drop(field);
    if (!IsBudget(field)) continue;
    for (const std::string& budget : BudgetFields()) drop(budget);
  }
  out.values.insert(own.values.begin(), own.values.end());
  out.computed.insert(own.computed.begin(), own.computed.end());
  out.at.insert(own.at.begin(), own.at.end());
  return out;
}

Formulas OrderFormulas(const Overlay& fields, const NameContext& names,
                       const std::string& variant) {
  std::vector<Computed> order;
  std::set<std::string> done;
  std::vector<std::string> path, circle;
  for (const auto& [field, formula] : fields.computed)
    Visit(fields, names, variant, field, &path, &done, &order, &circle);
  Formulas out;
  for (Computed& c : order) (IsShapeField(c.field) ? out.shape : out.rest).push_back(std::move(c));
  return out;
}

void CheckFormulas(const SweepFile& file, const NameContext& names,
                   std::vector<Problem>* problems) {
  const size_t before = problems->size();
  for (size_t v = 0; v < std::max<size_t>(1, file.variants.size()); ++v) {
    const Overlay fields = FieldsOf(file, v);
    const std::string variant = NameOf(file, v);
    const std::string in = variant.empty() ? "" : " in variant " + variant;
    for (const auto& [field, formula] : fields.computed) {
      for (const Expression::Name& n : formula.expression.names()) {
        const auto reference = AsReference(*ResolveName(n.text, names));
        if (!reference || reference->variant != variant) continue;
        const Phase known = KnownIn(reference->name);
        if (known == Phase::kBudget || (known == Phase::kCounts && IsShapeField(field))) {
          problems->push_back(
              {formula.at, absl::StrCat(field, " is computed before ", n.text, " is known", in,
                                        " itself; give ", variant, " a ", field,
                                        " of its own under variants:")});
        }
      }
    }
    std::vector<Computed> order;
    std::set<std::string> done;
    std::vector<std::string> path, circle;
    for (const auto& [field, formula] : fields.computed)
      Visit(fields, names, variant, field, &path, &done, &order, &circle);
    if (circle.empty()) continue;
    circle.push_back(circle.front());
    problems->push_back(
        {fields.at.at(circle.front()), absl::StrCat(circle.front(), " is computed from itself", in,
                                                    ": ", absl::StrJoin(circle, " ← "))});
  }
  if (problems->size() == before) References(file, names, problems).Check();
}

}  // namespace plumb::sweeps
