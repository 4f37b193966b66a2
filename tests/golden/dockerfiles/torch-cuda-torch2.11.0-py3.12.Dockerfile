ARG REGISTRY=docker.io
# docker.io/library/python:3.12-slim-bookworm
FROM ${REGISTRY}/library/python@sha256:cbe742636fb7f11e9ae85f3dc5227b6ff856c901ec24b6f59057f0dc1706febd
ARG SOURCE_DATE_EPOCH=1795132800
# To build; containers are told their user when they start.
USER root

# The base holds what the catalog promises, or nothing is built on it.
RUN --mount=type=tmpfs,target=/run --mount=type=tmpfs,target=/tmp --mount=type=tmpfs,target=/mnt \
    --mount=type=bind,source=environment.sh,target=/mnt/enginematrix/environment.sh \
    --mount=type=bind,source=check.py,target=/mnt/enginematrix/check.py \
    ["/bin/sh", "/mnt/enginematrix/environment.sh", "check", "python3.12", "3.12", "--python", "3.12"]

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
    ["/bin/sh", "/mnt/enginematrix/environment.sh", "create", "python3.12", "3.12", "own", "/mnt/enginematrix/requirements/dependencies.txt"]

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

LABEL org.opencontainers.image.title="torch-cuda-torch2.11.0-py3.12" \
      org.opencontainers.image.version="torch2.11.0-py3.12" \
      org.opencontainers.image.created="2026-11-20T00:00:00Z" \
      org.opencontainers.image.base.name="docker.io/library/python:3.12-slim-bookworm" \
      org.opencontainers.image.base.digest="sha256:cbe742636fb7f11e9ae85f3dc5227b6ff856c901ec24b6f59057f0dc1706febd" \
      org.enginematrix.stack="torch-cuda-torch2.11.0-py3.12" \
      org.enginematrix.family="torch-cuda" \
      org.enginematrix.python="3.12" \
      org.enginematrix.torch="2.11.0" \
      org.enginematrix.packages="1af6767806ddf108194450ca848c6fb0cfda28238679fcba988021a2ac01e34c"
