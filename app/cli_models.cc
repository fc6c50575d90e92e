// plumb model, block and data.
#include "app/cli_builder.h"

namespace plumb::app {
namespace {

void AddModelFiles(Builder& b, CLI::App* group, Line& l) {
  CLI::App* c = b.Command(group, "import", "A Hugging Face model to a checkpoint to start from",
                          "plumb model import TinyLlama-1.1B --out checkpoints/tinyllama",
                          [](const Line& x) { return ImportModel(x.context, x.model_files); });
  c->add_option("folder", l.model_files.from, "config.json, safetensors, tokenizer")->required();
  c->add_option("--out", l.model_files.out, "Folder for the checkpoint")->required();

  c = b.Command(group, "export", "A checkpoint to a folder that transformers loads",
                "plumb model export --trial 3 --out my-model",
                [](const Line& x) { return ExportModel(x.context, x.model_files); });
  c->add_option("checkpoint", l.model_files.from, "A folder step-… (or give --trial)");
  c->add_option("--trial", l.model_files.trial, "The trial's last checkpoint");
  c->add_option("--stage", l.model_files.stage, "Which of its stages (the first with one)");
  c->add_option("--out", l.model_files.out, "A new or empty folder")->required();
  c->add_option("--layout", l.model_files.layout,
                "llama, mistral, phi3, olmo2, gemma2, gpt2, gpt_neox, gptj (the first that fits)");
  c->add_option("--data-root", l.model_files.data_root, "Where prepared corpora lie");
}

void AddModel(Builder& b, CLI::App* root, Line& l) {
  CLI::App* g = b.Group(root, "model", "The catalogue of blocks, and models as files",
                        "plumb model show sas_p --shape d_model=64,n_layers=4");
  b.Command(g, "list", "Presets: what each is and where it comes from", "plumb model list",
            [](const Line& x) { return ListModels(x.context); });
  CLI::App* c = b.Command(g, "show", "A block drawn, its parameters and FLOPs by component",
                          "plumb model show sas_p --shape d_model=64,n_layers=4,seq_len=128",
                          [](const Line& x) { return ShowModel(x.context, x.model); });
  c->add_option("preset", l.model.preset, "One of plumb model list")->required();
  c->add_option("--shape", l.model.shape, "Fields: d_model=64,n_layers=4,vocab_size=32000,…");
  c = b.Command(g, "coordcheck",
                "Do activations and their change in training depend on width or depth?",
                "plumb model coordcheck --widths 32,64,128 --parametrization mup",
                [](const Line& x) { return CoordCheck(x.context, x.coordcheck); });
  c->add_option("preset", l.coordcheck.preset, "One of plumb model list (llama)");
  c->add_option("--widths", l.coordcheck.widths, "d_model of each run; the first is muP's base");
  c->add_option("--depths", l.coordcheck.depths, "n_layers of each run; the first is the base");
  c->add_option("--parametrization", l.coordcheck.parametrization, "sp, mup, mup_repo, completep");
  c->add_option("--shape", l.coordcheck.shape, "Other fields, as lr=0.01,head_dim=16");
  c->add_option("--seeds", l.coordcheck.seeds, "Runs of each size (3)");
  c->add_option("--steps", l.coordcheck.steps, "Updates before the look (10)");
  c->add_option("--svg", l.coordcheck.svg, "Write the figure too; two axes make two files");
  c->add_option("--trainer", l.coordcheck.trainer, "plumb-trainer (beside this program)");
  AddModelFiles(b, g, l);
}

void AddBlock(Builder& b, CLI::App* root, Line& l) {
  CLI::App* g = b.Group(root, "block", "Blocks from outside the tree", "plumb block new my_block");
  CLI::App* c = b.Command(g, "new", "Writes a folder with a block that works, to change",
                          "plumb block new my_block",
                          [](const Line& x) { return NewBlock(x.context, x.block); });
  c->add_option("name", l.block.name, "Lower-case letters, digits, _")->required();
  c->add_option("--dir", l.block.dir, "Where the folder goes (here)");
  c = b.Command(g, "test", "Builds it; checks counts, causality, gradients, arrays",
                "plumb block test my_block",
                [](const Line& x) { return TestBlock(x.context, x.block); });
  c->add_option("folder", l.block.name, "The block's folder")->required();
  c->add_option("--trainer", l.block.trainer, "plumb-trainer (beside this program)");
}

void AddData(Builder& b, CLI::App* root, Line& l) {
  CLI::App* g = b.Group(root, "data", "Corpora", "plumb data prepare python-docs-en");
  CLI::App* c = b.Command(g, "prepare", "Reads, splits and tokenizes a corpus",
                          "plumb data prepare python-docs-en --tokenizer bytes",
                          [](const Line& x) { return PrepareData(x.context, x.data); });
  c->add_option("corpus", l.data.corpus, "A bundled corpus, or a name of your own with --text")
      ->required();
  c->add_option("--tokenizer", l.data.tokenizer,
                "bytes, sentencepiece:SIZE, or a path: a SentencePiece model, a tokenizer.json of "
                "byte-level BPE, llama2.c's tokenizer.bin");
  c->add_option("--text", l.data.files, "Files and folders of text");
  c->add_option("--part", l.data.parts,
                "NAME=SOURCE, twice or more: a mixed corpus of named parts, each a file, a folder "
                "or a bundled corpus");
  c->add_option("--nanogpt", l.data.nanogpt, "A folder with nanoGPT's train.bin and val.bin");
  c->add_option("--vocab", l.data.vocab_size,
                "Vocabulary of --nanogpt's ids (0: the largest id + 1)");
  c->add_option("--split-seed", l.data.split_seed, "Another split of the same documents");
  c->add_flag("--disjoint", l.data.disjoint,
              "Cut out of train what tune, val and test have too; a bundled corpus is asked for by "
              "its name instead, as python-docs-en-disjoint");
  const auto root_option = [&l](CLI::App* to) {
    to->add_option("--data-root", l.data.data_root, "Where prepared corpora lie");
  };
  root_option(c);
  root_option(b.Command(g, "list", "Prepared corpora", "plumb data list",
                        [](const Line& x) { return ListData(x.context, x.data); }));
  c = b.Command(g, "show", "One corpus: splits, overlap, compressor",
                "plumb data show python-docs-en",
                [](const Line& x) { return ShowData(x.context, x.data); });
  c->add_option("corpus", l.data.corpus, "Its name")->required();
  c->add_option("--tokenizer", l.data.tokenizer, "bytes, sentencepiece:SIZE");
  root_option(c);
}

}  // namespace

void AddModels(Builder& b, CLI::App* root, Line& l) {
  AddModel(b, root, l);
  AddBlock(b, root, l);
  AddData(b, root, l);
}

}  // namespace plumb::app
