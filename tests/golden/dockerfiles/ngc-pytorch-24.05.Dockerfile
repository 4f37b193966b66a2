ARG REGISTRY=nvcr.io
# nvcr.io/nvidia/pytorch:24.05-py3
FROM ${REGISTRY}/nvidia/pytorch@sha256:6091a8a2251693568050dcded4640dc58692ce2f9f294325e36469f806735762
ARG SOURCE_DATE_EPOCH=1795132800
# To build; containers are told their user when they start.
USER root

# The base holds what the catalog promises, or nothing is built on it.
RUN --mount=type=tmpfs,target=/run --mount=type=tmpfs,target=/tmp --mount=type=tmpfs,target=/mnt \
    --mount=type=bind,source=environment.sh,target=/mnt/enginematrix/environment.sh \
    --mount=type=bind,source=check.py,target=/mnt/enginematrix/check.py \
    ["/bin/sh", "/mnt/enginematrix/environment.sh", "check", "python3", "3.10", "--python", "3.10", "--cuda", "12.4.1", "--cudnn", "9.1.0.70", "--tensorrt", "10.0.1.6", "--distribution", "torch=2.4.0a0+07cecf4168"]

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
    ["/bin/sh", "/mnt/enginematrix/environment.sh", "check", "/opt/enginematrix/env/bin/python", "3.10", "--python", "3.10", "--cuda", "12.4.1", "--cudnn", "9.1.0.70", "--tensorrt", "10.0.1.6", "--distribution", "torch=2.4.0a0+07cecf4168"]

LABEL org.opencontainers.image.title="ngc-pytorch-24.05" \
      org.opencontainers.image.version="24.05" \
      org.opencontainers.image.created="2026-11-20T00:00:00Z" \
      org.opencontainers.image.base.name="nvcr.io/nvidia/pytorch:24.05-py3" \
      org.opencontainers.image.base.digest="sha256:6091a8a2251693568050dcded4640dc58692ce2f9f294325e36469f806735762" \
      org.enginematrix.stack="ngc-pytorch-24.05" \
      org.enginematrix.family="ngc-pytorch" \
      org.enginematrix.cuda="12.4.1" \
      org.enginematrix.cudnn="9.1.0.70" \
      org.enginematrix.driver="545" \
      org.enginematrix.python="3.10" \
      org.enginematrix.release="24.05" \
      org.enginematrix.tensorrt="10.0.1.6" \
      org.enginematrix.torch="2.4.0a0+07cecf4168" \
      org.enginematrix.ubuntu="22.04" \
      org.enginematrix.packages="41b6d317b290633963bac60e3ce55c78e94af0928393cbf3bdc565c7770b56e6"
