ARG REGISTRY=nvcr.io
# nvcr.io/nvidia/l4t-jetpack:r35.4.1
FROM ${REGISTRY}/nvidia/l4t-jetpack@sha256:67cdbca50d690a3813e4cd58081fbd87fa50146fba225419a5c8463294131cad
ARG SOURCE_DATE_EPOCH=1795132800
# To build; containers are told their user when they start.
USER root

# The base holds what the catalog promises, or nothing is built on it.
RUN --mount=type=tmpfs,target=/run --mount=type=tmpfs,target=/tmp --mount=type=tmpfs,target=/mnt \
    --mount=type=bind,source=environment.sh,target=/mnt/enginematrix/environment.sh \
    --mount=type=bind,source=check.py,target=/mnt/enginematrix/check.py \
    ["/bin/sh", "/mnt/enginematrix/environment.sh", "check", "python3", "3.8", "--python", "3.8", "--cuda", "11.4", "--tensorrt", "8.5.2.2"]

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
    ["/bin/sh", "/mnt/enginematrix/environment.sh", "check", "/opt/enginematrix/env/bin/python", "3.8", "--python", "3.8", "--cuda", "11.4", "--tensorrt", "8.5.2.2"]

LABEL org.opencontainers.image.title="l4t-35.4.1" \
      org.opencontainers.image.version="35.4.1" \
      org.opencontainers.image.created="2026-11-20T00:00:00Z" \
      org.opencontainers.image.base.name="nvcr.io/nvidia/l4t-jetpack:r35.4.1" \
      org.opencontainers.image.base.digest="sha256:67cdbca50d690a3813e4cd58081fbd87fa50146fba225419a5c8463294131cad" \
      org.enginematrix.stack="l4t-35.4.1" \
      org.enginematrix.family="l4t" \
      org.enginematrix.cuda="11.4" \
      org.enginematrix.cudnn="8.6.0.166" \
      org.enginematrix.jetpack="5.1.2" \
      org.enginematrix.l4t="35.4.1" \
      org.enginematrix.python="3.8" \
      org.enginematrix.repository="l4t-jetpack" \
      org.enginematrix.tag="r35.4.1" \
      org.enginematrix.tensorrt="8.5.2.2" \
      org.enginematrix.ubuntu="20.04" \
      org.enginematrix.packages="ee96a9a3201bce92879bc12f7c3080ad4e0039ea0bf14ec89471703b8ecc2eb5"
