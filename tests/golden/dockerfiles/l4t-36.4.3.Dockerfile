ARG REGISTRY=nvcr.io
# nvcr.io/nvidia/l4t-tensorrt:r10.3.0-devel
FROM ${REGISTRY}/nvidia/l4t-tensorrt@sha256:0fb41e37deeb4663736180d05d4494002b829c6ac8f23b260bf76abbe3557cae
ARG SOURCE_DATE_EPOCH=1795132800
# To build; containers are told their user when they start.
USER root

# The base holds what the catalog promises, or nothing is built on it.
RUN --mount=type=tmpfs,target=/run --mount=type=tmpfs,target=/tmp --mount=type=tmpfs,target=/mnt \
    --mount=type=bind,source=environment.sh,target=/mnt/enginematrix/environment.sh \
    --mount=type=bind,source=check.py,target=/mnt/enginematrix/check.py \
    ["/bin/sh", "/mnt/enginematrix/environment.sh", "check", "python3", "3.10", "--python", "3.10", "--cuda", "12.6", "--tensorrt", "10.3"]

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
    ["/bin/sh", "/mnt/enginematrix/environment.sh", "check", "/opt/enginematrix/env/bin/python", "3.10", "--python", "3.10", "--cuda", "12.6", "--tensorrt", "10.3"]

LABEL org.opencontainers.image.title="l4t-36.4.3" \
      org.opencontainers.image.version="36.4.3" \
      org.opencontainers.image.created="2026-11-20T00:00:00Z" \
      org.opencontainers.image.base.name="nvcr.io/nvidia/l4t-tensorrt:r10.3.0-devel" \
      org.opencontainers.image.base.digest="sha256:0fb41e37deeb4663736180d05d4494002b829c6ac8f23b260bf76abbe3557cae" \
      org.enginematrix.stack="l4t-36.4.3" \
      org.enginematrix.family="l4t" \
      org.enginematrix.cuda="12.6" \
      org.enginematrix.cudnn="9.3.0.75" \
      org.enginematrix.jetpack="6.2" \
      org.enginematrix.l4t="36.4.3" \
      org.enginematrix.python="3.10" \
      org.enginematrix.repository="l4t-tensorrt" \
      org.enginematrix.tag="r10.3.0-devel" \
      org.enginematrix.tensorrt="10.3" \
      org.enginematrix.ubuntu="22.04" \
      org.enginematrix.packages="f0ac714065a390e19eb6c88aa955f8c5ab2f22b04569492d9b7a92c063c1de0d"
