"""Local vLLM servers beside the gateway: planned (`plan`, pure), looked after (`supervisor`), each held by a `keeper` that outlives us.

    engines: > plan > Process > keeper > vllm serve

In production compose or Kubernetes start them; `weir serve --with-vllm` is for one machine.
"""
