ARG REGISTRY=nvcr.io
# nvcr.io/nvidia/pytorch:21.10-py3
FROM ${REGISTRY}/nvidia/pytorch@sha256:96885199d6806045217527fe3586b99339ac6c29df4c4393d7a45086435a5b72
ARG SOURCE_DATE_EPOCH=1795132800
# To build; containers are told their user when they start.
USER root

# The base holds what the catalog promises, or nothing is built on it.
RUN --mount=type=tmpfs,target=/run --mount=type=tmpfs,target=/tmp --mount=type=tmpfs,target=/mnt \
    --mount=type=bind,source=environment.sh,target=/mnt/enginematrix/environment.sh \
    --mount=type=bind,source=check.py,target=/mnt/enginematrix/check.py \
    ["/bin/sh", "/mnt/enginematrix/environment.sh", "check", "python3", "3.8", "--python", "3.8", "--cuda", "11.4", "--cudnn", "8.2.4.15", "--tensorrt", "8.0.3.4", "--distribution", "torch=1.10.0a0+0aef44c"]

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
    ["/bin/sh", "/mnt/enginematrix/environment.sh", "create", "python3", "3.8", "system", "/mnt/enginematrix/requirements/dependencies.txt"]

# Seen from the environment, the image's own packages are still what was promised.
RUN --mount=type=tmpfs,target=/run --mount=type=tmpfs,target=/tmp --mount=type=tmpfs,target=/mnt \
    --mount=type=bind,source=environment.sh,target=/mnt/enginematrix/environment.sh \
    --mount=type=bind,source=check.py,target=/mnt/enginematrix/check.py \
    ["/bin/sh", "/mnt/enginematrix/environment.sh", "check", "/opt/enginematrix/env/bin/python", "3.8", "--python", "3.8", "--cuda", "11.4", "--cudnn", "8.2.4.15", "--tensorrt", "8.0.3.4", "--distribution", "torch=1.10.0a0+0aef44c"]

LABEL org.opencontainers.image.title="ngc-pytorch-21.10" \
      org.opencontainers.image.version="21.10" \
      org.opencontainers.image.created="2026-11-20T00:00:00Z" \
      org.opencontainers.image.base.name="nvcr.io/nvidia/pytorch:21.10-py3" \
      org.opencontainers.image.base.digest="sha256:96885199d6806045217527fe3586b99339ac6c29df4c4393d7a45086435a5b72" \
      org.enginematrix.stack="ngc-pytorch-21.10" \
      org.enginematrix.family="ngc-pytorch" \
      org.enginematrix.cuda="11.4" \
      org.enginematrix.cudnn="8.2.4.15" \
      org.enginematrix.driver="470" \
      org.enginematrix.python="3.8" \
      org.enginematrix.release="21.10" \
      org.enginematrix.tensorrt="8.0.3.4" \
      org.enginematrix.torch="1.10.0a0+0aef44c" \
      org.enginematrix.ubuntu="20.04" \
      org.enginematrix.packages="28678bb312d1fe58ff6ee90847bdcf32863ee6eeb55b6f87e1bfdf734fee0853"
