"""An agent that knows nothing of Weir: only its base_url points here.

make run                                  # in another terminal
.venv/bin/python examples/agent.py "book a table for two tonight"
"""

import json
import sys
from pathlib import Path

from openai import APIStatusError, OpenAI

REQUEST = json.loads((Path(__file__).parent / "intent.json").read_text())


def main(text: str, base_url: str = "http://127.0.0.1:8080/v1") -> None:
    client = OpenAI(base_url=base_url, api_key="none", max_retries=0)
    messages = [REQUEST["messages"][0], {"role": "user", "content": text}]
    try:
        told = client.chat.completions.with_raw_response.create(
            model="gpt-5", messages=messages, response_format=REQUEST["response_format"]
        )
    except APIStatusError as error:
        sys.exit(f"{error.status_code}: {error.message}")
    print(told.parse().choices[0].message.content)
    print({name: value for name, value in told.headers.items() if name.startswith("x-weir-")})


if __name__ == "__main__":
    main(*sys.argv[1:] or ["how much money do i have in my checking account"])
