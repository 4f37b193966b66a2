ARG REGISTRY=nvcr.io
# nvcr.io/nvidia/tensorrt:20.01-py3
FROM ${REGISTRY}/nvidia/tensorrt@sha256:ca2ecca205098124de07748c5542f801f2906733a0768feb795f82fd134f5402
ARG SOURCE_DATE_EPOCH=1795132800
# To build; containers are told their user when they start.
USER root

# The base holds what the catalog promises, or nothing is built on it.
RUN --mount=type=tmpfs,target=/run --mount=type=tmpfs,target=/tmp --mount=type=tmpfs,target=/mnt \
    --mount=type=bind,source=environment.sh,target=/mnt/enginematrix/environment.sh \
    --mount=type=bind,source=check.py,target=/mnt/enginematrix/check.py \
    ["/bin/sh", "/mnt/enginematrix/environment.sh", "check", "python3", "3.6", "--python", "3.6", "--cuda", "10.2.89", "--cudnn", "7.6.5", "--tensorrt", "7.0.0"]

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
    ["/bin/sh", "/mnt/enginematrix/environment.sh", "check", "/opt/enginematrix/env/bin/python", "3.6", "--python", "3.6", "--cuda", "10.2.89", "--cudnn", "7.6.5", "--tensorrt", "7.0.0"]

LABEL org.opencontainers.image.title="ngc-tensorrt-20.01" \
      org.opencontainers.image.version="20.01" \
      org.opencontainers.image.created="2026-11-20T00:00:00Z" \
      org.opencontainers.image.base.name="nvcr.io/nvidia/tensorrt:20.01-py3" \
      org.opencontainers.image.base.digest="sha256:ca2ecca205098124de07748c5542f801f2906733a0768feb795f82fd134f5402" \
      org.enginematrix.stack="ngc-tensorrt-20.01" \
      org.enginematrix.family="ngc-tensorrt" \
      org.enginematrix.cuda="10.2.89" \
      org.enginematrix.cudnn="7.6.5" \
      org.enginematrix.driver="440.33.01" \
      org.enginematrix.python="3.6" \
      org.enginematrix.release="20.01" \
      org.enginematrix.tensorrt="7.0.0" \
      org.enginematrix.ubuntu="18.04" \
      org.enginematrix.packages="ec9d75e39a2be7db920294cf89eb0ac31883bed88ce8f3cf9e1688f8f0afd323"
