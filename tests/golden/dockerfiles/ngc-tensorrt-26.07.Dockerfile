ARG REGISTRY=nvcr.io
# nvcr.io/nvidia/tensorrt:26.07-py3
FROM ${REGISTRY}/nvidia/tensorrt@sha256:d55549d0cbd948850fb0fab3475935b0743e5b52cc36b78ba0f6fddd140317d6
ARG SOURCE_DATE_EPOCH=1795132800
# To build; containers are told their user when they start.
USER root

# The base holds what the catalog promises, or nothing is built on it.
RUN --mount=type=tmpfs,target=/run --mount=type=tmpfs,target=/tmp --mount=type=tmpfs,target=/mnt \
    --mount=type=bind,source=environment.sh,target=/mnt/enginematrix/environment.sh \
    --mount=type=bind,source=check.py,target=/mnt/enginematrix/check.py \
    ["/bin/sh", "/mnt/enginematrix/environment.sh", "check", "python3", "3.12", "--python", "3.12", "--cuda", "13.3.1", "--cudnn", "9.24.0.43", "--tensorrt", "11.1.0.106"]

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
    ["/bin/sh", "/mnt/enginematrix/environment.sh", "check", "/opt/enginematrix/env/bin/python", "3.12", "--python", "3.12", "--cuda", "13.3.1", "--cudnn", "9.24.0.43", "--tensorrt", "11.1.0.106"]

LABEL org.opencontainers.image.title="ngc-tensorrt-26.07" \
      org.opencontainers.image.version="26.07" \
      org.opencontainers.image.created="2026-11-20T00:00:00Z" \
      org.opencontainers.image.base.name="nvcr.io/nvidia/tensorrt:26.07-py3" \
      org.opencontainers.image.base.digest="sha256:d55549d0cbd948850fb0fab3475935b0743e5b52cc36b78ba0f6fddd140317d6" \
      org.enginematrix.stack="ngc-tensorrt-26.07" \
      org.enginematrix.family="ngc-tensorrt" \
      org.enginematrix.cuda="13.3.1" \
      org.enginematrix.cudnn="9.24.0.43" \
      org.enginematrix.driver="580.65.06" \
      org.enginematrix.python="3.12" \
      org.enginematrix.release="26.07" \
      org.enginematrix.tensorrt="11.1.0.106" \
      org.enginematrix.ubuntu="24.04" \
      org.enginematrix.packages="eb4e16e5f40cdddc84e4e7360b057675ac54633bed7748456acde2ee4453c3aa"
