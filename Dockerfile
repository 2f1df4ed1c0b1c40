# syntax=docker/dockerfile:1
#
#   docker build -t visage .                                 on the CPU
#   docker build -t visage:cuda --build-arg VARIANT=cuda .   on NVIDIA GPUs (driver for CUDA 13)
#
# The steps are the same scripts that `make` runs.

ARG VARIANT=cpu
ARG CUDA_IMAGE=nvidia/cuda:13.2.1-cudnn-runtime-ubuntu22.04

FROM debian:13-slim AS build
WORKDIR /src
COPY .cargo .cargo
COPY scripts/lib.sh scripts/parts.sh scripts/install-build-deps.sh scripts/install-rust.sh scripts/
COPY Cargo.toml ./
RUN scripts/install-build-deps.sh && scripts/install-rust.sh
ARG VARIANT
COPY scripts/fetch-onnxruntime.sh scripts/fetch-wheel.sh scripts/
RUN scripts/fetch-onnxruntime.sh .runtime "$VARIANT"
COPY . .
# Runs `make build`. The caches keep compiled files between builds of the image, and out of its layers.
RUN --mount=type=cache,target=/root/.cargo/registry \
    --mount=type=cache,target=/src/target \
    make build && install -D target/release/visage /opt/visage/bin/visage
# Fetches the models of the manifest by checksum. Models from the build context are only checked.
RUN /opt/visage/bin/visage models pull && \
    install -D -m 644 -t /opt/visage/models models/*.onnx && \
    install -D -m 644 -t /opt/visage/lib .runtime/*

FROM debian:13-slim AS base-cpu

# Takes only the NVIDIA libraries that ONNX Runtime loads. They run on any system with a glibc of 2.28 or newer.
FROM ${CUDA_IMAGE} AS nvidia
RUN mkdir /opt/cuda && \
    for name in cublas cublasLt cudart cufft curand nvrtc nvJitLink; do \
        cp -P "/usr/local/cuda/lib64/lib$name"[.-]*so* /opt/cuda/ || exit 1; \
    done && \
    cp -P /usr/lib/*-linux-gnu/libcudnn*.so.* /opt/cuda/

FROM debian:13-slim AS base-cuda
COPY --from=nvidia /opt/cuda /opt/cuda
ENV LD_LIBRARY_PATH=/opt/cuda \
    NVIDIA_VISIBLE_DEVICES=all \
    NVIDIA_DRIVER_CAPABILITIES=compute,utility,video \
    VISAGE_ENGINE__DEVICE=cuda

# hadolint ignore=DL3006
FROM base-${VARIANT} AS runtime
COPY scripts/lib.sh scripts/parts.sh scripts/install-runtime-deps.sh /tmp/scripts/
RUN /tmp/scripts/install-runtime-deps.sh && \
    rm -rf /tmp/scripts /var/lib/apt/lists/* && \
    useradd --system --uid 10001 --home-dir /var/lib/visage visage && \
    install -d -o visage -g visage /var/lib/visage /var/lib/visage/data
COPY --from=build /opt/visage /opt/visage
# Fails the build, not the first start, if a shared library is missing.
RUN ["/opt/visage/bin/visage", "--version"]
ENV PATH=/opt/visage/bin:$PATH \
    ORT_DYLIB_PATH=/opt/visage/lib/libonnxruntime.so.1.31.1 \
    VISAGE_MODELS__FOLDER=/opt/visage/models \
    VISAGE_HTTP__LISTEN=0.0.0.0:8000 \
    VISAGE_LOG__FORMAT=json
USER 10001
# Settings may be mounted as config/*.toml in this folder. The database, videos and mails of a single container are in
# data/.
WORKDIR /var/lib/visage
VOLUME /var/lib/visage/data
EXPOSE 8000
HEALTHCHECK --interval=15s --timeout=5s --start-period=60s \
    CMD ["curl", "--silent", "--show-error", "--fail", "--output", "/dev/null", "http://127.0.0.1:8000/healthz"]
ENTRYPOINT ["visage"]
CMD ["serve"]
