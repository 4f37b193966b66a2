ARG REGISTRY=nvcr.io
# nvcr.io/nvidia/tensorrt:23.07-py3
FROM ${REGISTRY}/nvidia/tensorrt@sha256:d60fee5de00a2033e5b91fd84ad6ed2e5cd0e7acfbd2b625de4f84efa46b58ed
ARG SOURCE_DATE_EPOCH=1795132800
# To build; containers are told their user when they start.
USER root

# The base holds what the catalog promises, or nothing is built on it.
RUN --mount=type=tmpfs,target=/run --mount=type=tmpfs,target=/tmp --mount=type=tmpfs,target=/mnt \
    --mount=type=bind,source=environment.sh,target=/mnt/enginematrix/environment.sh \
    --mount=type=bind,source=check.py,target=/mnt/enginematrix/check.py \
    ["/bin/sh", "/mnt/enginematrix/environment.sh", "check", "python3", "3.10", "--python", "3.10", "--cuda", "12.1.1", "--tensorrt", "8.6.1"]

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
    ["/bin/sh", "/mnt/enginematrix/environment.sh", "create", "python3", "3.10", "system", "/mnt/enginematrix/requirements/dependencies.txt"]

# Seen from the environment, the image's own packages are still what was promised.
RUN --mount=type=tmpfs,target=/run --mount=type=tmpfs,target=/tmp --mount=type=tmpfs,target=/mnt \
    --mount=type=bind,source=environment.sh,target=/mnt/enginematrix/environment.sh \
    --mount=type=bind,source=check.py,target=/mnt/enginematrix/check.py \
    ["/bin/sh", "/mnt/enginematrix/environment.sh", "check", "/opt/enginematrix/env/bin/python", "3.10", "--python", "3.10", "--cuda", "12.1.1", "--tensorrt", "8.6.1"]

LABEL org.opencontainers.image.title="ngc-tensorrt-23.07" \
      org.opencontainers.image.version="23.07" \
      org.opencontainers.image.created="2026-11-20T00:00:00Z" \
      org.opencontainers.image.base.name="nvcr.io/nvidia/tensorrt:23.07-py3" \
      org.opencontainers.image.base.digest="sha256:d60fee5de00a2033e5b91fd84ad6ed2e5cd0e7acfbd2b625de4f84efa46b58ed" \
      org.enginematrix.stack="ngc-tensorrt-23.07" \
      org.enginematrix.family="ngc-tensorrt" \
      org.enginematrix.cuda="12.1.1" \
      org.enginematrix.driver="530" \
      org.enginematrix.python="3.10" \
      org.enginematrix.release="23.07" \
      org.enginematrix.tensorrt="8.6.1" \
      org.enginematrix.ubuntu="22.04" \
      org.enginematrix.packages="f0ac714065a390e19eb6c88aa955f8c5ab2f22b04569492d9b7a92c063c1de0d"
