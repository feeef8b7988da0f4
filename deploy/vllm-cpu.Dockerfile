# vLLM's CPU build, set up as `make vllm` does. Not built on the development machine (it has no Docker engine); the script it runs is used
# there.
FROM python:3.12.11-slim
# g++ and the headers: vLLM compiles small kernels at its first start. libnuma: it binds its threads to cores.
# hadolint ignore=DL3008
RUN apt-get update && apt-get install -y --no-install-recommends g++ libnuma1 && rm -rf /var/lib/apt/lists/*
COPY deploy/vllm_cpu.py /tmp/vllm_cpu.py
RUN python /tmp/vllm_cpu.py /venv \
    && useradd --create-home --uid 10001 vllm && install -d -o vllm -g vllm /models
USER 10001
ENV PATH=/venv/bin:$PATH
VOLUME /models
EXPOSE 8000
ENTRYPOINT ["vllm", "serve"]
