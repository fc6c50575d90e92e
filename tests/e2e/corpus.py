"""A corpus for tests: this source tree, which is there without a network."""
import array
import hashlib
import json
import pathlib
import struct

ROOT = pathlib.Path(__file__).resolve().parents[2]


def write_corpus(root):
    """The source tree's own documentation as a prepared corpus, bytes as tokens (data/dataset.h)."""
    folder = root / "source" / "bytes"
    folder.mkdir(parents=True)
    files = sorted(p for d in ("docs", "trainer/spec") for p in (ROOT / d).rglob("*") if p.suffix in (".md", ".h", ".cc"))
    texts = [p.read_bytes()[:12000] for p in files]
    sha = lambda data: hashlib.sha256(data).hexdigest()
    splits, whole = {}, hashlib.sha256(f"tokenizer bytes {sha(b'')}\n".encode())  # as data/content_digest.h
    shares = {"train": texts[3:], "tune": texts[0:1], "val": texts[1:2], "test": texts[2:3]}
    for name in ("train", "tune", "val", "test"):
        tokens, documents = array.array("H"), []
        for text in shares[name]:
            documents.append((len(tokens), len(text)))
            tokens.append(0)
            tokens.extend(text)
        header = array.array("i", [20240520, 1, len(tokens)] + [0] * 253)
        binary = header.tobytes() + tokens.tobytes()
        (folder / f"{name}.bin").write_bytes(binary)
        docs = struct.pack("<Q", len(documents)) + b"".join(struct.pack("<QQ", *d) for d in documents)
        (folder / f"{name}.docs").write_bytes(docs)
        whole.update(f"{name} {sha(binary)} {sha(docs)}\n".encode())
        size = sum(len(t) for t in shares[name])
        splits[name] = {"documents": len(documents), "bytes": size, "characters": size, "tokens": len(tokens),
                        "sha256": hashlib.sha256(binary).hexdigest()}
    (folder / "manifest.json").write_text(json.dumps({
        "corpus": "source", "tokenizer": "bytes", "description": "this source tree", "digest": whole.hexdigest(),
        "vocab_size": 256, "reversible": True, "splits": splits}))
