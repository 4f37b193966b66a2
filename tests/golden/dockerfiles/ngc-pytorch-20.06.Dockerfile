ARG REGISTRY=nvcr.io
# nvcr.io/nvidia/pytorch:20.06-py3
FROM ${REGISTRY}/nvidia/pytorch@sha256:7797a0fa68378d5a7dce13ac15903c003a855ff3ada4085981400a9b372a805e
ARG SOURCE_DATE_EPOCH=1795132800
# To build; containers are told their user when they start.
USER root

# The base holds what the catalog promises, or nothing is built on it.
RUN --mount=type=tmpfs,target=/run --mount=type=tmpfs,target=/tmp --mount=type=tmpfs,target=/mnt \
    --mount=type=bind,source=environment.sh,target=/mnt/enginematrix/environment.sh \
    --mount=type=bind,source=check.py,target=/mnt/enginematrix/check.py \
    ["/bin/sh", "/mnt/enginematrix/environment.sh", "check", "python3", "3.6", "--python", "3.6", "--cuda", "11.0.167", "--cudnn", "8.0.1", "--tensorrt", "7.1.2", "--distribution", "torch=1.6.0a0+9907a3e"]

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
    ["/bin/sh", "/mnt/enginematrix/environment.sh", "create", "python3", "3.6", "system", "/mnt/enginematrix/requirements/dependencies.txt"]

# Seen from the environment, the image's own packages are still what was promised.
RUN --mount=type=tmpfs,target=/run --mount=type=tmpfs,target=/tmp --mount=type=tmpfs,target=/mnt \
    --mount=type=bind,source=environment.sh,target=/mnt/enginematrix/environment.sh \
    --mount=type=bind,source=check.py,target=/mnt/enginematrix/check.py \
    ["/bin/sh", "/mnt/enginematrix/environment.sh", "check", "/opt/enginematrix/env/bin/python", "3.6", "--python", "3.6", "--cuda", "11.0.167", "--cudnn", "8.0.1", "--tensorrt", "7.1.2", "--distribution", "torch=1.6.0a0+9907a3e"]

LABEL org.opencontainers.image.title="ngc-pytorch-20.06" \
      org.opencontainers.image.version="20.06" \
      org.opencontainers.image.created="2026-11-20T00:00:00Z" \
      org.opencontainers.image.base.name="nvcr.io/nvidia/pytorch:20.06-py3" \
      org.opencontainers.image.base.digest="sha256:7797a0fa68378d5a7dce13ac15903c003a855ff3ada4085981400a9b372a805e" \
      org.enginematrix.stack="ngc-pytorch-20.06" \
      org.enginematrix.family="ngc-pytorch" \
      org.enginematrix.cuda="11.0.167" \
      org.enginematrix.cudnn="8.0.1" \
      org.enginematrix.driver="450" \
      org.enginematrix.python="3.6" \
      org.enginematrix.release="20.06" \
      org.enginematrix.tensorrt="7.1.2" \
      org.enginematrix.torch="1.6.0a0+9907a3e" \
      org.enginematrix.ubuntu="18.04" \
      org.enginematrix.packages="406fe77fbf11395de8f7260a74bee29721e2dd0809ffcca52a5237517f650065"
