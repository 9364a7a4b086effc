# Two images of one server, `cpu` and `gpu`; how they are built, run and tested: deploy/image/README.md
#
# The bases are pinned by tag here. Who publishes an image pins them by digest, which is then told in a label:
#   docker build --target cpu --build-arg PYTHON_IMAGE=python:3.12-slim-bookworm@sha256:DIGEST .
ARG PYTHON_IMAGE=python:3.12-slim-bookworm
ARG VLLM_IMAGE=vllm/vllm-openai:v0.32.0

FROM ${PYTHON_IMAGE} AS build
ENV PIP_NO_CACHE_DIR=1
WORKDIR /build
COPY pyproject.toml ./
COPY deploy/install.py deploy/torchvision_without_cuda.py deploy/
COPY deploy/locks deploy/locks

FROM build AS wheel
RUN pip install --no-deps --require-hashes --requirement deploy/locks/build.txt
COPY swires swires
COPY server server
COPY training training
RUN pip wheel --no-deps --no-index --no-build-isolation --wheel-dir /wheels .

FROM build AS cpu-dependencies
RUN python deploy/install.py --without-project /opt/swires cpu


FROM ${PYTHON_IMAGE} AS cpu
# vLLM binds its threads to memory nodes. The user is that of vLLM's own images.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --yes --no-install-recommends libnuma1 \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --uid 2000 --gid 0 --create-home --home-dir /home/vllm vllm \
    && mkdir --mode=775 /home/vllm/.cache \
    && chown 2000:0 /home/vllm/.cache
COPY --from=cpu-dependencies /opt/swires /opt/swires
RUN --mount=type=bind,from=wheel,source=/wheels,target=/wheels \
    /opt/swires/bin/pip install --no-cache-dir --no-deps --no-index /wheels/*.whl
COPY deploy/image/serve deploy/image/ready.py /opt/image/
COPY training/checkpoints/demo /models/demo

ENV PATH=/opt/swires/bin:$PATH \
    HOME=/home/vllm \
    USER=vllm \
    XDG_CACHE_HOME=/home/vllm/.cache \
    XDG_CONFIG_HOME=/home/vllm/.cache/config \
    TORCHINDUCTOR_CACHE_DIR=/home/vllm/.cache/inductor \
    TRITON_HOME=/home/vllm/.cache \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    VLLM_NO_USAGE_STATS=1 \
    SWIRES_HOST=0.0.0.0 \
    PORT=8000
# torch compiles by a compiler that is not here.
ENV TORCH_COMPILE_DISABLE=1
# All else may be mounted read-only.
VOLUME ["/home/vllm/.cache", "/tmp"]
WORKDIR /home/vllm
USER 2000:0
EXPOSE 8000
STOPSIGNAL SIGTERM
HEALTHCHECK --start-period=10m --interval=10s --timeout=5s --retries=3 CMD ["python3", "/opt/image/ready.py"]
ENTRYPOINT ["/opt/image/serve"]
CMD ["--model", "/models/demo"]
ARG PYTHON_IMAGE
ARG VERSION=unknown
ARG REVISION=unknown
LABEL org.opencontainers.image.title="swires" \
      org.opencontainers.image.description="Staged answers about images, searched with SWIRES on vLLM for CPUs" \
      org.opencontainers.image.version=$VERSION \
      org.opencontainers.image.revision=$REVISION \
      org.opencontainers.image.base.name=$PYTHON_IMAGE


FROM ${VLLM_IMAGE} AS gpu
# In an environment of its own, which sees the packages of vLLM's image and cannot move one of them.
COPY deploy/locks/beside-vllm.txt deploy/image/lacking.py /opt/image/
RUN --mount=type=bind,from=wheel,source=/wheels,target=/wheels \
    uv venv --system-site-packages --python python3 /opt/swires \
    && /opt/swires/bin/python /opt/image/lacking.py lock /opt/image/beside-vllm.txt > /opt/image/lacking.txt \
    && uv pip install --no-cache --python /opt/swires/bin/python --no-deps --require-hashes --requirement /opt/image/lacking.txt \
    && uv pip install --no-cache --python /opt/swires/bin/python --no-deps --no-index /wheels/*.whl \
    && /opt/swires/bin/python /opt/image/lacking.py check swires \
    && mkdir --parents /home/vllm/.cache \
    && chown 2000:0 /home/vllm/.cache \
    && chmod 775 /home/vllm/.cache
COPY deploy/image/serve deploy/image/ready.py /opt/image/
COPY training/checkpoints/demo /models/demo

ENV PATH=/opt/swires/bin:$PATH \
    HOME=/home/vllm \
    USER=vllm \
    XDG_CACHE_HOME=/home/vllm/.cache \
    XDG_CONFIG_HOME=/home/vllm/.cache/config \
    TORCHINDUCTOR_CACHE_DIR=/home/vllm/.cache/inductor \
    TRITON_HOME=/home/vllm/.cache \
    CUDA_CACHE_PATH=/home/vllm/.cache/nv \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    VLLM_NO_USAGE_STATS=1 \
    SWIRES_HOST=0.0.0.0 \
    PORT=8000
VOLUME ["/home/vllm/.cache", "/tmp"]
WORKDIR /home/vllm
USER 2000:0
EXPOSE 8000
STOPSIGNAL SIGTERM
HEALTHCHECK --start-period=10m --interval=10s --timeout=5s --retries=3 CMD ["python3", "/opt/image/ready.py"]
ENTRYPOINT ["/opt/image/serve"]
CMD ["--model", "/models/demo"]
ARG VLLM_IMAGE
ARG VERSION=unknown
ARG REVISION=unknown
LABEL org.opencontainers.image.title="swires" \
      org.opencontainers.image.description="Staged answers about images, searched with SWIRES on vLLM" \
      org.opencontainers.image.version=$VERSION \
      org.opencontainers.image.revision=$REVISION \
      org.opencontainers.image.base.name=$VLLM_IMAGE
