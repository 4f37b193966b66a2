ARG REGISTRY=nvcr.io
# nvcr.io/nvidia/pytorch:25.12-py3
FROM ${REGISTRY}/nvidia/pytorch@sha256:85a18d47752ba3606a52e08f1c54cb1c6e57ce65bd9b4e7abf4e1a743d7c3ea2
ARG SOURCE_DATE_EPOCH=1795132800
# To build; containers are told their user when they start.
USER root

# The base holds what the catalog promises, or nothing is built on it.
RUN --mount=type=tmpfs,target=/run --mount=type=tmpfs,target=/tmp --mount=type=tmpfs,target=/mnt \
    --mount=type=bind,source=environment.sh,target=/mnt/enginematrix/environment.sh \
    --mount=type=bind,source=check.py,target=/mnt/enginematrix/check.py \
    ["/bin/sh", "/mnt/enginematrix/environment.sh", "check", "python3", "3.12", "--python", "3.12", "--cuda", "13.1.0", "--cudnn", "9.17.0.29", "--tensorrt", "10.14.1.48", "--distribution", "torch=2.10.0a0+b4e4ee81d3"]

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

# The packages that this stack is named by.
RUN --mount=type=tmpfs,target=/run --mount=type=tmpfs,target=/tmp --mount=type=tmpfs,target=/mnt \
    --mount=type=bind,source=environment.sh,target=/mnt/enginematrix/environment.sh \
    --mount=type=bind,source=requirements/own.txt,target=/mnt/enginematrix/requirements/own.txt \
    --mount=type=bind,source=uv,target=/mnt/enginematrix/uv \
    --mount=type=bind,source=wheels/own,target=/mnt/enginematrix/wheels \
    --mount=type=cache,id=enginematrix-uv,target=/mnt/enginematrix/cache \
    --mount=type=secret,id=certificates,target=/run/secrets/certificates \
    --mount=type=secret,id=netrc,target=/run/secrets/netrc \
    --mount=type=secret,id=uv-config,target=/run/secrets/uv-config \
    ["/bin/sh", "/mnt/enginematrix/environment.sh", "add", "/mnt/enginematrix/requirements/own.txt"]

# Seen from the environment, the image's own packages are still what was promised.
RUN --mount=type=tmpfs,target=/run --mount=type=tmpfs,target=/tmp --mount=type=tmpfs,target=/mnt \
    --mount=type=bind,source=environment.sh,target=/mnt/enginematrix/environment.sh \
    --mount=type=bind,source=check.py,target=/mnt/enginematrix/check.py \
    ["/bin/sh", "/mnt/enginematrix/environment.sh", "check", "/opt/enginematrix/env/bin/python", "3.12", "--python", "3.12", "--cuda", "13.1.0", "--cudnn", "9.17.0.29", "--tensorrt", "10.14.1.48", "--distribution", "torch=2.10.0a0+b4e4ee81d3"]

LABEL org.opencontainers.image.title="ngc-pytorch-25.12-onnxscript0.5.6" \
      org.opencontainers.image.version="25.12-onnxscript0.5.6" \
      org.opencontainers.image.created="2026-11-20T00:00:00Z" \
      org.opencontainers.image.base.name="nvcr.io/nvidia/pytorch:25.12-py3" \
      org.opencontainers.image.base.digest="sha256:85a18d47752ba3606a52e08f1c54cb1c6e57ce65bd9b4e7abf4e1a743d7c3ea2" \
      org.enginematrix.stack="ngc-pytorch-25.12-onnxscript0.5.6" \
      org.enginematrix.family="ngc-pytorch" \
      org.enginematrix.cuda="13.1.0" \
      org.enginematrix.cudnn="9.17.0.29" \
      org.enginematrix.driver="580.65.06" \
      org.enginematrix.onnxscript="0.5.6" \
      org.enginematrix.python="3.12" \
      org.enginematrix.release="25.12" \
      org.enginematrix.tensorrt="10.14.1.48" \
      org.enginematrix.torch="2.10.0a0+b4e4ee81d3" \
      org.enginematrix.ubuntu="24.04" \
      org.enginematrix.packages="a4074186e339858ed69063ada9f7eaa47ac08cdd402712f01c5c091db731704d"
