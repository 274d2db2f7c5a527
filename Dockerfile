ARG BASE=base

# Images are named in FROM, where Dependabot sees them.
FROM --platform=$BUILDPLATFORM oven/bun:1.4.3 AS build
WORKDIR /build
COPY package.json bun.lock bunfig.toml ./
RUN bun install --frozen-lockfile --production
COPY shared shared
COPY check check
COPY in in
COPY out out
COPY .ci/build.ts .ci/build.ts
ARG TARGETARCH
RUN bun .ci/build.ts --target "bun-linux-${TARGETARCH}" --outdir resource

FROM gcr.io/distroless/base-nossl-debian13:latest AS base

FROM ${BASE}
USER root
COPY --from=build /build/resource /opt/resource
ARG VERSION=unreleased
ARG SOURCE=unknown
ARG REVISION=unknown
ARG CREATED=unknown
LABEL org.opencontainers.image.title="dynamo-keyval-resource" \
  org.opencontainers.image.description="A Concourse resource type that keeps versions of a key's value in a DynamoDB table" \
  org.opencontainers.image.licenses="MIT" \
  org.opencontainers.image.source="${SOURCE}" \
  org.opencontainers.image.url="${SOURCE}" \
  org.opencontainers.image.version="${VERSION}" \
  org.opencontainers.image.revision="${REVISION}" \
  org.opencontainers.image.created="${CREATED}"
