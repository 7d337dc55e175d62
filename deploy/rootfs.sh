#!/bin/sh
# Makes the whole root file system of the container image: the program, the libraries it is linked with (none if it is
# static), CA certificates, one user and one folder for state. No shell, nothing else.
# The last stage of the Dockerfile copies what this makes, and a test runs the same files in a chroot.
# Usage, as root: sh deploy/rootfs.sh BINARY FOLDER
set -eu
if [ $# -ne 2 ]; then
  echo "usage: $0 BINARY FOLDER" >&2
  exit 2
fi
binary=$1 root=$2 user=65532
certificates=/etc/ssl/certs/ca-certificates.crt

# file MODE SOURCE PATH: installs one file, owned by root, that the program cannot change.
file() {
  install -D -o 0 -g 0 -m "$1" "$2" "$root$3"
}

install -d -o 0 -g 0 -m 755 "$root"
file 755 "$binary" /usr/local/bin/respot
# For a static program, ldd names no path.
{ ldd "$binary" 2>/dev/null || true; } | grep -o '/[^ ]*' | while read -r library; do
  file 755 "$library" "$library"
done
if [ ! -s "$certificates" ]; then
  echo "error: $certificates is missing; install ca-certificates" >&2
  exit 1
fi
file 644 "$certificates" "$certificates"

# The user has a number for "runAsNonRoot", and a name and a home for programs that look them up.
line() {
  printf '%s\n' "$2" | install -D -o 0 -g 0 -m 644 /dev/stdin "$root$1"
}
line /etc/passwd "respot:x:$user:$user::/var/lib/respot:/sbin/nologin"
line /etc/group "respot:x:$user:"
line /etc/nsswitch.conf "hosts: files dns"
# A new volume mounted here takes over the owner and the mode.
install -d -o "$user" -g "$user" -m 700 "$root/var/lib/respot"
