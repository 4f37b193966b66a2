ARG REGISTRY=nvcr.io
# nvcr.io/nvidia/tensorrt:21.07-py3
FROM ${REGISTRY}/nvidia/tensorrt@sha256:05870746597bb1210d5f371f304b7cec4ab906838d5e5b708ace082f2e31d6ea
ARG SOURCE_DATE_EPOCH=1795132800
# To build; containers are told their user when they start.
USER root

# The base holds what the catalog promises, or nothing is built on it.
RUN --mount=type=tmpfs,target=/run --mount=type=tmpfs,target=/tmp --mount=type=tmpfs,target=/mnt \
    --mount=type=bind,source=environment.sh,target=/mnt/enginematrix/environment.sh \
    --mount=type=bind,source=check.py,target=/mnt/enginematrix/check.py \
    ["/bin/sh", "/mnt/enginematrix/environment.sh", "check", "python3", "3.8", "--python", "3.8", "--cuda", "11.4.0", "--cudnn", "8.2.2.26", "--tensorrt", "8.0.1.6"]

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
    ["/bin/sh", "/mnt/enginematrix/environment.sh", "check", "/opt/enginematrix/env/bin/python", "3.8", "--python", "3.8", "--cuda", "11.4.0", "--cudnn", "8.2.2.26", "--tensorrt", "8.0.1.6"]

LABEL org.opencontainers.image.title="ngc-tensorrt-21.07" \
      org.opencontainers.image.version="21.07" \
      org.opencontainers.image.created="2026-11-20T00:00:00Z" \
      org.opencontainers.image.base.name="nvcr.io/nvidia/tensorrt:21.07-py3" \
      org.opencontainers.image.base.digest="sha256:05870746597bb1210d5f371f304b7cec4ab906838d5e5b708ace082f2e31d6ea" \
      org.enginematrix.stack="ngc-tensorrt-21.07" \
      org.enginematrix.family="ngc-tensorrt" \
      org.enginematrix.cuda="11.4.0" \
      org.enginematrix.cudnn="8.2.2.26" \
      org.enginematrix.driver="470" \
      org.enginematrix.python="3.8" \
      org.enginematrix.release="21.07" \
      org.enginematrix.tensorrt="8.0.1.6" \
      org.enginematrix.ubuntu="20.04" \
      org.enginematrix.packages="ee96a9a3201bce92879bc12f7c3080ad4e0039ea0bf14ec89471703b8ecc2eb5"
