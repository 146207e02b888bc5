# syntax=docker/dockerfile:1
FROM rust:1.95-slim-bookworm AS build
WORKDIR /src
COPY . .
RUN .ci/image-root /image release

FROM scratch
COPY --from=build /image /
USER 65532:65532
ENTRYPOINT ["/pg2os"]
CMD ["run"]
