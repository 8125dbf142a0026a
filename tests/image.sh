#!/bin/sh
# Build the image of deploy/Dockerfile, and run its command in it: the offline demo. As root, with podman and debootstrap (Debian and Ubuntu:
# apt install podman crun debootstrap). Takes 15 GB of disk. Not part of `make test`.
#
#     tests/image.sh [OPTION...]       options for podman build, such as --volume /etc/pip.conf:/etc/pip.conf:ro
#
# If there is no debian:bookworm-slim, it is made with debootstrap, from the Debian mirror of this machine. Everything runs in podman's
# isolation chroot, which needs fewer rights than containers, so that it works within a container, too.
set -eu
cd "$(dirname "$0")/.."
base=debian:bookworm-slim
if ! podman image exists $base; then
    folder=$(mktemp -d)
    trap 'rm -rf "$folder"' EXIT
    mirror=$(apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' | head -n 1)
    debootstrap --variant=minbase bookworm "$folder/root" "$mirror" > "$folder/log"
    tar -C "$folder/root" -c . | podman import - $base
fi
build() { podman build --isolation chroot --network host "$@"; }
build "$@" --file deploy/Dockerfile --tag reply-bot .
printf 'FROM reply-bot\nRUN ls models/.serving/lm-int8/serving.json && make run\n' | build "$@" --no-cache --file - --tag reply-bot-tried
