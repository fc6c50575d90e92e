// Hidden states of a checkpoint for programs of others, and our scores of them.
//   bench_linearity_states CHECKPOINT IDS LENGTH OUT
// CHECKPOINT: a folder step-… of ours, trained or imported. IDS: a file of int32 token ids, cut in
// texts of LENGTH. Writes OUT/h<i>.f32 (float32, a token a row; h_0, after each block, the final
// norm last) and prints {"d", "n", "scores": [{"from", "to", "score", …}]}, neighbours of h.
#include <ATen/ATen.h>

#include <cstdio>
#include <fstream>
#include <iterator>
#include <nlohmann/json.hpp>

#include "trainer/bundle.h"
#include "trainer/checkpoint.h"
#include "trainer/files/checkpoint_folder.h"
#include "trainer/hidden_states.h"
#include "trainer/linearity/score.h"
#include "trainer/spec/parse.h"

int main(int argc, char** argv) {
  using nlohmann::json;
  namespace trainer = plumb::trainer;
  namespace linearity = plumb::trainer::linearity;
  if (argc != 5) {
    std::fprintf(stderr, "usage: bench_linearity_states CHECKPOINT IDS LENGTH OUT\n");
    return 2;
  }
  const std::string path = argv[1], out = argv[4];
  const int64_t length = std::stoll(argv[3]);
  plumb::spec::TrialSpec s;
  const json manifest = trainer::ReadCheckpointManifest(path, "");
  if (const auto wrong = plumb::spec::ParseResolved(manifest.at("config").dump(), &s);
      !wrong.empty()) {
    std::fprintf(stderr, "%s\n", plumb::spec::Format(wrong).c_str());
    return 2;
  }
  trainer::Bundle bundle(s.model, length, 1, at::kCPU);
  bundle.Add(0, s.model);
  trainer::LoadCheckpoint({.path = path, .resume = false}, bundle.arena(), 0);
  std::ifstream file(argv[2], std::ios::binary);
  const std::string bytes{std::istreambuf_iterator<char>(file), {}};
  const int64_t texts = static_cast<int64_t>(bytes.size()) / 4 / length;
  at::Tensor ids = at::empty({1, texts, length}, at::kLong);
  for (int64_t i = 0; i < texts * length; ++i)
    ids.data_ptr<int64_t>()[i] = reinterpret_cast<const int32_t*>(bytes.data())[i];
  const std::vector<at::Tensor> states = trainer::HiddenStates(bundle, 0, ids);
  json scores = json::array();
  for (size_t i = 0; i < states.size(); ++i) {
    const at::Tensor h = states[i].contiguous();
    std::ofstream(out + "/h" + std::to_string(i) + ".f32", std::ios::binary)
        .write(reinterpret_cast<const char*>(h.data_ptr<float>()),
               static_cast<std::streamsize>(h.nbytes()));
    if (i == 0) continue;
    const linearity::Linearity l = linearity::ScoreOf(states[i - 1], h);
    linearity::Moments m(1, {});
    m.Add({h});
    scores.push_back({{"from", i - 1},
                      {"to", i},
                      {"score", l.score},
                      {"score_without", l.score_without},
                      {"rank", l.rank},
                      {"rho", l.rho},
                      {"anisotropy", linearity::SpectrumOf(m.gram(0)).anisotropy}});
  }
  std::printf(
      "%s\n",
      json{{"d", s.model.d_model}, {"n", texts * length}, {"scores", scores}}.dump().c_str());
}
