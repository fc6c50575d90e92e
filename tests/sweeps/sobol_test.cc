#include "sweeps/sobol.h"

#include "tests/sweeps/corpora.h"

namespace plumb::sweeps {
namespace {

// As torch.quasirandom.SobolEngine(40, scramble=False) draws them; it has the origin first.
TEST(Sobol, IsTheSequenceOfJoeAndKuo) {
  const double first[8][5] = {
      {0.5, 0.5, 0.5, 0.5, 0.5},           {0.75, 0.25, 0.25, 0.25, 0.75},
      {0.25, 0.75, 0.75, 0.75, 0.25},      {0.375, 0.375, 0.625, 0.875, 0.375},
      {0.875, 0.875, 0.125, 0.375, 0.875}, {0.625, 0.125, 0.875, 0.625, 0.625},
      {0.125, 0.625, 0.375, 0.125, 0.125}, {0.1875, 0.3125, 0.9375, 0.4375, 0.5625}};
  for (int i = 0; i < 8; ++i)
    EXPECT_EQ(SobolPoint(5, i, 0), std::vector<double>(first[i], first[i] + 5)) << i;
  const struct {
    int64_t index;
    size_t dimension;
    double value;
  } far[] = {{8, 5, 0.8125},          {8, 9, 0.8125},         {99, 15, 0.4921875},
             {99, 31, 0.4140625},     {99, 39, 0.1328125},    {999, 0, 0.2197265625},
             {999, 20, 0.5224609375}, {999, 31, 0.1455078125}};
  for (const auto& f : far) EXPECT_EQ(SobolPoint(40, f.index, 0)[f.dimension], f.value) << f.index;
}

TEST(Sobol, AFewPointsFillEverySquareOnceAndAShiftKeepsThat) {
  for (uint64_t seed : {0, 7}) {
    // With the origin, 2^6 points of two dimensions: one in each of 8 x 8 squares.
    std::vector<int> seen(64);
    for (int i = -1; i < 63; ++i) {
      const auto p =
          i < 0 && seed == 0 ? std::vector<double>{0, 0} : SobolPoint(2, i < 0 ? 63 : i, seed);
      if (i < 0 && seed != 0) continue;
      ++seen[static_cast<int>(p[0] * 8) * 8 + static_cast<int>(p[1] * 8)];
    }
    int empty = 0;
    for (int n : seen) {
      EXPECT_LE(n, 1);
      empty += n == 0;
    }
    EXPECT_EQ(empty, seed == 0 ? 0 : 1);  // the shifted origin is not drawn
  }
}

TEST(Sobol, DrawsASweep) {
  const SweepPlan p = PlanOrDie(R"(sweep: s
trial: {model: {d_model: 32}, data: {corpus: docs, seq_len: 32}, train: {steps: 10, batch_tokens: 1024}}
axes: {train.lr: {log: [1e-4, 1e-2]}, model.n_layers: [1, 2, 4, 8]}
search: {sobol: {trials: 4}}
)");
  ASSERT_EQ(p.cells.size(), 4u);
  EXPECT_EQ(p.cells[0].name, "lr=0.001 n_layers=4");
  EXPECT_EQ(p.cells[1].name, "lr=0.003162 n_layers=2");
}

}  // namespace
}  // namespace plumb::sweeps
