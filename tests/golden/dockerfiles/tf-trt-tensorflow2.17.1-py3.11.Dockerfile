ARG REGISTRY=docker.io
# docker.io/library/python:3.11-slim-bookworm
FROM ${REGISTRY}/library/python@sha256:3d51109efa94d44a06c5232bd6f9bf9a62210e714749563bb911359264e375d2
ARG SOURCE_DATE_EPOCH=1795132800
# To build; containers are told their user when they start.
USER root

# The base holds what the catalog promises, or nothing is built on it.
RUN --mount=type=tmpfs,target=/run --mount=type=tmpfs,target=/tmp --mount=type=tmpfs,target=/mnt \
    --mount=type=bind,source=environment.sh,target=/mnt/enginematrix/environment.sh \
    --mount=type=bind,source=check.py,target=/mnt/enginematrix/check.py \
    ["/bin/sh", "/mnt/enginematrix/environment.sh", "check", "python3.11", "3.11", "--python", "3.11"]

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
    ["/bin/sh", "/mnt/enginematrix/environment.sh", "create", "python3.11", "3.11", "own", "/mnt/enginematrix/requirements/dependencies.txt"]

LABEL org.opencontainers.image.title="tf-trt-tensorflow2.17.1-py3.11" \
      org.opencontainers.image.version="tensorflow2.17.1-py3.11" \
      org.opencontainers.image.created="2026-11-20T00:00:00Z" \
      org.opencontainers.image.base.name="docker.io/library/python:3.11-slim-bookworm" \
      org.opencontainers.image.base.digest="sha256:3d51109efa94d44a06c5232bd6f9bf9a62210e714749563bb911359264e375d2" \
      org.enginematrix.stack="tf-trt-tensorflow2.17.1-py3.11" \
      org.enginematrix.family="tf-trt" \
      org.enginematrix.python="3.11" \
      org.enginematrix.tensorflow="2.17.1" \
      org.enginematrix.packages="743f0f764d3863bdbfc98350ef9a6948b4e26af002391525c4bb18ffe551785f"
