# The `plimsoll` command in an image; docs/ops.md shows how it is run.
#
#   docker build -t plimsoll .
#
# Both stages are of one Debian release: the binary uses libc, libm and libgcc_s of the system that it
# was built on, and nothing else. Any stable Rust from Cargo.toml's `rust-version` on will do.
FROM rust:1-slim-trixie AS build
WORKDIR /src
COPY . .
RUN cargo build --locked --profile dist --package plimsoll-cli

FROM debian:trixie-slim
RUN useradd --uid 10001 --user-group --create-home prover
COPY --from=build /src/target/dist/plimsoll /usr/local/bin/plimsoll
COPY LICENSE-APACHE LICENSE-MIT /usr/local/share/doc/plimsoll/
# A number, so that Kubernetes can tell that it is not root.
USER 10001:10001
WORKDIR /home/prover
ENTRYPOINT ["/usr/local/bin/plimsoll"]
CMD ["--help"]
