"""vllm.benchmarks.serve"""

import base64
import json
import sys
import tempfile
from pathlib import Path

from vllm.benchmarks.serve import add_cli_args, main
from vllm.utils.argparse_utils import FlexibleArgumentParser

url, model, question, image = sys.argv[1:]
NUM_REQUESTS = 4


def serve(folder: Path) -> dict[str, str]:
    data, picture = folder / "data.jsonl", folder / "image.png"
    picture.write_bytes(base64.b64decode(image.partition(",")[2]))
    data.write_text(json.dumps({"prompt": question, "image_files": [str(picture)]}) + "\n")
    command = [
        f"--backend openai-chat --base-url {url} --endpoint /v1/chat/completions --model {model} --skip-tokenizer-init",
        f"--dataset-name custom_image --dataset-path {data} --num-prompts {NUM_REQUESTS} --custom-output-len 500",
        "--custom-ensure-client-side-data",
        f"--save-result --save-detailed --result-dir {folder} --result-filename out.json",
    ]
    parser = FlexibleArgumentParser()  # type: ignore[no-untyped-call]
    add_cli_args(parser)
    main(parser.parse_args(" ".join(command).split()))
    told = json.loads((folder / "out.json").read_text())
    assert (told["completed"], told["failed"]) == (NUM_REQUESTS, 0)
    assert all(told["generated_texts"])
    assert all(ttft > 0 for ttft in told["ttfts"])
    assert told["total_output_tokens"] > 0
    return {}


with tempfile.TemporaryDirectory() as folder:
    print(json.dumps({"`serve` on questions with images, as streams": serve(Path(folder))}))
