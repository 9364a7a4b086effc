# docker build --target cpu -t swires:cpu .     docker run -p 127.0.0.1:8000:8000 -e SWIRES_ALLOW_NO_KEYS=true swires:cpu
# docker build --target gpu -t swires:gpu .     docker run -p 8000:8000 --gpus all -v DIR:/keys -e SWIRES_API_KEYS=/keys/swires swires:gpu --model MODEL --host 0.0.0.0
FROM python:3.12-slim AS base
# vLLM compiles kernels when it starts, and binds its threads to memory nodes.
RUN apt-get update \
    && apt-get install --yes --no-install-recommends g++ libnuma1 \
    && rm -rf /var/lib/apt/lists/*
WORKDIR /app
# The dependencies are a layer of their own: the packages are empty here, the code comes with the last layer.
COPY pyproject.toml ./
COPY deploy/install.py deploy/torchvision_without_cuda.py deploy/
COPY deploy/locks deploy/locks
RUN for package in swires server training; do mkdir $package && touch $package/__init__.py; done
ENV PATH=/opt/swires/bin:$PATH PIP_NO_CACHE_DIR=1

FROM base AS cpu-dependencies
RUN python deploy/install.py /opt/swires cpu

FROM base AS gpu-dependencies
RUN python deploy/install.py /opt/swires gpu

FROM cpu-dependencies AS cpu
COPY . .
RUN useradd --create-home swires
USER swires
EXPOSE 8000
HEALTHCHECK --start-period=5m CMD ["python", "-c", "import urllib.request as u; u.urlopen('http://127.0.0.1:8000/health')"]
ENTRYPOINT ["swires", "serve"]
CMD ["--model", "training/checkpoints/demo", "--host", "0.0.0.0"]

FROM gpu-dependencies AS gpu
COPY . .
RUN useradd --create-home swires
USER swires
EXPOSE 8000
HEALTHCHECK --start-period=10m CMD ["python", "-c", "import urllib.request as u; u.urlopen('http://127.0.0.1:8000/health')"]
ENTRYPOINT ["swires", "serve"]
CMD ["--model", "training/checkpoints/demo", "--host", "0.0.0.0"]
