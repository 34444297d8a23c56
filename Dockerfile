# An image of this workspace with its environment, for the two commands of the README. docs/clusters.md says how to use it.
#   docker build --tag poses .                              for CPUs
#   docker build --tag poses --build-arg TORCH=cuda .       for GPUs of NVIDIA
FROM python:3.12-slim

RUN apt-get update \
    && apt-get install --yes --no-install-recommends make git \
    && rm -rf /var/lib/apt/lists/*

WORKDIR /poses
COPY requirements.txt requirements-dev.txt setup.py Makefile ./

# PyPI has torch with CUDA; the build for CPUs is smaller by some GB, and has an index of its own.
ARG TORCH=cpu
RUN python -m venv .venv \
    && if [ "$TORCH" = cpu ]; then \
        .venv/bin/pip install --no-cache-dir --index-url https://download.pytorch.org/whl/cpu "$(grep '^torch==' requirements.txt)"; \
    fi \
    && .venv/bin/pip install --no-cache-dir --requirement requirements.txt --requirement requirements-dev.txt

COPY . .
RUN make setup && touch .venv/.installed-dev

CMD ["make", "demo"]
