# /// script
# requires-python = ">=3.11"
# dependencies = ["guidellm[vision]==0.8.1", "torch==2.13.0+cpu"]
# ///
"""guidellm"""

import json
import subprocess
import sys
import tempfile
from pathlib import Path

url, model, question, image = sys.argv[1:]
NUM_REQUESTS = 4


def run(folder: Path) -> dict[str, str]:
    data, out = folder / "data.jsonl", folder / "out.json"
    data.write_text((json.dumps({"prompt": question, "image": image}) + "\n") * NUM_REQUESTS)
    command = [
        f"{Path(sys.executable).with_name('guidellm')} run --profile kind=concurrent,streams=2",
        f"--backend kind=openai_http,target={url},model={model},request_format=/v1/chat/completions",
        f"--constraint kind=max_requests,count={NUM_REQUESTS} --data kind=json_file,path={data}",
        f"--output kind=json,path={out}",
    ]
    subprocess.run(" ".join(command).split(), check=True, stdout=sys.stderr)
    (told,) = json.loads(out.read_text())["benchmarks"]
    requests = told["requests"]["successful"]
    assert told["metrics"]["request_totals"]["successful"] == len(requests) == NUM_REQUESTS
    for request in requests:
        assert request["output"]
        assert request["reasoning_output"]
        assert request["output_tokens"] > 0
        assert request["time_to_first_token_ms"] < request["time_to_first_output_token_ms"]
    return {}


with tempfile.TemporaryDirectory() as folder:
    print(json.dumps({"`run` on questions with images, concurrently, as streams": run(Path(folder))}))
