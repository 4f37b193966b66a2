ARG REGISTRY=nvcr.io
# nvcr.io/nvidia/pytorch:22.04-py3
FROM ${REGISTRY}/nvidia/pytorch@sha256:c88bcade3b93aa443b8510967100f15ed4df63eb6a321ec0ab6fe6ba1ce359d5
ARG SOURCE_DATE_EPOCH=1795132800
# To build; containers are told their user when they start.
USER root

# The base holds what the catalog promises, or nothing is built on it.
RUN --mount=type=tmpfs,target=/run --mount=type=tmpfs,target=/tmp --mount=type=tmpfs,target=/mnt \
    --mount=type=bind,source=environment.sh,target=/mnt/enginematrix/environment.sh \
    --mount=type=bind,source=check.py,target=/mnt/enginematrix/check.py \
    ["/bin/sh", "/mnt/enginematrix/environment.sh", "check", "python3", "3.8", "--python", "3.8", "--cuda", "11.6.2", "--cudnn", "8.4.0.27", "--tensorrt", "8.2.4.2", "--distribution", "torch=1.12.0a0+bd13bc6"]

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
    ["/bin/sh", "/mnt/enginematrix/environment.sh", "check", "/opt/enginematrix/env/bin/python", "3.8", "--python", "3.8", "--cuda", "11.6.2", "--cudnn", "8.4.0.27", "--tensorrt", "8.2.4.2", "--distribution", "torch=1.12.0a0+bd13bc6"]

LABEL org.opencontainers.image.title="ngc-pytorch-22.04" \
      org.opencontainers.image.version="22.04" \
      org.opencontainers.image.created="2026-11-20T00:00:00Z" \
      org.opencontainers.image.base.name="nvcr.io/nvidia/pytorch:22.04-py3" \
      org.opencontainers.image.base.digest="sha256:c88bcade3b93aa443b8510967100f15ed4df63eb6a321ec0ab6fe6ba1ce359d5" \
      org.enginematrix.stack="ngc-pytorch-22.04" \
      org.enginematrix.family="ngc-pytorch" \
      org.enginematrix.cuda="11.6.2" \
      org.enginematrix.cudnn="8.4.0.27" \
      org.enginematrix.driver="510" \
      org.enginematrix.python="3.8" \
      org.enginematrix.release="22.04" \
      org.enginematrix.tensorrt="8.2.4.2" \
      org.enginematrix.torch="1.12.0a0+bd13bc6" \
      org.enginematrix.ubuntu="20.04" \
      org.enginematrix.packages="28678bb312d1fe58ff6ee90847bdcf32863ee6eeb55b6f87e1bfdf734fee0853"
