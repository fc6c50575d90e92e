#!/usr/bin/env python3
"""Trains two tiny byte-level BPE tokenizers with Hugging Face tokenizers and writes, beside itself, their tokenizer.json,
and in expected.json the ids they give to texts that are hard to cut. byte_pair_tokenizer_test.cc reads them.

  gpt2: GPT-2's settings.   neox: NFC, runs of spaces as added tokens, words that are tokens taken whole.

Needs tokenizers 0.23:   python tests/data/bpe/make_bpe_fixtures.py
"""
import json
import os

from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

HERE = os.path.dirname(os.path.abspath(__file__))
WORDS = ("the sweep plans trials and the worker trains each trial with its own seed; we've seen that they're slow, it's "
         "2024 or 1999, don't I'll you'd we're I'm Été déjà naïve Straße 日本語の文 δοκιμή проверка ").split(" ")
CORPUS = [" ".join(WORDS[(i * 7 + j * j) % len(WORDS)] for j in range(30)) for i in range(60)]
TEXTS = [
    "", " ", "  ", "\n", " a", "a ", "  two  spaces   three", "tab\tand\nline\r\n\n  indented", "the trials and the sweep",
    "don't can't we've they're I'll you'd I'm it's 'quoted' DON'T 's", "2024 1999x 3.14 1,000,000 ½ Ⅷ ٣٤",
    "Été déjà naïve Straße", "e\u0301te\u0301 A\u030a ﬁ Å", "日本語の文 と 漢字", "emoji 😀👩‍👧 flag 🇯🇵", "nbsp\u00a0here \u2003em \u3000 ideographic",
    "zero\u200bwidth\u2028line\u0085next", "a<|endoftext|>b <|endoftext|> c<|endoftext|><|endoftext|>", "_snake_case-and--dashes...!?",
    "mixed123abc 456def", "\x00\x01\x7f", "x" * 200, "the" * 40, "    four spaces\n        eight", "δοκιμή проверка हिन्दी ไทย עברית",
    "combining a\u0300\u0301b \u0300", "trailing space \n ",
]


def train(name, normalizer, added, whole):
    t = Tokenizer(models.BPE())
    t.normalizer = normalizer
    t.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    t.decoder = decoders.ByteLevel()
    t.train_from_iterator(CORPUS, trainers.BpeTrainer(vocab_size=420, special_tokens=["<|endoftext|>"], show_progress=False,
                                                      initial_alphabet=pre_tokenizers.ByteLevel.alphabet()))
    t.add_tokens(added)
    j = json.loads(t.to_str())
    j["model"]["ignore_merges"] = whole
    t = Tokenizer.from_str(json.dumps(j))
    with open(os.path.join(HERE, name + ".json"), "w", encoding="utf-8") as f:
        f.write(json.dumps(j, ensure_ascii=True, separators=(",", ":")) + "\n")
    out = []
    for text in TEXTS:
        ids = t.encode(text, add_special_tokens=False).ids
        out.append({"text": text, "ids": ids, "decoded": t.decode(ids, skip_special_tokens=False)})
    print(f"{name}: {t.get_vocab_size()} tokens, {sum(len(o['ids']) for o in out)} ids")
    return out


if __name__ == "__main__":
    runs = [AddedToken(" " * n, normalized=True, special=False) for n in (8, 4, 2)]
    expected = {"gpt2": train("gpt2", None, [], False), "neox": train("neox", normalizers.NFC(), runs, True)}
    with open(os.path.join(HERE, "expected.json"), "w", encoding="utf-8") as f:
        f.write(json.dumps(expected, ensure_ascii=True, separators=(",", ":")) + "\n")
