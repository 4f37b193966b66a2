ARG REGISTRY=nvcr.io
# nvcr.io/nvidia/pytorch:26.07-py3
FROM ${REGISTRY}/nvidia/pytorch@sha256:08e21f8eff2f808318611300b67943f6c1ca36943122e879ad2b3fffa6a9dd25
ARG SOURCE_DATE_EPOCH=1795132800
# To build; containers are told their user when they start.
USER root

# The base holds what the catalog promises, or nothing is built on it.
RUN --mount=type=tmpfs,target=/run --mount=type=tmpfs,target=/tmp --mount=type=tmpfs,target=/mnt \
    --mount=type=bind,source=environment.sh,target=/mnt/enginematrix/environment.sh \
    --mount=type=bind,source=check.py,target=/mnt/enginematrix/check.py \
    ["/bin/sh", "/mnt/enginematrix/environment.sh", "check", "python3", "3.12", "--python", "3.12", "--cuda", "13.3.1", "--cudnn", "9.24.0.43", "--tensorrt", "11.1.0.106", "--distribution", "torch=2.13.0a0+9186a08b2c"]

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
    ["/bin/sh", "/mnt/enginematrix/environment.sh", "create", "python3", "3.12", "system", "/mnt/enginematrix/requirements/dependencies.txt"]

# Seen from the environment, the image's own packages are still what was promised.
RUN --mount=type=tmpfs,target=/run --mount=type=tmpfs,target=/tmp --mount=type=tmpfs,target=/mnt \
    --mount=type=bind,source=environment.sh,target=/mnt/enginematrix/environment.sh \
    --mount=type=bind,source=check.py,target=/mnt/enginematrix/check.py \
    ["/bin/sh", "/mnt/enginematrix/environment.sh", "check", "/opt/enginematrix/env/bin/python", "3.12", "--python", "3.12", "--cuda", "13.3.1", "--cudnn", "9.24.0.43", "--tensorrt", "11.1.0.106", "--distribution", "torch=2.13.0a0+9186a08b2c"]

LABEL org.opencontainers.image.title="ngc-pytorch-26.07" \
      org.opencontainers.image.version="26.07" \
      org.opencontainers.image.created="2026-11-20T00:00:00Z" \
      org.opencontainers.image.base.name="nvcr.io/nvidia/pytorch:26.07-py3" \
      org.opencontainers.image.base.digest="sha256:08e21f8eff2f808318611300b67943f6c1ca36943122e879ad2b3fffa6a9dd25" \
      org.enginematrix.stack="ngc-pytorch-26.07" \
      org.enginematrix.family="ngc-pytorch" \
      org.enginematrix.cuda="13.3.1" \
      org.enginematrix.cudnn="9.24.0.43" \
      org.enginematrix.driver="580.65.06" \
      org.enginematrix.python="3.12" \
      org.enginematrix.release="26.07" \
      org.enginematrix.tensorrt="11.1.0.106" \
      org.enginematrix.torch="2.13.0a0+9186a08b2c" \
      org.enginematrix.ubuntu="24.04" \
      org.enginematrix.packages="a4074186e339858ed69063ada9f7eaa47ac08cdd402712f01c5c091db731704d"
