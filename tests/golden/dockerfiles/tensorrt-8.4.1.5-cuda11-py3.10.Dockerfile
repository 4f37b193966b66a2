ARG REGISTRY=docker.io
# docker.io/library/python:3.10-slim-bookworm
FROM ${REGISTRY}/library/python@sha256:22779f1fa98cef38e22c91d8bd187e5c9c3b1b0db253e3c38b7b059ab0e0f26f
ARG SOURCE_DATE_EPOCH=1795132800
# To build; containers are told their user when they start.
USER root

# The base holds what the catalog promises, or nothing is built on it.
RUN --mount=type=tmpfs,target=/run --mount=type=tmpfs,target=/tmp --mount=type=tmpfs,target=/mnt \
    --mount=type=bind,source=environment.sh,target=/mnt/enginematrix/environment.sh \
    --mount=type=bind,source=check.py,target=/mnt/enginematrix/check.py \
    ["/bin/sh", "/mnt/enginematrix/environment.sh", "check", "python3.10", "3.10", "--python", "3.10"]

# The environment, with the packages that neighbours share.
RUN --mount=type=tmpfs,target=/run --mount=type=tmpfs,target=/tmp --mount=type=tmpfs,target=/mnt \
    --mount=type=bind,source=environment.sh,target=/mnt/enginematrix/environment.sh \
    --mount=type=bind,source=requirements/dependencies.txt,target=/mnt/enginematrix/requirements/dependencies.txt \
    --mount=type=bind,source=uv,target=/mnt/enginematrix/uv \
    --mount=type=bind,source=wheels/dependencies,target=/mnt/enginematrix/wheels \
    --mount=type=cache,id=enginematrix-uv,target=/mnt/enginematrix/cache \
    --mount=type=secret,id=certificates,target=/run/secrets/certificates \
    --mount=type=secret,id=netrc,target=/run/secrets/netrc \
    --mount=type=secret,id=uv-config,target=/run/secrets/uv-config \
    ["/bin/sh", "/mnt/enginematrix/environment.sh", "create", "python3.10", "3.10", "own", "/mnt/enginematrix/requirements/dependencies.txt"]

# The packages that this stack is named by.
RUN --mount=type=tmpfs,target=/run --mount=type=tmpfs,target=/tmp --mount=type=tmpfs,target=/mnt \
    --mount=type=bind,source=environment.sh,target=/mnt/enginematrix/environment.sh \
    --mount=type=bind,source=requirements/own.txt,target=/mnt/enginematrix/requirements/own.txt \
    --mount=type=bind,source=uv,target=/mnt/enginematrix/uv \
    --mount=type=bind,source=wheels/own,target=/mnt/enginematrix/wheels \
    --mount=type=cache,id=enginematrix-uv,target=/mnt/enginematrix/cache \
    --mount=type=secret,id=certificates,target=/run/secrets/certificates \
    --mount=type=secret,id=netrc,target=/run/secrets/netrc \
    --mount=type=secret,id=uv-config,target=/run/secrets/uv-config \
    ["/bin/sh", "/mnt/enginematrix/environment.sh", "add", "/mnt/enginematrix/requirements/own.txt"]

LABEL org.opencontainers.image.title="tensorrt-8.4.1.5-cuda11-py3.10" \
      org.opencontainers.image.version="8.4.1.5-cuda11-py3.10" \
      org.opencontainers.image.created="2026-11-20T00:00:00Z" \
      org.opencontainers.image.base.name="docker.io/library/python:3.10-slim-bookworm" \
      org.opencontainers.image.base.digest="sha256:22779f1fa98cef38e22c91d8bd187e5c9c3b1b0db253e3c38b7b059ab0e0f26f" \
      org.enginematrix.stack="tensorrt-8.4.1.5-cuda11-py3.10" \
      org.enginematrix.family="tensorrt" \
      org.enginematrix.cuda="11" \
      org.enginematrix.python="3.10" \
      org.enginematrix.tensorrt="8.4.1.5" \
      org.enginematrix.packages="94ae6324a2c5bf3585ac5ded5f9ff3c8b714f8b77e325689edd625c998e3affc"
