#!/usr/bin/env python3
"""Writes beside itself what lm-evaluation-harness 0.4.13 says of a tiny model on tiny task files.

model.safetensors (config.json in its metadata), FORMAT.jsonl in the forms in which the tasks are published, and expected.json: every metric and standard error
that `lm_eval` prints, and as a check on ours each choice's log-likelihood. The harness runs its own task definitions; only where their data lies
is another place, in the columns that the data sets have on the hub. The model computes in float64 (hf/make_hf_fixtures.py).

Needs torch 2.13, transformers 5.24, lm-eval 0.4.13:   python tests/trainer_parity/harness/make_harness_fixtures.py
"""
import copy
import json
import os
import random
import sys
import tempfile

os.environ.update(HF_HUB_OFFLINE="1", HF_DATASETS_OFFLINE="1", DISABLE_MULTIPROC="1")
HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, "..", "hf"))

import torch
import transformers
from lm_eval import simple_evaluate
from lm_eval.models.huggingface import HFLM
from lm_eval.tasks import TaskManager
from lm_eval.utils import make_table
from make_hf_fixtures import float64_everywhere
from safetensors.torch import save_file
from tokenizers import Tokenizer, models, pre_tokenizers, decoders

# Ours: a small world of cats, boats and rain, with some characters of several bytes.
FILES = {
    "arc": [{"id": str(i), "question": {"stem": stem, "choices": [{"text": t, "label": "ABCDE"[k] if i % 2 else str(k + 1)} for k, t in enumerate(texts)]},
             "answerKey": "ABCDE"[right] if i % 2 else str(right + 1)}
            for i, (stem, texts, right) in enumerate([
                ("What does a cat drink?", ["milk", "sand and gravel", "iron", "a small boat"], 0),
                ("Why is the sea salt?", ["Rivers carry salt into it.", "It is old.", "Fish."], 0),
                ("What floats?", ["a stone", "a boat", "a key", "lead", "an anvil"], 1),
                ("Where does rain come from?", ["clouds", "the café", "roots", "stones"], 0),
                ("Which is warm?", ["ice", "the sun", "night in winter", "snow"], 1)])],
    "blimp": [{"sentence_good": g, "sentence_bad": b, "UID": uid, "linguistics_term": "x"} for g, b, uid in [
        ("The cats sleep.", "The cats sleeps.", "agreement"), ("A boat floats.", "A boat float.", "agreement"), ("She sees herself.", "She sees himself.", "reflexive"),
        ("He hurt himself.", "He hurt herself.", "reflexive"), ("No cat ever swims.", "A cat ever swims.", "npi")]],
    "hellaswag": [{"ind": i, "activity_label": a, "ctx_a": ca, "ctx_b": cb, "ctx": ca + " " + cb, "endings": e, "label": str(l)} for i, (a, ca, cb, e, l) in enumerate([
        ("Rowing", "A man sits in a boat.", "he", ["rows to the shore.", "eats the boat.", "is a cat.", "rains."], 0),
        ("How to dry", "[header] Dry a coat [title] Wring it out. [step] Twist.", "Then HANG it", ["up [substeps] in the sun.", "under  water.", "on a fish", "and run"], 0),
        ("Feeding", "A cat looks at a bowl.", "the cat", ["drinks.", "sails away.", "becomes a lawyer.", "reads the news."], 2)])],
    "piqa": [{"goal": g, "sol1": a, "sol2": b, "label": l} for g, a, b, l in [
        ("dry a wet shoe", "Fill it with paper.", "Fill it with water.", 0), ("open a jar", "Freeze the hand.", "Turn the lid.", 1),
        ("keep milk cold", "Put it in the fridge.", "Put it by the fire.", 0), ("find north", "Use a spoon.", "Use a compass.", 1)]],
    "lambada": [{"text": t} for t in ["the cat sat by the boat and then the cat went into the boat", "it rained and it rained and it rained",
                                      "he said aaaa aaaa aaaa", "she drank her café", "e e e e e e e e"]],
    "storycloze": [{"story_id": str(i), **{f"input_sentence_{n + 1}": s for n, s in enumerate(ss)}, "sentence_quiz1": a, "sentence_quiz2": b, "answer_right_ending": r}
                   for i, (ss, a, b, r) in enumerate([
                       (["It rained.", "Anna had no coat.", "She ran.", "She came home."], "She was wet.", "She was dry.", 1),
                       (["Tom had a cat.", "It was hungry.", "Tom bought fish.", "He called it."], "It flew.", "It ate.", 2),
                       (["A boat leaked.", "We baled.", "It was no use.", "We swam."], "The boat sank.", "The boat sang.", 1)])],
    "boolq": [{"passage": p, "question": q, "idx": i, "label": l} for i, (p, q, l) in enumerate([
        ("Cats are animals that drink milk.", "do cats drink milk", True), ("Boats float on water because they are light for their size.", "do boats sink", False),
        ("Rain is water. " * 12, "is rain water", True)])],
    "cb": [{"premise": p, "hypothesis": h, "idx": i, "label": l} for i, (p, h, l) in enumerate([
        ("It rained all day.", "it was wet", "entailment"), ("It rained all day.", "it was dry", "contradiction"), ("A boat came.", "it was red", "neutral"),
        ("A cat slept.", "a cat was awake", "contradiction")])],
    "copa": [{"premise": p, "choice1": a, "choice2": b, "question": q, "idx": i, "label": l} for i, (p, a, b, q, l) in enumerate([
        ("The street was wet.", "It rained.", "It was noon.", "cause", 0), ("The cat was hungry.", "It slept.", "It ate.", "effect", 1), ("The boat sank.", "It leaked.", "Él sang.", "cause", 0)])],
    "multirc": [{"idx": 0, "passage": {"text": "Anna has a boat and a cat.", "questions": [
        {"question": "What has Anna?", "idx": 0, "answers": [{"text": "A boat", "idx": 0, "label": 1}, {"text": "A car", "idx": 1, "label": 0}]},
        {"question": "Who has a cat?", "idx": 1, "answers": [{"text": "Anna", "idx": 2, "label": 1}, {"text": "Tom", "idx": 3, "label": 0}, {"text": "The boat", "idx": 4, "label": 0}]}]}}],
    "rte": [{"premise": p, "hypothesis": h, "idx": i, "label": l} for i, (p, h, l) in enumerate([
        ("It rained all day.", "It was wet.", "entailment"), ("A boat came.", "It was red.", "not_entailment"), ("Anna swims.", "Somebody swims.", "entailment")])],
    "wic": [{"word": w, "sentence1": a, "sentence2": b, "idx": i, "label": l, "start1": a.index(w), "end1": a.index(w) + len(w), "start2": 0, "end2": 1, "version": 1.1}
            for i, (w, a, b, l) in enumerate([("bank", "The bank of the river.", "A bank lends money.", False), ("boat", "A boat, ça va.", "The boat came.", True),
                                              ("light", "A light burns.", "The box is light.", False)])],
}
TASKS = {"arc": "arc_easy", "hellaswag": "hellaswag", "piqa": "piqa", "lambada": "lambada_openai", "storycloze": "storycloze_2018", "boolq": "boolq", "cb": "cb", "copa": "copa",
         "multirc": "multirc", "rte": "sglue_rte", "wic": "wic"}


def hub_rows(form, rows):
    """The columns of the hub's data sets."""
    def with_label(names):
        return [{**r, "label": names.index(r["label"])} for r in rows]
    if form == "arc":
        return [{"id": r["id"], "question": r["question"]["stem"], "answerKey": r["answerKey"],
                 "choices": {k: [c[k] for c in r["question"]["choices"]] for k in ("text", "label")}} for r in rows]
    if form == "cb":
        return with_label(["entailment", "contradiction", "neutral"])
    if form == "rte":
        return with_label(["entailment", "not_entailment"])
    if form in ("boolq", "wic"):
        return [{**r, "label": int(r["label"])} for r in rows]
    if form == "multirc":
        return [{"paragraph": r["passage"]["text"], "question": q["question"], "answer": a["text"], "label": a["label"]}
                for r in rows for q in r["passage"]["questions"] for a in q["answers"]]
    return rows


def bytes_tokenizer(folder):
    """What an export of a corpus of bytes has: 256 tokens, token 0 begins and ends."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    table = {}
    order = list(range(33, 127)) + list(range(161, 173)) + list(range(174, 256))
    extra = [b for b in range(256) if b not in order]
    for b in order:
        table[chr(b)] = b
    for n, b in enumerate(extra):
        table[chr(256 + n)] = b
    assert sorted(table) == alphabet
    t = Tokenizer(models.BPE(vocab=table, merges=[]))
    t.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    t.decoder = decoders.ByteLevel()
    fast = transformers.PreTrainedTokenizerFast(tokenizer_object=t, bos_token=chr(256), eos_token=chr(256))
    fast.save_pretrained(folder)
    return fast


def train(model, steps=150):
    """A little, on sentences of FILES, so that some answers are right and no perplexity has fifteen digits."""
    text = " ".join(r["text"] for r in FILES["lambada"][:3]) + " the cat drinks milk. a boat floats. it rained. she was wet. "
    ids = torch.tensor(list(text.encode() * 4))
    adam = torch.optim.AdamW(model.parameters(), lr=1e-2)
    for _ in range(steps):
        at = torch.randint(0, len(ids) - 65, (8,)).tolist()
        batch = torch.stack([ids[a:a + 64] for a in at])
        adam.zero_grad()
        model(batch, labels=batch).loss.backward()
        adam.step()


def main():
    work = tempfile.mkdtemp()
    torch.manual_seed(3)
    config = transformers.LlamaConfig(vocab_size=256, hidden_size=16, intermediate_size=24, num_hidden_layers=2, num_attention_heads=4, max_position_embeddings=160,
                                      rms_norm_eps=1e-5, rope_parameters={"rope_type": "default", "rope_theta": 500.0}, bos_token_id=0, eos_token_id=0)
    model = transformers.LlamaForCausalLM(config)
    train(model)
    save_file({n: p.detach().float().contiguous() for n, p in model.state_dict().items()}, os.path.join(HERE, "model.safetensors"),
              {"config": json.dumps(config.to_dict() | {"model_type": "llama"})})
    patches = float64_everywhere()
    with patches[0], patches[1]:  # rotary tables too
        weights, model = model.state_dict(), transformers.LlamaForCausalLM(config).double().eval()
        model.load_state_dict({n: w.double() for n, w in weights.items()})
    forward = model.forward

    def in_double(*args, **kwargs):
        a, b = float64_everywhere()
        with a, b:
            return forward(*args, **kwargs)
    model.forward = in_double
    lm = HFLM(pretrained=model, tokenizer=bytes_tokenizer(work), batch_size=4, max_length=160, dtype="float64")
    manager = TaskManager()
    expected = {}
    for form, rows in FILES.items():
        with open(os.path.join(HERE, form + ".jsonl"), "w", encoding="utf-8") as f:
            f.writelines(json.dumps(r, ensure_ascii=False) + "\n" for r in rows)
        names = {TASKS[form]: rows} if form != "blimp" else {uid: [r for r in rows if r["UID"] == uid] for uid in sorted({r["UID"] for r in rows})}
        expected[form] = {}
        for name, part in names.items():
            data = os.path.join(work, name + ".jsonl")
            with open(data, "w", encoding="utf-8") as f:
                f.writelines(json.dumps(r, ensure_ascii=False) + "\n" for r in hub_rows(form, part))
            # The harness's own definition, its data elsewhere.
            base = "blimp_" + "adjunct_island" if form == "blimp" else name
            task = task_config(manager, base)
            split = task.get("test_split") or task.get("validation_split") or "train"
            task.update(task="here_" + name, dataset_path="json", dataset_name=None, dataset_kwargs={"data_files": {split: data}},
                        training_split=None, test_split=None, validation_split=split, fewshot_split=None)
            task.pop("tag", None)
            result = simple_evaluate(model=lm, tasks=[task], log_samples=True, bootstrap_iters=100000, limit=None)
            print(make_table(result))
            key = "here_" + name
            scores = {k.split(",")[0]: v for k, v in result["results"][key].items() if "," in k}
            samples = sorted(result["samples"][key], key=lambda s: s["doc_id"])
            expected[form][name if form == "blimp" else "all"] = {
                "printed": {k: ("%.4f" % v if isinstance(v, float) else str(v)) for k, v in scores.items()},
                "likelihoods": [[r[0][0] for r in s["resps"]] for s in samples]}
    with open(os.path.join(HERE, "expected.json"), "w") as f:
        json.dump(expected, f, indent=1)
        f.write("\n")


def task_config(manager, name):
    from lm_eval.tasks import get_task_dict
    import lm_eval.utils
    entry = manager.task_index[name]
    path = getattr(entry, "yaml_path", None) or entry["yaml_path"]
    try:
        from lm_eval.tasks._yaml_loader import load_yaml
        return copy.deepcopy(load_yaml(path, resolve_func=True, recursive=True))
    except ImportError:
        return copy.deepcopy(lm_eval.utils.load_yaml_config(path, mode="full"))


if __name__ == "__main__":
    main()
