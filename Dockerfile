# Build an image that contains this workspace and its Python environment, to run `make demo` and `make test`. docs/clusters.md
# explains how to use the image.
#   docker build --tag poses .                              for CPUs
#   docker build --tag poses --build-arg TORCH=cuda .       for NVIDIA GPUs
FROM python:3.12-slim

RUN apt-get update \
    && apt-get install --yes --no-install-recommends make git \
    && rm -rf /var/lib/apt/lists/*

WORKDIR /poses
COPY requirements.txt requirements-dev.txt setup.py Makefile ./

# The torch on PyPI is built for CUDA. The build for CPUs is some GB smaller; it must be installed from PyTorch's index.
ARG TORCH=cpu
RUN python -m venv .venv \
    && if [ "$TORCH" = cpu ]; then \
        .venv/bin/pip install --no-cache-dir --index-url https://download.pytorch.org/whl/cpu "$(grep '^torch==' requirements.txt)"; \
    fi \
    && .venv/bin/pip install --no-cache-dir --requirement requirements.txt --requirement requirements-dev.txt

COPY . .
RUN make setup && touch .venv/.installed-dev

CMD ["make", "demo"]
