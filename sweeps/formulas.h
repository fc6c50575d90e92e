// The fields of one variant, and the order in which its computed ones are evaluated.
#pragma once

#include <cstddef>
#include <string>
#include <vector>

#include "sweeps/measures.h"
#include "sweeps/overlay.h"
#include "sweeps/sweep_file.h"

namespace plumb::sweeps {

// The base trial's fields, overridden by the variant's (a budget by a budget of any unit). Without
// variants, `variant` is 0 and these are the trial's.
Overlay FieldsOf(const SweepFile& file, size_t variant);

// Each formula comes after those whose fields it names.
struct Formulas {
  std::vector<Computed> shape;  // before anything is counted
  std::vector<Computed> rest;   // after: the budget, rates
};
// Of an overlay without circles (see CheckFormulas).
Formulas OrderFormulas(const Overlay& fields, const NameContext& names, const std::string& variant);

// Reports formulas that are computed from themselves, in one variant or around several, and those
// that name in their own variant what is known only later.
void CheckFormulas(const SweepFile& file, const NameContext& names, std::vector<Problem>* problems);

}  // namespace plumb::sweeps
