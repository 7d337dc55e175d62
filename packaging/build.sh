#!/usr/bin/env bash
# Makes the files of a release from the commit that is checked out: a static program for Linux in an archive with its
# licenses, man page and completions, a software bill of materials, and their checksums. The same commit and the same
# Rust version give the same bytes, wherever it is built. `bash packaging/build.sh FOLDER`
# Needs git, musl-gcc (package musl-tools) and a Rust toolchain; installs the target and two cargo tools if missing.
set -euo pipefail
cd "$(dirname "$0")/.."
if [ $# -ne 1 ]; then
  echo "usage: $0 FOLDER" >&2
  exit 2
fi
mkdir -p "$1"
out=$(cd "$1" && pwd)
version=$(sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -1)
target=$(uname -m)-unknown-linux-musl
name=respot-$version-$target
tools=$PWD/target/release-tools
about=0.9.3 cyclonedx=0.5.9

fail() { echo "error: $*" >&2; exit 1; }
command -v musl-gcc >/dev/null || fail "musl-gcc is missing; install the package musl-tools"
dated=$(sed -n "s/^## \[$version\] - //p" CHANGELOG.md)
[ -n "$dated" ] || fail "CHANGELOG.md has no section for $version"
cut_on=$(git log -1 --format=%cs -G"^## \[$version\] - " -- CHANGELOG.md)
[ "$dated" = "$cut_on" ] || fail "CHANGELOG.md dates $version $dated, and the commit that did so is of $cut_on"
[ -z "$(git status --porcelain)" ] || fail "the working tree has changes; commit them first: a release is made from a commit"
rustup target add "$target" >/dev/null 2>&1 || fail "the target $target cannot be installed: rustup target add $target"

# tool NAME VERSION [FEATURES]: a cargo tool of exactly this version, in a folder of its own.
tool() {
  cargo install --quiet --locked --root "$tools/$1" "$1@$2" ${3:+--features "$3"}
}
tool cargo-about "$about" cli
tool cargo-cyclonedx "$cyclonedx"

# Built from the commit alone, in a folder whose name is in nothing that is built.
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
git archive HEAD | tar -x -C "$work"
SOURCE_DATE_EPOCH=$(git log -1 --format=%ct)
cargo_home=${CARGO_HOME:-$HOME/.cargo}
prefixes="-ffile-prefix-map=$work=/respot -ffile-prefix-map=$cargo_home=/cargo"
export SOURCE_DATE_EPOCH TARGET_CC=musl-gcc TARGET_CFLAGS=$prefixes
export RUSTFLAGS="--remap-path-prefix=$work=/respot --remap-path-prefix=$cargo_home=/cargo"
export CARGO_TARGET_DIR=$work/target
(
  cd "$work"
  "$tools/cargo-about/bin/cargo-about" about generate --locked --fail packaging/licenses.hbs --config packaging/about.toml \
    --target "$target" >"$work/THIRD-PARTY-LICENSES"
  # The serial number is random; the components are what counts.
  "$tools/cargo-cyclonedx/bin/cargo-cyclonedx" cyclonedx --quiet --format json --spec-version 1.5 \
    --no-build-deps --target "$target" --override-filename sbom
  sed -e '/"serialNumber"/d' -e "s#$work#/respot#g" sbom.json >"$out/$name.cdx.json"
  cargo build --release --locked --bin respot --target "$target"
)

program=$work/target/$target/release/respot
files=$work/$name
install -D -m 755 "$program" "$files/respot"
for shell in bash zsh fish; do
  "$program" completions "$shell" | install -D -m 644 /dev/stdin "$files/completions/respot.$shell"
done
"$program" man | install -D -m 644 /dev/stdin "$files/respot.1"
for file in README.md CHANGELOG.md LICENSE-APACHE LICENSE-MIT THIRD-PARTY-LICENSES; do
  install -m 644 "$work/$file" "$files/$file"
done
tar --create --sort=name --mtime="@$SOURCE_DATE_EPOCH" --owner=0 --group=0 --numeric-owner --format=ustar \
  --directory "$work" "$name" | gzip --no-name --best >"$out/$name.tar.gz"
(cd "$out" && sha256sum "$name.tar.gz" "$name.cdx.json" | tee "$name.sha256")
