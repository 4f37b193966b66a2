ARG REGISTRY=nvcr.io
# nvcr.io/nvidia/pytorch:25.06-py3
FROM ${REGISTRY}/nvidia/pytorch@sha256:163e272b3db7a41abacd58d8a99aa6136c8f1667eddf915229ba0a13da1b010b
ARG SOURCE_DATE_EPOCH=1795132800
# To build; containers are told their user when they start.
USER root

# The base holds what the catalog promises, or nothing is built on it.
RUN --mount=type=tmpfs,target=/run --mount=type=tmpfs,target=/tmp --mount=type=tmpfs,target=/mnt \
    --mount=type=bind,source=environment.sh,target=/mnt/enginematrix/environment.sh \
    --mount=type=bind,source=check.py,target=/mnt/enginematrix/check.py \
    ["/bin/sh", "/mnt/enginematrix/environment.sh", "check", "python3", "3.12", "--python", "3.12", "--cuda", "12.9.1", "--cudnn", "9.10.2", "--tensorrt", "10.11.0.33", "--distribution", "torch=2.8.0a0+5228986c39"]

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
    ["/bin/sh", "/mnt/enginematrix/environment.sh", "check", "/opt/enginematrix/env/bin/python", "3.12", "--python", "3.12", "--cuda", "12.9.1", "--cudnn", "9.10.2", "--tensorrt", "10.11.0.33", "--distribution", "torch=2.8.0a0+5228986c39"]

LABEL org.opencontainers.image.title="ngc-pytorch-25.06" \
      org.opencontainers.image.version="25.06" \
      org.opencontainers.image.created="2026-11-20T00:00:00Z" \
      org.opencontainers.image.base.name="nvcr.io/nvidia/pytorch:25.06-py3" \
      org.opencontainers.image.base.digest="sha256:163e272b3db7a41abacd58d8a99aa6136c8f1667eddf915229ba0a13da1b010b" \
      org.enginematrix.stack="ngc-pytorch-25.06" \
      org.enginematrix.family="ngc-pytorch" \
      org.enginematrix.cuda="12.9.1" \
      org.enginematrix.cudnn="9.10.2" \
      org.enginematrix.driver="525.60.13" \
      org.enginematrix.python="3.12" \
      org.enginematrix.release="25.06" \
      org.enginematrix.tensorrt="10.11.0.33" \
      org.enginematrix.torch="2.8.0a0+5228986c39" \
      org.enginematrix.ubuntu="24.04" \
      org.enginematrix.packages="a4074186e339858ed69063ada9f7eaa47ac08cdd402712f01c5c091db731704d"
