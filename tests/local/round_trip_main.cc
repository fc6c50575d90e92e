// round_trip FOLDER OUT ID...: FOLDER, a checkpoint or a Hugging Face model, is exported to OUT/hf,
// and this trainer's logits of the ids are written to OUT/logits.safetensors. hf_round_trip.py
// compares.
#include <ATen/ATen.h>

#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <nlohmann/json.hpp>

#include "interchange/hf_folder.h"
#include "trainer/checkpoint.h"
#include "trainer/files/checkpoint_folder.h"
#include "trainer/model.h"
#include "trainer/spec/parameter_layout.h"

int main(int argc, char** argv) try {
  using namespace plumb;
  namespace fs = std::filesystem;
  if (argc < 4) throw std::runtime_error("round_trip FOLDER OUT ID...");
  std::string checkpoint = argv[1];
  const fs::path out = argv[2];
  std::string type;
  if (fs::exists(fs::path(checkpoint) / "config.json")) {
    const interchange::Imported in = interchange::ImportHf(checkpoint, out / "checkpoint");
    checkpoint = in.checkpoint, type = in.model_type;
  }
  const auto exported = interchange::ExportHf(checkpoint, out / "hf", {.model_type = type});
  const auto spec =
      interchange::SpecOf(trainer::ReadCheckpointManifest(checkpoint, ""), checkpoint);
  trainer::Arena arena(spec::LayoutOf(spec.model), 1, at::kCPU);
  trainer::LoadCheckpoint({checkpoint, "", 0, false}, arena, 0);
  std::vector<int64_t> ids;
  for (int i = 3; i < argc; ++i) ids.push_back(std::atoll(argv[i]));
  const auto T = static_cast<int64_t>(ids.size());
  const trainer::ForwardTables tables(spec.model, T, at::kCPU);
  const at::Tensor logits = trainer::Forward(spec.model, tables, arena.View(0, 1),
                                             at::tensor(ids, at::kLong).view({1, 1, T}))[0]
                                .contiguous();
  trainer::WriteSafetensors(out / "logits.safetensors",
                            {{"logits", {logits.sizes().vec(), logits.data_ptr<float>()}}});
  std::printf("%s\n", exported.model_type.c_str());
  return 0;
} catch (const std::exception& e) {
  std::fprintf(stderr, "round_trip: %s\n", e.what());
  return 1;
}
